//! A typed tool as the program runs it.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::address::Address;
use super::file::{
    ArgumentSettings, ArgumentType, ConfigFile, ItemType, ModelSettings, ToolSettings,
};
use super::load::Layers;
use super::model::{Defaults, ModelConfig};
use super::ranges;
use super::schema::{AnswerSchema, Limits, SchemaTextError};
use super::shape::{ValueCheck, suggestion};
use super::template_arguments;
use super::whole::whole;

/// A tool made of a prompt. Serialised, it is its keys.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolConfig {
    /// What clients call it.
    #[serde(skip)]
    pub name: String,
    /// For people.
    pub title: Option<String>,
    /// For the model that chooses among tools.
    pub description: Option<String>,
    /// The model that answers, by name.
    pub model: String,
    /// The template of what it is asked.
    pub prompt: String,
    /// What a call gives, by name.
    pub arguments: Vec<Argument>,
    /// What the answer must be; none where it is free text.
    #[serde(flatten)]
    pub answer: Option<Arc<AnswerSchema>>,
    /// How it is sampled.
    #[serde(flatten)]
    pub defaults: Defaults,
}

/// What a call gives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Argument {
    /// What the template calls it.
    pub name: String,
    /// The JSON Schema of its values.
    pub schema: Value,
    /// What counts where a call does not say; none where it must.
    pub default: Option<Value>,
}

impl Argument {
    /// Returns its name in the template and in calls.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Where a tool's `key` stands.
pub fn address(tool: &str, key: &str) -> Address {
    Address::of(["tools", tool, key])
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
        if tool.prompt.is_none() {
            let hint =
                "a Jinja template over the arguments: `prompt = \"Summarise:\\n{{ text }}\"`";
            layers.problem_at(&at("prompt"), "is missing".into(), Some(hint.into()));
        }
        let deadline = tool.deadline;
        if let Some(message) = deadline.and_then(|deadline| deadline.fault(ranges::DEADLINE)) {
            layers.range_problem_at(&at("deadline"), message, None);
        }
        template_arguments::tell(
            tool.template_arguments.as_ref(),
            &at("template_arguments"),
            layers,
        );
        // A model whose file is wrong is reported where it is read.
        let answering = models
            .iter()
            .find(|known| Some(&known.name) == model.as_ref());
        let built_in = || Defaults::of(&ModelSettings::default());
        let defaults = answering.map_or_else(built_in, |model| model.defaults.clone());
        let defaults = defaults.with(tool);
        let answer = answer_of(name, tool, defaults.limits, layers);
        let mut arguments: Vec<Argument> = tool
            .arguments
            .iter()
            .map(|(argument, settings)| argument_of(name, argument, settings, layers))
            .collect();
        let refused = at("arguments");
        // The prompt may use an argument whose declaration is invalid.
        arguments.extend(layers.refused_names(&refused).map(|name| Argument {
            name: name.to_owned(),
            schema: json!({"type": "string"}),
            default: None,
        }));
        ToolConfig {
            name: name.clone(),
            title: tool.title.clone(),
            description: tool.description.clone(),
            model: model.unwrap_or_default(),
            prompt: tool.prompt.clone().unwrap_or_default(),
            arguments,
            answer,
            defaults,
        }
    };
    settings.tools.iter().map(tool).collect()
}

