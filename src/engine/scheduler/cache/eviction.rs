//! Counts the cells of a pool that can be freed, and evicts idle sequences.

use super::PrefixCache;
use super::source::PrefixSource;
use crate::engine::decoder::Decoder;
use crate::engine::limits::Reuse;
use crate::engine::prefix::cells::Cell;
use crate::engine::token::Token;

impl<S> PrefixCache<S> {
    /// Returns the number of cells that only idle sequences hold.
    pub(super) fn idle_cells(&self, is_busy: impl Fn(usize) -> bool) -> usize {
        let Some(pool) = &self.pool else { return 0 };
        let kept = (0..self.sequences.len()).filter(|at| is_busy(*at) || *at >= self.parallel);
        pool.count_outside(kept.map(|at| &self.sequences[at].cells[..])) - pool.free()
    }

    /// Returns the existing cells that `prompt` would reuse in `sequence`; empty if its prefix would be copied.
    pub(in crate::engine::scheduler) fn reused_cells<D: Decoder<State = S>>(
        &self,
        decoder: &D,
        sequence: usize,
        prompt: &[Token],
    ) -> &[Cell] {
        let prefix = self.best_prefix(decoder, sequence, prompt);
        let at = match prefix.source {
            PrefixSource::Own => sequence,
            PrefixSource::Sequence(from) if self.reuse == Reuse::Cells => from,
            _ => return &[],
        };
        self.sequences[at]
            .cells
            .get(..prefix.length)
            .unwrap_or_default()
    }

    /// Returns whether a call of `total` tokens that reuses the cells `start` can be admitted. `promised` cells are reserved for active
    /// calls but not used yet. Cells that neither an active call nor this one holds can be evicted. Without a pool there are always enough.
    ///
    /// Example: a pool has 200 cells, an active call uses 60 of them and 30 more are promised to it, and `start` has 20 other cells. Then a
    /// call of 110 tokens fits (30 + 110 − 20 = 120 = 200 − 60 − 20), but one of 111 does not.
    pub(in crate::engine::scheduler) fn has_cells(
        &self,
        start: &[Cell],
        total: usize,
        promised: usize,
        is_busy: impl Fn(usize) -> bool,
    ) -> bool {
        let Some(pool) = &self.pool else { return true };
        let busy = (0..self.sequences.len()).filter(|at| is_busy(*at));
        let busy = busy.map(|at| &self.sequences[at].cells[..]);
        promised + total - start.len() <= pool.count_outside(busy.chain([start]))
    }

    /// Evicts idle sequences until `rows` cells are free, pinned ones only if `with_pinned`.
    pub(in crate::engine::scheduler) fn ensure_free_cells<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        rows: usize,
        is_busy: impl Fn(usize) -> bool,
        with_pinned: bool,
    ) {
        let lacks = |cache: &Self| cache.pool.as_ref().is_some_and(|pool| pool.free() < rows);
        while lacks(self) && self.evict(decoder, &is_busy, with_pinned) {}
    }

    /// Evicts the least recently used idle sequence, a pinned one only if no other is left and `with_pinned`. Returns whether a sequence
    /// was evicted.
    pub(super) fn evict<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        is_busy: impl Fn(usize) -> bool,
        with_pinned: bool,
    ) -> bool {
        let idle = (0..self.sequences.len()).filter(|at| {
            !is_busy(*at) && self.tokens_in(*at) > 0 && (with_pinned || *at < self.parallel)
        });
        let oldest = idle.min_by_key(|at| (*at >= self.parallel, self.sequences[*at].last_used));
        let Some(oldest) = oldest else { return false };
        self.save_if_worthwhile(decoder, oldest, 0);
        self.clear(decoder, oldest);
        true
    }
}
