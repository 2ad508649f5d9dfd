//! An admitted call: its prompt, its answer so far, and why it ends.

mod reasoning;

use std::collections::VecDeque;
use std::time::Instant;

use super::count;
use crate::engine::decoder::Row;
use crate::engine::lookup::Drafter;
use crate::engine::prefix::MIN_GAIN;
use crate::engine::text::Output;
use crate::engine::token::Token;
use crate::engine::{CallId, FinishReason, Generation, Phase, Usage};
use crate::telemetry::millis;
pub(super) use reasoning::Reasoning;

/// Minimum number of newly decoded tokens for which the state at the end of a prompt is saved. Below it, an older state is nearly as good.
const MIN_NEW: usize = 256;

/// A prefix of a prompt that another call is decoding.
#[derive(Debug, Clone, Copy)]
pub(super) struct AwaitedPrefix {
    /// Admission order of the other call.
    pub(super) order: u64,
    /// Length of the prefix, in tokens.
    pub(super) length: usize,
}

/// The effect of accepted tokens on the answer of their call.
#[derive(Debug)]
pub(super) struct Written {
    /// New text of the answer.
    pub(super) delta: String,
    /// Reason why the answer ends; `None` if it continues.
    pub(super) finish_reason: Option<FinishReason>,
}

/// An admitted call, which has a sequence.
#[derive(Debug)]
pub(super) struct ActiveCall<S> {
    pub(super) id: CallId,
    pub(super) prompt: Vec<Token>,
    /// Number of the call in order of admission, from 1.
    pub(super) order: u64,
    /// Whether prefill has started. From then on, the sequence holds a prefix of the prompt and nothing else.
    pub(super) has_begun: bool,
    /// Prefix that the call waits for before its prefill starts.
    pub(super) waits_for: Option<AwaitedPrefix>,
    /// Number of prompt tokens in the sequence.
    pub(super) prefilled: usize,
    /// Prompt lengths at which the state is saved.
    pub(super) checkpoints: Vec<usize>,
    /// Cells that are reserved for the prompt and the answer.
    pub(super) reserved: u32,
    pub(super) max_tokens: u32,
    pub(super) seed: u32,
    pub(super) sampler: S,
    /// Tokens of the answer that have yet to be decoded: a sampled one, and the forced ones after it. Empty during prefill, never empty
    /// afterwards.
    pub(super) pending: VecDeque<Token>,
    /// Drafts tokens of the answer; `None` during prefill, and if drafts are off or rejected tokens could not be removed.
    pub(super) drafter: Option<Drafter>,
    pub(super) output: Output,
    pub(super) reasoning: Reasoning,
    pub(super) usage: Usage,
    pub(super) admitted_at: Instant,
    /// Time at which the first token was sampled; `None` during prefill.
    pub(super) generating_at: Option<Instant>,
}

impl<S> ActiveCall<S> {
    /// Adds a checkpoint at `length`, unless there is one at most [`MIN_GAIN`] tokens before it.
    pub(super) fn save_at(&mut self, length: usize) {
        let near = |at: &usize| (length.saturating_sub(MIN_GAIN)..=length).contains(at);
        if !self.checkpoints.iter().any(near) {
            self.checkpoints.push(length);
        }
    }

    /// Returns whether the call has yet to decode the first `length` tokens of its prompt. A call that waits for a prefix of that length
    /// will not decode them.
    pub(super) fn will_decode(&self, length: usize) -> bool {
        let is_pending = if self.has_begun {
            self.prefilled < length
        } else {
            self.waits_for.is_none_or(|awaited| awaited.length < length)
        };
        !self.is_generating() && is_pending
    }

