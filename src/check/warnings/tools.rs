//! Warnings about the tools of `[tools]`.

use serde_json::Value;

use super::models::{
    max_tokens_above, not_rendered, path_as_text, penalties, prompt_above_context,
    thinking_budget_above, thinking_is_off, unknown_tokens, unused_variables,
};
use crate::config::file::{ConfigFile, ToolSettings};
use crate::config::load::Layers;
use crate::config::tool::{PreparedPrompt, address};
use crate::config::warning::WarningKind;
use crate::config::{ModelConfig, ToolConfig};
use crate::schema::AnswerSchema;
use crate::tools::typed::prompt::PromptTemplate;

/// Adds the warnings about `tool`, which uses `model`, to `layers`.
pub(super) fn find(
    tool: &ToolConfig,
    model: Option<&ModelConfig>,
    settings: &ConfigFile,
    layers: &mut Layers,
) {
    let Some(own) = settings.tools.get(&tool.name) else {
        return;
    };
    descriptions(tool, layers);
    for (key, text) in [
        ("system", &own.system),
        ("description", &own.description),
        ("title", &own.title),
        ("prompt_suffix", &own.prompt_suffix),
    ] {
        not_rendered(text.as_deref(), &address(&tool.name, key), layers);
    }
    for (key, text) in [
        ("system", &own.system),
        ("prompt", &own.prompt),
        ("prompt_suffix", &own.prompt_suffix),
    ] {
        path_as_text(text.as_deref(), &address(&tool.name, key), layers);
    }
    if let Some(model) = model {
        against_model(tool, model, own, layers);
        let prompt = tool.prepared().map_or(0, |prepared| prepared.prompt.len());
        let system = tool.defaults.system.as_ref().map_or(0, String::len);
        let longest = if prompt > system {
            address(&tool.name, "prompt")
        } else if own.system.is_some() {
            address(&tool.name, "system")
        } else {
            model.address("system")
        };
        prompt_above_context(tool, model, &longest, layers);
    }
    let Some(prepared) = tool.prepared() else {
        return;
    };
    schema_notes(&tool.name, prepared, layers);
    // The variables of a template with an error are not all known.
    if !layers.has_problem_at(&address(&tool.name, "prompt"))
        && let Ok(template) = PromptTemplate::compile(prepared)
    {
        let used = template.variables();
        unused_arguments(&tool.name, prepared, |name| used.contains(name), layers);
        if let Some(answer) = &prepared.answer {
            let prompt = shown(tool, prepared);
            hidden_answer(
                &tool.name,
                &prompt,
                answer,
                |name| used.contains(name),
                layers,
            );
        }
    }
}

/// Warns of a tool and of arguments without a description.
fn descriptions(tool: &ToolConfig, layers: &mut Layers) {
    let kind = WarningKind::NoDescription;
    let is_blank = |text: Option<&str>| text.is_none_or(|text| text.trim().is_empty());
    if is_blank(tool.description.as_deref()) {
        let message = "is missing: clients choose among tools by their descriptions".into();
        let hint = "describe the purpose of the tool: `description = \"…\"`";
        layers.warn_at(kind, &address(&tool.name, "description"), message, hint);
    }
    let arguments = tool.prepared().map(|prepared| &prepared.arguments);
    for argument in arguments.into_iter().flatten() {
        if is_blank(argument.schema["description"].as_str()) {
            let message = "is missing: clients must guess the meaning of the argument".into();
            let hint = "describe the argument: `description = \"…\"`";
            let arguments = address(&tool.name, "arguments");
            let at = arguments.join(&argument.name);
            if !layers.is_refused(&at) {
                layers.warn_at(kind, &at.join("description"), message, hint);
            }
        }
    }
}

/// Warns of settings of the tool that have no effect because of its model's settings.
fn against_model(tool: &ToolConfig, model: &ModelConfig, own: &ToolSettings, layers: &mut Layers) {
    let variables = own.template_arguments.iter().flatten();
    let variables = variables.map(|(name, _)| name);
    let at = address(&tool.name, "template_arguments");
    unused_variables(variables, model, &at, layers);
    let defaults = &tool.defaults;
    let max_tokens = address(&tool.name, "max_tokens");
    if let Some((max, limit)) = own.max_tokens.zip(defaults.max_tokens_limit)
        && max > limit
        // A value above the tool's own limit is an error.
        && own.max_tokens_limit.is_none()
    {
        let message = format!(
            "is {max}, but the `max_tokens_limit` of `{}` is {limit}",
            model.name
        );
        let hint = "lower it, or raise `max_tokens_limit`";
        layers.warn_at(WarningKind::MaxTokensCapped, &max_tokens, message, hint);
    }
    if own.max_tokens.is_some() {
        max_tokens_above(defaults.max_tokens, model, &max_tokens, layers);
    }
    thinking_budget(tool, model, own, layers);
    let sampling = &own.sampling;
    if sampling.logit_bias.is_some() {
        let address = address(&tool.name, "logit_bias");
        unknown_tokens(defaults, model, &address, layers);
    }
    let penalty_keys = [
        ("repeat_last_n", sampling.repeat_last_n.is_some()),
        ("repeat_penalty", sampling.repeat_penalty.is_some()),
        ("presence_penalty", sampling.presence_penalty.is_some()),
        ("frequency_penalty", sampling.frequency_penalty.is_some()),
    ];
    match penalty_keys.iter().find(|(_, is_set)| *is_set) {
        Some(("repeat_last_n", _)) => {
            penalties(defaults, &address(&tool.name, "repeat_last_n"), layers);
        }
        // The model's own penalties are reported at the model.
        Some(_) => penalties(defaults, &model.address("repeat_last_n"), layers),
        None => {}
    }
}

