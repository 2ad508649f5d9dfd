//! Continuous batching: admits queued calls, plans a batch, decodes it, samples, and emits updates.
//!
//! The scheduler owns the queue, the sequences and their KV cells. It is generic over [`Decoder`], so its tests need neither a model
//! nor a clock.
//!
//! - Admission reserves the cells of a call, prompt and answer, so an admitted call never runs out of cells.
//! - Every batch has the next token of every generating sequence, and the forced and draft tokens after it (`results.rs`). Prompts follow
//!   in chunks (chunked prefill, [`ChunkSizer`]). Prompts share a chunk evenly, so a long prompt does not delay a short one.
//! - Prefill skips the cached prefix of a prompt (`cache.rs`). If another call is decoding the same prefix, the prompt waits for that call
//!   (`start.rs`).
//! - The shared prefixes of tools are decoded while no call is active (`warm.rs`).
//! - An [`Update`] reports an event of a call. The caller of [`Scheduler::step`] takes the updates and sends them to clients.
//!
//! ```ignore
#![doc = include_str!("scheduler/example.rs")]
//! ```

mod active;
mod admit;
mod batch;
mod cache;
mod results;
mod start;
mod threads;
mod warm;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use active::ActiveCall;
use batch::Batch;
use cache::PrefixCache;

use super::chunk_size::ChunkSizer;
use super::compaction::{self, Move};
use super::decoder::{DecodeError, Decoder, Row};
use super::limits::Limits;
use super::prompt::Prompt;
use super::queue::{Queue, QueuedCall};
use super::threaded::ThreadedDecoder;
use super::{
    Answer, CallId, CancelReason, Conversation, EngineError, FinishReason, Phase, Stats, Update,
};

/// Decodes up to `parallel` calls at once, and queues the others.
#[derive(Debug)]
pub(crate) struct Scheduler<D: Decoder> {
    decoder: D,
    limits: Limits,
    queue: Queue,
    sequences: Vec<Option<ActiveCall<D::Sampler>>>,
    cache: PrefixCache<D::State>,
    admitted: u64,
    /// Number of tokens that this step has copied to start prompts from cached prefixes.
    copied: usize,
    chunk_sizer: ChunkSizer,
    ready_at: Instant,
    updates: Vec<(CallId, Update)>,
}

impl<D: Decoder> Scheduler<D> {
    /// Creates a scheduler with the calls that were queued while the model was loading. Their time in the queue until `now` counts as load
    /// time.
    pub(crate) fn new(decoder: D, limits: Limits, queue: Queue, now: Instant) -> Self {
        let chunk_sizer = ChunkSizer::new(decoder.n_ubatch().min(limits.n_batch));
        Self {
            decoder,
            limits,
            queue,
            sequences: (0..limits.parallel).map(|_| None).collect(),
            cache: PrefixCache::new(&limits),
            admitted: 0,
            copied: 0,
            chunk_sizer,
            ready_at: now,
            updates: Vec::new(),
        }
    }

