//! Chat tools: their arguments are a text or a conversation, and settings of the answer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::answering::{Answering, Question, draw_seed};
use super::arguments::{ArgumentError, ArgumentReader, Missing, check_names};
use super::conversation::with_defaults;
use super::structured;
use super::{Arguments, Superseded, ToolCall, ToolDescription, ToolOutput};
use crate::config::ranges::{self, MAX_STOP_CHARS, MAX_STOPS, Range};
use crate::config::sampling_arguments::PARAMETERS;
use crate::config::validate::plain;
use crate::config::{Defaults, SamplingParams, ToolConfig, template_arguments};
use crate::engine::{Message, Role};
use crate::error_code::{Coded, ErrorCode};
use crate::fair::{HEAVY, at_low_priority};
use crate::schema::{AnswerSchema, Limits, SchemaFaults, advertised};

const NEITHER: &str =
    "give `text` (a string) or `messages` (an array of messages): neither was given";

/// A tool that continues a conversation: a model's own, or a profile. Its answer is text, or JSON that follows the schema of the call.
#[derive(Debug)]
pub(crate) struct ChatTool {
    title: String,
    description: Option<String>,
    defaults: Defaults,
    /// JSON Schemas of the arguments that are not sampling parameters, by name.
    arguments: Value,
    answering: Answering,
}

impl ChatTool {
    /// Creates a tool from its configuration.
    pub(crate) fn new(tool: &ToolConfig, answering: Answering) -> Self {
        Self {
            title: tool.title.clone().unwrap_or_else(|| tool.name.clone()),
            description: tool.description.clone(),
            defaults: tool.defaults.clone(),
            arguments: arguments(&tool.defaults),
            answering,
        }
    }

    /// Returns the tool's name.
    pub(crate) fn name(&self) -> &str {
        &self.answering.tool
    }

    /// Returns the name of the model that answers.
    pub(crate) fn model(&self) -> &str {
        &self.answering.model
    }

    /// Answers a call. Dropping the future cancels the call.
    ///
    /// # Errors
    /// Returns [`Superseded`] if an edit replaced the model before it accepted the call.
    pub(crate) async fn call(
        &self,
        arguments: Arguments,
        call: ToolCall,
    ) -> Result<ToolOutput, Superseded> {
        let (mut question, schema) = match call.permits.run_and_release(|| self.question(arguments))
        {
            Ok(question) => question,
            Err(error) => return Ok(ErrorCode::BadArguments.says(error.to_string()).into()),
        };
        if let Some(schema) = schema {
            let limits = self.defaults.limits;
            match check_schema(&call.client, move || answer_schema(&schema, limits)).await {
                Ok(answer) => question.answer = Some(Arc::new(answer)),
                Err(error) => return Ok(error.into()),
            }
        }
        self.answering.answer(question, call).await
    }

    /// Returns the question and the unchecked schema of its answer. The schema is JSON text to save memory while it is queued.
    fn question(&self, arguments: Arguments) -> Result<(Question, Option<String>), ArgumentError> {
        let defaults = &self.defaults;
        let is_given = |name: &str| arguments.get(name).is_some_and(|value| !value.is_null());
        let missing = Missing {
            names: vec!["text", "messages"],
            message: NEITHER.into(),
        };
        let missing = (!is_given("text") && !is_given("messages")).then_some(missing);
        let own = self.arguments.as_object().into_iter().flat_map(Map::keys);
        let sampling = PARAMETERS.iter().map(|parameter| parameter.name);
        let known: Vec<&str> = own.map(String::as_str).chain(sampling).collect();
        check_names(&arguments, &known, missing.as_ref())?;
        let mut arguments = ArgumentReader::new(arguments);
        arguments.leave_out_empty("text", "messages");
        let text = arguments.string("text")?;
        let messages = arguments.messages("messages")?;
        let suffix = arguments
            .string("prompt_suffix")?
            .or_else(|| defaults.prompt_suffix.clone());
        let deadline = arguments
            .number("deadline", ranges::DEADLINE)?
            .map(Duration::from_secs_f64);
        // An empty schema allows anything.
        let schema = arguments.object("json_schema")?;
        let schema = schema.filter(|schema| !schema.is_empty());
        let stop = arguments.strings("stop", MAX_STOPS, MAX_STOP_CHARS)?;
        if schema.is_some() && stop.is_some() {
            return Err(ArgumentError::says(
                "give `stop` or `json_schema`, not both: a structured answer ends by itself",
            ));
        }
        let budget = narrow(arguments.integer("thinking_budget", ranges::THINKING_BUDGET)?);
        let variables = template_variables(&mut arguments)?;
        let messages = conversation(text, messages)?;
        let given = messages.iter().map(|message| message.content.len()).sum();
        let mut conversation = with_defaults(messages, suffix, defaults);
        conversation.thinking_budget = budget.or(conversation.thinking_budget);
        conversation.template_arguments =
            template_arguments::merged(&conversation.template_arguments, &variables);
        let question = Question {
            conversation,
            given,
            max_tokens: narrow(arguments.integer("max_tokens", max_tokens(defaults))?)
                .unwrap_or(defaults.max_tokens),
            sampling: (defaults.sampling.clone())
                .with(arguments.sampling()?)
                .for_answer(schema.is_some())
                .with_seed(draw_seed),
            stop: stop.unwrap_or_else(|| defaults.stop.clone()),
            deadline: deadline.or(defaults.deadline),
            answer: None,
            cut_note: defaults.cut_note,
        };
        Ok((
            question,
            schema.map(|schema| Value::Object(schema).to_string()),
        ))
    }

