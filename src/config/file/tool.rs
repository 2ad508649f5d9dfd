//! `[tools.NAME]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{NOT_BLANK, ThinkingOutput};
use crate::config::ranges;
use crate::config::sampling::SamplingOverrides;
use crate::config::units::Time;

/// Pattern of the names of arguments, which templates can use as variables.
pub(super) const ARGUMENT_PATTERN: &str = "^[a-zA-Z_][a-zA-Z0-9_]{0,63}$";

/// The values of `kind`: what calls of a tool take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum ToolKind {
    #[default]
    Prompt,
    Chat,
}

/// The types of an argument.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum ArgumentType {
    #[default]
    String,
    Integer,
    Number,
    Boolean,
    Array,
}

/// The types of the items of an array.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum ItemType {
    #[default]
    String,
    Integer,
    Number,
    Boolean,
}

/// `[tools.NAME.arguments.ARG]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ArgumentSettings {
    /// `string`, `integer`, `number`, `boolean` or `array`.
    pub r#type: ArgumentType,
    /// What an array holds: `string`, `integer`, `number` or `boolean`.
    pub items: Option<ItemType>,
    /// Description of the argument for clients.
    #[schemars(example = json!("The text to summarise."))]
    pub description: Option<String>,
    /// The allowed values.
    #[schemars(example = json!(["short", "long"]))]
    pub r#enum: Option<Vec<Value>>,
    /// Value for calls that leave the argument out; without a default, the argument is required.
    #[schemars(example = json!("short"))]
    pub default: Option<Value>,
    /// Least number.
    #[schemars(example = json!(1))]
    pub minimum: Option<f64>,
    /// Greatest number.
    #[schemars(example = json!(10))]
    pub maximum: Option<f64>,
    /// Least characters of a string.
    #[schemars(example = json!(1))]
    pub min_length: Option<u64>,
    /// Most characters of a string.
    #[schemars(example = json!(2000))]
    pub max_length: Option<u64>,
    /// Least items of an array.
    #[schemars(example = json!(1))]
    pub min_items: Option<u64>,
    /// Most items of an array.
    #[schemars(example = json!(10))]
    pub max_items: Option<u64>,
}

/// The keys of a tool: a prompt template with declared arguments and the form of the answer, or a chat profile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub(crate) struct ToolSettings {
    /// Name or alias of the model that answers. Not needed if there is only one model.
    #[schemars(example = json!("small"))]
    pub model: Option<String>,
    /// `prompt` fills a prompt template with declared arguments. `chat` takes a conversation, as a model's own tool does; several chat tools, each with its own `system`, sampling and limits, can share one loaded model.
    pub kind: ToolKind,
    /// Title of the tool, for people.
    #[schemars(length(min = 1, max = 200), regex(pattern = NOT_BLANK), example = json!("Summarise a text"))]
    pub title: Option<String>,
    /// Description of the tool for clients: what it is good for.
    #[schemars(example = json!("Summarises a text in a few sentences."))]
    pub description: Option<String>,
    /// A system prompt, instead of the model's; not a template.
    #[schemars(example = json!("Write plain English."))]
    pub system: Option<String>,
    /// Text after the system prompt, for example `/no_think`, instead of the model's `prompt_suffix`.
    #[schemars(example = json!("/no_think"))]
    pub prompt_suffix: Option<String>,
    /// The prompt: a Jinja template with the arguments. The model does not see `choices` and `output`: name them, or use `{{ choices }}` and `{{ output_schema }}`.
    #[schemars(regex(pattern = NOT_BLANK), example = json!("Summarise:\n\n{{ text }}"))]
    pub prompt: Option<String>,
    /// Arguments of a call, by name.
    #[schemars(extend("propertyNames" = json!({"pattern": ARGUMENT_PATTERN})))]
    pub arguments: BTreeMap<String, ArgumentSettings>,
    /// JSON Schema of the answer, with an object at its root; the answer always follows it. A table, or JSON as text such as `${file:answer.schema.json}`.
    #[schemars(with = "Option<BTreeMap<String, Value>>", extend("type" = json!(["object", "string"])), example = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}))]
    pub output: Option<Value>,
    /// The allowed answers; the answer is always one of them.
    #[schemars(length(min = 1, max = 1000), inner(length(min = 1, max = 1000), regex(pattern = NOT_BLANK)), extend("uniqueItems" = true), example = json!(["positive", "negative"]))]
    pub choices: Option<Vec<String>>,

    /// Longest answer, in tokens. By default, this key and the keys below have the model's values.
    #[schemars(range(min = ranges::MAX_TOKENS.min, max = ranges::MAX_TOKENS.max), example = json!(500))]
    pub max_tokens: Option<u32>,
    /// Longest answer that a call may ask for, in tokens.
    #[schemars(range(min = ranges::MAX_TOKENS.min, max = ranges::MAX_TOKENS.max), example = json!(1000))]
    pub max_tokens_limit: Option<u32>,
    /// End a truncated free answer with a line that says so. By default, the model's value with `kind = "chat"`, and `false` with a prompt.
    #[schemars(example = json!(false))]
    pub cut_note: Option<bool>,
    /// Time from a call's arrival after which it ends with the text that it has.
    #[schemars(range(min = ranges::DEADLINE.min, max = ranges::DEADLINE.max))]
    pub deadline: Option<Time>,
    /// Handling of the model's reasoning: `strip`, `keep`, `before` or `off`.
    pub thinking: Option<ThinkingOutput>,
    /// Most tokens of reasoning; at this limit its block is closed and the answer begins. 0 allows no reasoning.
    #[schemars(range(min = ranges::THINKING_BUDGET.min, max = ranges::THINKING_BUDGET.max), example = json!(500))]
    pub thinking_budget: Option<u32>,
    /// Variables of the chat template, such as `{ reasoning_effort = "low" }`, in addition to the model's.
    #[schemars(example = json!({"reasoning_effort": "low"}))]
    pub template_arguments: Option<BTreeMap<String, Value>>,
    /// Longest string in a JSON answer, in characters, unless the schema sets a lower `maxLength`; twice its `minLength` if that is more. An answer that reaches this limit is an error.
    #[schemars(range(min = ranges::JSON_MAX_STRING.min, max = ranges::JSON_MAX_STRING.max), example = json!(100_000))]
    pub json_max_string: Option<u64>,
    /// Most items of an array, and most properties of a map, in a JSON answer, unless the schema sets a lower maximum; twice its minimum if that is more. An answer that reaches this limit is an error.
    #[schemars(range(min = ranges::JSON_MAX_ITEMS.min, max = ranges::JSON_MAX_ITEMS.max), example = json!(1000))]
    pub json_max_items: Option<u64>,
    #[serde(flatten)]
    pub sampling: SamplingOverrides,
    /// Texts that end an answer and are not part of it. Cannot be combined with `output` or `choices`, since such an answer ends by itself.
    #[schemars(length(max = ranges::MAX_STOPS), inner(length(min = 1, max = ranges::MAX_STOP_CHARS)), example = json!(["\n\n"]))]
    pub stop: Option<Vec<String>>,
}
