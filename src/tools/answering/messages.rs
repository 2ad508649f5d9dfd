//! What is said where there is no answer, or not all of it.

use std::time::Duration;

use crate::backend::CallError;
use crate::engine::limits::ContextSize;
use crate::engine::{EngineErrorKind, FinishReason, Generation, Phase};
use crate::error_code::{Coded, ErrorCode};
use crate::printable::without_folders;
use crate::registry::RegistryError;
use crate::registry::residency::Refusal;
use crate::tools::ToolOutput;

/// What may cut an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallLimits {
    /// Its tokens.
    pub(super) max_tokens: u32,
    /// Whether no call may ask for more of them.
    pub(super) is_most: bool,
    /// Its time, from the call's arrival.
    pub(super) deadline: Option<Duration>,
    /// Trained context, in tokens.
    pub(super) trained: u32,
}

/// The text, and below it, where it was cut, a line for whoever reads it: it may look complete.
pub(super) fn with_cut_note(generation: Generation, limits: CallLimits) -> String {
    let tokens = generation.usage.completion_tokens;
    let cause = match generation.finish_reason {
        FinishReason::Length if tokens < limits.max_tokens => {
            let way_out = limits.longer_context(&generation);
            format!("when the model's context was full; shorten the text or {way_out}")
        }
        FinishReason::Length => limits.tokens_were_all().into(),
        FinishReason::Deadline => {
            format!("at its deadline of {} s; allow more time", limits.seconds())
        }
        FinishReason::Stop | FinishReason::Cancelled => return generation.text,
    };
    format!(
        "{}\n\n[cut after {tokens} tokens, {cause}]",
        generation.text.trim_end()
    )
}

/// The limit that ended an answer by its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenLimit {
    /// `max_tokens` of the call.
    Call,
    /// `max_tokens_limit`, above which no call may ask.
    Model,
    /// The model's context is full, and a longer one can be configured.
    Context,
    /// The model's context is full, and the model was not trained for a longer one.
    TrainedContext,
}

impl TokenLimit {
    /// The way out.
    pub(crate) fn way_out(self) -> &'static str {
        match self {
            Self::Call => "allow more `max_tokens`",
            Self::Model => "ask for a shorter one (`max_tokens_limit` allows no more tokens)",
            Self::Context => {
                "the model's context is full: shorten the text or give the model a larger `n_ctx`"
            }
            Self::TrainedContext => {
                "the model's context is full, and the model was not trained for a longer one: shorten the text or choose a model with a longer context"
            }
        }
    }
}

impl CallLimits {
    /// Returns the limit that ends `generation` if its length does.
    pub(super) fn token_limit(self, generation: &Generation) -> TokenLimit {
        if generation.usage.completion_tokens < self.max_tokens {
            let context = self.context_of(generation);
            if context.n_ctx < context.trained {
                TokenLimit::Context
            } else {
                TokenLimit::TrainedContext
            }
        } else if self.is_most {
            TokenLimit::Model
        } else {
            TokenLimit::Call
        }
    }

    /// Returns the size of the context that `generation` filled.
    fn context_of(self, generation: &Generation) -> ContextSize {
        let usage = &generation.usage;
        // The last token of an answer is never decoded.
        let used = usage.prompt_tokens.saturating_add(usage.completion_tokens);
        ContextSize {
            n_ctx: used.saturating_add(1),
            trained: self.trained,
        }
    }

    fn longer_context(self, generation: &Generation) -> String {
        self.context_of(generation).way_out()
    }

    /// Whether `generation` has all the tokens that any call may have.
    pub(super) fn is_most(self, generation: &Generation) -> bool {
        self.is_most && generation.usage.completion_tokens >= self.max_tokens
    }

    /// What the tokens were that cut an answer, and the way out.
    fn tokens_were_all(self) -> &'static str {
        if self.is_most {
            "the most that `max_tokens_limit` allows; ask for a shorter answer"
        } else {
            "its `max_tokens`; allow more of them"
        }
    }

    fn seconds(self) -> f64 {
        self.deadline.unwrap_or_default().as_secs_f64()
    }
}

/// What is said instead of an answer that has no text: an empty text would look like success.
pub(super) fn empty_answer(generation: &Generation, limits: CallLimits) -> Option<Coded> {
    if !generation.text.trim().is_empty() {
        return None;
    }
    let max_tokens = limits.max_tokens;
    let tokens = generation.usage.completion_tokens;
    let thinking = generation.still_thinking;
    let code = match generation.finish_reason {
        FinishReason::Deadline => ErrorCode::DeadlinePassed,
        FinishReason::Cancelled => ErrorCode::Cancelled,
        FinishReason::Length | FinishReason::Stop if thinking => ErrorCode::StillThinking,
        FinishReason::Length | FinishReason::Stop => ErrorCode::NoAnswer,
    };
    Some(code.says(match generation.finish_reason {
        FinishReason::Length if thinking && tokens < max_tokens => {
            let way_out = limits.longer_context(generation);
            format!("no answer: the model was still thinking after {tokens} tokens, when its context was full; shorten the text or {way_out}")
        }
        FinishReason::Length if thinking => {
            format!("no answer: the model was still thinking after {tokens} tokens, {}", limits.tokens_were_all())
        }
        FinishReason::Stop if thinking => "no answer: the model ended its output during the reasoning; call again with another seed".into(),
        FinishReason::Stop => {
            "no answer: the model ended without writing any text; rephrase the question or change `stop`".into()
        }
        FinishReason::Length if limits.is_most(generation) => {
            format!("no answer: there was no text yet after {tokens} tokens, {}", limits.tokens_were_all())
        }
        FinishReason::Length => {
            format!("no answer: after {tokens} tokens, when the answer was cut, there was no text yet; allow more `max_tokens`")
        }
        FinishReason::Deadline => {
            let seconds = limits.seconds();
            let phase = match generation.phase {
                Phase::Load => "the model was still being loaded; try again, the load goes on",
                Phase::Queue => "the call was still waiting to begin; allow more time or try again later",
                Phase::Prefill => "the prompt was still being read; allow more time or shorten the text",
                Phase::Generate if thinking => "the model was still thinking; allow more time",
                Phase::Generate => "the model had not written any text yet; allow more time",
            };
            format!("no answer within the deadline of {seconds} s: {phase}")
        }
        FinishReason::Cancelled => "the call was cancelled".into(),
    }))
}

