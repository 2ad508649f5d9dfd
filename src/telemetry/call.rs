//! A call of a tool from its beginning to its end: counted, and a line of the log.

use std::time::{Duration, Instant};

use super::metrics::{self, CallOf};
pub(crate) use super::outcome::{CallEnd, Outcome};
use crate::error_code::ErrorCode;

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