    /// Returns the purpose of the tool and its input, as text for the client's model.
    fn purpose(&self) -> String {
        let about = self.description.clone().unwrap_or_else(|| {
            format!(
                "Asks the local language model {} and returns its answer as text.",
                self.answering.full_name
            )
        });
        format!(
            "{}\n\nGive either `text` (one question) or `messages` (a conversation).",
            about.trim_end()
        )
    }

    /// Describes the tool to clients.
    pub(crate) fn description(&self) -> ToolDescription {
        let defaults = &self.defaults;
        let mut properties = self.arguments.clone();
        for (name, schema) in listed_parameters(&defaults.sampling) {
            properties[name] = schema;
        }
        ToolDescription {
            name: self.name().to_owned(),
            title: self.title.clone(),
            description: self.purpose(),
            input_schema: advertised(&json!({"type": "object", "properties": properties})),
            output_schema: None,
            max_chars: self
                .answering
                .max_chars(defaults.max_tokens_limit.unwrap_or(u32::MAX)),
        }
    }
}

/// Returns the JSON Schemas of the arguments that are not sampling parameters, by name.
fn arguments(defaults: &Defaults) -> Value {
    let message = json!({
        "type": "object",
        "properties": {
            "role": {"type": "string", "enum": ["system", "user", "assistant"]},
            "content": {"type": "string", "description": "The text. An array of {\"type\":\"text\",\"text\":…} parts is accepted, too."},
        },
        "required": ["role", "content"],
    });
    let number = |description: String, range: Range<f64>| json!({"type": "number", "description": description, "minimum": range.min, "maximum": range.max});
    let integer = |description: String, range: Range<i64>| json!({"type": "integer", "description": description, "minimum": range.min, "maximum": range.max});
    json!({
        "text": {"type": "string", "description": "The question or instruction. Instead of `messages`."},
        "messages": {"type": "array", "description": "The conversation so far, oldest first. Instead of `text`.", "items": message, "minItems": 1},
        "max_tokens": integer(format!("Longest answer in tokens. Default {}.", defaults.max_tokens), max_tokens(defaults)),
        "stop": {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": MAX_STOPS, "description": "Texts that end the answer; they are not part of it. A single string is accepted, too. Not together with `json_schema`."},
        "prompt_suffix": {"type": "string", "description": "Appended to the system message, for example \"/think\"."},
        "deadline": number("Seconds after which the answer ends with what there is.".into(), ranges::DEADLINE),
        "json_schema": {"type": "object", "description": "A JSON Schema with an object at its root, which the answer is forced to follow. Keywords that cannot be enforced are refused."},
        "thinking_budget": integer("Most tokens of reasoning before the answer; 0 allows none. For thinking models.".into(), ranges::THINKING_BUDGET),
        "template_arguments": {"type": "object", "description": "Variables of the model's chat template, for example {\"reasoning_effort\": \"low\"} or {\"enable_thinking\": true}."},
    })
}

/// Returns the range of `max_tokens` for a call.
fn max_tokens(defaults: &Defaults) -> Range<i64> {
    let limit = defaults.max_tokens_limit;
    Range {
        max: limit.map_or(ranges::MAX_TOKENS.max, i64::from),
        ..ranges::MAX_TOKENS
    }
}

/// Returns the JSON Schemas of the listed sampling parameters, with their `defaults`.
fn listed_parameters(defaults: &SamplingParams) -> impl Iterator<Item = (&'static str, Value)> {
    let values = |is_constrained| json!(defaults.clone().for_answer(is_constrained));
    let (free, constrained) = (values(false), values(true));
    let listed = PARAMETERS.iter().filter(|parameter| parameter.is_listed);
    listed.map(move |parameter| {
        let name = parameter.name;
        let mut schema = parameter.schema.clone();
        let about = schema["description"].as_str().unwrap_or_default();
        let (about, _) = about
            .split_once(". ")
            .unwrap_or((about.trim_end_matches('.'), ""));
        let with_schema = match &constrained[name] {
            same if *same == free[name] => String::new(),
            other => format!(", with `json_schema` {}", plain(other)),
        };
        schema["description"] =
            format!("{about}. Default {}{with_schema}.", plain(&free[name])).into();
        (name, schema)
    })
}

/// Parses the JSON text `schema` into the schema of an answer.
///
/// # Errors
/// The schema cannot be enforced.
fn answer_schema(schema: &str, limits: Limits) -> Result<AnswerSchema, SchemaFaults> {
    let schema = serde_json::from_str(schema).expect("serde_json reads what it wrote");
    let answer = AnswerSchema::json(&schema, limits)?;
    structured::enforce(&answer)?;
    Ok(answer)
}

/// Checks a schema of `client` with `check`, on a blocking thread and fairly among clients, since it may take a second of CPU time.
///
/// A schema whose check panics is refused. If the future is dropped, a running check finishes, and keeps its permit until then.
async fn check_schema<T: Send + 'static>(
    client: &str,
    check: impl FnOnce() -> Result<T, SchemaFaults> + Send + 'static,
) -> Result<T, Coded> {
    let permit = HEAVY.acquire(client).await;
    let checked = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        at_low_priority(check)
    });
    let checked = checked.await.map_err(|failed| {
        tracing::error!("a `json_schema` could not be checked: {failed}");
        ErrorCode::SchemaRefused
            .says("`json_schema`: the check of the schema failed; write a simpler schema")
    })?;
    checked.map_err(|faults| {
        let limit = faults.0.iter().find(|fault| fault.is_of_system);
        match limit {
            Some(limit) => ErrorCode::SystemLimit.says(limit.reason.clone()),
            None => ErrorCode::SchemaRefused.says(format!(
                "`json_schema`: the schema cannot be enforced {faults}"
            )),
        }
    })
}

