//! Tools that are declared in the configuration: their arguments fill the template of a prompt. The answer is text, one of several
//! choices, or JSON that follows a schema.

pub(crate) mod prompt;
pub(crate) mod sample;

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value, json};
use tokio::task::spawn_blocking;

use super::answering::{Answering, Question, draw_seed};
use super::arguments::{ArgumentError, Missing, check_names};
use super::conversation::from_prompt;
use super::{Arguments, Superseded, ToolCall, ToolDescription, ToolOutput};
use crate::config::ToolConfig;
use crate::config::tool::{Argument, PreparedPrompt};
use crate::config::validate::ValueCheck;
use crate::error_code::{Coded, ErrorCode};
use crate::fair::FairSemaphore;
use crate::json::from_text;
use crate::json::integer::whole_value;
use crate::schema::advertised;
use prompt::{PromptError, PromptTemplate, TemplateFaults};

/// Limits the prompts that are rendered at once from small messages, since a slow template takes seconds of CPU time. A large message
/// holds a permit of [`crate::fair::HEAVY`] instead.
static PROMPTS: LazyLock<FairSemaphore> = LazyLock::new(|| FairSemaphore::new(4));

/// A tool of `[tools.NAME]` that has a prompt.
#[derive(Debug)]
pub(crate) struct TypedTool {
    config: ToolConfig,
    prepared: PreparedPrompt,
    template: PromptTemplate,
    /// Compiled checks of the arguments, in their order.
    checks: Vec<ValueCheck>,
    answering: Answering,
}

/// The prompt of a call.
struct Prompt {
    text: String,
    /// Bytes of the arguments.
    given: usize,
}

impl TypedTool {
    /// Creates a tool from its configuration and its prompt, `prepared`. Compiles the template and the checks of the arguments.
    ///
    /// # Errors
    /// The template is invalid.
    pub(crate) fn new(
        config: &ToolConfig,
        prepared: &PreparedPrompt,
        answering: Answering,
    ) -> Result<Self, TemplateFaults> {
        Ok(Self {
            template: PromptTemplate::compile(prepared)?,
            checks: (prepared.arguments.iter())
                .map(|argument| ValueCheck::new(&argument.schema))
                .collect(),
            config: config.clone(),
            prepared: prepared.clone(),
            answering,
        })
    }

    /// Returns the tool's name.
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// Returns the name of the model that answers.
    pub(crate) fn model(&self) -> &str {
        &self.answering.model
    }

    /// Answers a call. Dropping the future cancels the call, except for a rendering of the prompt in progress, see [`Self::prompt`].
    ///
    /// # Errors
    /// Returns [`Superseded`] if an edit replaced the model before it accepted the call.
    pub(crate) async fn call(
        self: &Arc<Self>,
        arguments: Arguments,
        call: ToolCall,
    ) -> Result<ToolOutput, Superseded> {
        let prompt = match self.prompt(arguments, &call).await {
            Ok(prompt) => prompt,
            Err(error) => return Ok(error.into()),
        };
        let defaults = &self.config.defaults;
        let question = Question {
            conversation: from_prompt(prompt.text, defaults),
            given: prompt.given,
            max_tokens: defaults.max_tokens,
            sampling: (defaults.sampling.clone())
                .for_answer(self.prepared.answer.is_some())
                .with_seed(draw_seed),
            stop: defaults.stop.clone(),
            deadline: defaults.deadline,
            answer: self.prepared.answer.clone(),
            cut_note: defaults.cut_note,
        };
        self.answering.answer(question, call).await
    }

    /// Renders the prompt of `call` on a blocking thread, fairly among clients.
    ///
    /// If the future is dropped while it waits for a permit, nothing is rendered. If it is dropped later, the rendering finishes, keeps its
    /// permit until then, and is discarded. Fuel bounds it.
    async fn prompt(
        self: &Arc<Self>,
        arguments: Arguments,
        call: &ToolCall,
    ) -> Result<Prompt, Coded> {
        let permit = if call.permits.is_large() {
            None
        } else {
            Some(PROMPTS.acquire(&call.client).await)
        };
        let (tool, permits) = (Arc::clone(self), call.permits.clone());
        let rendered = spawn_blocking(move || {
            let _permit = permit;
            permits.run_and_release(|| tool.render(arguments))
        });
        rendered.await.unwrap_or_else(|failed| {
            tracing::error!(
                tool = self.name(),
                "a prompt could not be rendered: {failed}"
            );
            Err(not_rendered("its arguments could not be checked"))
        })
    }

