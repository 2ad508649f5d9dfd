//! The prefix cache: finds the longest cached prefix of a prompt, and evicts the least valuable content.
//!
//! Prefixes are cached in the decoder's sequences, and in states that were saved from sequences to memory. An idle sequence keeps the tokens
//! of its last call until another call needs the sequence. If the tokens are valuable, they are saved first. Shared prefixes of tools are
//! pinned: in sequences of their own if all sequences share one pool of cells, and otherwise as saved states.
//!
//! ```text
//! prompt  = [system prompt, 1500 tokens][question B, 80 tokens]
//! seq 0   = [system prompt, 1500 tokens][question A, 90 tokens][answer]   busy
//! seq 1   = empty
//!
//! reuse_prefix(seq 1, prompt) → 1500       shares the cells of seq 0 (pool), or restores a saved state of it
//! ```
//!
//! `tests/prefixes.rs` shows every case.

mod eviction;
mod source;
mod warm;

use super::super::decoder::Decoder;
use super::super::limits::{Limits, Reuse};
use super::super::prefix::cells::{Cell, CellPool};
use super::super::prefix::saved::{SavedState, SavedStates};
use super::super::token::Token;
use source::{CachedPrefix, PrefixSource};

/// Maximum number of idle cells in a pool, in addition to those of active calls and tools. Attention reads every used cell of a pool, so idle
/// cells slow down all calls. Measured with `SmolLM2`: 1,024 cells add about 0.5 ms to a step of 8 ms with one stream.
const MAX_IDLE_CELLS: usize = 1024;

/// Longest sequence that is moved, in tokens. Users do not notice the pause for a copy of that length, which is about 0.1 s with 8 billion
/// parameters.
const MAX_MOVED: usize = 2048;

/// Cached content of one sequence.
#[derive(Debug, Default)]
struct CachedSequence {
    /// Decoded tokens, from position 0 without gaps.
    tokens: Vec<Token>,
    /// Cells of the tokens, one for each token; empty without a pool.
    cells: Vec<Cell>,
    /// Time of the last use, on the cache's own clock.
    last_used: u64,
}

/// Prefixes of prompts in sequences and in saved states. `S` is a saved state.
#[derive(Debug)]
pub(super) struct PrefixCache<S> {
    reuse: Reuse,
    parallel: usize,
    sequences: Vec<CachedSequence>,
    saved: SavedStates<S>,
    /// Pool of cells that all sequences share; `None` if each sequence has cells of its own.
    pool: Option<CellPool>,
    /// Smallest known length, in tokens, of a state that is too large to save.
    too_long: usize,
    /// Shared prefixes of tools, which are pinned.
    shared_prefixes: Vec<Vec<Token>>,
    clock: u64,
}

