//! Answers that follow a schema: forced while they are written, read and checked afterwards. Never half of one.

use serde_json::{Value, json};

use crate::config::schema::{Checker, SchemaFault, enforceable};
use crate::config::tool::Answer;
use crate::engine::{FinishReason, Generation};

/// What an answer must be.
#[derive(Debug)]
pub struct AnswerSchema {
    /// As it was written, for clients.
    pub written: Value,
    /// As it is enforced.
    pub enforced: Value,
    checker: Checker,
    is_choice: bool,
}

/// What a caller gets of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Structured {
    /// For clients that read text alone.
    pub text: String,
    /// The same as an object.
    pub value: Value,
}

impl AnswerSchema {
    /// Of JSON that follows `schema`, an object.
    ///
    /// # Errors
    /// What cannot be enforced.
    pub fn json(schema: &Value) -> Result<Self, SchemaFault> {
        Ok(Self {
            written: schema.clone(),
            enforced: enforceable(schema, true)?,
            checker: Checker::new(schema)?,
            is_choice: false,
        })
    }

    /// Of one of `choices`.
    ///
    /// # Errors
    /// What cannot be enforced: nothing, where there is any choice.
    pub fn choice(choices: &[String]) -> Result<Self, SchemaFault> {
        let choice = json!({"enum": choices});
        Ok(Self {
            written: json!({"type": "object", "properties": {"choice": {"type": "string", "enum": choices}}, "required": ["choice"]}),
            enforced: enforceable(&choice, false)?,
            checker: Checker::new(&choice)?,
            is_choice: true,
        })
    }

    /// Of a tool's `answer`; none where that is free text.
    ///
    /// # Errors
    /// What cannot be enforced.
    pub fn of(answer: &Answer) -> Result<Option<Self>, SchemaFault> {
        match answer {
            Answer::Free => Ok(None),
            Answer::Json(schema) => Self::json(schema).map(Some),
            Answer::Choice(choices) => Self::choice(choices).map(Some),
        }
    }

    /// The answer of `generation`.
    ///
    /// # Errors
    /// A sentence for the caller: it was cut, or does not follow the schema.
    pub fn read(&self, generation: &Generation) -> Result<Structured, String> {
        let tokens = generation.usage.completion_tokens;
        match generation.finish_reason {
            FinishReason::Stop => {}
            FinishReason::Length => {
                return Err(format!(
                    "no answer: it was cut after {tokens} tokens, before its JSON was complete; allow more `max_tokens`, or bound the schema's strings and arrays"
                ));
            }
            FinishReason::Deadline => {
                return Err(format!(
                    "no answer: the deadline passed after {tokens} tokens, before its JSON was complete; allow more time"
                ));
            }
            FinishReason::Cancelled => return Err("the call was cancelled".into()),
        }
        let value: Value = serde_json::from_str(&generation.text)
            .map_err(|error| format!("no answer: the model wrote no JSON ({error})"))?;
        self.checker.check(&value).map_err(|fault| {
            format!("no answer: the model's JSON does not follow its schema ({fault})")
        })?;
        Ok(match value {
            Value::String(choice) if self.is_choice => Structured {
                value: json!({"choice": choice}),
                text: choice,
            },
            value => Structured {
                text: generation.text.clone(),
                value,
            },
        })
    }
}
