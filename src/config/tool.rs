//! A configured tool: one of `[tools.NAME]`, or a model's own.

mod argument;
mod defaults;

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::address::Address;
use super::file::{ConfigFile, ModelSettings, ToolKind, ToolSettings};
use super::load::Layers;
use super::model::{Defaults, ModelConfig};
use super::naming;
use super::paths;
use super::ranges;
use super::template_arguments::{self, is_name};
use super::validate::{nearest, suggestion};
use crate::schema::{AnswerSchema, Limits, SchemaTextError};
pub(crate) use argument::Argument;

/// A tool that uses a model. Serializes as the keys of its table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ToolConfig {
    /// Name that clients use.
    #[serde(skip)]
    pub name: String,
    /// Title for people.
    pub title: Option<String>,
    /// Description for the client's model, which chooses among tools.
    pub description: Option<String>,
    /// Name of the model that answers.
    pub model: String,
    /// Input and answer of calls.
    #[serde(flatten)]
    pub body: ToolBody,
    /// Defaults of calls.
    #[serde(flatten)]
    pub defaults: Defaults,
}

/// Input and answer of a tool's calls. Serializes as the keys of its table.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum ToolBody {
    /// A conversation, which the model continues.
    Chat,
    /// Declared arguments, from which a template makes a prompt.
    Prompt(PreparedPrompt),
}

/// The prompt of a typed tool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PreparedPrompt {
    /// The prompt template.
    pub prompt: String,
    /// The declared arguments, in the order of their names.
    pub arguments: Vec<Argument>,
    /// The schema of the answer; `None` if it is free text.
    #[serde(flatten)]
    pub answer: Option<Arc<AnswerSchema>>,
}

impl ToolConfig {
    /// Returns the chat tool of `model` itself; `None` with `tool = false`.
    pub(crate) fn own_of(model: &ModelConfig) -> Option<Self> {
        let title = model.title.clone();
        Some(Self {
            name: model.tool_name.clone()?,
            title: Some(title.unwrap_or_else(|| format!("Chat with {}", model.full_name()))),
            description: model.description.clone(),
            model: model.name.clone(),
            body: ToolBody::Chat,
            defaults: model.defaults.clone(),
        })
    }

    /// Returns the prepared prompt; `None` if the tool takes a conversation.
    pub(crate) fn prepared(&self) -> Option<&PreparedPrompt> {
        match &self.body {
            ToolBody::Prompt(prepared) => Some(prepared),
            ToolBody::Chat => None,
        }
    }
}

/// Returns the address of `key` in `[tools.NAME]`.
pub(crate) fn address(tool: &str, key: &str) -> Address {
    Address::new(["tools", tool, key])
}

/// Resolves the tools of `settings` over `models`. Problems go to `layers`; a tool that has any is incomplete.
pub(super) fn resolve(
    settings: &ConfigFile,
    models: &[ModelConfig],
    layers: &mut Layers,
) -> Vec<ToolConfig> {
    let tool = |(name, tool): (&String, &ToolSettings)| {
        let model = model_of(name, tool, settings, layers);
        let at = |key: &str| address(name, key);
        check_kind(name, tool, layers);
        let deadline = tool.deadline;
        if let Some(message) = deadline.and_then(|deadline| deadline.fault(ranges::DEADLINE)) {
            layers.range_problem_at(&at("deadline"), message, None);
        }
        template_arguments::report_invalid(
            tool.template_arguments.as_ref(),
            &at("template_arguments"),
            layers,
        );
        // A model whose file is wrong is reported when the file is read.
        let answering = models
            .iter()
            .find(|known| Some(&known.name) == model.as_ref());
        let built_in = || Defaults::from_settings(&ModelSettings::default());
        let defaults = answering.map_or_else(built_in, |model| model.defaults.clone());
        let defaults = defaults.with(tool);
        ToolConfig {
            name: name.clone(),
            title: tool.title.clone(),
            description: tool.description.clone(),
            model: model.unwrap_or_default(),
            body: body_of(name, tool, defaults.limits, layers),
            defaults,
        }
    };
    settings.tools.iter().map(tool).collect()
}

fn body_of(name: &str, tool: &ToolSettings, limits: Limits, layers: &mut Layers) -> ToolBody {
    let is_unknown = layers.is_refused(&address(name, "kind")) && tool.prompt.is_none();
    if tool.kind == ToolKind::Chat || is_unknown {
        return ToolBody::Chat;
    }
    let answer = answer_of(name, tool, limits, layers);
    let mut arguments: Vec<Argument> = tool
        .arguments
        .iter()
        .map(|(key, settings)| argument::resolve(name, key, settings, layers))
        .collect();
    let refused = address(name, "arguments");
    // The prompt may use an argument whose declaration is invalid.
    let names = layers.refused_names(&refused);
    arguments.extend(names.filter(|name| is_name(name)).map(Argument::unknown));
    ToolBody::Prompt(PreparedPrompt {
        prompt: tool.prompt.clone().unwrap_or_default(),
        arguments,
        answer,
    })
}

