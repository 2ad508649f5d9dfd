//! Messages to the caller about an answer that is missing or truncated.

use std::time::Duration;

use crate::backend::{CallError, CallStage, ProcessFailure};
use crate::config::units::human;
use crate::engine::limits::ContextSize;
use crate::engine::{EngineErrorKind, FinishReason, Generation, MAX_ANSWER_BYTES, Phase};
use crate::error_code::{Coded, ErrorCode};
use crate::printable::without_folders;
use crate::registry::RegistryError;
use crate::registry::residency::Refusal;
use crate::tools::token_limit::{TokenLimit, count_of};

/// The limits of one call that can truncate its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallLimits {
    /// Longest answer, in tokens.
    pub(super) max_tokens: u32,
    /// Whether `max_tokens` is at `max_tokens_limit`, so no call may set more.
    pub(super) is_at_limit: bool,
    /// Time limit from the arrival of the call.
    pub(super) deadline: Option<Duration>,
    /// Trained context, in tokens.
    pub(super) trained: u32,
}

/// Returns the text of `generation`. Appends a note if the text was truncated, since it may look complete.
pub(super) fn with_cut_note(generation: Generation, limits: CallLimits) -> String {
    let tokens = generation.usage.completion_tokens;
    let written = count_of(tokens);
    let cause = match generation.finish_reason {
        FinishReason::Length if generation.has_maximum_size() => {
            let size = human(MAX_ANSWER_BYTES as u64);
            format!("when it had {size}, the maximum; ask for a shorter answer")
        }
        FinishReason::Length if tokens < limits.max_tokens => {
            let advice = limits.longer_context(&generation);
            format!("when the model's context was full; shorten the text or {advice}")
        }
        FinishReason::Length => limits.max_tokens_cause().into(),
        FinishReason::Deadline => {
            format!(
                "when the deadline of {} s passed; allow more time",
                limits.seconds()
            )
        }
        FinishReason::Stop | FinishReason::Cancelled => return generation.text,
    };
    format!(
        "{}\n\n[truncated after {written}, {cause}]",
        generation.text.trim_end()
    )
}

