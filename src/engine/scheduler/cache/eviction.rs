//! Cells of a pool: how many can be had, and who goes to make room.

use super::Cache;
use super::source::Source;
use crate::engine::decoder::Decoder;
use crate::engine::limits::Reuse;
use crate::engine::prefix::cells::Cell;
use crate::engine::token::Token;

impl<S> Cache<S> {
    /// Cells that only idle sequences hold.
    pub(super) fn idle_cells(&self, is_busy: impl Fn(usize) -> bool) -> usize {
        let Some(pool) = &self.pool else { return 0 };
        let kept = (0..self.held.len()).filter(|at| is_busy(*at) || *at >= self.parallel);
        pool.without(kept.map(|at| &self.held[at].cells[..])) - pool.free()
    }

    /// The cells, of those that are there, in which `prompt` would start in `sequence`; copies take new ones.
    pub(in crate::engine::scheduler) fn start<D: Decoder<State = S>>(
        &self,
        decoder: &D,
        sequence: usize,
        prompt: &[Token],
    ) -> &[Cell] {
        let (source, length) = self.source(decoder, sequence, prompt);
        let at = match source {
            Source::Own => sequence,
            Source::Sequence(from) if self.reuse == Reuse::Cells => from,
            _ => return &[],
        };
        self.held[at].cells.get(..length).unwrap_or_default()
    }

    /// Whether the cells of a call of `total` tokens that begin in the cells `start` can be had, beside those that are `promised` to
    /// the calls at work: all may go that neither they nor it hold. Without a pool there are always enough.
    pub(in crate::engine::scheduler) fn has_cells(
        &self,
        start: &[Cell],
        total: usize,
        promised: usize,
        is_busy: impl Fn(usize) -> bool,
    ) -> bool {
        let Some(pool) = &self.pool else { return true };
        let busy = (0..self.held.len()).filter(|at| is_busy(*at));
        let busy = busy.map(|at| &self.held[at].cells[..]);
        promised + total - start.len() <= pool.without(busy.chain([start]))
    }

    /// Lets idle sequences go until `rows` cells are free; pinned ones only where `with_pinned` says so.
    pub(in crate::engine::scheduler) fn make_room<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        rows: usize,
        is_busy: impl Fn(usize) -> bool,
        with_pinned: bool,
    ) {
        let lacks = |cache: &Self| cache.pool.as_ref().is_some_and(|pool| pool.free() < rows);
        while lacks(self) && self.evict(decoder, &is_busy, with_pinned) {}
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