/// Checks that the keys of `tool` fit its kind, and each other.
fn check_kind(name: &str, tool: &ToolSettings, layers: &mut Layers) {
    let at = |key: &str| address(name, key);
    if layers.is_refused(&at("kind")) {
        // The allowed keys depend on the kind.
        return;
    }
    let of_prompts = [
        ("prompt", tool.prompt.is_some()),
        ("arguments", !tool.arguments.is_empty()),
        ("output", tool.output.is_some()),
        ("choices", tool.choices.is_some()),
    ];
    let is_wrong = |(_, is_set): &(&str, bool)| tool.kind == ToolKind::Chat && *is_set;
    for (key, _) in of_prompts.into_iter().filter(is_wrong) {
        let message = "cannot be combined with `kind = \"chat\"`".to_owned();
        let hint = "remove it; calls of a chat tool take `text` or `messages`, and optionally `json_schema`";
        layers.problem_at(&at(key), message, Some(hint.into()));
    }
    if tool.kind == ToolKind::Prompt && tool.prompt.is_none() {
        let hint = "write a Jinja template with the arguments, such as `prompt = \"Summarise:\\n{{ text }}\"`, or set `kind = \"chat\"` for a tool that takes a conversation";
        layers.problem_at(&at("prompt"), "is missing".into(), Some(hint.into()));
    }
    if let (Some(limit), Some(max_tokens)) = (tool.max_tokens_limit, tool.max_tokens)
        && limit < max_tokens
    {
        let message =
            format!("must be at most `max_tokens_limit`, which is {limit}, found {max_tokens}");
        layers.problem_at(&at("max_tokens"), message, None);
    }
}

fn model_of(
    name: &str,
    tool: &ToolSettings,
    settings: &ConfigFile,
    layers: &mut Layers,
) -> Option<String> {
    let named = tool.model.as_deref();
    if let Some(model) = named.and_then(|model| naming::model(settings, model)) {
        return Some(model.to_owned());
    }
    let models = Address::new(["models"]);
    let mut names: Vec<&str> = settings.models.keys().map(String::as_str).collect();
    names.extend(layers.refused_names(&models));
    if layers.is_refused(&models) {
        return None;
    }
    let (message, hint) = match (named, &names[..]) {
        (Some(model), names) if names.contains(&model) => return Some(model.to_owned()),
        (Some(model), names) => {
            let aliases = settings.models.values().flat_map(|model| &model.aliases);
            let aliases: Vec<&str> = aliases.map(String::as_str).collect();
            let hint = match (nearest(model, names), nearest(model, &aliases)) {
                (None, Some(alias)) => format!("did you mean the alias `{alias}`?"),
                _ => suggestion(model, names),
            };
            (format!("there is no model `{model}`"), hint)
        }
        (None, [single]) => return Some((*single).to_owned()),
        (None, names) => (
            "is missing: which model answers?".into(),
            suggestion("", names),
        ),
    };
    layers.problem_at(&address(name, "model"), message, Some(hint));
    None
}

fn answer_of(
    name: &str,
    tool: &ToolSettings,
    limits: Limits,
    layers: &mut Layers,
) -> Option<Arc<AnswerSchema>> {
    let at = |key: &str| address(name, key);
    let made = match (&tool.output, &tool.choices) {
        (Some(_), Some(_)) => {
            let message = "give `choices` or `output`, not both".to_owned();
            layers.problem_at(&at("choices"), message, None);
            return None;
        }
        (None, None) => return None,
        (None, Some(choices)) => AnswerSchema::choice(choices),
        (Some(Value::String(text)), None) => match AnswerSchema::from_text(text, limits) {
            Ok(answer) => Ok(answer),
            Err(SchemaTextError::Faults(faults)) => Err(faults),
            Err(error) => {
                layers.problem_at(&at("output"), error.to_string(), schema_hint(text));
                return None;
            }
        },
        (Some(schema), None) => AnswerSchema::json(schema, limits),
    };
    if tool.stop.as_ref().is_some_and(|stop| !stop.is_empty()) {
        let message =
            "cannot be combined with `output` or `choices`: such an answer ends by itself"
                .to_owned();
        let hint = "remove it, or `output` or `choices`";
        layers.problem_at(&at("stop"), message, Some(hint.into()));
    }
    match made {
        Ok(answer) => Some(Arc::new(answer)),
        Err(faults) => {
            let key = if tool.output.is_some() {
                "output"
            } else {
                "choices"
            };
            for fault in faults.0 {
                let message = format!("the schema cannot be enforced {fault}");
                layers.schema_problem_at(&at(key), &fault.pointer, message);
            }
            None
        }
    }
}

/// Returns what to write instead of `text` as the schema of an answer, if it is not JSON at all.
fn schema_hint(text: &str) -> Option<String> {
    if text.trim_start().starts_with('{') {
        return None;
    }
    Some(match paths::file_reference(text) {
        Some(reference) => format!("write `\"{reference}\"` for the content of the file"),
        None => "write a JSON Schema with an object at its root: a table, or `\"${file:answer.schema.json}\"`".into(),
    })
}
