//! The limits of an answer's length, and how messages name them.

/// The limit at which an answer was truncated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenLimit {
    /// `max_tokens` of the call.
    Call,
    /// `max_tokens_limit`, the highest `max_tokens` of all calls.
    Model,
    /// The maximum size of an answer.
    Size,
    /// The model's context, which can be enlarged in the configuration.
    Context,
    /// The model's context, which is as long as the model was trained for.
    TrainedContext,
}

impl TokenLimit {
    /// Returns advice on how to get a complete answer.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::Call => "raise `max_tokens`",
            Self::Model => "ask for a shorter one (`max_tokens_limit` allows no more tokens)",
            Self::Size => "ask for a shorter one (it reached the maximum size)",
            Self::Context => {
                "the model's context is full: shorten the text or give the model a larger `n_ctx`"
            }
            Self::TrainedContext => {
                "the model's context is full, and the model was not trained for a longer one: shorten the text or choose a model with a longer context"
            }
        }
    }
}

/// Returns the number of `tokens` in words.
pub(super) fn count_of(tokens: u32) -> String {
    match tokens {
        1 => "1 token".into(),
        _ => format!("{tokens} tokens"),
    }
}