/// Warns of a `thinking_budget` that has no effect, if the tool itself sets one of the keys that contradict each other.
fn thinking_budget(
    tool: &ToolConfig,
    model: &ModelConfig,
    own: &ToolSettings,
    layers: &mut Layers,
) {
    let at = |key: &str| address(&tool.name, key);
    let defaults = &tool.defaults;
    let Some(budget) = defaults.thinking_budget else {
        return;
    };
    let max_tokens = defaults.max_tokens;
    if budget >= max_tokens {
        if own.thinking_budget.is_some() {
            thinking_budget_above(budget, max_tokens, &at("thinking_budget"), layers);
        } else if own.max_tokens.is_some() {
            let message = format!(
                "is {max_tokens}, including reasoning, but the `thinking_budget` of `{}` is {budget}",
                model.name
            );
            let hint = "raise it, or set a lower `thinking_budget` for the tool";
            let kind = WarningKind::ThinkingBudgetUnused;
            layers.warn_at(kind, &at("max_tokens"), message, hint);
        }
    }
    if own.thinking_budget.is_some() {
        thinking_is_off(defaults, &at("thinking_budget"), layers);
    }
}

fn unused_arguments(
    name: &str,
    tool: &PreparedPrompt,
    is_used: impl Fn(&str) -> bool,
    layers: &mut Layers,
) {
    for argument in tool
        .arguments
        .iter()
        .filter(|argument| !is_used(&argument.name))
    {
        let cost = match argument.default {
            None => "clients must still pass it",
            Some(_) => "it has no effect",
        };
        let message = format!("the prompt does not use this argument, and {cost}");
        let hint = format!(
            "put `{{{{ {} }}}}` into the prompt, or remove the argument",
            argument.name
        );
        let at = address(name, "arguments").join(&argument.name);
        layers.warn_at(WarningKind::UnusedArgument, &at, message, &hint);
    }
}

/// Warns if `prompt`, the whole text that the model sees, does not name the allowed answers. The model sees neither choices nor schemas.
fn hidden_answer(
    tool: &str,
    prompt: &str,
    answer: &AnswerSchema,
    is_used: impl Fn(&str) -> bool,
    layers: &mut Layers,
) {
    let at = address(tool, answer.key());
    let is_hidden = |name: &str| !prompt.contains(&name.to_lowercase());
    if let Some(choices) = answer.choices().and_then(Value::as_array) {
        let mut hidden = choices
            .iter()
            .filter_map(Value::as_str)
            .filter(|choice| is_hidden(choice));
        if let Some(first) = hidden.next()
            && !is_used("choices")
        {
            let more = match hidden.count() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let message = format!(
                "the prompt does not name `{first}`{more}, but the model sees only the prompt"
            );
            let hint =
                "name the choices in the prompt, for example with `{{ choices | join(\", \") }}`";
            layers.warn_at(WarningKind::ChoicesNotShown, &at, message, hint);
        }
        return;
    }
    let fields = answer.written.get("properties").and_then(Value::as_object);
    let fields = fields.into_iter().flatten().map(|(name, _)| name);
    let mut fields = fields.map(|name| name.replace(['_', '-'], " ")).peekable();
    if fields.peek().is_some() && fields.all(|name| is_hidden(&name)) && !is_used("output_schema") {
        let message =
            "the prompt names no field of the answer, but the model sees only the prompt".into();
        let hint = "name the fields in the prompt, for example with `{{ output_schema }}`";
        layers.warn_at(WarningKind::OutputNotShown, &at, message, hint);
    }
}

/// Returns the configured texts of `tool` that the model sees, in lower case and with spaces for `_` and `-`.
fn shown(tool: &ToolConfig, prepared: &PreparedPrompt) -> String {
    let defaults = &tool.defaults;
    let texts = [
        Some(&prepared.prompt),
        defaults.system.as_ref(),
        defaults.prompt_suffix.as_ref(),
    ];
    let texts: Vec<&str> = texts.into_iter().flatten().map(String::as_str).collect();
    let mut shown = texts.join("\n");
    for argument in &prepared.arguments {
        shown += &argument.schema["enum"].to_string();
        shown += &argument.schema["default"].to_string();
    }
    let plain = shown.replace(['_', '-'], " ");
    (shown + &plain).to_lowercase()
}

/// Warns of the parts of a schema that are not enforced.
fn schema_notes(name: &str, tool: &PreparedPrompt, layers: &mut Layers) {
    let Some(answer) = &tool.answer else { return };
    for note in answer.notes.iter().filter(|note| note.is_ignored) {
        let at = address(name, answer.key());
        layers.schema_warning_at(&at, &note.pointer, note.to_string());
    }
}