fn model_of(
    name: &str,
    tool: &ToolSettings,
    settings: &ConfigFile,
    layers: &mut Layers,
) -> Option<String> {
    let models = Address::of(["models"]);
    let mut names: Vec<&str> = settings.models.keys().map(String::as_str).collect();
    names.extend(layers.refused_names(&models));
    if layers.is_refused(&models) {
        return None;
    }
    let (message, hint) = match (&tool.model, &names[..]) {
        (Some(model), names) if names.contains(&model.as_str()) => return Some(model.clone()),
        (Some(model), names) => (
            format!("there is no model `{model}`"),
            suggestion(model, names),
        ),
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
                layers.problem_at(&at("output"), error.to_string(), None);
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

fn argument_of(
    tool: &str,
    name: &str,
    settings: &ArgumentSettings,
    layers: &mut Layers,
) -> Argument {
    let at = |key: &str| address(tool, "arguments").join(name).join(key);
    let kind = settings.r#type;
    let is_array = kind == ArgumentType::Array;
    let is_number = matches!(kind, ArgumentType::Integer | ArgumentType::Number);
    let is_text = kind == ArgumentType::String;
    // Words of Jinja: a template that names them means something else.
    if [
        "true", "false", "none", "not", "and", "or", "in", "is", "if", "else", "self", "loop",
    ]
    .contains(&name.to_lowercase().as_str())
    {
        let message = format!("`{name}` is a word of the template's language");
        let place = address(tool, "arguments").join(name);
        layers.problem_at(
            &place,
            message,
            Some("give the argument another name".into()),
        );
    }
    for (key, is_set, fits) in [
        ("items", settings.items.is_some(), is_array),
        ("minimum", settings.minimum.is_some(), is_number),
        ("maximum", settings.maximum.is_some(), is_number),
        ("min_length", settings.min_length.is_some(), is_text),
        ("max_length", settings.max_length.is_some(), is_text),
        ("min_items", settings.min_items.is_some(), is_array),
        ("max_items", settings.max_items.is_some(), is_array),
    ] {
        if is_set && !fits {
            let message = "does not go with the argument's `type`".to_owned();
            layers.problem_at(&at(key), message, None);
        }
    }
    let schema = schema_of(settings);
    let is_more = |least: Option<f64>, most: Option<f64>| {
        let bounds = least.zip(most);
        bounds.is_some_and(|(least, most)| least > most)
    };
    #[expect(clippy::cast_precision_loss, reason = "compared with each other")]
    let length = |length: Option<u64>| length.map(|length| length as f64);
    for (key, is_wrong) in [
        ("minimum", is_more(settings.minimum, settings.maximum)),
        (
            "min_length",
            is_more(length(settings.min_length), length(settings.max_length)),
        ),
        (
            "min_items",
            is_more(length(settings.min_items), length(settings.max_items)),
        ),
        ("enum", settings.r#enum.as_ref().is_some_and(Vec::is_empty)),
    ] {
        if is_wrong {
            layers.problem_at(&at(key), "leaves no value that is allowed".into(), None);
        }
    }
    // The values that are listed must be what the other keys allow.
    let mut unlisted = schema.clone();
    if let Some(keys) = unlisted.as_object_mut() {
        keys.remove("enum");
    }
    let listed = settings.r#enum.iter().flatten();
    for (key, value, schema) in listed.map(|value| ("enum", value, &unlisted)).chain(
        settings
            .default
            .iter()
            .map(|value| ("default", value, &schema)),
    ) {
        if let Err(fault) = ValueCheck::new(schema).check(value) {
            let hint =
                "the argument's `type`, `string` where it does not say, is that of its values";
            let hint = (key == "enum").then(|| hint.to_owned());
            layers.problem_at(&at(key), format!("must be {}", fault.message), hint);
        }
    }
    Argument {
        name: name.to_owned(),
        schema,
        default: settings.default.clone(),
    }
}

fn schema_of(settings: &ArgumentSettings) -> Value {
    let mut schema = json!({"type": settings.r#type});
    if settings.r#type == ArgumentType::Array {
        schema["items"] = json!({"type": settings.items.unwrap_or(ItemType::String)});
    }
    let number = |bound: f64| whole(bound).map_or_else(|| bound.into(), Value::from);
    for (key, value) in [
        ("description", settings.description.clone().map(Value::from)),
        ("enum", settings.r#enum.clone().map(Value::from)),
        ("default", settings.default.clone()),
        ("minimum", settings.minimum.map(number)),
        ("maximum", settings.maximum.map(number)),
        ("minLength", settings.min_length.map(Value::from)),
        ("maxLength", settings.max_length.map(Value::from)),
        ("minItems", settings.min_items.map(Value::from)),
        ("maxItems", settings.max_items.map(Value::from)),
    ] {
        if let Some(value) = value {
            schema[key] = value;
        }
    }
    schema
}

impl Limits {
    /// The same with what `tool` sets.
    fn with(self, tool: &ToolSettings) -> Self {
        Self {
            string: tool.json_max_string.unwrap_or(self.string),
            items: tool.json_max_items.unwrap_or(self.items),
        }
    }
}

impl Defaults {
    /// The same with what `tool` says.
    fn with(&self, tool: &ToolSettings) -> Self {
        let number = |said: Option<f64>, default: f32| said.map_or(default, ranges::to_f32);
        let limit = self.max_tokens_limit.unwrap_or(u32::MAX);
        Self {
            max_tokens: tool.max_tokens.unwrap_or(self.max_tokens).min(limit),
            max_tokens_limit: self.max_tokens_limit,
            temperature: number(tool.temperature, self.temperature),
            top_p: number(tool.top_p, self.top_p),
            top_k: tool.top_k.unwrap_or(self.top_k),
            min_p: number(tool.min_p, self.min_p),
            repeat_penalty: tool
                .repeat_penalty
                .map_or(self.repeat_penalty, |penalty| Some(ranges::to_f32(penalty))),
            limits: self.limits.with(tool),
            presence_penalty: number(tool.presence_penalty, self.presence_penalty),
            frequency_penalty: number(tool.frequency_penalty, self.frequency_penalty),
            repeat_last_n: tool.repeat_last_n.unwrap_or(self.repeat_last_n),
            seed: tool.seed.map_or(self.seed, |seed| u32::try_from(seed).ok()),
            stop: tool.stop.clone().unwrap_or_else(|| self.stop.clone()),
            system: tool.system.clone().or_else(|| self.system.clone()),
            prompt_suffix: self.prompt_suffix.clone(),
            thinking: tool.thinking.unwrap_or(self.thinking),
            thinking_budget: tool.thinking_budget.or(self.thinking_budget),
            template_arguments: template_arguments::merged(
                &self.template_arguments,
                &template_arguments::given(tool.template_arguments.as_ref()),
            ),
            deadline: tool
                .deadline
                .map_or(self.deadline, |deadline| Some(deadline.0)),
            // What a prompt asks for is read by programs, too: nothing but the answer belongs into it.
            cut_note: false,
        }
    }
}
