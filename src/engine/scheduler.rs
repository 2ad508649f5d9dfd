//! The loop that decodes for many calls at once: admit, plan a batch, decode, sample, emit.
//!
//! Generic over [`Decoder`], so it is tested without a model and without time. It owns the queue, the sequences and
//! their cells; nobody else changes them.
//!
//! - An admitted call has its cells reserved, prompt and answer, so it never fails for room.
//! - Every sequence that generates has its token in every batch; prompts follow behind in chunks ([`Pace`]), the chunk
//!   shared among them evenly, so a short prompt is not held up by a long one.
//! - A prompt starts from what of it lies in the cache already (`cache.rs`), and one that another call is just decoding is
//!   waited for (`start.rs`).
//! - Prompts that stand fixed in tools are decoded when nothing else is to be done.
//! - What a call's client must hear is an [`Update`]; the caller of [`Scheduler::turn`] takes them out and sends them.

mod active;
mod admit;
mod cache;
mod start;
mod warm;

use std::collections::BTreeSet;
use std::time::Instant;

use active::Active;
use cache::Cache;

use super::chunk_size::{Pace, Work};
use super::compaction;
use super::decoder::{Decoder, Row, Sampled};
use super::limits::Limits;
use super::prompt::Prompt;
use super::queue::{Queue, Waiting};
use super::{
    CancelReason, Conversation, EngineError, EngineErrorKind, FinishReason, Phase, Stats, Update,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Scheduler<D: Decoder> {
    decoder: D,
    limits: Limits,
    queue: Queue,
    sequences: Vec<Option<Active<D::Sampler>>>,
    cache: Cache<D::State>,
    admitted: u64,
    /// In this turn a state was copied, for a prompt that began or a stream that moved.
    has_copied: bool,
    pace: Pace,
    ready_at: Instant,
    updates: Vec<(u64, Update)>,
}

impl<D: Decoder> Scheduler<D> {
    /// Starts with the calls that came while the model was loaded; their waiting until `now` was for the load.
    pub(crate) fn new(decoder: D, limits: Limits, queue: Queue, now: Instant) -> Self {
        let pace = Pace::new(decoder.pass().min(limits.n_batch));
        Self {
            decoder,
            limits,
            queue,
            sequences: (0..limits.parallel).map(|_| None).collect(),
            cache: Cache::new(&limits),
            admitted: 0,
            has_copied: false,
            pace,
            ready_at: now,
            updates: Vec::new(),
        }
    }

    /// Takes a call into the queue. Its prompt is prepared when [`Self::next_to_prepare`] hands its messages out.
    pub(crate) fn submit(&mut self, call: Waiting) {
        let free = self
            .sequences
            .iter()
            .filter(|sequence| sequence.is_none())
            .count();
        let id = call.id;
        if let Err(busy) = self.queue.push(call, free) {
            self.updates.push((id, Update::Failed(busy)));
        }
    }

    /// The next call whose prompt is to be prepared and handed to [`Self::prepared`], see [`Queue::next_to_prepare`]. What is
    /// cancelled until then costs nothing.
    pub(crate) fn next_to_prepare(
        &mut self,
        has_room: impl Fn(usize) -> bool,
    ) -> Option<(u64, Conversation)> {
        self.queue.next_to_prepare(has_room)
    }

    /// The prompt of a submitted call is ready, or cannot be had.
    pub(crate) fn prepared(&mut self, id: u64, prompt: Result<Prompt, EngineError>) {
        match prompt.and_then(|prompt| self.check_length(prompt)) {
            Ok(prompt) => self.queue.prepared(id, prompt),
            Err(error) => {
                if self.queue.remove(id).is_some() {
                    self.updates.push((id, Update::Failed(error)));
                }
            }
        }
    }

    fn check_length(&self, prompt: Prompt) -> Result<Prompt, EngineError> {
        let (length, n_ctx) = (prompt.tokens.len(), self.limits.n_ctx);
        if count(length) < n_ctx {
            return Ok(prompt);
        }
        let context = self.limits.context();
        Err(EngineError::overflow(&length.to_string(), context))
    }

    /// Ends a call wherever it is; unknown ids are ignored. Its sequence is free before the next decode.
    pub(crate) fn cancel(&mut self, id: u64, reason: CancelReason, now: Instant) {
        if let Some(call) = self.queue.remove(id) {
            let generation = call.cancelled(reason, Phase::Queue, self.ready_at, now);
            self.updates.push((id, Update::Done(generation)));
        } else if let Some(at) = self.position(id) {
            self.finish(at, reason.into(), now);
        }
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.sequences
            .iter()
            .position(|sequence| sequence.as_ref().is_some_and(|active| active.id == id))
    }

    /// There is nothing to decode until a call or a prompt comes.
    pub(crate) fn is_idle(&self) -> bool {
        !self.has_calls() && !self.cache.is_cold()
    }

    fn has_calls(&self) -> bool {
        self.sequences.iter().any(Option::is_some) || self.queue.head().is_some()
    }

    /// No call is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.sequences.iter().all(Option::is_none) && self.queue.is_empty()
    }

    /// What happened since the last time, in order, and who has another place in the queue now.
    pub(crate) fn take_updates(&mut self) -> Vec<(u64, Update)> {
        let places = self.queue.new_places().into_iter();
        self.updates
            .extend(places.map(|(id, place)| (id, Update::Queued(place))));
        std::mem::take(&mut self.updates)
    }

    /// Counts for people.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            active: self.sequences.iter().flatten().count(),
            waiting: self.queue.len(),
            reserved_cells: self.reserved_cells(),
            kv_cells: self.limits.kv_cells,
            warm: self.cache.warm_prompts(),
        }
    }

    fn reserved_cells(&self) -> u32 {
        self.sequences
            .iter()
            .flatten()
            .map(|active| active.reserved)
            .sum()
    }

    /// One step; blocks for one decode. `now` is its beginning.
    pub(crate) fn turn(&mut self, now: Instant) {
        self.admit(now);
        if !self.has_calls() {
            self.warm();
            return;
        }
        self.begin_prompts();
        self.move_together();
        self.has_copied = false;
        let (batch, generated) = self.plan();
        if batch.is_empty() {
            return;
        }
        let is_busy = has_begun(&self.sequences);
        self.cache
            .make_room(&mut self.decoder, batch.len(), is_busy, true);
        match self.decoder.decode(&batch) {
            Ok(elapsed) => {
                self.pace
                    .observe(generated, batch.len() - generated, elapsed);
                self.advance(&batch, now + elapsed);
            }
            Err(cause) => self.fail(&batch, &cause),
        }
    }

    /// Moves a sequence that streams beside the others, where one stands apart.
    fn move_together(&mut self) {
        let streams: Vec<bool> = self
            .sequences
            .iter()
            .map(|active| active.as_ref().is_some_and(|active| active.next.is_some()))
            .collect();
        let is_free = |at: usize| self.sequences[at].is_none();
        let can_move = |at: usize| self.cache.can_move(at);
        let Some((from, to)) = compaction::closer(&streams, is_free, can_move) else {
            return;
        };
        if !self.has_copied && self.cache.move_to(&mut self.decoder, from, to) {
            self.has_copied = true;
            self.sequences.swap(from, to);
        }
    }

    /// The next batch, generating sequences first, and how many those are.
    fn plan(&self) -> (Vec<Row>, usize) {
        let mut batch = Vec::new();
        let mut prompts = Vec::new();
        for (sequence, active) in self.sequences.iter().enumerate() {
            let Some(active) = active else { continue };
            match active.next {
                Some(token) => batch.push(Row {
                    token,
                    position: active.usage.prompt_tokens + active.usage.completion_tokens - 1,
                    sequence,
                    logits: !active.reasoning.is_forced(),
                }),
                None if active.has_begun => prompts.push((sequence, active)),
                None => {}
            }
        }
        let generated = batch.len();
        let left = |active: &Active<_>| active.prompt.len() - active.prefilled;
        let work = Work {
            streams: generated,
            prompts: prompts.len(),
            pending: prompts.iter().map(|(_, active)| left(active)).sum(),
        };
        let room = self.limits.n_batch - generated;
        let mut chunk = self.pace.chunk(work, room);
        if let (0, [(_, active)]) = (generated, &prompts[..]) {
            chunk = self.pace.alone(active.stop() - active.prefilled, chunk);
        }
        prompts.sort_by_key(|(_, active)| left(active));
        let mut of_prompts = Vec::new();
        for (done, (sequence, active)) in prompts.iter().enumerate() {
            // None stands still, however many come that are shorter.
            let share = chunk.div_ceil(prompts.len() - done).max(1);
            let rows = active.prompt_rows(*sequence, share);
            chunk = chunk.saturating_sub(rows.len());
            of_prompts.push(rows);
        }
        // llama.cpp decodes neighbouring sequences together where they follow each other in the batch, too.
        of_prompts.sort_by_key(|rows| rows.first().map(|row| row.sequence));
        batch.extend(of_prompts.into_iter().flatten());
        (batch, generated)
    }

    /// Takes the results of a decoded batch; `now` is its end.
    fn advance(&mut self, batch: &[Row], now: Instant) {
        let mut sampled = self.sample(batch).into_iter();
        for (at, row) in batch.iter().enumerate() {
            let Some(active) = self.sequences[row.sequence].as_mut() else {
                continue;
            };
            let held = std::iter::once(row.token);
            self.cache.decoded(row.sequence, held);
            if active.next.is_none() {
                active.prefilled += 1;
                let is_last_of_chunk = batch
                    .get(at + 1)
                    .is_none_or(|next| next.sequence != row.sequence);
                if is_last_of_chunk {
                    let update =
                        Update::Prefill(count(active.prefilled), active.usage.prompt_tokens);
                    self.updates.push((active.id, update));
                    let can_cut = self.decoder.can_cut_saved(active.reserved as usize);
                    if active.is_to_be_saved(can_cut) {
                        self.cache.save(&mut self.decoder, row.sequence);
                    }
                }
            }
            let sampled = if row.logits {
                sampled.next().expect("every row with logits is sampled")
            } else if let Some(token) = active.reasoning.take_forced() {
                self.decoder.force(&mut active.sampler, token);
                Ok(Sampled::forced(token))
            } else {
                continue;
            };
            match sampled.and_then(|sampled| active.accept(&self.decoder, sampled, now)) {
                Ok((delta, finished)) => {
                    if !delta.is_empty() {
                        self.updates.push((active.id, Update::Delta(delta)));
                    } else if active.output.is_thinking() {
                        self.updates
                            .push((active.id, Update::Thinking(active.usage.thinking_tokens)));
                    }
                    if let Some(reason) = finished {
                        self.finish(row.sequence, reason, now);
                    }
                }
                Err(error) => self.abort(row.sequence, error),
            }
        }
    }

    /// Samples from all rows of a decoded batch that asked for logits, in their order.
    fn sample(&mut self, batch: &[Row]) -> Vec<Result<Sampled, EngineError>> {
        let asks = |sequence| {
            let is_asked = |row: &Row| row.logits && row.sequence == sequence;
            batch.iter().position(is_asked)
        };
        let sequences = self.sequences.iter_mut().enumerate();
        let mut rows: Vec<_> = sequences
            .filter_map(|(sequence, active)| Some((asks(sequence)?, &mut active.as_mut()?.sampler)))
            .collect();
        rows.sort_by_key(|(row, _)| *row);
        self.decoder.sample(&mut rows)
    }

    /// Takes a call out of its sequence, which keeps what it holds as a cache.
    fn leave(&mut self, sequence: usize) -> Option<Active<D::Sampler>> {
        let active = self.sequences[sequence].take()?;
        let is_busy = has_begun(&self.sequences);
        self.cache.finish(&mut self.decoder, sequence, is_busy);
        Some(active)
    }

    /// Frees a sequence and tells its call that it ended.
    fn finish(&mut self, sequence: usize, reason: FinishReason, now: Instant) {
        let Some(active) = self.leave(sequence) else {
            return;
        };
        let id = active.id;
        let (delta, generation) = active.into_generation(reason, now);
        if !delta.is_empty() {
            self.updates.push((id, Update::Delta(delta)));
        }
        self.updates.push((id, Update::Done(generation)));
    }

    /// A decode failed: what its sequences hold is undefined, so their calls fail; the others go on.
    fn fail(&mut self, batch: &[Row], cause: &str) {
        let sequences: BTreeSet<usize> = batch.iter().map(|row| row.sequence).collect();
        for sequence in sequences {
            self.cache.forget(&mut self.decoder, sequence);
            let error = EngineError::new(
                EngineErrorKind::Decode,
                format!("llama.cpp could not decode: {cause}"),
            )
            .hint("try again; the server's log may say more");
            self.abort(sequence, error);
        }
    }

    /// Frees a sequence and tells its call that it failed.
    fn abort(&mut self, sequence: usize, error: EngineError) {
        if let Some(active) = self.leave(sequence) {
            self.updates.push((active.id, Update::Failed(error)));
        }
    }
}

/// Which sequences' cells are in use: a call that waits for another has none yet, whatever its sequence still holds.
fn has_begun<S>(sequences: &[Option<Active<S>>]) -> impl Fn(usize) -> bool {
    |at| {
        let active = sequences.get(at).and_then(Option::as_ref);
        active.is_some_and(|active| active.has_begun)
    }
}

/// Token counts as the wire and llama.cpp have them; a prompt of 2^32 tokens cannot be held.
fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
