//! Cells of a pool: how many can be had, and who goes to make room.

use super::Cache;
use crate::engine::decoder::Decoder;
use crate::engine::limits::Reuse;
use crate::engine::prefix::usable;
use crate::engine::prompt::Token;

impl<S> Cache<S> {
    /// Cells that only idle sequences hold.
    pub(super) fn idle_cells(&self, is_busy: impl Fn(usize) -> bool) -> usize {
        let Some(pool) = &self.pool else { return 0 };
        let kept = (0..self.held.len()).filter(|at| is_busy(*at) || *at >= self.parallel);
        pool.without(kept.map(|at| &self.held[at].cells[..])) - pool.free()
    }

    /// Cells that can be had when all goes that no call holds; without a pool there is always enough.
    pub(in crate::engine::scheduler) fn obtainable(
        &self,
        is_busy: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let busy = (0..self.held.len()).filter(|at| is_busy(*at));
        let pool = self.pool.as_ref()?;
        Some(pool.without(busy.map(|at| &self.held[at].cells[..])))
    }

    /// How many of the tokens that a prompt could start from are another call's: they need no cells.
    pub(in crate::engine::scheduler) fn shared_with_busy<D: Decoder<State = S>>(
        &self,
        decoder: &D,
        prompt: &[Token],
        is_busy: impl Fn(usize) -> bool,
    ) -> usize {
        if self.reuse != Reuse::Cells {
            return 0;
        }
        let busy = (0..self.held.len()).filter(|at| is_busy(*at));
        busy.map(|at| usable(&self.held[at].tokens, decoder.can_cut(at), prompt))
            .max()
            .unwrap_or(0)
    }

    /// Lets idle sequences go until `rows` cells are free.
    pub(in crate::engine::scheduler) fn make_room<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        rows: usize,
        is_busy: impl Fn(usize) -> bool,
    ) {
        let lacks = |cache: &Self| cache.pool.as_ref().is_some_and(|pool| pool.free() < rows);
        while lacks(self) && self.evict(decoder, &is_busy, true) {}
    }

    /// Lets the idle sequence go that was used the longest ago, a pinned one only where no other is left and `with_pinned`
    /// says so.
    pub(super) fn evict<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        is_busy: impl Fn(usize) -> bool,
        with_pinned: bool,
    ) -> bool {
        let idle = (0..self.held.len()).filter(|at| {
            !is_busy(*at) && self.held(*at) > 0 && (with_pinned || *at < self.parallel)
        });
        let oldest = idle.min_by_key(|at| (*at >= self.parallel, self.held[*at].used));
        let Some(oldest) = oldest else { return false };
        self.rescue(decoder, oldest, 0);
        self.clear(decoder, oldest);
        true
    }
}