/// Takes the variables of the chat template from the arguments of a call.
fn template_variables(arguments: &mut ArgumentReader) -> Result<Arguments, ArgumentError> {
    let given = arguments.object("template_arguments")?.unwrap_or_default();
    match template_arguments::check(&given) {
        Ok(()) => Ok(given),
        Err((Some(name), message)) => Err(ArgumentError::says(format!(
            "`template_arguments.{name}`: {message}"
        ))),
        Err((None, message)) => Err(ArgumentError::says(format!(
            "`template_arguments`: {message}"
        ))),
    }
}

/// Returns the conversation of a call: its `messages`, or `text` as a message of the user.
fn conversation(
    text: Option<String>,
    messages: Option<Vec<Message>>,
) -> Result<Vec<Message>, ArgumentError> {
    match (text, messages) {
        (Some(content), None) => Ok(vec![Message {
            role: Role::User,
            content,
        }]),
        (None, Some(messages)) => Ok(messages),
        (Some(_), Some(_)) => Err(ArgumentError::says("give `text` or `messages`, not both")),
        (None, None) => Err(ArgumentError::says(NEITHER)),
    }
}

/// Converts a checked argument to the type of its setting. Returns `None` for -1 if the type is unsigned.
fn narrow<T: TryFrom<i64>>(value: Option<i64>) -> Option<T> {
    value.and_then(|value| T::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_schema_whose_check_panics_is_refused() {
        let checked = check_schema::<()>("a", || panic!("inside a library")).await;
        assert_eq!(
            checked.unwrap_err().to_string(),
            "`json_schema`: the check of the schema failed; write a simpler schema"
        );
    }
}
