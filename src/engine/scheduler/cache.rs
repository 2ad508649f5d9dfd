//! What the decoder's sequences hold, and what was saved of them: where a prompt starts, and what goes to make room.
//!
//! Owned by the scheduler, which alone changes it. A sequence keeps its tokens after its call (idle) until another call needs
//! it; what is worth it is saved to memory then. Prompts that stand fixed in tools are decoded while nothing else is to be done,
//! and pinned: in sequences of their own where cells are shared, else as saved states.

mod eviction;
mod source;
mod warm;

use super::super::decoder::Decoder;
use super::super::limits::{Limits, Reuse};
use super::super::prefix::cells::{Cell, Cells};
use super::super::prefix::saved::Saved;
use super::super::token::Token;
use source::Source;

/// Idle cells that a pool keeps beside those that calls and tools hold: attention looks at every cell of a pool, so more would
/// slow all down. Measured with `SmolLM2`: 1,024 cells cost a step of one stream about 0.5 ms of 8.
const MAX_IDLE_CELLS: usize = 1024;

/// Tokens of a sequence that is moved, at most: as copying them takes no longer than what readers see of a pause (about 0.1 s
/// for 8 billion parameters).
const MAX_MOVED: usize = 2048;

/// What one sequence holds.
#[derive(Debug, Default)]
struct Held {
    /// Decoded, from position 0 without gaps.
    tokens: Vec<Token>,
    /// Its cells, where all share a pool: as many.
    cells: Vec<Cell>,
    /// When it was used last.
    used: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cache<S> {
    reuse: Reuse,
    parallel: usize,
    held: Vec<Held>,
    saved: Saved<S>,
    /// The pool; none where each sequence has cells of its own.
    pool: Option<Cells>,
    /// From how many tokens on states are known to be too large to be kept.
    too_long: usize,
    /// Prompts to be kept decoded.
    fixed: Vec<Vec<Token>>,
    clock: u64,
}

impl<S> Cache<S> {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            reuse: limits.reuse,
            parallel: limits.parallel,
            held: (0..limits.sequences()).map(|_| Held::default()).collect(),
            saved: Saved::new(limits.cache_bytes),
            pool: limits.is_pool.then(|| Cells::new(limits.kv_cells)),
            too_long: usize::MAX,
            fixed: Vec::new(),
            clock: 0,
        }
    }

    /// Tokens that a sequence holds.
    pub(super) fn held(&self, sequence: usize) -> usize {
        self.held[sequence].tokens.len()
    }

    /// Whether prompts are copied rather than their cells shared: then a state must be saved where others want to start.
    pub(super) fn copies(&self) -> bool {
        self.reuse == Reuse::Copies
    }

    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Lets `sequence` hold the longest prefix of `prompt` that can be had, and nothing else: its length.
    pub(super) fn begin<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        sequence: usize,
        prompt: &[Token],
        is_busy: impl Fn(usize) -> bool,
    ) -> usize {
        let (mut source, mut length) = self.source(decoder, sequence, prompt);
        if let Source::Sequence(from) = source
            && self.copies()
        {
            // By way of a saved state, which stays for others; where it is too large something else is better.
            self.save(decoder, from);
            (source, length) = self.source(decoder, sequence, prompt);
        }
        let is_own = matches!(source, Source::Own);
        let kept = if is_own { length } else { 0 };
        if kept < self.held(sequence) {
            self.rescue(decoder, sequence, kept);
        }
        if !is_own {
            self.clear(decoder, sequence);
        }
        let is_there = match source {
            Source::Own => self.cut(decoder, sequence, length),
            Source::Sequence(_) if self.copies() => false,
            Source::Sequence(from) => self.share(decoder, from, sequence, length),
            Source::Saved => self.restore_longest(decoder, sequence, prompt, &is_busy),
        };
        if !is_there {
            self.forget(decoder, sequence);
        }
        self.held[sequence].used = self.now();
        self.trim(decoder, is_busy);
        self.held(sequence)
    }

    /// Saves what a sequence holds if that is worth it: all but its first `kept` tokens are about to go.
    fn rescue<D: Decoder<State = S>>(&mut self, decoder: &mut D, sequence: usize, kept: usize) {
        if self.can_keep(self.held(sequence)) && self.is_valuable(sequence, kept) {
            self.save(decoder, sequence);
        }
    }

    /// Saves the state of a sequence as it is; whether it is there now.
    pub(super) fn save<D: Decoder<State = S>>(&mut self, decoder: &mut D, sequence: usize) -> bool {
        let tokens = self.held[sequence].tokens.clone();
        let is_pinned = self.fixed.contains(&tokens);
        if self.saved.has(&tokens, is_pinned) {
            return true;
        }
        if !self.can_keep(tokens.len()) {
            return false;
        }
        // What is too large is not copied first.
        if !self.saved.fits(decoder.saved_bytes(sequence)) {
            self.too_long = tokens.len();
            return false;
        }
        let can_cut = decoder.can_cut_saved(tokens.len());
        let Some((state, bytes)) = decoder.save(sequence) else {
            return false;
        };
        let now = self.now();
        self.saved.keep(tokens.clone(), state, bytes, can_cut, now);
        self.saved.has(&tokens, is_pinned)
    }

    /// Whether what one call decodes, of so many tokens, can be had by another: in the same cells, or as a state.
    pub(super) fn can_hand_over(&self, tokens: usize) -> bool {
        self.reuse == Reuse::Cells || self.can_keep(tokens)
    }

    /// Whether a state of so many tokens can be kept, as far as that is known.
    pub(super) fn can_keep(&self, tokens: usize) -> bool {
        self.reuse != Reuse::Nothing && self.saved.has_room() && tokens < self.too_long
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
            let tokens = self.held[from].tokens[..length].to_vec();
            let cells = self.held[from].cells.iter().take(length);
            let cells: Vec<Cell> = cells.copied().collect();
            if let Some(pool) = &mut self.pool {
                pool.share(&cells);
            }
            self.held[from].used = self.now();
            let held = &mut self.held[sequence];
            (held.tokens, held.cells) = (tokens, cells);
        }
        is_shared
    }

    /// Copies the saved state that has the longest prefix of `prompt` to an empty sequence, and cuts it to that.
    fn restore_longest<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        sequence: usize,
        prompt: &[Token],
        is_busy: impl Fn(usize) -> bool,
    ) -> bool {
        let Some((at, _)) = self.saved.longest(prompt) else {
            return false;
        };
        let rows = self.saved.tokens(at).len();
        // Tools' prompts do not go for it: more may be restored than is kept.
        self.make_room(decoder, rows, is_busy, false);
        // Others may have been saved to make room.
        let Some((at, length)) = self.saved.longest(prompt) else {
            return false;
        };
        let now = self.now();
        let (state, tokens) = self.saved.get(at, now);
        let is_small = self
            .pool
            .as_ref()
            .is_none_or(|pool| tokens.len() <= pool.free());
        let tokens = tokens.to_vec();
        if !is_small {
            return false;
        }
        if !decoder.restore(sequence, state) {
            self.saved.remove(at);
            return false;
        }
        self.decoded(sequence, tokens.into_iter());
        self.cut(decoder, sequence, length)
    }

    /// Whether what a sequence holds is short enough to be moved.
    pub(super) fn can_move(&self, sequence: usize) -> bool {
        self.pool.is_none() && self.held(sequence) <= MAX_MOVED
    }

    /// Moves what a sequence holds to another one that is free, and what is worth it of that one back; false where it stays.
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
        let is_swapped = self.is_valuable(to, 0) && self.held(from) + self.held(to) <= MAX_MOVED;
        let back = is_swapped.then(|| decoder.save(to)).flatten();
        if back.is_some() {
            decoder.clear(to);
        } else {
            self.rescue(decoder, to, 0);
            self.clear(decoder, to);
        }
        if !decoder.restore(to, &state) {
            self.forget(decoder, to);
            return false;
        }
        decoder.clear(from);
        self.held.swap(from, to);
        if let Some((state, _)) = back
            && !decoder.restore(from, &state)
        {
            self.forget(decoder, from);
        }
        true
    }

    /// Keeps the first `length` tokens of a sequence.
    fn cut<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        sequence: usize,
        length: usize,
    ) -> bool {
        if length == 0 {
            self.clear(decoder, sequence);
        }
        if length < self.held(sequence) {
            if !decoder.cut(sequence, length) {
                return false;
            }
            let held = &mut self.held[sequence];
            held.tokens.truncate(length);
            let cells = held.cells.drain(length.min(held.cells.len())..);
            if let Some(pool) = &mut self.pool {
                pool.release(cells);
            }
        }
        true
    }

    /// Empties a sequence of which is not known what it holds.
    pub(super) fn forget<D: Decoder<State = S>>(&mut self, decoder: &mut D, sequence: usize) {
        self.clear(decoder, sequence);
        decoder.clear(sequence);
    }

    /// Empties a sequence.
    pub(super) fn clear<D: Decoder<State = S>>(&mut self, decoder: &mut D, sequence: usize) {
        let held = &mut self.held[sequence];
        if let Some(pool) = &mut self.pool {
            pool.release(held.cells.drain(..));
        }
        if !std::mem::take(&mut held.tokens).is_empty() {
            decoder.clear(sequence);
        }
    }

    /// A sequence holds these tokens too.
    pub(super) fn decoded(&mut self, sequence: usize, tokens: impl Iterator<Item = Token>) {
        let held = &mut self.held[sequence];
        let before = held.tokens.len();
        held.tokens.extend(tokens);
        if let Some(pool) = &mut self.pool {
            let taken = (before..held.tokens.len()).map_while(|_| pool.take());
            held.cells.extend(taken);
            debug_assert_eq!(held.cells.len(), held.tokens.len(), "a cell for each token");
        }
    }

    /// A call has left its sequence.
    pub(super) fn finish<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        sequence: usize,
        is_busy: impl Fn(usize) -> bool,
    ) {
        self.held[sequence].used = self.now();
        if self.reuse == Reuse::Nothing {
            self.clear(decoder, sequence);
        }
        // What the last call has left costs nothing until the next one begins, and may be what it starts from.
        if (0..self.parallel).any(&is_busy) {
            self.trim(decoder, is_busy);
        }
    }

    /// Lets the oldest idle sequences go where they hold more cells than those at work should look at.
    fn trim<D: Decoder<State = S>>(&mut self, decoder: &mut D, is_busy: impl Fn(usize) -> bool) {
        while self.idle_cells(&is_busy) > MAX_IDLE_CELLS && self.evict(decoder, &is_busy, false) {}
    }
}
