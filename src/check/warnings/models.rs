//! Warnings about models.

use std::time::Duration;

use crate::config::address::Address;
use crate::config::file::{ConfigFile, ThinkingOutput};
use crate::config::load::Layers;
use crate::config::paths;
use crate::config::units::human;
use crate::config::warning::WarningKind;
use crate::config::{Config, Defaults, ModelConfig, ToolConfig};
use crate::engine::bias_key::BiasKey;
use crate::engine::limits::ContextSize;
use crate::gguf::Tuning;
use crate::tools::shared_prefix::least_tokens;

/// Adds the warnings about `model` to `layers`.
pub(super) fn find(
    model: &ModelConfig,
    config: &Config,
    settings: &ConfigFile,
    layers: &mut Layers,
) {
    base_model(model, layers);
    context(model, layers);
    unused_settings(model, layers);
    idle_time(model, settings, layers);
    unused_model(model, config, layers);
    if let Some(tool) = ToolConfig::own_of(model) {
        prompt_above_context(&tool, model, &model.address("system"), layers);
    }
    let variables = model.defaults.template_arguments.keys();
    let address = model.address("template_arguments");
    unused_variables(variables, model, &address, layers);
    for key in ["system", "prompt_suffix", "description", "title"] {
        let text = match key {
            "system" => model.defaults.system.as_deref(),
            "prompt_suffix" => model.defaults.prompt_suffix.as_deref(),
            "title" => model.title.as_deref(),
            _ => model.description.as_deref(),
        };
        not_rendered(text, &model.address(key), layers);
        if matches!(key, "system" | "prompt_suffix") {
            path_as_text(text, &model.address(key), layers);
        }
    }
}

/// Warns of the `variables` at `address` whose names do not occur in the chat template of `model`.
pub(super) fn unused_variables<'a>(
    variables: impl Iterator<Item = &'a String>,
    model: &ModelConfig,
    address: &Address,
    layers: &mut Layers,
) {
    let files = model.gguf().files.as_ref().ok();
    let of_file = files.and_then(|files| files.header.chat_template.as_ref());
    let Some(template) = model.gguf().settings.chat_template.as_ref().or(of_file) else {
        return;
    };
    for name in variables.filter(|name| !template.contains(name.as_str())) {
        let message = format!(
            "the chat template of `{}` does not use this variable",
            model.name
        );
        let table = address.parent().unwrap_or_default();
        let hint = if layers.schema.knows(&table.join(name)) {
            format!("`{name}` is a key of `[{table}]`: move it above `[{address}]`")
        } else {
            "correct the name, or remove the variable".to_owned()
        };
        let kind = WarningKind::UnusedTemplateArgument;
        layers.warn_at(kind, &address.join(name), message, &hint);
    }
}

/// Warns of template syntax in `text`, the value at `address`, which is not rendered.
pub(super) fn not_rendered(text: Option<&str>, address: &Address, layers: &mut Layers) {
    let has = |open: &str, close: &str| {
        let rest = text.and_then(|text| text.split_once(open));
        rest.is_some_and(|(_, rest)| rest.contains(close))
    };
    if has("{{", "}}") || has("{%", "%}") {
        let message =
            "is not a template: `{{ … }}` and `{% … %}` stay in the text as they are".into();
        let hint = "move the parts that depend on arguments into the `prompt` of a tool";
        layers.warn_at(WarningKind::NotRendered, address, message, hint);
    }
}

/// Warns of `text`, the value at `address`, if it looks like the path of a file: the model sees the path, not the content.
pub(super) fn path_as_text(text: Option<&str>, address: &Address, layers: &mut Layers) {
    if let Some(reference) = text.and_then(paths::file_reference) {
        let message = "looks like the path of a file, but is used as the text itself".into();
        let hint = format!("write `\"{reference}\"` for the content of the file");
        layers.warn_at(WarningKind::PathAsText, address, message, &hint);
    }
}

