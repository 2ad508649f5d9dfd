//! Structured answers: constrained while they are written, parsed and checked afterwards. Incomplete ones are errors.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::config::schema::{AnswerSchema, SchemaFault, SchemaFaults};
use crate::engine::grammar::Grammars;
use crate::engine::{FinishReason, Generation};
use crate::error_code::{Coded, ErrorCode};
use crate::json::stringify;

/// What a caller gets of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Structured {
    /// `value` as `JSON.stringify` writes it. Some clients pass the text to their model in addition to `value` unless both are equal.
    pub text: String,
    /// The answer as an object.
    pub value: Value,
}

/// Checks that the grammar can enforce `answer`, whatever the model.
///
/// # Errors
/// The strings whose patterns the grammar cannot follow, or the reason why it cannot follow the whole schema.
pub fn enforce(answer: &AnswerSchema) -> Result<(), SchemaFaults> {
    let at = |pointer: &str, reason: String| SchemaFault {
        pointer: pointer.to_owned(),
        reason,
    };
    let grammars = Grammars::of_bytes().map_err(|error| at("#", error.to_string()))?;
    // All parts first: the grammar just leaves out what may be missing.
    let parts = answer.doubtful.iter();
    let faults: Vec<SchemaFault> = parts
        .filter_map(|(pointer, part)| Some(at(pointer, grammars.check(part).err()?)))
        .collect();
    if !faults.is_empty() {
        return Err(SchemaFaults(faults));
    }
    let whole = grammars.check(&answer.enforced);
    whole.map_err(|reason| at("#", reason).into())
}

/// Reads the answer of `generation` by [`AnswerSchema::read`] on a blocking thread: an answer of many tokens may take a second to check.
/// If the future is dropped, the check goes on, and nobody learns its result.
///
/// # Errors
/// As of [`AnswerSchema::read`], and if the check panics.
pub async fn read(
    answer: Arc<AnswerSchema>,
    generation: Generation,
    were_most: bool,
) -> Result<Structured, Coded> {
    let read = tokio::task::spawn_blocking(move || answer.read(&generation, were_most));
    read.await.unwrap_or_else(|failed| {
        tracing::error!("an answer could not be checked: {failed}");
        Err(ErrorCode::AnswerWrong.says(
            "no answer: the model's JSON could not be checked by its schema; write the schema more simply",
        ))
    })
}

impl AnswerSchema {
    /// The answer of `generation`, whose `max_tokens` may have been the most that any call may have.
    ///
    /// # Errors
    /// A sentence for the caller: it was cut, or does not follow the schema.
    pub fn read(&self, generation: &Generation, were_most: bool) -> Result<Structured, Coded> {
        let tokens = generation.usage.completion_tokens;
        match generation.finish_reason {
            FinishReason::Stop => {}
            FinishReason::Length if self.is_choice => {
                return Err(ErrorCode::AnswerCut.says(format!(
                    "no answer: it was cut after {tokens} tokens, before the choice was complete; give the tool more `max_tokens`, or shorter `choices`"
                )));
            }
            FinishReason::Length => {
                let more = if were_most {
                    "ask for a shorter one (`max_tokens_limit` allows no more tokens)"
                } else {
                    "allow more `max_tokens`"
                };
                return Err(ErrorCode::AnswerCut.says(format!(
                    "no answer: it was cut after {tokens} tokens, before its JSON was complete; {more}, or bound the schema's strings and arrays"
                )));
            }
            FinishReason::Deadline => {
                return Err(ErrorCode::DeadlinePassed.says(format!(
                    "no answer: the deadline passed after {tokens} tokens, before its JSON was complete; allow more time"
                )));
            }
            FinishReason::Cancelled => {
                return Err(ErrorCode::Cancelled.says("the call was cancelled"));
            }
        }
        let wrong = |text| ErrorCode::AnswerWrong.says(text);
        let value: Value = serde_json::from_str(&generation.text)
            .map_err(|error| wrong(format!("no answer: the model wrote no JSON ({error})")))?;
        if let Some((pointer, what)) = self.cut_at(&value) {
            return Err(ErrorCode::AnswerCut.says(format!(
                "no answer: it was cut at `#{pointer}`, at the limit of {what}; give the schema a `maxLength`, `maxItems` or `maxProperties`, or raise `json_max_string` or `json_max_items` in the configuration"
            )));
        }
        self.check(&value).map_err(|fault| {
            wrong(format!(
                "no answer: the model's JSON does not follow its schema ({fault})"
            ))
        })?;
        let value = match value {
            Value::String(choice) if self.is_choice => json!({"choice": choice}),
            value => value,
        };
        let text = stringify(&value);
        Ok(Structured {
            // Numbers and keys as in the text, for clients in other languages.
            value: serde_json::from_str(&text).unwrap_or(value),
            text,
        })
    }
}
