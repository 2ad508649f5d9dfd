//! Prompts that stand fixed in tools: decoded while nothing else is to be done, and kept.

use super::super::count;
use super::Cache;
use crate::engine::decoder::{Decoder, Row};
use crate::engine::limits::Reuse;
use crate::engine::prefix::cells::Cells;
use crate::engine::token::Token;

impl<S> Cache<S> {
    /// These prompts are kept decoded from now on, and no others.
    pub(in crate::engine::scheduler) fn keep_warm<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        mut fixed: Vec<Vec<Token>>,
    ) {
        let wanted = fixed.len();
        match self.reuse {
            Reuse::Nothing => return,
            Reuse::Copies if self.saved.has_room() => self.saved.pin_only(&fixed),
            Reuse::Copies => fixed.clear(),
            Reuse::Cells => {
                // Half of the cells at most, or calls and tools would put each other out again and again.
                let mut left = self.pool.as_ref().map_or(0, Cells::count) / 2;
                fixed.retain(|tokens| {
                    let fits = tokens.len() <= left;
                    left -= if fits { tokens.len() } else { 0 };
                    fits
                });
                fixed.truncate(self.held.len() - self.parallel);
            }
        }
        if fixed.len() < wanted {
            let (kept, cells) = (fixed.len(), self.pool.as_ref().map(Cells::count));
            tracing::info!(
                wanted,
                kept,
                cells,
                "not all tools' prompts are read ahead: there is no room for them in the cache, nor in `cache_ram`"
            );
        }
        self.fixed = fixed;
        // What is pinned no more may have made it so.
        self.too_long = usize::MAX;
        for at in self.parallel..self.held.len() {
            let is_fixed = |fixed: &Vec<Token>| fixed.starts_with(&self.held[at].tokens);
            if !self.fixed.iter().any(is_fixed) {
                self.clear(decoder, at);
            }
        }
    }

    /// The fixed prompts that begin `prompt` and are still to be saved, by their lengths.
    pub(in crate::engine::scheduler) fn to_save(
        &self,
        prompt: &[Token],
    ) -> impl Iterator<Item = usize> {
        let wanted = self.fixed.iter().filter(|fixed| {
            self.reuse == Reuse::Copies
                && prompt.len() > fixed.len()
                && prompt.starts_with(fixed)
                && self.saved.position(fixed).is_none()
        });
        wanted.map(Vec::len)
    }

    /// Whether a fixed prompt is still to be decoded.
    pub(in crate::engine::scheduler) fn is_cold(&self) -> bool {
        self.cold().is_some()
    }

    /// The next fixed prompt that is not there yet.
    fn cold(&self) -> Option<usize> {
        self.fixed.iter().position(|fixed| !self.is_warm(fixed))
    }

    fn is_warm(&self, fixed: &Vec<Token>) -> bool {
        let pinned = &self.held[self.parallel..];
        match self.reuse {
            Reuse::Cells => pinned.iter().any(|held| held.tokens == *fixed),
            _ => self.saved.position(fixed).is_some(),
        }
    }

    /// How many fixed prompts are kept decoded.
    pub(in crate::engine::scheduler) fn warm_prompts(&self) -> usize {
        self.fixed
            .iter()
            .filter(|fixed| self.is_warm(fixed))
            .count()
    }

    /// At most `chunk` rows of the next fixed prompt; nothing else is to be done, so any sequence may take them.
    pub(in crate::engine::scheduler) fn warm<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        chunk: usize,
    ) -> Vec<Row> {
        let Some(at) = self.cold() else {
            return Vec::new();
        };
        let fixed = self.fixed[at].clone();
        let sequence = match self.reuse {
            // The pinned sequence that holds its beginning, or an empty one.
            Reuse::Cells => (self.parallel..self.held.len())
                .filter(|at| fixed.starts_with(&self.held[*at].tokens))
                .filter(|at| !self.fixed.contains(&self.held[*at].tokens))
                .max_by_key(|at| self.held(*at)),
            _ => self.choose(decoder, &fixed, |_| true),
        };
        let Some(sequence) = sequence else {
            self.fixed.remove(at);
            return Vec::new();
        };
        let start = self.begin(decoder, sequence, &fixed, |at| at == sequence);
        let rows = fixed.iter().enumerate().skip(start).take(chunk);
        rows.map(|(position, token)| Row {
            token: *token,
            position: count(position),
            sequence,
            logits: false,
        })
        .collect()
    }

    /// Rows of a fixed prompt are decoded.
    pub(in crate::engine::scheduler) fn warmed<D: Decoder<State = S>>(
        &mut self,
        decoder: &mut D,
        rows: &[Row],
    ) {
        let Some(sequence) = rows.first().map(|row| row.sequence) else {
            return;
        };
        self.decoded(sequence, rows.iter().map(|row| row.token));
        let is_whole = self.fixed.contains(&self.held[sequence].tokens);
        if is_whole && self.copies() && !self.save(decoder, sequence) {
            self.give_up();
        }
    }

    /// There is no room for the fixed prompt that was being decoded, or it cannot be: it is not tried again.
    pub(in crate::engine::scheduler) fn give_up(&mut self) {
        if let Some(at) = self.cold() {
            let tokens = self.fixed.remove(at).len();
            tracing::info!(
                tokens,
                "a tool's prompt is not cached: it needs more than `cache_ram`"
            );
        }
    }
}
