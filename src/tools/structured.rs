//! Structured answers: constrained by a grammar during generation, then parsed and checked. Incomplete answers are errors.

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use super::token_limit::{TokenLimit, count_of};
use crate::engine::grammar::Grammars;
use crate::engine::{FinishReason, Generation};
use crate::error_code::{Coded, ErrorCode};
use crate::fair::FairSemaphore;
use crate::json::{parse_unique, stringify};
use crate::schema::{AnswerSchema, SchemaFault, SchemaFaults, Truncation};

/// A structured answer, as text and as a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Structured {
    /// `value` as `JSON.stringify` writes it. Some clients pass the text to their model in addition to `value` unless both are equal.
    pub text: String,
    /// The answer as an object.
    pub value: Value,
}

/// Checks that the grammar can enforce `answer`, whatever the model.
///
/// # Errors
/// The strings whose patterns the grammar cannot follow, or the reason why it cannot follow the whole schema.
pub(crate) fn enforce(answer: &AnswerSchema) -> Result<(), SchemaFaults> {
    let at = |pointer: &str, reason: String| SchemaFault {
        pointer: pointer.to_owned(),
        reason,
        is_of_system: false,
    };
    let grammars = Grammars::of_bytes().map_err(|error| at("#", error.to_string()))?;
    // The parts first: for an optional part that fails, the grammar of the whole schema would omit the part without an error.
    let parts = answer.doubtful.iter();
    let faults: Vec<SchemaFault> = parts
        .filter_map(|(pointer, part)| Some(at(pointer, grammars.check(part).err()?.to_string())))
        .collect();
    if !faults.is_empty() {
        return Err(SchemaFaults(faults));
    }
    let whole = grammars.check(&answer.enforced);
    whole.map_err(|error| at("#", error.to_string()).into())
}

/// Limits the checks of finished answers that run at once. The check of a long answer may take a second of CPU time.
static CHECKS: LazyLock<FairSemaphore> = LazyLock::new(|| FairSemaphore::new(2));

/// Reads the answer of `generation` to `client` with [`parse`], on a blocking thread and fairly among clients. If the future is
/// dropped, a running check finishes and its result is discarded.
///
/// # Errors
/// The errors of [`parse`], and a panic of the check.
pub(crate) async fn read(
    client: &str,
    answer: Arc<AnswerSchema>,
    generation: Generation,
    limit: TokenLimit,
) -> Result<Structured, Coded> {
    let permit = CHECKS.acquire(client).await;
    let read = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        parse(&answer, &generation, limit)
    });
    read.await.unwrap_or_else(|failed| {
        tracing::error!("an answer could not be checked: {failed}");
        Err(ErrorCode::AnswerWrong.says(
            "no answer: the model's JSON could not be checked against its schema; simplify the schema",
        ))
    })
}

/// Reads the text of `generation` as an answer that follows `schema`. `limit` is the limit that truncated it, if one did.
///
/// # Errors
/// The answer was truncated, or does not follow the schema.
fn parse(
    schema: &AnswerSchema,
    generation: &Generation,
    limit: TokenLimit,
) -> Result<Structured, Coded> {
    let written = count_of(generation.usage.completion_tokens);
    match generation.finish_reason {
        FinishReason::Stop => {}
        FinishReason::Length if schema.is_choice && limit == TokenLimit::Call => {
            return Err(ErrorCode::AnswerCut.says(format!(
                "no answer: truncated after {written}, before the choice was complete; raise the tool's `max_tokens`, or shorten its `choices`"
            )));
        }
        FinishReason::Length => {
            let advice = limit.advice();
            return Err(ErrorCode::AnswerCut.says(format!(
                "no answer: truncated after {written}, before the JSON was complete; {advice}, or bound the schema's strings and arrays"
            )));
        }
        FinishReason::Deadline => {
            return Err(ErrorCode::DeadlinePassed.says(format!(
                "no answer: the deadline passed after {written}, before the JSON was complete; allow more time"
            )));
        }
        FinishReason::Cancelled => {
            return Err(ErrorCode::Cancelled.says("the call was cancelled"));
        }
    }
    let wrong = |text| ErrorCode::AnswerWrong.says(text);
    let value = parse_unique(&generation.text).map_err(|error| {
        wrong(format!(
            "no answer: the model's answer is not valid JSON ({error}); try again with another seed"
        ))
    })?;
    if let Some(Truncation { pointer, limit }) = schema.truncated_part(&value) {
        return Err(ErrorCode::AnswerCut.says(format!(
            "no answer: truncated at `#{pointer}`, at the limit of {limit}; give the schema a `maxLength`, `maxItems` or `maxProperties`, or raise `json_max_string` or `json_max_items` in the configuration"
        )));
    }
    schema.check(&value).map_err(|fault| {
        wrong(format!(
            "no answer: the model's JSON does not follow its schema ({fault})"
        ))
    })?;
    let value = match value {
        Value::String(choice) if schema.is_choice => json!({"choice": choice}),
        value => value,
    };
    let text = stringify(&value);
    Ok(Structured {
        // Parsed from the text, so that both have the same numbers and the same order of keys.
        value: serde_json::from_str(&text).unwrap_or(value),
        text,
    })
}
