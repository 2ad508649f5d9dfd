//! [`ThreadedDecoder`], a decoder whose number of threads can change.

use super::EngineError;
use super::decoder::Decoder;

/// A decoder whose number of threads can change.
pub(crate) trait ThreadedDecoder: Decoder + Sized {
    /// Returns the number of threads that decode.
    fn n_threads(&self) -> usize;
    /// Returns the bytes of memory that [`Self::with_threads`] requires temporarily, in addition to those of the decoder.
    fn bytes_to_switch(&self) -> u64;
    /// Returns the decoder with `n_threads` threads, and what has become of the content of all sequences. If the content cannot be saved,
    /// or if llama.cpp cannot create a context with `n_threads`, the number of threads stays.
    ///
    /// # Errors
    /// `Load` if llama.cpp cannot create a context with the former number, either. The decoder is lost then.
    fn with_threads(self, n_threads: usize) -> Result<(Self, Content), EngineError>;
}

/// State of the sequences after [`ThreadedDecoder::with_threads`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(any(test, feature = "llama")),
    expect(dead_code, reason = "nothing is decoded without llama.cpp")
)]
pub(crate) enum Content {
    /// All sequences have their tokens.
    Kept,
    /// The content of all sequences is undefined.
    Lost,
}