    /// Queues a call, or fails it if the queue is full. [`Self::next_to_prepare`] returns its conversation later.
    pub(crate) fn submit(&mut self, call: QueuedCall) {
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

    /// Returns the id and conversation of the next call that needs a prompt, for [`Self::set_prompt`]. See [`Queue::next_to_prepare`].
    pub(crate) fn next_to_prepare(
        &mut self,
        has_room: impl Fn(usize) -> bool,
    ) -> Option<(CallId, Conversation)> {
        self.queue.next_to_prepare(has_room)
    }

    /// Sets the prompt of a queued call. Fails the call if `prompt` is an error or does not fit the context.
    pub(crate) fn set_prompt(&mut self, id: CallId, prompt: Result<Prompt, EngineError>) {
        match prompt.and_then(|prompt| self.check_length(prompt)) {
            Ok(prompt) => self.queue.set_prompt(id, prompt),
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
        Err(EngineError::overflow(length, true, context))
    }

    /// Ends the call `id`, queued or active. Its sequence is free before the next decode. Unknown ids are ignored.
    pub(crate) fn cancel(&mut self, id: CallId, reason: CancelReason, now: Instant) {
        if let Some(call) = self.queue.remove(id) {
            let generation = call.cancelled(reason, Phase::Queue, self.ready_at, now);
            self.updates
                .push((id, Update::Done(Answer::Generated(generation))));
        } else if let Some(at) = self.find(id) {
            self.finish(at, reason.into(), now);
        }
    }

    fn find(&self, id: CallId) -> Option<usize> {
        self.sequences
            .iter()
            .position(|sequence| sequence.as_ref().is_some_and(|active| active.id == id))
    }

    /// Returns whether there is nothing to decode until a call or a prompt arrives.
    pub(crate) fn is_idle(&self) -> bool {
        !self.has_calls() && !self.cache.has_uncached_prefix()
    }

    fn has_calls(&self) -> bool {
        self.sequences.iter().any(Option::is_some) || self.queue.head().is_some()
    }

    /// Returns whether no call is queued or active.
    pub(crate) fn is_empty(&self) -> bool {
        self.sequences.iter().all(Option::is_none) && self.queue.is_empty()
    }

    /// Takes the updates since the last call in order, and appends the changed queue positions.
    pub(crate) fn take_updates(&mut self) -> Vec<(CallId, Update)> {
        let positions = self.queue.changed_positions().into_iter();
        self.updates
            .extend(positions.map(|(id, position)| (id, Update::Queued(position))));
        std::mem::take(&mut self.updates)
    }

    fn reserved_cells(&self) -> u32 {
        self.sequences
            .iter()
            .flatten()
            .map(|active| active.reserved)
            .sum()
    }

    /// Runs one step that starts at `now`: admits calls, decodes one batch and samples. Blocks while the decoder works.
    pub(crate) fn step(&mut self, now: Instant) {
        self.admit(now);
        if !self.has_calls() {
            self.warm_up();
            return;
        }
        self.begin_prompts();
        self.compact();
        self.copied = 0;
        let Batch { rows, generating } = self.plan_batch();
        if rows.is_empty() {
            return;
        }
        let is_busy = has_begun(&self.sequences);
        self.cache
            .ensure_free_cells(&mut self.decoder, rows.len(), is_busy, true);
        match self.decoder.decode(&rows) {
            Ok(elapsed) => {
                self.observe(&rows, generating, elapsed);
                self.apply_results(&rows, now + elapsed);
            }
            Err(error) => self.fail(&rows, &error),
        }
    }

    /// Records how long a step took. Steps with forced or draft tokens are left out: their rows cost more than rows of a prompt.
    fn observe(&mut self, rows: &[Row], generating: usize, elapsed: Duration) {
        let is_answer = |row: &&Row| {
            let active = self.sequences[row.sequence].as_ref();
            active.is_some_and(ActiveCall::is_generating)
        };
        if rows.iter().filter(is_answer).count() == generating {
            self.chunk_sizer
                .observe(generating, rows.len() - generating, elapsed);
        }
    }

    /// Moves at most one generating sequence next to the others ([`compaction`]).
    fn compact(&mut self) {
        let streams = self.sequences.iter();
        let streams: Vec<bool> = streams
            .map(|active| active.as_ref().is_some_and(ActiveCall::is_generating))
            .collect();
        let is_free = |at: usize| self.sequences[at].is_none();
        let can_move = |at: usize| self.cache.can_move(at);
        let Some(Move { from, to }) = compaction::next_move(&streams, is_free, can_move) else {
            return;
        };
        if self.copied == 0 && self.cache.move_to(&mut self.decoder, from, to) {
            self.sequences.swap(from, to);
        }
    }

    /// Removes a call from its sequence. The tokens stay in the sequence as a cached prefix.
    fn vacate(&mut self, sequence: usize) -> Option<ActiveCall<D::Sampler>> {
        let active = self.sequences[sequence].take()?;
        let is_busy = has_begun(&self.sequences);
        self.cache
            .release_sequence(&mut self.decoder, sequence, is_busy);
        Some(active)
    }

    /// Ends the call in `sequence` with `reason`, and frees the sequence.
    fn finish(&mut self, sequence: usize, reason: FinishReason, now: Instant) {
        let Some(active) = self.vacate(sequence) else {
            return;
        };
        let id = active.id;
        let (delta, generation) = active.into_generation(reason, now);
        if !delta.is_empty() {
            self.updates.push((id, Update::Delta(delta)));
        }
        self.updates
            .push((id, Update::Done(Answer::Generated(generation))));
    }

    /// Fails the calls of a batch that could not be decoded, since the content of their sequences is undefined. Other calls continue.
    fn fail(&mut self, batch: &[Row], error: &DecodeError) {
        let sequences: BTreeSet<usize> = batch.iter().map(|row| row.sequence).collect();
        for sequence in sequences {
            self.cache.forget(&mut self.decoder, sequence);
            self.abort(sequence, error.clone().into());
        }
    }

    /// Fails the call in `sequence` with `error`, and frees the sequence.
    fn abort(&mut self, sequence: usize, error: EngineError) {
        if let Some(active) = self.vacate(sequence) {
            self.updates.push((active.id, Update::Failed(error)));
        }
    }
}

impl<D: ThreadedDecoder> Scheduler<D> {
    /// Returns the current numbers of calls, cells, cached prefixes and threads.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            active: self.sequences.iter().flatten().count(),
            waiting: self.queue.len(),
            reserved_cells: self.reserved_cells(),
            kv_cells: self.limits.kv_cells,
            warm: self.cache.warm_count(),
            n_threads: self.n_threads(),
        }
    }
}

/// Returns a predicate for sequences whose cells are in use. A call that waits for another call does not use cells yet, even if its
/// sequence holds cached tokens.
fn has_begun<S>(sequences: &[Option<ActiveCall<S>>]) -> impl Fn(usize) -> bool {
    |at| {
        let active = sequences.get(at).and_then(Option::as_ref);
        active.is_some_and(|active| active.has_begun)
    }
}

/// Converts a number of tokens to the type in the wire protocol and in llama.cpp. No prompt has 2^32 tokens.
fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod example;
#[cfg(test)]
mod tests;