/// Warns of base models, and of models without a chat template.
fn base_model(model: &ModelConfig, layers: &mut Layers) {
    let Ok(files) = &model.gguf().files else {
        return;
    };
    let has_template =
        files.header.chat_template.is_some() || model.gguf().settings.chat_template.is_some();
    let other =
        "choose the file of the instruct or chat model (often named `-Instruct`, `-it` or `-chat`)";
    let (kind, message, hint) = match (files.header.tuning, has_template) {
        (Tuning::Instruct | Tuning::Unstated, true) => return,
        (Tuning::Instruct, false) => (
            WarningKind::NoChatTemplate,
            "its file has no chat template, so messages are joined without roles",
            "set `chat_template` to the template of its family",
        ),
        (Tuning::Unstated, false) => (
            WarningKind::BaseModel,
            "probably a base model (its file has no chat template): it continues text instead of answering",
            other,
        ),
        (Tuning::Base, _) => (
            WarningKind::BaseModel,
            "a base model, by its name: it continues text instead of answering",
            other,
        ),
    };
    layers.warn_at(kind, &model.address("path"), message.into(), hint);
}

/// Warns of an `n_ctx` above the trained context, and of a `max_tokens` that does not fit the context.
fn context(model: &ModelConfig, layers: &mut Layers) {
    let trained = model.trained_context();
    if model.gguf().settings.n_ctx > trained {
        let message = format!(
            "is {}, but the model was trained for {trained} tokens: the context is {trained}",
            model.gguf().settings.n_ctx
        );
        let hint = format!("lower it to {trained}, or set 0 for the trained context");
        let kind = WarningKind::ContextCapped;
        layers.warn_at(kind, &model.address("n_ctx"), message, &hint);
    }
    let max_tokens = model.address("max_tokens");
    if layers.is_set(&max_tokens) {
        max_tokens_above(model.defaults.max_tokens, model, &max_tokens, layers);
    }
}

/// Warns of `max_tokens`, the value at `address`, if it leaves no room for a prompt in the context of `model`.
pub(super) fn max_tokens_above(
    max_tokens: u32,
    model: &ModelConfig,
    address: &Address,
    layers: &mut Layers,
) {
    let context = model.context();
    if max_tokens >= context && !layers.is_refused(&model.address("n_ctx")) {
        let message = format!(
            "is {max_tokens}, but the context of `{}` holds only {context} tokens for prompt and answer together",
            model.name
        );
        let hint = "lower it below `n_ctx`, or raise `n_ctx`";
        layers.warn_at(WarningKind::MaxTokensAboveContext, address, message, hint);
    }
}

/// Warns of the shared prefix of `tool`, at `address` for the most part, if it certainly does not fit the context of `model`.
pub(super) fn prompt_above_context(
    tool: &ToolConfig,
    model: &ModelConfig,
    address: &Address,
    layers: &mut Layers,
) {
    let context = model.context();
    // A text has at most one token per byte, so most texts need not be rendered.
    let bytes = tool.defaults.system.as_ref().map_or(0, String::len)
        + tool.prepared().map_or(0, |prepared| prepared.prompt.len());
    if bytes < context as usize || layers.is_refused(&model.address("n_ctx")) {
        return;
    }
    let least = least_tokens(tool);
    if least >= context as usize {
        let message = format!(
            "every call fails: the text has at least {least} tokens, but the context of `{}` holds only {context}",
            model.name
        );
        let context = ContextSize {
            n_ctx: context,
            trained: model.trained_context(),
        };
        let hint = format!("shorten it, or {}", context.advice());
        layers.warn_at(WarningKind::PromptAboveContext, address, message, &hint);
    }
}

/// Warns of values that have no effect because of other values.
fn unused_settings(model: &ModelConfig, layers: &mut Layers) {
    let defaults = &model.defaults;
    if let Some(budget) = defaults.thinking_budget
        && budget >= defaults.max_tokens
    {
        let address = model.address("thinking_budget");
        thinking_budget_above(budget, defaults.max_tokens, &address, layers);
    }
    thinking_is_off(defaults, &model.address("thinking_budget"), layers);
    penalties(defaults, &model.address("repeat_last_n"), layers);
    unknown_tokens(defaults, model, &model.address("logit_bias"), layers);
    let cache_ram = model.gguf().settings.cache_ram.0;
    if (1..1 << 20).contains(&cache_ram) {
        let message = format!(
            "is {}: a number without a unit is in bytes",
            human(cache_ram)
        );
        let hint = "write a unit, such as `\"256MiB\"`, or 0 to cache no prompts in memory";
        let address = model.address("cache_ram");
        layers.warn_at(WarningKind::TinySize, &address, message, hint);
    }
}

