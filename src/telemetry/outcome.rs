//! Outcomes of calls.

use strum::{EnumIter, IntoStaticStr};

use crate::error_code::ErrorCode;

/// The kind of a call's end, as metrics and logs name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// The answer is complete.
    Stop,
    /// The answer was truncated by a limit of its length.
    Length,
    /// The answer was truncated at its deadline.
    Deadline,
    /// The call was invalid, or failed.
    Error,
    /// The queue was full.
    Busy,
    /// The client no longer waited for the answer.
    Cancelled,
}

impl Outcome {
    pub(super) fn name(self) -> &'static str {
        self.into()
    }
}

/// The end of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallEnd {
    /// The kind of the end.
    pub outcome: Outcome,
    /// The error; `None` if there was an answer.
    pub error: Option<ErrorCode>,
    /// Tokens of the prompt; `None` if it was never tokenised.
    pub prompt_tokens: Option<u32>,
    /// Generated tokens.
    pub completion_tokens: Option<u32>,
}

impl CallEnd {
    /// Returns the code of the error if that is how the call ended, and an empty text otherwise.
    pub(super) fn code(&self) -> &'static str {
        let error = self.error.filter(|_| self.outcome == Outcome::Error);
        error.map_or("", ErrorCode::name)
    }
}
