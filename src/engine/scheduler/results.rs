//! Applies the results of a decoded batch to its calls.
//!
//! The rows of a generating call are its pending tokens, and then drafted ones. After the last pending token, a token is sampled, which
//! others may follow without sampling. A drafted token that equals the next of these is decoded already, so sampling continues from its
//! row. The first one that differs ends the draft, and the rest of its rows is removed from the sequence.

use std::time::Instant;

use super::super::decoder::{Decoder, Row};
use super::super::{EngineError, EngineErrorKind, FinishReason, Update};
use super::active::{ActiveCall, Written};
use super::{Scheduler, count};

impl<D: Decoder> Scheduler<D> {
    /// Samples from a batch that was decoded by `now`, and applies the results to its calls.
    pub(super) fn apply_results(&mut self, batch: &[Row], now: Instant) {
        let mut first = 0;
        for rows in batch.chunk_by(|row, next| row.sequence == next.sequence) {
            let sequence = rows[0].sequence;
            let is_generating = self.sequences[sequence]
                .as_ref()
                .is_some_and(ActiveCall::is_generating);
            if is_generating {
                self.apply_answer(sequence, rows, first, now);
            } else {
                self.apply_prompt(sequence, rows, first, now);
            }
            first += rows.len();
        }
    }

    /// Records decoded `rows` of a prompt, and samples the first token of the answer after its last row. `first` is the index of the rows
    /// in the batch.
    fn apply_prompt(&mut self, sequence: usize, rows: &[Row], first: usize, now: Instant) {
        let Some(active) = self.sequences[sequence].as_mut() else {
            return;
        };
        self.cache
            .append(sequence, rows.iter().map(|row| row.token));
        active.prefilled += rows.len();
        let update = Update::Prefill {
            done: count(active.prefilled),
            total: active.usage.prompt_tokens,
        };
        self.updates.push((active.id, update));
        let can_truncate = self.decoder.can_truncate_saved(active.reserved as usize);
        if active.should_save(can_truncate) {
            self.cache.save(&mut self.decoder, sequence);
        }
        let last = rows.len() - 1;
        if rows[last].logits
            && let Some(outcome) = self.sample(sequence, first + last, now)
        {
            self.apply(sequence, outcome, now);
        }
    }

    /// Records decoded `rows` of an answer, and samples as many tokens as they allow.
    fn apply_answer(&mut self, sequence: usize, rows: &[Row], first: usize, now: Instant) {
        let pending = self.sequences[sequence]
            .as_ref()
            .map_or(0, |active| active.pending.len());
        let mut used = 0;
        let mut outcome = None;
        for (at, row) in rows.iter().enumerate() {
            let Some(active) = self.sequences[sequence].as_mut() else {
                return;
            };
            if active.pending.front() != Some(&row.token) {
                break;
            }
            active.pending.pop_front();
            self.cache.append(sequence, std::iter::once(row.token));
            used += 1;
            if active.pending.is_empty() {
                outcome = self.sample(sequence, first + at, now);
                if outcome.is_some() {
                    break;
                }
            }
        }
        if rows.len() > pending {
            self.end_draft(sequence, rows.len() - pending, used - pending.min(used));
        }
        if used < rows.len() && !self.remove_rejected(sequence) {
            return;
        }
        if let Some(outcome) = outcome {
            self.apply(sequence, outcome, now);
        }
    }

    /// Records how many tokens of a draft were confirmed.
    fn end_draft(&mut self, sequence: usize, drafted: usize, confirmed: usize) {
        let Some(active) = self.sequences[sequence].as_mut() else {
            return;
        };
        active.usage.drafted_tokens += count(drafted);
        active.usage.confirmed_tokens += count(confirmed);
        if let Some(drafter) = &mut active.drafter {
            drafter.record(drafted, confirmed);
        }
    }

    /// Removes rows behind the tokens of `sequence`. Returns whether that succeeded; otherwise its call has failed.
    fn remove_rejected(&mut self, sequence: usize) -> bool {
        let length = self.cache.tokens_in(sequence);
        if self.decoder.truncate(sequence, length) {
            return true;
        }
        self.cache.forget(&mut self.decoder, sequence);
        let error = EngineError::new(
            EngineErrorKind::Decode,
            "llama.cpp could not remove drafted tokens from its cache",
        );
        self.abort(
            sequence,
            error.hint("set `speculative = \"off\"` for the model"),
        );
        false
    }

    /// Samples the token after row `row` of the batch, and appends it to the answer together with those that follow without sampling.
    /// Returns how the call ends, or `None` if it continues.
    fn sample(&mut self, sequence: usize, row: usize, now: Instant) -> Option<Outcome> {
        let active = self.sequences[sequence].as_mut()?;
        let sampled = self.decoder.sample(row, &mut active.sampler);
        let written = match sampled.and_then(|sampled| active.accept(&self.decoder, sampled, now)) {
            Ok(written) => written,
            Err(error) => return Some(Outcome::Failed(error)),
        };
        let Written {
            delta,
            finish_reason,
        } = written;
        if !delta.is_empty() {
            self.updates.push((active.id, Update::Delta(delta)));
        } else if active.output.is_thinking() {
            let update = Update::Thinking(active.usage.thinking_tokens);
            self.updates.push((active.id, update));
        }
        finish_reason.map(Outcome::Finished)
    }

    fn apply(&mut self, sequence: usize, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Finished(reason) => self.finish(sequence, reason, now),
            Outcome::Failed(error) => self.abort(sequence, error),
        }
    }
}

/// How a call ends.
enum Outcome {
    Finished(FinishReason),
    Failed(EngineError),
}
