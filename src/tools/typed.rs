//! Tools without code: declared arguments → a prompt, and an answer that is text, one of several choices, or JSON by a schema.

pub mod prompt;
pub mod sample;

use serde_json::{Map, Value, json};

use super::answering::{Answering, Question};
use super::arguments::ArgumentError;
use super::{Arguments, Superseded, ToolCall, ToolDescription, ToolOutput};
use crate::config::schema::advertised;
use crate::config::tool::Argument;
use crate::config::whole::whole_value;
use crate::config::{ToolConfig, shape};
use crate::engine::{Message, Role};
use crate::error_code::ErrorCode;
use prompt::PromptTemplate;

/// A tool of `[tools.NAME]`.
#[derive(Debug)]
pub struct TypedTool {
    config: ToolConfig,
    template: PromptTemplate,
    answering: Answering,
}

impl TypedTool {
    /// The tool of `config`.
    ///
    /// # Errors
    /// What is wrong with its template.
    pub fn new(config: &ToolConfig, answering: Answering) -> Result<Self, String> {
        Ok(Self {
            template: PromptTemplate::of(config)?,
            config: config.clone(),
            answering,
        })
    }

    /// The tool's name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The name of the model that answers.
    pub fn model(&self) -> &str {
        &self.answering.model
    }

    /// Answers a call. Dropping the future cancels it.
    ///
    /// # Errors
    /// The tool is another one now.
    pub async fn call(
        &self,
        arguments: Arguments,
        call: ToolCall,
    ) -> Result<ToolOutput, Superseded> {
        let values = match self.values(arguments) {
            Ok(values) => values,
            Err(error) => {
                return Ok(ToolOutput::error(
                    ErrorCode::BadArguments,
                    error.to_string(),
                ));
            }
        };
        let content = match self.template.render(&values) {
            Ok(content) => content,
            Err(cause) => {
                let text = format!("the tool's prompt could not be made: {cause}");
                return Ok(ToolOutput::error(ErrorCode::TemplateFailed, text));
            }
        };
        let defaults = &self.config.defaults;
        let message = Message {
            role: Role::User,
            content,
        };
        let question = Question {
            conversation: defaults.conversation(vec![message], defaults.prompt_suffix.clone()),
            max_tokens: defaults.max_tokens,
            sampling: defaults.sampling(self.config.answer.is_some()),
            stop: defaults.stop.clone(),
            deadline: defaults.deadline,
            answer: self.config.answer.clone(),
            cut_note: defaults.cut_note,
        };
        self.answering.answer(question, call).await
    }

    /// The arguments of a call, checked, with the defaults of those that it does not give.
    fn values(&self, mut given: Arguments) -> Result<Map<String, Value>, ArgumentError> {
        let names = || {
            self.config
                .arguments
                .iter()
                .map(|known| known.name.as_str())
        };
        if let Some(unknown) = given.keys().find(|key| !names().any(|name| name == *key)) {
            return Err(ArgumentError::says(format!(
                "`{unknown}` is not an argument of this tool; {}",
                shape::suggestion(unknown, &names().collect::<Vec<_>>())
            )));
        }
        let value = |argument: &Argument| {
            let name = &argument.name;
            let given = given.remove(name).filter(|value| !value.is_null());
            let Some(value) = given.map(|value| whole(value, &argument.schema)) else {
                let default = argument.default.clone();
                let default = default.ok_or_else(|| {
                    ArgumentError::says(format!("`{name}` is missing: it has no default"))
                })?;
                return Ok((name.clone(), default));
            };
            check(name, &argument.schema, &value)?;
            Ok((name.clone(), value))
        };
        self.config.arguments.iter().map(value).collect()
    }

    /// What clients are told of the tool.
    pub fn description(&self) -> ToolDescription {
        let config = &self.config;
        let properties: Map<String, Value> = config
            .arguments
            .iter()
            .map(|argument| (argument.name.clone(), argument.schema.clone()))
            .collect();
        let required: Vec<&str> = config
            .arguments
            .iter()
            .filter(|argument| argument.default.is_none())
            .map(|argument| argument.name.as_str())
            .collect();
        let title = config.title.clone();
        ToolDescription {
            name: config.name.clone(),
            title: title.unwrap_or_else(|| config.name.clone()),
            description: config.description.clone().unwrap_or_else(|| {
                format!(
                    "Asks the local language model {} by a prepared prompt.",
                    self.answering.model
                )
            }),
            input_schema: advertised(&json!({
                "type": "object",
                "properties": properties,
                "required": required,
            })),
            max_chars: self.answering.max_chars(config.defaults.max_tokens),
            output_schema: config
                .answer
                .as_ref()
                .map(|answer| answer.advertised.clone()),
        }
    }
}

/// Names the item of an array that is wrong.
fn check(name: &str, schema: &Value, value: &Value) -> Result<(), ArgumentError> {
    if let (Some(of_items), Value::Array(items)) = (schema.get("items"), value) {
        for (at, item) in (0_usize..).zip(items) {
            check(&format!("{name}[{at}]"), of_items, item)?;
        }
    }
    shape::check(schema, value)
        .map_err(|allowed| ArgumentError::says(format!("`{name}`: must be {allowed}")))
}

/// 3.0 is 3 where a whole number is wanted.
fn whole(value: Value, schema: &Value) -> Value {
    match value {
        Value::Array(items) => items
            .into_iter()
            .map(|item| whole(item, &schema["items"]))
            .collect(),
        value if schema["type"] == "integer" => whole_value(&value).map_or(value, Value::from),
        value => value,
    }
}
