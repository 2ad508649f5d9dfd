//! Decodes the shared prefixes of tools while no call is active.

use super::super::decoder::Decoder;
use super::super::token::Token;
use super::Scheduler;

impl<D: Decoder> Scheduler<D> {
    /// Replaces the shared prefixes that are kept in the cache. Steps without a call decode them. If a prompt begins with a cached prefix,
    /// its prefill starts at the end of that prefix.
    pub(crate) fn set_shared_prefixes(&mut self, prefixes: Vec<Vec<Token>>) {
        self.cache.set_shared_prefixes(&mut self.decoder, prefixes);
        for active in self.sequences.iter_mut().flatten() {
            let to_save = self.cache.unsaved_shared_prefixes(&active.prompt);
            let to_come = to_save.filter(|length| active.has_begun && *length > active.prefilled);
            active.checkpoints.extend(to_come);
        }
    }

    /// Decodes a chunk of the next shared prefix that is not cached yet.
    pub(super) fn warm_up(&mut self) {
        let chunk = self.chunk_sizer.warm_chunk(self.limits.n_batch);
        let Some(warm) = self.cache.next_warm_rows(&mut self.decoder, chunk) else {
            return;
        };
        let is_busy = |at: usize| at == warm.sequence;
        self.cache
            .ensure_free_cells(&mut self.decoder, warm.rows.len(), is_busy, true);
        match self.decoder.decode(&warm.rows) {
            Ok(elapsed) => {
                self.chunk_sizer.observe(0, warm.rows.len(), elapsed);
                self.cache.add_warm_rows(&mut self.decoder, &warm);
            }
            Err(error) => {
                let tokens = warm.prefix.len();
                tracing::warn!(tokens, %error, "could not decode the shared prefix of a tool; it is not cached");
                self.cache.drop_prefix(&warm.prefix);
                self.cache.forget(&mut self.decoder, warm.sequence);
            }
        }
    }
}
