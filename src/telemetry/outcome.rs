//! Outcomes of calls.

use strum::{EnumIter, IntoStaticStr};

use crate::error_code::ErrorCode;

/// The kind of a call's end, as metrics and logs name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Outcome {
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

impl From<ErrorCode> for Outcome {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Busy => Self::Busy,
            ErrorCode::DeadlinePassed => Self::Deadline,
            ErrorCode::Cancelled => Self::Cancelled,
            _ => Self::Error,
        }
    }
}

/// The end of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallEnd {
    /// The kind of the end.
    pub(super) outcome: Outcome,
    /// The error; `None` if there was an answer.
    pub(super) error: Option<ErrorCode>,
    /// Tokens of the prompt; `None` if it was never tokenised.
    pub(super) prompt_tokens: Option<u32>,
    /// Generated tokens.
    pub(super) completion_tokens: Option<u32>,
}

impl CallEnd {
    /// Creates the end of a call with an answer.
    pub(crate) fn answered(outcome: Outcome) -> Self {
        Self {
            outcome,
            error: None,
            prompt_tokens: None,
            completion_tokens: None,
        }
    }

    /// Creates the end of a call that failed with `code`, from which the outcome follows.
    pub(crate) fn failed(code: ErrorCode) -> Self {
        Self {
            error: Some(code),
            ..Self::answered(code.into())
        }
    }

    /// Adds the tokens of the prompt and the generated tokens.
    #[must_use]
    pub(crate) fn with_tokens(self, prompt: u32, completion: u32) -> Self {
        Self {
            prompt_tokens: Some(prompt),
            completion_tokens: Some(completion),
            ..self
        }
    }

    /// Returns the code of the error if the outcome is [`Outcome::Error`], and an empty string otherwise.
    pub(super) fn code(&self) -> &'static str {
        let error = self.error.filter(|_| self.outcome == Outcome::Error);
        error.map_or("", ErrorCode::name)
    }
}