/// Warns of `repeat_last_n`, the value at `address`, if it switches off penalties of `defaults`.
pub(super) fn penalties(defaults: &Defaults, address: &Address, layers: &mut Layers) {
    let sampling = &defaults.sampling;
    let has_penalty = sampling.presence_penalty != 0.0
        || sampling.frequency_penalty != 0.0
        || sampling
            .repeat_penalty
            .is_some_and(|penalty| (penalty - 1.0).abs() > f64::EPSILON);
    if has_penalty && sampling.repeat_last_n == 0 {
        let message = "is 0, which switches off the penalties that are set".into();
        let hint =
            "set `repeat_last_n` to the number of tokens to look at, or remove the penalties";
        layers.warn_at(WarningKind::PenaltiesUnused, address, message, hint);
    }
}

/// Warns of ids in the `logit_bias` of `defaults`, the table at `address`, that the vocabulary of `model` does not have.
pub(super) fn unknown_tokens(
    defaults: &Defaults,
    model: &ModelConfig,
    address: &Address,
    layers: &mut Layers,
) {
    let files = model.gguf().files.as_ref();
    // 0 if the file does not have it.
    let tokens = files.map_or(0, |files| files.header.n_vocab);
    if tokens == 0 {
        return;
    }
    let is_unknown = |key: &&String| match BiasKey::parse(key) {
        BiasKey::Token(id) => id.is_none_or(|id| u64::from(id.unsigned_abs()) >= tokens),
        BiasKey::Text(_) => false,
    };
    let biases = defaults.sampling.logit_bias.iter().flatten();
    for id in biases.map(|(key, _)| key).filter(is_unknown) {
        let message = format!(
            "token {id} does not exist: the vocabulary of `{}` has {tokens} tokens",
            model.name
        );
        let hint = format!("use an id below {tokens}, or the token's text");
        let kind = WarningKind::LogitBiasUnused;
        layers.warn_at(kind, &address.join(id), message, &hint);
    }
}

/// Warns of the `thinking_budget` of `defaults`, the value at `address`, if reasoning is off.
pub(super) fn thinking_is_off(defaults: &Defaults, address: &Address, layers: &mut Layers) {
    let has_budget = defaults.thinking_budget.is_some_and(|budget| budget > 0);
    if has_budget && defaults.thinking == ThinkingOutput::Off {
        let message = "has no effect, since `thinking` is `off`".into();
        let hint = "remove it, or set another value of `thinking`";
        layers.warn_at(WarningKind::ThinkingBudgetUnused, address, message, hint);
    }
}

/// Warns that `budget`, the value at `address`, is not below `max_tokens`.
pub(super) fn thinking_budget_above(
    budget: u32,
    max_tokens: u32,
    address: &Address,
    layers: &mut Layers,
) {
    let message = format!(
        "is {budget}, but `max_tokens` ends the answer at {max_tokens} tokens, including reasoning"
    );
    let hint = "lower it, or raise `max_tokens`";
    layers.warn_at(WarningKind::ThinkingBudgetUnused, address, message, hint);
}

/// Idle times below this have the effect of 0.
const SHORTEST_IDLE: Duration = Duration::from_secs(1);

fn idle_time(model: &ModelConfig, settings: &ConfigFile, layers: &mut Layers) {
    if model.idle_ttl.is_none_or(|time| time >= SHORTEST_IDLE) {
        return;
    }
    let is_own = |settings: &ConfigFile| {
        let model = settings.models.get(&model.name);
        model.is_some_and(|model| model.idle_ttl.is_some())
    };
    let address = if is_own(settings) {
        model.address("idle_ttl")
    } else {
        Address::new(["registry", "idle_ttl"])
    };
    let message = "unloads a model after each call, and the next call loads it again".into();
    let hint = "write a time such as `\"15m\"`, or `\"never\"` to keep it loaded";
    let kind = WarningKind::UnloadedAfterEachCall;
    layers.warn_at(kind, &address, message, hint);
}

fn unused_model(model: &ModelConfig, config: &Config, layers: &mut Layers) {
    let is_used = config.tools.iter().any(|tool| tool.model == model.name);
    // If there is nothing to call at all, that is reported as an error.
    let has_chat = config.models.iter().any(|model| model.tool_name.is_some());
    let has_tools = has_chat || !config.tools.is_empty();
    let is_known = !layers.has_problem_at(&Address::new(["tools"])) && has_tools;
    if model.tool_name.is_none() && !is_used && is_known {
        let message = "hides the model, but no other tool uses it".into();
        let hint = "remove `tool = false` or the model, or name the model in a tool";
        let kind = WarningKind::UnusedModel;
        layers.warn_at(kind, &model.address("tool"), message, hint);
    }
}
