//! How calls end.

use strum::{EnumIter, IntoStaticStr};

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
