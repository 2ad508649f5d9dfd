//! Changes the number of threads between two steps.

use super::Scheduler;
use crate::engine::threaded::{Content, ThreadedDecoder};
use crate::engine::{EngineError, EngineErrorKind};

impl<D: ThreadedDecoder> Scheduler<D> {
    /// Returns the number of threads that decode.
    pub(crate) fn n_threads(&self) -> usize {
        self.decoder.n_threads()
    }

    /// Returns the bytes of memory that [`Self::with_threads`] requires temporarily.
    pub(crate) fn bytes_to_switch(&self) -> u64 {
        self.decoder.bytes_to_switch()
    }

    /// Returns the scheduler with a decoder of `n_threads` threads, or of the former number if that is impossible. Calls continue with the
    /// next step. If the content of the sequences is lost, the calls that have begun fail, and only saved states are left in the cache.
    ///
    /// # Errors
    /// `Load` if llama.cpp can no longer create a context. All calls are lost then.
    pub(crate) fn with_threads(self, n_threads: usize) -> Result<Self, EngineError> {
        let (decoder, content) = self.decoder.with_threads(n_threads)?;
        let mut scheduler = Self { decoder, ..self };
        if content == Content::Lost {
            scheduler.lose_content();
        }
        Ok(scheduler)
    }

    fn lose_content(&mut self) {
        for sequence in 0..self.limits.sequences() {
            self.cache.forget(&mut self.decoder, sequence);
        }
        let begun = |active: &super::ActiveCall<_>| active.has_begun;
        for sequence in 0..self.sequences.len() {
            if self.sequences[sequence].as_ref().is_some_and(begun) {
                let error = EngineError::new(
                    EngineErrorKind::Decode,
                    "llama.cpp could not restore the call after a change of the number of threads",
                );
                self.abort(sequence, error.hint("try again; see the server's log"));
            }
        }
    }
}
