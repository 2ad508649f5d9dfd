//! Tools' fixed prompts: told, and decoded when there is no call.

use super::super::decoder::Decoder;
use super::super::token::Token;
use super::Scheduler;

impl<D: Decoder> Scheduler<D> {
    /// Keeps these prompts decoded from now on, and no others: calls that begin with one start from there. They are decoded
    /// when no call wants to be.
    pub(crate) fn keep_warm(&mut self, fixed: Vec<Vec<Token>>) {
        self.cache.keep_warm(&mut self.decoder, fixed);
        for active in self.sequences.iter_mut().flatten() {
            let to_save = self.cache.to_save(&active.prompt);
            let to_come = to_save.filter(|length| active.has_begun && *length > active.prefilled);
            active.checkpoints.extend(to_come);
        }
    }

    /// Decodes a part of a tool's prompt.
    pub(super) fn warm(&mut self) {
        let chunk = self.pace.warm_chunk(self.limits.n_batch);
        let rows = self.cache.warm(&mut self.decoder, chunk);
        if rows.is_empty() {
            return;
        }
        self.cache.make_room(
            &mut self.decoder,
            rows.len(),
            |at| at == rows[0].sequence,
            true,
        );
        match self.decoder.decode(&rows) {
            Ok(elapsed) => {
                self.pace.observe(0, rows.len(), elapsed);
                self.cache.warmed(&mut self.decoder, &rows);
            }
            Err(cause) => {
                tracing::warn!(
                    cause,
                    "a tool's prompt could not be decoded before its calls"
                );
                self.cache.give_up();
                self.cache.forget(&mut self.decoder, rows[0].sequence);
            }
        }
    }
}
