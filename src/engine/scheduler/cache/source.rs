//! Chooses the sequence in which a prompt is decoded, and the cached prefix from which it starts.

use super::PrefixCache;
use crate::engine::decoder::Decoder;
use crate::engine::limits::Reuse;
use crate::engine::prefix::{
    Candidate, MIN_GAIN, PrefixLengths, SourceKind, choose_sequence, choose_source,
    common_prefix_len, is_worth_copying, is_worth_saving, reusable_len,
};
use crate::engine::token::Token;

/// Source of the cached prefix from which a prompt starts.
#[derive(Debug, Clone, Copy)]
pub(super) enum PrefixSource {
    /// The sequence of the prompt.
    Own,
    /// Another sequence, with this index.
    Sequence(usize),
    /// A state that was saved from a sequence.
    Saved,
}

/// A cached prefix that a prompt can start from.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine::scheduler) struct CachedPrefix {
    pub(super) source: PrefixSource,
    /// Length of the prefix, in tokens.
    pub(in crate::engine::scheduler) length: usize,
    /// Whether its reuse requires a copy.
    pub(in crate::engine::scheduler) is_copied: bool,
}

impl<S> PrefixCache<S> {
    /// Returns the best free sequence for `prompt`, or `None` if no sequence is free.
    pub(in crate::engine::scheduler) fn choose_sequence<D: Decoder<State = S>>(
        &self,
        decoder: &D,
        prompt: &[Token],
        is_free: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let free = (0..self.parallel).filter(|sequence| is_free(*sequence));
        let is_busy = |at: usize| at < self.parallel && !is_free(at);
        let none_is_busy = !(0..self.parallel).any(is_busy);
        choose_sequence(free.map(|sequence| {
            let is_adjacent = is_busy(sequence + 1) || (sequence > 0 && is_busy(sequence - 1));
            let held = &self.sequences[sequence];
            let reusable = reusable_len(&held.tokens, decoder.can_truncate(sequence), prompt);
            Candidate {
                sequence,
                held: held.tokens.len(),
                reusable,
                is_valuable: reusable >= MIN_GAIN && self.is_valuable(sequence, reusable),
                // In a pool the order of sequences does not matter.
                is_adjacent: self.pool.is_some() || none_is_busy || is_adjacent,
                last_used: held.last_used,
            }
        }))
    }

    /// Returns whether a sequence is worth saving before all but its first `kept` tokens are dropped.
    pub(super) fn is_valuable(&self, sequence: usize, kept: usize) -> bool {
        let tokens = &self.sequences[sequence].tokens;
        is_worth_saving(
            tokens.len(),
            self.cached_elsewhere(sequence, tokens).max(kept),
        )
    }

    /// Returns the length of the longest prefix of `tokens` that is cached outside `sequence`.
    fn cached_elsewhere(&self, sequence: usize, tokens: &[Token]) -> usize {
        let others = self.sequences.iter().enumerate();
        others
            .filter(|(other, _)| *other != sequence)
            .map(|(_, held)| common_prefix_len(&held.tokens, tokens))
            .fold(self.saved.longest_common_prefix(tokens), usize::max)
    }

    /// Returns the length of the longest cached prefix of `prompt`, whether or not it can be reused.
    pub(in crate::engine::scheduler) fn longest_cached(&self, prompt: &[Token]) -> usize {
        self.cached_elsewhere(usize::MAX, prompt)
    }

    /// Returns the best cached prefix for `prompt` in `sequence`.
    pub(in crate::engine::scheduler) fn best_prefix<D: Decoder<State = S>>(
        &self,
        decoder: &D,
        sequence: usize,
        prompt: &[Token],
    ) -> CachedPrefix {
        if self.reuse == Reuse::Nothing {
            return CachedPrefix {
                source: PrefixSource::Own,
                length: 0,
                is_copied: false,
            };
        }
        let own = reusable_len(
            &self.sequences[sequence].tokens,
            decoder.can_truncate(sequence),
            prompt,
        );
        let others = (0..self.sequences.len()).filter(|other| *other != sequence);
        let others = others.filter_map(|other| {
            let length = self.reusable_len_of(decoder, other, prompt);
            let is_useful = !self.copies_prefixes() || self.is_worth_copying(other, length, own);
            is_useful.then_some((other, length))
        });
        let other = others.max_by_key(|(_, length)| *length);
        let saved = self
            .saved
            .longest_prefix(prompt)
            .map_or(0, |prefix| prefix.length);
        let in_pool = self.reuse == Reuse::Cells;
        let lengths = PrefixLengths {
            own,
            other: other.map_or(0, |(_, length)| length),
            saved,
        };
        let (start, length) = choose_source(lengths, in_pool);
        let source = match (start, other) {
            (SourceKind::Other, Some((other, _))) => PrefixSource::Sequence(other),
            (SourceKind::Saved, _) => PrefixSource::Saved,
            (SourceKind::Own | SourceKind::Other, _) => PrefixSource::Own,
        };
        let is_copied = match source {
            PrefixSource::Own => false,
            PrefixSource::Sequence(_) => self.copies_prefixes(),
            PrefixSource::Saved => true,
        };
        CachedPrefix {
            source,
            length,
            is_copied,
        }
    }

    fn reusable_len_of<D: Decoder<State = S>>(
        &self,
        decoder: &D,
        other: usize,
        prompt: &[Token],
    ) -> usize {
        let can_truncate = if self.copies_prefixes() {
            decoder.keeps_all_cells(self.tokens_in(other))
        } else {
            decoder.can_truncate(other)
        };
        reusable_len(&self.sequences[other].tokens, can_truncate, prompt)
    }

    fn is_worth_copying(&self, other: usize, length: usize, own: usize) -> bool {
        let held = self.tokens_in(other);
        self.can_save(held) && is_worth_copying(held, length, own)
    }
}