impl CallLimits {
    /// Returns the limit that truncated `generation`. Meaningful for [`FinishReason::Length`] only.
    pub(super) fn token_limit(self, generation: &Generation) -> TokenLimit {
        if generation.has_maximum_size() {
            TokenLimit::Size
        } else if generation.usage.completion_tokens < self.max_tokens {
            let context = self.context_of(generation);
            if context.n_ctx < context.trained {
                TokenLimit::Context
            } else {
                TokenLimit::TrainedContext
            }
        } else if self.is_at_limit {
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

    /// Returns advice on how to get a longer context than `generation` had.
    fn longer_context(self, generation: &Generation) -> String {
        self.context_of(generation).advice()
    }

    /// Returns whether `generation` was truncated at `max_tokens_limit`.
    fn reached_max_tokens_limit(self, generation: &Generation) -> bool {
        self.is_at_limit && generation.usage.completion_tokens >= self.max_tokens
    }

    /// Returns the cause of an answer that was truncated at `max_tokens`, and the way out.
    fn max_tokens_cause(self) -> &'static str {
        if self.is_at_limit {
            "when `max_tokens_limit` was reached; ask for a shorter answer"
        } else {
            "when `max_tokens` was reached; raise `max_tokens`"
        }
    }

    fn seconds(self) -> f64 {
        self.deadline.unwrap_or_default().as_secs_f64()
    }
}

/// Returns the error of a generation without text, since an empty answer would look like success.
pub(super) fn empty_answer(generation: &Generation, limits: CallLimits) -> Option<Coded> {
    if !generation.text.trim().is_empty() {
        return None;
    }
    let max_tokens = limits.max_tokens;
    let tokens = generation.usage.completion_tokens;
    let written = count_of(tokens);
    let thinking = generation.still_thinking;
    let code = match generation.finish_reason {
        FinishReason::Deadline => ErrorCode::DeadlinePassed,
        FinishReason::Cancelled => ErrorCode::Cancelled,
        FinishReason::Length | FinishReason::Stop if thinking => ErrorCode::StillThinking,
        FinishReason::Length | FinishReason::Stop => ErrorCode::NoAnswer,
    };
    Some(code.says(match generation.finish_reason {
        FinishReason::Length if thinking && tokens < max_tokens => {
            let advice = limits.longer_context(generation);
            format!("no answer: the model was still thinking after {written}, when its context was full; shorten the text or {advice}")
        }
        FinishReason::Length if thinking => {
            format!("no answer: the model was still thinking after {written}, {}", limits.max_tokens_cause())
        }
        FinishReason::Stop if thinking => "no answer: the model ended its output during the reasoning; call again with another seed".into(),
        FinishReason::Stop => {
            "no answer: the model ended without writing any text; rephrase the question or change `stop`".into()
        }
        FinishReason::Length if limits.reached_max_tokens_limit(generation) => {
            format!("no answer: the model had written no text after {written}, {}", limits.max_tokens_cause())
        }
        FinishReason::Length => {
            format!("no answer: the model had written no text after {written}, when the answer was truncated; raise `max_tokens`")
        }
        FinishReason::Deadline => {
            let seconds = limits.seconds();
            let phase = match generation.phase {
                Phase::Load => "the model was still loading; try again: loading continues",
                Phase::Queue => "the call was still queued; allow more time or try again later",
                Phase::Prefill => "the prompt was still being processed; allow more time or shorten the text",
                Phase::Generate if thinking => "the model was still thinking; allow more time",
                Phase::Generate => "the model had not written any text yet; allow more time",
            };
            format!("no answer within the deadline of {seconds} s: {phase}")
        }
        FinishReason::Cancelled => "the call was cancelled".into(),
    }))
}

/// Returns the code and the message for a call that failed with `error`.
pub(super) fn failure(error: &RegistryError) -> Coded {
    let error = match error {
        RegistryError::Refused(refusal) => {
            let text = without_folders(&refusal.to_string());
            return code_of_refusal(refusal).says(text);
        }
        RegistryError::Call(error) => error,
    };
    let hint = match error {
        CallError::Engine(error) => error.hint.clone(),
        // The error contains the way out.
        CallError::SystemLimit(_) => None,
        CallError::NotStarted(_) | CallError::Stuck => {
            Some("try again; see the server's log".into())
        }
        CallError::Process { failure: ProcessFailure::Died(_), stage: CallStage::BegunFirst } => {
            Some("no call has succeeded since the model was loaded; if this happens again, check the model's file and the free memory; see the server's log".into())
        }
        CallError::Process { failure: ProcessFailure::Died(_), stage: CallStage::Queued } => {
            Some("check that there is enough memory and that the model's file is intact; see the server's log".into())
        }
        CallError::Process { .. } => Some("try again: the next call starts a new process".into()),
    };
    let text = match hint {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    };
    code_of(error).says(without_folders(&text))
}

fn code_of_refusal(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::NeverFits(_) => ErrorCode::NeverFits,
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
        CallError::Stuck => ErrorCode::ModelStuck,
        CallError::Process { failure, .. } => match failure {
            ProcessFailure::Stalled(_) => ErrorCode::ModelStuck,
            ProcessFailure::Died(_) | ProcessFailure::Failed(_) | ProcessFailure::Terminated => {
                ErrorCode::ModelDied
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Usage;

    #[test]
    fn a_truncated_text_ends_with_a_note_on_the_limit_and_the_number_of_tokens() {
        let limits = CallLimits {
            max_tokens: 128,
            is_at_limit: false,
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
            "It was a dark\n\n[truncated after 128 tokens, when `max_tokens` was reached; raise `max_tokens`]"
        );
        let most = CallLimits {
            is_at_limit: true,
            ..limits
        };
        assert_eq!(
            cut(most, FinishReason::Length, 128),
            "It was a dark\n\n[truncated after 128 tokens, when `max_tokens_limit` was reached; ask for a shorter answer]"
        );
        assert_eq!(
            noted(FinishReason::Length, 95),
            "It was a dark\n\n[truncated after 95 tokens, when the model's context was full; shorten the text or give the model a larger `n_ctx` (at most 4096)]"
        );
        let trained = CallLimits {
            trained: 96,
            ..limits
        };
        assert_eq!(
            cut(trained, FinishReason::Length, 95),
            "It was a dark\n\n[truncated after 95 tokens, when the model's context was full; shorten the text or choose a model with a longer context (this one was trained for 96 tokens)]"
        );
        assert_eq!(
            noted(FinishReason::Deadline, 7),
            "It was a dark\n\n[truncated after 7 tokens, when the deadline of 1.5 s passed; allow more time]"
        );
        assert_eq!(noted(FinishReason::Stop, 128), "It was a dark\n");
    }
}
