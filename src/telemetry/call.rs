//! A call of a tool from its beginning to its end: counted, and a line of the log.

use std::time::{Duration, Instant};

use strum::{EnumIter, IntoStaticStr};

use super::metrics::{self, CallOf};
use crate::error_code::ErrorCode;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// The answer is whole.
    Stop,
    /// It was cut at its longest.
    Length,
    /// It was cut at its deadline.
    Deadline,
    /// Something was wrong with the call, or failed.
    Error,
    /// Too many waited already.
    Busy,
    /// Nobody waited for it any more.
    Cancelled,
}

impl Outcome {
    pub(super) fn name(self) -> &'static str {
        self.into()
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallEnd {
    /// For the counts.
    pub outcome: Outcome,
    /// Where there was no answer.
    pub error: Option<ErrorCode>,
    /// Of its prompt, where that was read.
    pub prompt_tokens: Option<u32>,
    /// That were written.
    pub completion_tokens: Option<u32>,
}

impl CallEnd {
    /// Returns the code of the error if that is how the call ended, and an empty text otherwise.
    pub(super) fn code(&self) -> &'static str {
        let error = self.error.filter(|_| self.outcome == Outcome::Error);
        error.map_or("", ErrorCode::name)
    }
}

/// A call that reaches no tool ends with an error: a line of the log alone, since the counts know tools by their names.
pub(crate) fn refused(code: ErrorCode) {
    tracing::info!(
        outcome = Outcome::Error.name(),
        error = code.name(),
        "call ended"
    );
}

/// A call under way. One that is dropped was cancelled.
#[derive(Debug)]
pub(crate) struct CallMeter {
    tool: String,
    model: String,
    /// Name of the caller's token.
    token: Option<String>,
    began: Instant,
    end: Option<CallEnd>,
}

impl CallMeter {
    /// A call of `tool`, to be answered by `model`, begins. `token` is the name of the caller's token, if any.
    pub(crate) fn begin(tool: &str, model: &str, token: Option<&str>) -> Self {
        metrics::call_begins(model);
        Self {
            tool: tool.to_owned(),
            model: model.to_owned(),
            token: token.map(str::to_owned),
            began: Instant::now(),
            end: Some(CallEnd {
                outcome: Outcome::Cancelled,
                error: Some(ErrorCode::Cancelled),
                prompt_tokens: None,
                completion_tokens: None,
            }),
        }
    }

    /// It ends like this.
    pub(crate) fn end(mut self, end: CallEnd) {
        self.end = Some(end);
    }

    /// It is made again, and counts then.
    pub(crate) fn forget(mut self) {
        self.end = None;
    }

    fn log(&self, end: CallEnd, took: Duration) {
        tracing::info!(
            model = self.model,
            outcome = end.outcome.name(),
            error = end.error.map(ErrorCode::name),
            prompt_tokens = end.prompt_tokens,
            completion_tokens = end.completion_tokens,
            elapsed_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "call ended"
        );
    }
}

impl Drop for CallMeter {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        if let Some(end) = self.end {
            self.log(end, took);
        }
        let call = CallOf {
            tool: &self.tool,
            model: &self.model,
            token: self.token.as_deref(),
        };
        metrics::call_ended(&call, self.end.as_ref(), took);
    }
}
