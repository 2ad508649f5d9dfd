//! Where a prompt can start from: which sequence it is best decoded in, and which of all tokens that lie anywhere it finds there.

use super::Cache;
use crate::engine::decoder::Decoder;
use crate::engine::limits::Reuse;
use crate::engine::prefix::{
    Candidate, MIN_GAIN, Start, best, choose, common, is_worth_copying, is_worth_saving, usable,
};
use crate::engine::token::Token;

/// Where a prompt can start from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// What its sequence holds.
    Own,
    /// Another sequence.
    Sequence(usize),
    /// A saved state.
    Saved,
}

impl<S> Cache<S> {
    /// The sequence in which a prompt is best decoded, of those that are free.
    pub(in crate::engine::scheduler) fn choose<D: Decoder<State = S>>(
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
                is_valuable: usable >= MIN_GAIN && self.is_valuable(sequence, usable),
                // In a pool the numbers of sequences do not matter.
                is_beside: self.pool.is_some() || none_is_busy || is_beside,
                used: held.used,
            }
        }))
    }

    /// Whether what is lost with all but the first `kept` tokens of a sequence is worth saving.
    pub(super) fn is_valuable(&self, sequence: usize, kept: usize) -> bool {
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
    pub(in crate::engine::scheduler) fn known(&self, prompt: &[Token]) -> usize {
        self.elsewhere(usize::MAX, prompt)
    }

    /// How many tokens `prompt` could start from in `sequence` now, and whether they were copied there.
    pub(in crate::engine::scheduler) fn available<D: Decoder<State = S>>(
        &self,
        decoder: &D,
        sequence: usize,
        prompt: &[Token],
    ) -> (usize, bool) {
        let (source, length) = self.source(decoder, sequence, prompt);
        let is_copied = match source {
            Source::Own => false,
            Source::Sequence(_) => self.copies(),
            Source::Saved => true,
        };
        (length, is_copied)
    }

    /// Where `prompt` best starts from in `sequence`, and how many tokens it finds there.
    pub(super) fn source<D: Decoder<State = S>>(
        &self,
        decoder: &D,
        sequence: usize,
        prompt: &[Token],
    ) -> (Source, usize) {
        if self.reuse == Reuse::Nothing {
            return (Source::Own, 0);
        }
        let own = usable(
            &self.held[sequence].tokens,
            decoder.can_cut(sequence),
            prompt,
        );
        let others = (0..self.held.len()).filter(|other| *other != sequence);
        let others = others.filter_map(|other| {
            let length = self.usable_of_other(decoder, other, prompt);
            let is_of_use = !self.copies() || self.is_worth_copying(other, length, own);
            is_of_use.then_some((other, length))
        });
        let other = others.max_by_key(|(_, length)| *length);
        let saved = self.saved.longest(prompt).map_or(0, |(_, length)| length);
        let in_pool = self.reuse == Reuse::Cells;
        let of_other = other.map_or(0, |(_, length)| length);
        let (start, length) = best(own, of_other, saved, in_pool);
        let source = match (start, other) {
            (Start::Other, Some((other, _))) => Source::Sequence(other),
            (Start::Saved, _) => Source::Saved,
            (Start::Own | Start::Other, _) => Source::Own,
        };
        (source, length)
    }

    fn usable_of_other<D: Decoder<State = S>>(
        &self,
        decoder: &D,
        other: usize,
        prompt: &[Token],
    ) -> usize {
        let can_cut = if self.copies() {
            decoder.can_cut_saved(self.held(other))
        } else {
            decoder.can_cut(other)
        };
        usable(&self.held[other].tokens, can_cut, prompt)
    }

    fn is_worth_copying(&self, other: usize, length: usize, own: usize) -> bool {
        let held = self.held(other);
        self.can_keep(held) && is_worth_copying(held, length, own)
    }
}
