//! Applies the results of a decoded batch to its calls.
//!
//! The rows of a generating call are its pending tokens and then its draft tokens. A token is sampled after the last pending one, and
//! forced tokens may follow it. They are compared with the draft tokens, in order. A draft token that is equal is accepted: it is decoded
//! already, so sampling continues from its row. The first one that differs ends the draft, and the remaining rows are removed from the
//! sequence.

use std::time::Instant;

use super::super::decoder::{Decoder, Row};
use super::super::lookup::{Drafter, MAX_DRAFT};
use super::super::{EngineError, EngineErrorKind, FinishReason, Update};
use super::active::{ActiveCall, Written};
use super::{Scheduler, count};

/// How a call ends.
enum End {
    Finished(FinishReason),
    Failed(EngineError),
}

impl<D: Decoder> Scheduler<D> {
    /// Samples from a batch that was decoded by `now`, and applies the results to its calls.
    pub(super) fn apply_results(&mut self, batch: &[Row], now: Instant) {
        let mut first = 0;
        for rows in batch.chunk_by(|row, next| row.sequence == next.sequence) {
            let sequence = rows[0].sequence;
            let active = self.sequences[sequence].as_ref();
            let end = if active.is_some_and(ActiveCall::is_generating) {
                self.apply_answer(sequence, rows, first, now)
            } else {
                self.apply_prompt(sequence, rows, first, now)
            };
            match end {
                Some(End::Finished(reason)) => self.finish(sequence, reason, now),
                Some(End::Failed(error)) => self.abort(sequence, error),
                None => {}
            }
            first += rows.len();
        }
    }

    /// Records decoded `rows` of a prompt, and samples the first token of the answer after its last row. `first` is the index of the rows
    /// in the batch. Returns how the call ends, or `None` if it continues.
    fn apply_prompt(
        &mut self,
        sequence: usize,
        rows: &[Row],
        first: usize,
        now: Instant,
    ) -> Option<End> {
        let active = self.sequences[sequence].as_mut()?;
        self.cache
            .append(sequence, rows.iter().map(|row| row.token));
        active.prefilled += rows.len();
        let update = Update::Prefill {
            done: count(active.prefilled),
            total: active.usage.prompt_tokens,
        };
        self.updates.push((active.id, update));
        let can_truncate = self.decoder.keeps_all_cells(active.reserved as usize);
        if active.should_save(can_truncate) {
            self.cache.save(&mut self.decoder, sequence);
        }
        let last = rows.len() - 1;
        if !rows[last].logits {
            return None;
        }
        let end = self.sample(sequence, first + last, now);
        if end.is_none() {
            self.begin_drafts(sequence);
        }
        end
    }

    /// Creates the drafter of a call, if `speculative` is `auto` and rejected tokens could be removed again.
    fn begin_drafts(&mut self, sequence: usize) {
        let Some(active) = self.sequences[sequence].as_mut() else {
            return;
        };
        let shortest = active.prompt.len() + MAX_DRAFT;
        if !self.limits.is_speculative || !self.decoder.keeps_all_cells(shortest) {
            return;
        }
        let mut drafter = Drafter::new(&active.prompt);
        for token in &active.pending {
            drafter.push(*token);
        }
        active.drafter = Some(drafter);
    }

    /// Records decoded `rows` of an answer, and samples as many tokens as they allow. Returns how the call ends, or `None` if it continues.
    fn apply_answer(
        &mut self,
        sequence: usize,
        rows: &[Row],
        first: usize,
        now: Instant,
    ) -> Option<End> {
        let pending = self.sequences[sequence].as_ref()?.pending.len();
        let mut used = 0;
        let mut end = None;
        while used < rows.len() && end.is_none() {
            let active = self.sequences[sequence].as_mut()?;
            if active.pending.front() != Some(&rows[used].token) {
                break;
            }
            active.pending.pop_front();
            let is_last_pending = active.pending.is_empty();
            self.cache
                .append(sequence, std::iter::once(rows[used].token));
            if is_last_pending {
                end = self.sample(sequence, first + used, now);
            }
            used += 1;
        }
        if rows.len() > pending {
            let drafted = rows.len() - pending;
            let active = self.sequences[sequence].as_mut()?;
            active.record_draft(drafted, used - pending, end.is_some());
        }
        if used < rows.len() && !self.remove_rejected(sequence) && end.is_none() {
            let error = EngineError::new(
                EngineErrorKind::Decode,
                "llama.cpp could not remove rejected draft tokens from its cache",
            );
            let error = error.hint("set `speculative = \"off\"` for the model");
            end = Some(End::Failed(error));
        }
        end
    }

    /// Removes the rows of rejected draft tokens from `sequence`. Returns whether that succeeded; otherwise the sequence is empty.
    fn remove_rejected(&mut self, sequence: usize) -> bool {
        let length = self.cache.tokens_in(sequence);
        let is_removed = self.decoder.truncate(sequence, length);
        if !is_removed {
            self.cache.forget(&mut self.decoder, sequence);
        }
        is_removed
    }

    /// Samples the token after row `row` of the batch, and appends it to the answer together with the forced tokens that follow it. Returns
    /// how the call ends, or `None` if it continues.
    fn sample(&mut self, sequence: usize, row: usize, now: Instant) -> Option<End> {
        let active = self.sequences[sequence].as_mut()?;
        let sampled = self.decoder.sample(row, &mut active.sampler);
        let written = sampled.and_then(|sampled| active.accept(&self.decoder, sampled, now));
        let Written {
            delta,
            finish_reason,
        } = match written {
            Ok(written) => written,
            Err(error) => return Some(End::Failed(error)),
        };
        if !delta.is_empty() {
            self.updates.push((active.id, Update::Delta(delta)));
        } else if active.output.is_thinking() {
            let update = Update::Thinking(active.usage.thinking_tokens);
            self.updates.push((active.id, update));
        }
        finish_reason.map(End::Finished)
    }
}
