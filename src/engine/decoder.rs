//! [`Decoder`], the interface between the scheduler and llama.cpp.

use std::fmt;
use std::time::Duration;

use super::grammar::Grammar;
use super::thinking::blocks::AnswerStart;
use super::token::Token;
use super::{EngineError, EngineErrorKind, SamplingParams};

/// One row of a batch: a token to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Token to decode.
    pub token: Token,
    /// Position in its sequence, from 0, without gaps.
    pub position: u32,
    /// Number of its sequence, below [`Limits::sequences`](super::limits::Limits::sequences).
    pub sequence: usize,
    /// Whether the next token is sampled from this row.
    pub logits: bool,
}

/// The next token of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sampled {
    /// The token.
    pub token: Token,
    /// Whether the token ends the answer and is not part of it.
    pub is_end: bool,
    /// How the token was chosen.
    pub origin: Origin,
}

/// How the next token of a call was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(any(test, feature = "llama")),
    expect(dead_code, reason = "nothing is sampled without llama.cpp")
)]
pub(crate) enum Origin {
    /// Part of a marker of reasoning, see [`Sampled::marker`].
    Marker,
    /// Sampled without the grammar, as reasoning before a structured answer.
    Free,
    /// Part of the answer: sampled, within its grammar if there is one, or forced by the grammar.
    Answer {
        /// Whether the token completes the answer: the grammar allows no further token.
        is_last: bool,
    },
}

impl Sampled {
    /// Creates a token that is not sampled: it closes a block of reasoning, or completes the marker that opens one.
    pub(crate) fn marker(token: Token) -> Self {
        Self {
            token,
            is_end: false,
            origin: Origin::Marker,
        }
    }
}

/// An error of [`Decoder::decode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("llama.cpp could not decode: {cause}")]
pub(crate) struct DecodeError {
    cause: String,
}

impl DecodeError {
    /// Creates an error with llama.cpp's `cause`.
    #[cfg_attr(
        not(any(test, feature = "llama")),
        expect(dead_code, reason = "nothing is decoded without llama.cpp")
    )]
    pub(crate) fn new(cause: impl fmt::Display) -> Self {
        Self {
            cause: cause.to_string(),
        }
    }
}

impl From<DecodeError> for EngineError {
    fn from(error: DecodeError) -> Self {
        Self::new(EngineErrorKind::Decode, error.to_string())
            .hint("try again; see the server's log")
    }
}

/// A model with its context and vocabulary, as the scheduler uses them.
pub(crate) trait Decoder {
    /// Sampling state of one call.
    type Sampler;
    /// Saved state of a sequence.
    type State;
    /// Returns the number of rows in a ubatch, which is computed in one pass. A longer batch takes several passes.
    fn n_ubatch(&self) -> usize;
    /// Returns a sampler that has seen `prompt`. `grammar` applies from the answer on; reasoning may come before the answer.
    fn sampler(
        &self,
        params: &SamplingParams,
        prompt: &[Token],
        grammar: Option<Grammar>,
        start: &AnswerStart,
    ) -> Self::Sampler;
    /// Records a forced token in a sampler.
    fn force(&self, sampler: &mut Self::Sampler, token: Token);
    /// Lets the model sample one of the tokens of `start` before the answer, or begin the answer.
    fn offer(&self, sampler: &mut Self::Sampler, start: AnswerStart);
    /// Makes a sampler follow its grammar from now on, with `text` as the beginning of the answer. If the grammar does not allow `text`,
    /// returns `false`, and the grammar starts at its beginning.
    ///
    /// # Errors
    /// `Grammar` if the grammar cannot be followed.
    fn begin_answer(&self, sampler: &mut Self::Sampler, text: &str) -> Result<bool, EngineError>;
    /// Returns the tokens that the grammar of a sampler forces next, and records them. The result is empty if the grammar allows several
    /// next tokens, or if the sampler has no grammar.
    ///
    /// # Errors
    /// `Grammar` if the grammar cannot be followed.
    fn fast_forward(&self, sampler: &mut Self::Sampler) -> Result<Vec<Sampled>, EngineError>;
    /// Decodes a batch of 1 to [`Limits::n_batch`](super::limits::Limits::n_batch) rows. Returns how long that took.
    ///
    /// # Errors
    /// Fails if llama.cpp cannot decode the batch. The content of the batch's sequences is undefined then.
    fn decode(&mut self, batch: &[Row]) -> Result<Duration, DecodeError>;
    /// Samples the token that follows a row of the last batch. `row` is the index of the row, which must have requested logits.
    ///
    /// # Errors
    /// `Grammar` if the grammar cannot be followed, `Decode` if the logits are invalid.
    fn sample(&mut self, row: usize, sampler: &mut Self::Sampler) -> Result<Sampled, EngineError>;
    /// Returns the bytes of `token` in an answer; empty for a control token.
    fn piece(&self, token: Token) -> Vec<u8>;
    /// Empties a sequence. Its cells are free before the next decode.
    fn clear(&mut self, sequence: usize);
    /// Returns whether a sequence can be truncated at any token: all its cells are still there. A sliding window drops cells, and a
    /// recurrent state cannot go back.
    fn can_truncate(&self, sequence: usize) -> bool;
    /// Returns whether a sequence of `length` tokens, or its saved state, has a cell for each of them and can thus be truncated. Beyond a
    /// sliding window, a saved state lacks cells that its sequence may still have. A recurrent state has no cells.
    fn keeps_all_cells(&self, length: usize) -> bool;
    /// Truncates a sequence to its first `length` tokens. On `false` the content of the sequence is undefined.
    fn truncate(&mut self, sequence: usize, length: usize) -> bool;
    /// Adds the first `length` tokens of `from` to the empty sequence `to`, in the same cells. Requires that all sequences share a pool. On
    /// `false` the content of `to` is undefined.
    fn share(&mut self, from: usize, to: usize, length: usize) -> bool;
    /// Returns the size of the saved state of a sequence, in bytes.
    fn saved_bytes(&self, sequence: usize) -> u64;
    /// Copies the state of a sequence to memory. Returns the state and its bytes, or `None` if that fails.
    fn save(&mut self, sequence: usize) -> Option<(Self::State, u64)>;
    /// Copies a saved state to an empty sequence. On `false` the content of the sequence is undefined.
    fn restore(&mut self, sequence: usize, state: &Self::State) -> bool;
}