    /// Checks the arguments `given` and renders the prompt.
    fn render(&self, given: Arguments) -> Result<Prompt, Coded> {
        let lengths = given.values().map(|value| value.to_string().len());
        let bytes = lengths.sum();
        let values = self.values(given);
        let values = values.map_err(|error| ErrorCode::BadArguments.says(error.to_string()))?;
        let rendered = self.template.render(&values);
        let text = rendered.map_err(|error| match error {
            PromptError::Template(faults) => not_rendered(&faults.to_string()),
            PromptError::SystemLimit(limit) => limit.into(),
        })?;
        Ok(Prompt { text, given: bytes })
    }

    /// Checks the arguments of a call, and adds the defaults of missing ones.
    fn values(&self, mut given: Arguments) -> Result<Map<String, Value>, ArgumentError> {
        let known: Vec<&str> = self.prepared.arguments.iter().map(Argument::name).collect();
        let missing: Vec<&str> = self
            .prepared
            .arguments
            .iter()
            .filter(|argument| argument.default.is_none())
            .map(Argument::name)
            .filter(|name| given.get(*name).is_none_or(Value::is_null))
            .collect();
        let missing = (!missing.is_empty()).then(|| Missing {
            message: missing_message(&missing),
            names: missing,
        });
        check_names(&given, &known, missing.as_ref())?;
        if let Some(missing) = missing {
            return Err(ArgumentError::says(missing.message));
        }
        let value = |(argument, check): (&Argument, &ValueCheck)| {
            let (name, schema) = (&argument.name, &argument.schema);
            let at = |fault| ArgumentError::from_fault(name, &fault);
            let value = from_text(given.remove(name).unwrap_or_default(), kind(schema));
            check.check_length(&value).map_err(at)?;
            let value = as_declared(value, schema);
            match &argument.default {
                Some(default) if is_absent(&value, schema) => {
                    return Ok((name.clone(), default.clone()));
                }
                _ => check.check(&value).map_err(at)?,
            }
            Ok((name.clone(), value))
        };
        let arguments = self.prepared.arguments.iter();
        arguments.zip(&self.checks).map(value).collect()
    }

    /// Describes the tool to clients.
    pub(crate) fn description(&self) -> ToolDescription {
        let config = &self.config;
        let properties: Map<String, Value> = self
            .prepared
            .arguments
            .iter()
            .map(|argument| (argument.name.clone(), argument.schema.clone()))
            .collect();
        let required: Vec<&str> = self
            .prepared
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
                    "Asks the local language model {} with a prepared prompt.",
                    self.answering.model
                )
            }),
            input_schema: advertised(&json!({
                "type": "object",
                "properties": properties,
                "required": required,
            })),
            max_chars: self.answering.max_chars(config.defaults.max_tokens),
            output_schema: self
                .prepared
                .answer
                .as_ref()
                .map(|answer| answer.advertised.clone()),
        }
    }
}

/// Returns the error of a prompt that could not be rendered.
fn not_rendered(cause: &str) -> Coded {
    ErrorCode::TemplateFailed.says(format!("the tool's prompt could not be rendered: {cause}"))
}

fn missing_message(names: &[&str]) -> String {
    match names {
        [name] => format!("`{name}` is missing: it has no default"),
        names => {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("{} are missing: they have no default", names.join(", "))
        }
    }
}

/// Converts `value` to the type that `schema` declares if it is written in another form: JSON text, or 3.0 for 3.
fn as_declared(value: Value, schema: &Value) -> Value {
    let kind = kind(schema);
    match from_text(value, kind) {
        Value::Array(items) => items
            .into_iter()
            .map(|item| as_declared(item, &schema["items"]))
            .collect(),
        value if kind == "integer" => whole_value(&value).map_or(value, Value::from),
        value => value,
    }
}

/// Returns the type that `schema` declares.
fn kind(schema: &Value) -> &str {
    schema["type"].as_str().unwrap_or("string")
}

/// Returns whether the default applies instead of `value`: null is absent, and so is a blank string unless the argument is a string.
fn is_absent(value: &Value, schema: &Value) -> bool {
    let is_blank = value.as_str().is_some_and(|text| text.trim().is_empty());
    value.is_null() || (is_blank && schema["type"] != "string")
}
