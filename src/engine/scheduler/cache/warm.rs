//! Shared prefixes of tools: decoded while no call is active, and pinned.

use super::super::count;
use super::PrefixCache;
use crate::engine::decoder::{Decoder, Row};
use crate::engine::limits::Reuse;
use crate::engine::prefix::cells::CellPool;
use crate::engine::token::Token;

/// The next rows of a shared prefix to decode.
#[derive(Debug)]
pub(in crate::engine::scheduler) struct WarmRows {
    /// Tokens of the whole prefix.
    pub(in crate::engine::scheduler) prefix: Vec<Token>,
    /// Sequence in which the prefix is decoded.
    pub(in crate::engine::scheduler) sequence: usize,
    /// Rows to decode, at least one.
    pub(in crate::engine::scheduler) rows: Vec<Row>,
}

impl<S> PrefixCache<S> {
    /// Replaces the pinned shared prefixes with those of `prefixes` that fit.
    pub(in crate::engine::scheduler) fn set_shared_prefixes<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        mut prefixes: Vec<Vec<Token>>,
    ) {
        let wanted = prefixes.len();
        match self.reuse {
            Reuse::Nothing => return,
            Reuse::Copies if self.saved.is_enabled() => self.saved.pin_only(&prefixes),
            Reuse::Copies => prefixes.clear(),
            Reuse::Cells => {
                // At most half of the cells: otherwise calls and shared prefixes would keep evicting each other.
                let mut left = self.pool.as_ref().map_or(0, CellPool::len) / 2;
                prefixes.retain(|tokens| {
                    let fits = tokens.len() <= left;
                    left -= if fits { tokens.len() } else { 0 };
                    fits
                });
                prefixes.truncate(self.sequences.len() - self.parallel);
            }
        }
        if prefixes.len() < wanted {
            let (kept, cells) = (prefixes.len(), self.pool.as_ref().map(CellPool::len));
            tracing::info!(
                wanted,
                kept,
                cells,
                "not all shared prefixes of tools fit in the prefix cache; raise `kv_cells` or `cache_ram`"
            );
        }
        self.shared_prefixes = prefixes;
        // The pinned states have changed, so a state of any length may fit again.
        self.too_long = usize::MAX;
        for at in self.parallel..self.sequences.len() {
            let is_kept = |prefix: &Vec<Token>| prefix.starts_with(&self.sequences[at].tokens);
            if !self.shared_prefixes.iter().any(is_kept) {
                self.clear(decoder, at);
            }
        }
    }

    /// Returns the lengths of the shared prefixes that `prompt` begins with and that have yet to be saved.
    pub(in crate::engine::scheduler) fn unsaved_shared_prefixes(
        &self,
        prompt: &[Token],
    ) -> impl Iterator<Item = usize> {
        let wanted = self.shared_prefixes.iter().filter(|prefix| {
            self.reuse == Reuse::Copies
                && prompt.len() > prefix.len()
                && prompt.starts_with(prefix)
                && self.saved.find(prefix).is_none()
        });
        wanted.map(Vec::len)
    }

    /// Returns whether a shared prefix has yet to be decoded.
    pub(in crate::engine::scheduler) fn has_uncached_prefix(&self) -> bool {
        self.next_uncached().is_some()
    }

    /// Returns the next shared prefix that is not cached yet.
    fn next_uncached(&self) -> Option<&Vec<Token>> {
        let mut prefixes = self.shared_prefixes.iter();
        prefixes.find(|prefix| !self.is_cached(prefix))
    }

    fn is_cached(&self, prefix: &Vec<Token>) -> bool {
        let pinned = &self.sequences[self.parallel..];
        match self.reuse {
            Reuse::Cells => pinned.iter().any(|held| held.tokens == *prefix),
            _ => self.saved.find(prefix).is_some(),
        }
    }

    /// Returns the number of shared prefixes that are cached.
    pub(in crate::engine::scheduler) fn warm_count(&self) -> usize {
        self.shared_prefixes
            .iter()
            .filter(|prefix| self.is_cached(prefix))
            .count()
    }

    /// Returns the next rows of a shared prefix to decode, at most `chunk`. No call may be active, since any sequence may be overwritten.
    /// Returns `None` if all prefixes are cached, or if no sequence of the pool can hold the next one, which is then
    /// dropped.
    pub(in crate::engine::scheduler) fn next_warm_rows<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        chunk: usize,
    ) -> Option<WarmRows> {
        let prefix = self.next_uncached()?.clone();
        let sequence = match self.reuse {
            // The pinned sequence that holds the longest part of the prefix, or an empty one.
            Reuse::Cells => (self.parallel..self.sequences.len())
                .filter(|at| prefix.starts_with(&self.sequences[*at].tokens))
                .filter(|at| !self.shared_prefixes.contains(&self.sequences[*at].tokens))
                .max_by_key(|at| self.tokens_in(*at)),
            _ => self.choose_sequence(decoder, &prefix, |_| true),
        };
        let Some(sequence) = sequence else {
            tracing::info!(
                tokens = prefix.len(),
                "the shared prefix of a tool is not cached: other shared prefixes hold all pinned sequences"
            );
            self.drop_prefix(&prefix);
            return None;
        };
        let start = self.reuse_prefix(decoder, sequence, &prefix, |at| at == sequence);
        let rows = prefix.iter().enumerate().skip(start).take(chunk);
        let rows = rows.map(|(position, token)| Row {
            token: *token,
            position: count(position),
            sequence,
            logits: false,
        });
        Some(WarmRows {
            rows: rows.collect(),
            prefix,
            sequence,
        })
    }

    /// Records that rows of a shared prefix were decoded. Saves the prefix once it is complete, or drops it if it does not fit.
    pub(in crate::engine::scheduler) fn add_warm_rows<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        warm: &WarmRows,
    ) {
        self.append(warm.sequence, warm.rows.iter().map(|row| row.token));
        let decoded = &self.sequences[warm.sequence].tokens;
        let is_whole = self.shared_prefixes.contains(decoded);
        if is_whole && self.copies_prefixes() && !self.save(decoder, warm.sequence) {
            let prefix = self.sequences[warm.sequence].tokens.clone();
            tracing::info!(
                tokens = prefix.len(),
                "the shared prefix of a tool is not cached: it does not fit in `cache_ram`; raise `cache_ram`"
            );
            self.drop_prefix(&prefix);
        }
    }

    /// Drops a shared prefix for good, since it cannot be cached.
    pub(in crate::engine::scheduler) fn drop_prefix(&mut self, prefix: &[Token]) {
        self.shared_prefixes.retain(|known| known != prefix);
    }
}