    /// Returns whether the prompt is decoded, so that the call has tokens of its answer to decode.
    pub(super) fn is_generating(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Returns whether to save the state of the sequence now: at a checkpoint, or at the end of a long prompt whose final state cannot be
    /// truncated (`can_truncate`). The next turn of a conversation may tokenise the answer differently, and then starts at the end of this
    /// prompt.
    pub(super) fn should_save(&self, can_truncate: bool) -> bool {
        let new = self.prompt.len() - self.usage.cached_tokens as usize;
        let is_end = self.prefilled == self.prompt.len();
        self.checkpoints.contains(&self.prefilled) || (is_end && !can_truncate && new >= MIN_NEW)
    }

    /// Returns the prompt length at which the next rows must end: the next checkpoint, or the end of the prompt.
    pub(super) fn next_stop(&self) -> usize {
        let checkpoints = self.checkpoints.iter().copied();
        let stops = checkpoints.filter(|at| (self.prefilled + 1..self.prompt.len()).contains(at));
        stops.min().unwrap_or(self.prompt.len())
    }

    /// Returns the next rows of the prompt, at most `share`.
    pub(super) fn prompt_rows(&self, sequence: usize, share: usize) -> Vec<Row> {
        (self.prefilled..self.next_stop().min(self.prefilled + share))
            .map(|position| Row {
                token: self.prompt[position],
                position: count(position),
                sequence,
                logits: position + 1 == self.prompt.len(),
            })
            .collect()
    }

    /// Records that `accepted` of `drafted` tokens became part of the answer. If the answer `has_ended`, the acceptance rate stays, since
    /// the other tokens were neither accepted nor rejected.
    pub(super) fn record_draft(&mut self, drafted: usize, accepted: usize, has_ended: bool) {
        self.usage.drafted_tokens += count(drafted);
        self.usage.accepted_tokens += count(accepted);
        if let Some(drafter) = self.drafter.as_mut().filter(|_| !has_ended) {
            drafter.record(drafted, accepted);
        }
    }

    /// Returns rows of the pending tokens and then those of `draft`, at most `share`.
    pub(super) fn answer_rows(&self, sequence: usize, draft: &[Token], share: usize) -> Vec<Row> {
        let pending = self.pending.len();
        let first = self.usage.prompt_tokens + self.usage.completion_tokens - count(pending);
        let tokens = self.pending.iter().chain(draft).take(share);
        let rows = tokens.enumerate();
        rows.map(|(at, token)| Row {
            token: *token,
            position: first + count(at),
            sequence,
            logits: at + 1 >= pending,
        })
        .collect()
    }

    /// Appends a token to the answer. `piece` is its bytes, or `None` if the token ends the answer.
    pub(super) fn push_token(
        &mut self,
        token: Token,
        piece: Option<&[u8]>,
        now: Instant,
    ) -> Written {
        self.generating_at.get_or_insert(now);
        let Some(piece) = piece else {
            return Written {
                delta: String::new(),
                finish_reason: Some(FinishReason::Stop),
            };
        };
        let was_thinking = self.output.is_thinking();
        let delta = self.output.push(piece).to_owned();
        self.usage.completion_tokens += 1;
        self.usage.thinking_tokens += u32::from(was_thinking || self.output.is_thinking());
        self.pending.push_back(token);
        if let Some(drafter) = &mut self.drafter {
            drafter.push(token);
        }
        let finish_reason = if self.output.is_stopped() {
            Some(FinishReason::Stop)
        } else if self.usage.completion_tokens >= self.max_tokens {
            Some(FinishReason::Length)
        } else {
            None
        };
        Written {
            delta,
            finish_reason,
        }
    }

    /// Ends the call. Returns the text that was still held back, and the complete generation.
    pub(super) fn into_generation(
        mut self,
        reason: FinishReason,
        now: Instant,
    ) -> (String, Generation) {
        let delta = self.output.finish().to_owned();
        let generating_at = self.generating_at.unwrap_or(now);
        self.usage.prefill_ms = millis(generating_at.saturating_duration_since(self.admitted_at));
        self.usage.decode_ms = millis(now.saturating_duration_since(generating_at));
        let generation = Generation {
            // The text that was held back may complete a stop string.
            finish_reason: if self.output.is_stopped() {
                FinishReason::Stop
            } else {
                reason
            },
            phase: if self.generating_at.is_some() {
                Phase::Generate
            } else {
                Phase::Prefill
            },
            // A stop string also ends reasoning that is part of the answer's text.
            still_thinking: self.output.is_thinking() && !self.output.is_stopped(),
            seed: self.seed,
            usage: self.usage,
            text: self.output.into_text(),
        };
        (delta, generation)
    }
}
