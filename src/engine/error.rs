//! Errors of the engine.

use serde::{Deserialize, Serialize};

use super::limits::ContextSize;
use crate::threads::SystemLimit;

/// The kind of an [`EngineError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineErrorKind {
    /// The model could not be loaded.
    Load,
    /// The queue is full.
    Busy,
    /// The chat template rejected the messages, or is invalid.
    Template,
    /// The prompt does not fit the context.
    ContextOverflow,
    /// A schema cannot be enforced.
    Grammar,
    /// llama.cpp failed while decoding.
    Decode,
    /// The system could not start a thread.
    SystemLimit,
}

impl From<SystemLimit> for EngineError {
    fn from(limit: SystemLimit) -> Self {
        Self::new(EngineErrorKind::SystemLimit, limit.to_string())
    }
}

/// An error of the engine, in the words that users read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct EngineError {
    /// Kind of the error, for code that handles it.
    pub kind: EngineErrorKind,
    /// Description of the thing that failed, and the cause.
    pub text: String,
    /// Advice on what to do, if there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl EngineError {
    /// Creates an error of `kind` without a hint.
    pub fn new(kind: EngineErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            hint: None,
        }
    }

    /// Creates the error for a prompt of `tokens` that does not fit `context`. It may have more tokens unless the number `is_exact`.
    pub fn overflow(tokens: usize, is_exact: bool, context: ContextSize) -> Self {
        let at_least = if is_exact { "" } else { "at least " };
        let text = format!(
            "the prompt has {at_least}{tokens} tokens, but the model's context holds only {}, including the answer",
            context.n_ctx
        );
        Self::new(EngineErrorKind::ContextOverflow, text).hint(format!(
            "shorten the text, or {}",
            context.advice_for(tokens)
        ))
    }

    /// Returns the error with advice on what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
