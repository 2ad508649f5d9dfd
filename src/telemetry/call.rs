//! Counts and logs the calls of tools.

use std::time::{Duration, Instant};

use super::metrics::{self, CallNames};
use super::millis;
pub(crate) use super::outcome::{CallEnd, Outcome};
use crate::error_code::ErrorCode;

/// Logs a call that ends with an error before it reaches a tool. It is not counted, since metrics are per tool.
pub(crate) fn refused(code: ErrorCode) {
    tracing::info!(
        outcome = Outcome::Error.name(),
        error = code.name(),
        "call ended"
    );
}

/// Meter of a call in progress. Dropping it counts and logs the call, as cancelled unless [`Self::end`] was called.
#[derive(Debug)]
pub(crate) struct CallMeter {
    tool: String,
    model: String,
    /// Name of the caller's token.
    token: Option<String>,
    began: Instant,
    /// The end to count; `None` if the call is not counted.
    end: Option<CallEnd>,
}

impl CallMeter {
    /// Begins a call of `tool`, which `model` answers. `token` is the name of the caller's token, if any.
    pub(crate) fn begin(tool: &str, model: &str, token: Option<&str>) -> Self {
        metrics::call_started(model);
        Self {
            tool: tool.to_owned(),
            model: model.to_owned(),
            token: token.map(str::to_owned),
            began: Instant::now(),
            end: Some(CallEnd::failed(ErrorCode::Cancelled)),
        }
    }

    /// Ends the call with `end`.
    pub(crate) fn end(mut self, end: CallEnd) {
        self.end = Some(end);
    }

    /// Ends the call without counting it, since it is retried.
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
            elapsed_ms = millis(took),
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
        let call = CallNames {
            tool: &self.tool,
            model: &self.model,
            token: self.token.as_deref(),
        };
        metrics::call_ended(&call, self.end.as_ref(), took);
    }
}