impl<S> PrefixCache<S> {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            reuse: limits.reuse,
            parallel: limits.parallel,
            sequences: (0..limits.sequences())
                .map(|_| CachedSequence::default())
                .collect(),
            saved: SavedStates::new(limits.cache_bytes),
            pool: limits.is_pool.then(|| CellPool::new(limits.kv_cells)),
            too_long: usize::MAX,
            shared_prefixes: Vec::new(),
            clock: 0,
        }
    }

    /// Returns the number of tokens in `sequence`.
    pub(super) fn tokens_in(&self, sequence: usize) -> usize {
        self.sequences[sequence].tokens.len()
    }

    /// Returns whether prefixes are copied instead of sharing their cells. A prefix must then be saved before another call can use it.
    pub(super) fn copies_prefixes(&self) -> bool {
        self.reuse == Reuse::Copies
    }

    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Replaces the content of `sequence` with the longest reusable prefix of `prompt`. Returns the length of the prefix.
    pub(super) fn reuse_prefix<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        sequence: usize,
        prompt: &[Token],
        is_busy: impl Fn(usize) -> bool,
    ) -> usize {
        let mut prefix = self.best_prefix(decoder, sequence, prompt);
        if let PrefixSource::Sequence(from) = prefix.source
            && self.copies_prefixes()
        {
            // The copy is made from a saved state, which other calls can use, too. If the state is too large to save, another source is best.
            self.save(decoder, from);
            prefix = self.best_prefix(decoder, sequence, prompt);
        }
        let CachedPrefix { source, length, .. } = prefix;
        let is_own = matches!(source, PrefixSource::Own);
        let kept = if is_own { length } else { 0 };
        if kept < self.tokens_in(sequence) {
            self.save_if_worthwhile(decoder, sequence, kept);
        }
        if !is_own {
            self.clear(decoder, sequence);
        }
        let is_there = match source {
            PrefixSource::Own => self.truncate(decoder, sequence, length),
            PrefixSource::Sequence(_) if self.copies_prefixes() => false,
            PrefixSource::Sequence(from) => self.share(decoder, from, sequence, length),
            PrefixSource::Saved => self.restore_longest(decoder, sequence, prompt, &is_busy),
        };
        if !is_there {
            self.forget(decoder, sequence);
        }
        self.sequences[sequence].last_used = self.now();
        self.trim_idle(decoder, is_busy);
        self.tokens_in(sequence)
    }

    /// Saves the state of a sequence if it is valuable, before all but its first `kept` tokens are dropped.
    fn save_if_worthwhile<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        sequence: usize,
        kept: usize,
    ) {
        if self.can_save(self.tokens_in(sequence)) && self.is_valuable(sequence, kept) {
            self.save(decoder, sequence);
        }
    }

    /// Saves the state of a sequence, unless it is saved already. Returns whether it is saved.
    pub(super) fn save<D: Decoder<State = S>>(&mut self, decoder: &mut D, sequence: usize) -> bool {
        let tokens = self.sequences[sequence].tokens.clone();
        let is_pinned = self.shared_prefixes.contains(&tokens);
        if self.saved.contains(&tokens, is_pinned) {
            return true;
        }
        if !self.can_save(tokens.len()) {
            return false;
        }
        // Check the size before copying the state.
        if !self.saved.fits(decoder.saved_bytes(sequence)) {
            self.too_long = tokens.len();
            return false;
        }
        let can_truncate = decoder.keeps_all_cells(tokens.len());
        let Some((state, bytes)) = decoder.save(sequence) else {
            return false;
        };
        let state = SavedState {
            state,
            bytes,
            can_truncate,
        };
        let now = self.now();
        self.saved.insert(tokens.clone(), state, now);
        self.saved.contains(&tokens, is_pinned)
    }

    /// Returns whether another call can reuse a prefix of `tokens` tokens, in the same cells or as a saved state.
    pub(super) fn can_share_prefix(&self, tokens: usize) -> bool {
        self.reuse == Reuse::Cells || self.can_save(tokens)
    }

    /// Returns whether a state of `tokens` tokens can be saved, as far as is known.
    pub(super) fn can_save(&self, tokens: usize) -> bool {
        self.reuse != Reuse::Nothing && self.saved.is_enabled() && tokens < self.too_long
    }

    fn share<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        from: usize,
        sequence: usize,
        length: usize,
    ) -> bool {
        let is_shared = decoder.share(from, sequence, length);
        if is_shared {
            let tokens = self.sequences[from].tokens[..length].to_vec();
            let cells = self.sequences[from].cells.iter().take(length);
            let cells: Vec<Cell> = cells.copied().collect();
            if let Some(pool) = &mut self.pool {
                pool.share(&cells);
            }
            self.sequences[from].last_used = self.now();
            let held = &mut self.sequences[sequence];
            (held.tokens, held.cells) = (tokens, cells);
        }
        is_shared
    }

    /// Restores the saved state with the longest prefix of `prompt` to an empty sequence, and truncates the sequence to that prefix. Returns
    /// whether that succeeded.
    fn restore_longest<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        sequence: usize,
        prompt: &[Token],
        is_busy: impl Fn(usize) -> bool,
    ) -> bool {
        let Some(longest) = self.saved.longest_prefix(prompt) else {
            return false;
        };
        let rows = self.saved.tokens(longest.state).len();
        // Pinned sequences are not evicted for the state, which may be longer than the prefix that is kept.
        self.ensure_free_cells(decoder, rows, is_busy, false);
        // Evicted sequences may have been saved, and the list of states has changed.
        let Some(longest) = self.saved.longest_prefix(prompt) else {
            return false;
        };
        let now = self.now();
        let (state, tokens) = self.saved.get(longest.state, now);
        let is_small = self
            .pool
            .as_ref()
            .is_none_or(|pool| tokens.len() <= pool.free());
        let tokens = tokens.to_vec();
        if !is_small {
            return false;
        }
        if !decoder.restore(sequence, state) {
            self.saved.remove(longest.state);
            return false;
        }
        self.append(sequence, tokens.into_iter());
        self.truncate(decoder, sequence, longest.length)
    }

    /// Returns whether a sequence is short enough to be moved.
    pub(super) fn can_move(&self, sequence: usize) -> bool {
        self.pool.is_none() && self.tokens_in(sequence) <= MAX_MOVED
    }

    /// Moves the content of the sequence `from` to the idle sequence `to`, and valuable content of `to` back to `from`. Returns whether the
    /// content moved.
    pub(super) fn move_to<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        from: usize,
        to: usize,
    ) -> bool {
        if !self.can_move(from) {
            return false;
        }
        let Some((state, _)) = decoder.save(from) else {
            return false;
        };
        let is_swapped =
            self.is_valuable(to, 0) && self.tokens_in(from) + self.tokens_in(to) <= MAX_MOVED;
        let back = is_swapped.then(|| decoder.save(to)).flatten();
        if back.is_some() {
            decoder.clear(to);
        } else {
            self.save_if_worthwhile(decoder, to, 0);
            self.clear(decoder, to);
        }
        if !decoder.restore(to, &state) {
            self.forget(decoder, to);
            return false;
        }
        decoder.clear(from);
        self.sequences.swap(from, to);
        if let Some((state, _)) = back
            && !decoder.restore(from, &state)
        {
            self.forget(decoder, from);
        }
        true
    }

    /// Truncates a sequence to its first `length` tokens. Returns whether the decoder could.
    fn truncate<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        sequence: usize,
        length: usize,
    ) -> bool {
        if length == 0 {
            self.clear(decoder, sequence);
        }
        if length < self.tokens_in(sequence) {
            if !decoder.truncate(sequence, length) {
                return false;
            }
            let held = &mut self.sequences[sequence];
            held.tokens.truncate(length);
            let cells = held.cells.drain(length.min(held.cells.len())..);
            if let Some(pool) = &mut self.pool {
                pool.release(cells);
            }
        }
        true
    }

    /// Empties a sequence whose content is undefined.
    pub(super) fn forget<D: Decoder<State = S>>(&mut self, decoder: &mut D, sequence: usize) {
        self.clear(decoder, sequence);
        decoder.clear(sequence);
    }

    /// Empties a sequence.
    pub(super) fn clear<D: Decoder<State = S>>(&mut self, decoder: &mut D, sequence: usize) {
        let held = &mut self.sequences[sequence];
        if let Some(pool) = &mut self.pool {
            pool.release(held.cells.drain(..));
        }
        if !std::mem::take(&mut held.tokens).is_empty() {
            decoder.clear(sequence);
        }
    }

    /// Records that `tokens` were appended to a sequence.
    pub(super) fn append(&mut self, sequence: usize, tokens: impl Iterator<Item = Token>) {
        let held = &mut self.sequences[sequence];
        let before = held.tokens.len();
        held.tokens.extend(tokens);
        if let Some(pool) = &mut self.pool {
            let taken = (before..held.tokens.len()).map_while(|_| pool.allocate());
            held.cells.extend(taken);
            debug_assert_eq!(held.cells.len(), held.tokens.len(), "a cell for each token");
        }
    }

    /// Makes a sequence idle after its call has ended.
    pub(super) fn release_sequence<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        sequence: usize,
        is_busy: impl Fn(usize) -> bool,
    ) {
        self.sequences[sequence].last_used = self.now();
        if self.reuse == Reuse::Nothing {
            self.clear(decoder, sequence);
        }
        // Without an active call, idle cells slow nothing down, and the next call may start from them.
        if (0..self.parallel).any(&is_busy) {
            self.trim_idle(decoder, is_busy);
        }
    }

    /// Evicts idle sequences, least recently used first, until they hold at most [`MAX_IDLE_CELLS`].
    fn trim_idle<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        is_busy: impl Fn(usize) -> bool,
    ) {
        while self.idle_cells(&is_busy) > MAX_IDLE_CELLS && self.evict(decoder, &is_busy, false) {}
    }
}
