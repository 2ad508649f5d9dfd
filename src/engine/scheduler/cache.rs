//! What the decoder's sequences hold, and what was saved of them: where a prompt starts, and what goes to make room.
//!
//! Owned by the scheduler, which alone changes it. A sequence keeps its tokens after its call (idle) until another call needs
//! it; what is worth it is saved to memory then. Prompts that stand fixed in tools are decoded while nothing else is to be done,
//! and pinned: in sequences of their own where cells are shared, else as saved states.

mod room;
mod warm;

use super::super::decoder::Decoder;
use super::super::limits::{Limits, Reuse};
use super::super::prefix::cells::{Cell, Cells};
use super::super::prefix::saved::Saved;
use super::super::prefix::{
    Candidate, MIN_GAIN, choose, common, is_worth_cells, is_worth_saving, usable,
};
use super::super::prompt::Token;

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

/// Where a prompt can start from.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// What its sequence holds.
    Own,
    /// Another sequence.
    Sequence(usize),
    /// A saved state.
    Saved,
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

    /// The sequence in which a prompt is best decoded, of those that are free.
    pub(super) fn choose<D: Decoder<State = S>>(
        &self,
        decoder: &D,
        prompt: &[Token],
        is_free: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let free = (0..self.parallel).filter(|sequence| is_free(*sequence));
        let is_busy = |at: usize| at < self.parallel && !is_free(at);
        let none_is_busy = !(0..self.parallel).any(is_busy);
        choose(free.map(|sequence| {
            let is_beside = is_busy(sequence + 1) || (sequence > 0 && is_busy(sequence - 1));
            let held = &self.held[sequence];
            let usable = usable(&held.tokens, decoder.can_cut(sequence), prompt);
            Candidate {
                sequence,
                held: held.tokens.len(),
                usable,
                is_valuable: self.is_valuable(sequence, usable),
                is_beside: none_is_busy || is_beside,
                used: held.used,
            }
        }))
    }

    /// Whether what is lost with all but the first `kept` tokens of a sequence is worth saving.
    fn is_valuable(&self, sequence: usize, kept: usize) -> bool {
        let tokens = &self.held[sequence].tokens;
        is_worth_saving(tokens.len(), self.elsewhere(sequence, tokens).max(kept))
    }

    /// The longest prefix of `tokens` that lies anywhere but in `sequence`.
    fn elsewhere(&self, sequence: usize, tokens: &[Token]) -> usize {
        let others = self.held.iter().enumerate();
        others
            .filter(|(other, _)| *other != sequence)
            .map(|(_, held)| common(&held.tokens, tokens))
            .fold(self.saved.shared(tokens), usize::max)
    }

    /// The longest prefix of `prompt` that lies anywhere, of use now or not.
    pub(super) fn known(&self, prompt: &[Token]) -> usize {
        self.elsewhere(usize::MAX, prompt)
    }

    /// How many tokens `prompt` could start from in `sequence` now.
    pub(super) fn available<D: Decoder<State = S>>(
        &self,
        decoder: &D,
        sequence: usize,
        prompt: &[Token],
    ) -> usize {
        self.source(decoder, sequence, prompt).1
    }

    fn source<D: Decoder<State = S>>(
        &self,
        decoder: &D,
        sequence: usize,
        prompt: &[Token],
    ) -> (Source, usize) {
        if self.reuse == Reuse::Nothing {
            return (Source::Own, 0);
        }
        let of = |at: usize, can_cut| usable(&self.held[at].tokens, can_cut, prompt);
        let others = (0..self.held.len()).filter(|other| *other != sequence);
        let others = others.map(|other| {
            let can_cut = match self.reuse {
                Reuse::Copies => decoder.can_cut_saved(self.held(other)),
                _ => decoder.can_cut(other),
            };
            (Source::Sequence(other), of(other, can_cut))
        });
        let own = (Source::Own, of(sequence, decoder.can_cut(sequence)));
        let longer = |one: (Source, usize), other: (Source, usize)| {
            if other.1 >= one.1 + MIN_GAIN {
                other
            } else {
                one
            }
        };
        let other = others.max_by_key(|(_, length)| *length);
        let saved = self.saved.longest(prompt).map_or(0, |(_, length)| length);
        let is_of_use = match (self.reuse, other) {
            // A copy takes cells of its own, at which every step of every call looks, where a sequence's cells are shared.
            (Reuse::Cells, Some((_, shared))) => is_worth_cells(saved, shared.max(own.1)),
            // A saved state needs one copy, a sequence two.
            (_, Some((_, length))) => saved >= length,
            (_, None) => true,
        };
        match other {
            _ if is_of_use => longer(own, (Source::Saved, saved)),
            Some(other) => longer(own, other),
            None => own,
        }
    }

    /// Lets `sequence` hold the longest prefix of `prompt` that can be had, and nothing else: its length.
    pub(super) fn begin<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        sequence: usize,
        prompt: &[Token],
        is_busy: impl Fn(usize) -> bool,
    ) -> usize {
        let (source, length) = self.source(decoder, sequence, prompt);
        let kept = if matches!(source, Source::Own) {
            length
        } else {
            0
        };
        if kept < self.held(sequence) {
            self.rescue(decoder, sequence, kept);
        }
        let is_there = match source {
            Source::Own => self.cut(decoder, sequence, length),
            Source::Sequence(from) if self.reuse == Reuse::Cells => {
                self.clear(decoder, sequence);
                self.share(decoder, from, sequence, length)
            }
            // By way of a saved state, which stays for others.
            Source::Sequence(from) => {
                self.clear(decoder, sequence);
                self.save(decoder, from)
                    && self.restore_longest(decoder, sequence, prompt, &is_busy)
            }
            Source::Saved => {
                self.clear(decoder, sequence);
                self.restore_longest(decoder, sequence, prompt, &is_busy)
            }
        };
        if !is_there {
            self.clear(decoder, sequence);
        }
        self.held[sequence].used = self.now();
        self.trim(decoder, is_busy);
        self.held(sequence)
    }

    /// Saves what a sequence holds if that is worth it: all but its first `kept` tokens are about to go.
    fn rescue<D: Decoder<State = S>>(&mut self, decoder: &mut D, sequence: usize, kept: usize) {
        let can_save = self.reuse != Reuse::Nothing && self.saved.has_room();
        if can_save && self.is_valuable(sequence, kept) {
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
        let can_cut = decoder.can_cut_saved(tokens.len());
        let Some((state, bytes)) = decoder.save(sequence) else {
            return false;
        };
        let now = self.now();
        self.saved.keep(tokens.clone(), state, bytes, can_cut, now);
        self.saved.has(&tokens, is_pinned)
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
        self.make_room(decoder, rows, is_busy);
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

    /// Moves what a sequence holds to another one that is free, and what is worth it of that one back; false where it stays.
    pub(super) fn move_to<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        from: usize,
        to: usize,
    ) -> bool {
        if self.pool.is_some() || self.held(from) > MAX_MOVED {
            return false;
        }
        let Some((state, _)) = decoder.save(from) else {
            return false;
        };
        let is_swapped = self.is_valuable(to, 0) && self.held(to) <= MAX_MOVED;
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