/// What is said of a call that has no answer.
pub(super) fn failure(error: &RegistryError) -> ToolOutput {
    let error = match error {
        RegistryError::Refused(refusal) => {
            let text = without_folders(&refusal.to_string());
            return ToolOutput::error(code_of_refusal(refusal), text);
        }
        RegistryError::Call(error) => error,
    };
    let hint = match error {
        CallError::Engine(error) => error.hint.clone(),
        // The error contains the way out.
        CallError::SystemLimit(_) => None,
        CallError::NotStarted(_) | CallError::Stuck => {
            Some("try again; the server's log may say more".into())
        }
        CallError::Died { begun: true, is_first: true, .. } => {
            Some("no call has succeeded since the model was loaded; if this happens again, check the model's file and the free memory; see the server's log".into())
        }
        CallError::Stalled { .. }
        | CallError::Terminated { .. }
        | CallError::Died { begun: true, .. } => {
            Some("try again, the next call starts a new process".into())
        }
        CallError::Died { begun: false, .. } => {
            Some("check that memory suffices and that the model's file is whole; the server's log may say more".into())
        }
    };
    let text = match hint {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    };
    ToolOutput::error(code_of(error), without_folders(&text))
}

fn code_of_refusal(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::NeverFits { .. } => ErrorCode::NeverFits,
        Refusal::Busy(_) | Refusal::Superseded => ErrorCode::Busy,
        Refusal::Paused { .. } | Refusal::NotLoadable(_) => ErrorCode::LoadFailed,
        Refusal::GivenUp { .. } => ErrorCode::LoadGivenUp,
        Refusal::PromptRefused { .. } => ErrorCode::PromptRefused,
    }
}

fn code_of(error: &CallError) -> ErrorCode {
    match error {
        CallError::Engine(error) => match error.kind {
            EngineErrorKind::Load => ErrorCode::LoadFailed,
            EngineErrorKind::Busy => ErrorCode::Busy,
            EngineErrorKind::Template => ErrorCode::TemplateFailed,
            EngineErrorKind::ContextOverflow => ErrorCode::PromptTooLong,
            EngineErrorKind::Grammar => ErrorCode::SchemaRefused,
            EngineErrorKind::Decode => ErrorCode::DecodeFailed,
            EngineErrorKind::SystemLimit => ErrorCode::SystemLimit,
        },
        CallError::NotStarted(_) => ErrorCode::ProcessNotStarted,
        CallError::SystemLimit(_) => ErrorCode::SystemLimit,
        CallError::Stuck | CallError::Stalled { .. } => ErrorCode::ModelStuck,
        CallError::Died { .. } | CallError::Terminated { .. } => ErrorCode::ModelDied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Usage;

    #[test]
    fn a_text_that_is_cut_ends_with_a_line_that_says_by_what_and_after_how_many_tokens() {
        let limits = CallLimits {
            max_tokens: 128,
            is_most: false,
            deadline: Some(Duration::from_millis(1500)),
            trained: 4096,
        };
        let cut = |limits, finish_reason, completion_tokens| {
            let generation = Generation {
                text: "It was a dark\n".into(),
                finish_reason,
                phase: Phase::Generate,
                still_thinking: false,
                seed: 1,
                usage: Usage {
                    completion_tokens,
                    ..Usage::default()
                },
            };
            with_cut_note(generation, limits)
        };
        let noted = |finish_reason, tokens| cut(limits, finish_reason, tokens);
        assert_eq!(
            noted(FinishReason::Length, 128),
            "It was a dark\n\n[cut after 128 tokens, its `max_tokens`; allow more of them]"
        );
        let most = CallLimits {
            is_most: true,
            ..limits
        };
        assert_eq!(
            cut(most, FinishReason::Length, 128),
            "It was a dark\n\n[cut after 128 tokens, the most that `max_tokens_limit` allows; ask for a shorter answer]"
        );
        assert_eq!(
            noted(FinishReason::Length, 95),
            "It was a dark\n\n[cut after 95 tokens, when the model's context was full; shorten the text or give the model a larger `n_ctx` (at most 4096)]"
        );
        let trained = CallLimits {
            trained: 96,
            ..limits
        };
        assert_eq!(
            cut(trained, FinishReason::Length, 95),
            "It was a dark\n\n[cut after 95 tokens, when the model's context was full; shorten the text or choose a model with a longer context (this one was trained for 96 tokens)]"
        );
        assert_eq!(
            noted(FinishReason::Deadline, 7),
            "It was a dark\n\n[cut after 7 tokens, at its deadline of 1.5 s; allow more time]"
        );
        assert_eq!(noted(FinishReason::Stop, 128), "It was a dark\n");
    }
}
