//! A call that has a sequence: its prompt, its answer so far, and how it ends.

mod reasoning;

use std::time::Instant;

use super::count;
use crate::engine::decoder::Row;
use crate::engine::prefix::MIN_GAIN;
use crate::engine::queue::milliseconds;
use crate::engine::text::Output;
use crate::engine::token::Token;
use crate::engine::{FinishReason, Generation, Phase, Usage};
pub(super) use reasoning::Reasoning;

/// A prompt with fewer new tokens is not saved at its end: an older state does nearly as well.
const MIN_NEW: usize = 256;

/// A call that has a sequence.
#[derive(Debug)]
pub(super) struct Active<S> {
    pub(super) id: u64,
    pub(super) prompt: Vec<Token>,
    /// Which of all calls was admitted, from 1.
    pub(super) order: u64,
    /// Its sequence holds the beginning of the prompt, and no more than it.
    pub(super) has_begun: bool,
    /// The call, by its order, that is decoding what they share, and the length of that: it waits for it.
    pub(super) waits_for: Option<(u64, usize)>,
    /// Prompt tokens that its sequence holds.
    pub(super) prefilled: usize,
    /// Lengths of the prompt at which its state is to be saved.
    pub(super) checkpoints: Vec<usize>,
    pub(super) reserved: u32,
    pub(super) max_tokens: u32,
    pub(super) seed: u32,
    pub(super) sampler: S,
    /// Sampled and not yet decoded; there is one exactly while it generates.
    pub(super) next: Option<Token>,
    pub(super) output: Output,
    pub(super) reasoning: Reasoning,
    pub(super) usage: Usage,
    pub(super) admitted_at: Instant,
    pub(super) generating_at: Option<Instant>,
}

impl<S> Active<S> {
    /// Asks for its state to be saved at `length`, unless that is asked for up to [`MIN_GAIN`] before it anyway.
    pub(super) fn save_at(&mut self, length: usize) {
        let near = |at: &usize| (length.saturating_sub(MIN_GAIN)..=length).contains(at);
        if !self.checkpoints.iter().any(near) {
            self.checkpoints.push(length);
        }
    }

    /// Whether it is decoding the first `length` tokens of its prompt, or will: not where it waits for more than those.
    pub(super) fn is_to_decode(&self, length: usize) -> bool {
        let is_to_come = if self.has_begun {
            self.prefilled < length
        } else {
            self.waits_for.is_none_or(|(_, shared)| shared < length)
        };
        self.next.is_none() && is_to_come
    }

    /// Whether the state of its sequence is to be saved now; `can_cut` says whether the last one will be as good. The whole prompt is
    /// where the next turn of a conversation starts from, if the answer is given back with other tokens.
    pub(super) fn is_to_be_saved(&self, can_cut: bool) -> bool {
        let new = self.prompt.len() - self.usage.cached_tokens as usize;
        let is_end = self.prefilled == self.prompt.len();
        self.checkpoints.contains(&self.prefilled) || (is_end && !can_cut && new >= MIN_NEW)
    }

    /// Where the next rows of the prompt end at the latest: at the next length at which its state is to be saved, or at its end.
    pub(super) fn stop(&self) -> usize {
        let checkpoints = self.checkpoints.iter().copied();
        let stops = checkpoints.filter(|at| (self.prefilled + 1..self.prompt.len()).contains(at));
        stops.min().unwrap_or(self.prompt.len())
    }

    /// The next rows of the prompt, at most `share`.
    pub(super) fn prompt_rows(&self, sequence: usize, share: usize) -> Vec<Row> {
        (self.prefilled..self.stop().min(self.prefilled + share))
            .map(|position| Row {
                token: self.prompt[position],
                position: count(position),
                sequence,
                logits: position + 1 == self.prompt.len(),
            })
            .collect()
    }

    /// Takes a sampled token, and its bytes unless it ends the answer; gives new text and the reason to end, if any.
    pub(super) fn take(
        &mut self,
        token: Token,
        piece: Option<&[u8]>,
        now: Instant,
    ) -> (String, Option<FinishReason>) {
        self.generating_at.get_or_insert(now);
        let Some(piece) = piece else {
            return (String::new(), Some(FinishReason::Stop));
        };
        let was_thinking = self.output.is_thinking();
        let delta = self.output.push(piece).to_owned();
        self.usage.completion_tokens += 1;
        self.usage.thinking_tokens += u32::from(was_thinking || self.output.is_thinking());
        self.next = Some(token);
        let finished = if self.output.is_stopped() {
            Some(FinishReason::Stop)
        } else if self.usage.completion_tokens >= self.max_tokens {
            Some(FinishReason::Length)
        } else {
            None
        };
        (delta, finished)
    }

    /// The text that was still held back, and the whole.
    pub(super) fn into_generation(
        mut self,
        reason: FinishReason,
        now: Instant,
    ) -> (String, Generation) {
        let delta = self.output.finish().to_owned();
        let generating_at = self.generating_at.unwrap_or(now);
        self.usage.prefill_ms =
            milliseconds(generating_at.saturating_duration_since(self.admitted_at));
        self.usage.decode_ms = milliseconds(now.saturating_duration_since(generating_at));
        let generation = Generation {
            // A stop string can be complete only now, with text that was held back.
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
            // A stop string also ends reasoning that is kept in the text.
            still_thinking: self.output.is_thinking() && !self.output.is_stopped(),
            seed: self.seed,
            usage: self.usage,
            text: self.output.into_text(),
        };
        (delta, generation)
    }
}
