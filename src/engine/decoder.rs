//! What the scheduler needs of a model: the trait that separates it from llama.cpp.

use std::time::Duration;

use super::grammar::Grammar;
use super::thinking::blocks::Start;
use super::token::Token;
use super::{EngineError, SamplingParams};

/// A token to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// What to decode.
    pub token: Token,
    /// Its place in its sequence, from 0, without gaps.
    pub position: u32,
    /// Which sequence, below [`Limits::sequences`](super::limits::Limits::sequences).
    pub sequence: usize,
    /// The next token will be sampled from this row.
    pub logits: bool,
}

/// A token that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says another thing of it"
)]
pub(crate) struct Sampled {
    /// Which.
    pub token: Token,
    /// It ends the answer and is not part of it.
    pub is_end: bool,
    /// The answer is whole with it: its grammar allows nothing more.
    pub is_last: bool,
    /// Whether it was sampled without the grammar, as reasoning before a structured answer.
    pub is_free: bool,
    /// Whether it was not sampled: see [`Self::forced`].
    pub is_forced: bool,
}

impl Sampled {
    /// Makes a token that was not sampled: it closes a block of reasoning, or completes the marker that opens one.
    pub(crate) fn forced(token: Token) -> Self {
        Self {
            token,
            is_end: false,
            is_last: false,
            is_free: true,
            is_forced: true,
        }
    }
}

/// The model, its context and its vocabulary, as the scheduler needs them.
pub(crate) trait Decoder {
    /// The state of one call's sampling.
    type Sampler;
    /// What a sequence holds, saved to memory.
    type State;
    /// Rows that it computes in one pass; a longer batch takes several.
    fn pass(&self) -> usize;
    /// Returns a sampler that has seen `prompt`. `grammar` applies from the answer on; reasoning may come before the answer.
    fn sampler(
        &self,
        params: &SamplingParams,
        prompt: &[Token],
        grammar: Option<Grammar>,
        start: &Start,
    ) -> Self::Sampler;
    /// Lets a sampler see a token that was not sampled.
    fn force(&self, sampler: &mut Self::Sampler, token: Token);
    /// Lets the model choose whether a token of `start` comes before the answer.
    fn offer(&self, sampler: &mut Self::Sampler, start: Start);
    /// Makes a sampler follow its grammar from here on, with `text` already written. Returns whether the grammar allows `text`; if
    /// not, the grammar starts at its beginning.
    ///
    /// # Errors
    /// A grammar that cannot be followed.
    fn begin_answer(&self, sampler: &mut Self::Sampler, text: &str) -> Result<bool, EngineError>;
    /// Decodes a batch of 1 to [`Limits::n_batch`](super::limits::Limits::n_batch) rows and says how long it took.
    ///
    /// # Errors
    /// What llama.cpp said; what the batch's sequences hold is undefined then.
    fn decode(&mut self, batch: &[Row]) -> Result<Duration, String>;
    /// Samples from rows of the last batch that asked for logits, all that a step needs at once: the result of each, in order.
    ///
    /// # Errors
    /// For a row: a grammar that cannot be followed.
    fn sample(
        &mut self,
        rows: &mut [(usize, &mut Self::Sampler)],
    ) -> Vec<Result<Sampled, EngineError>>;
    /// The bytes of `token` in an answer; none for a control token.
    fn piece(&self, token: Token) -> Vec<u8>;
    /// Empties a sequence; its cells are free before the next decode.
    fn clear(&mut self, sequence: usize);
    /// Whether all that a sequence ever held is still there, so that it can be cut at any token. A sliding window forgets, and
    /// a recurrent state cannot go back.
    fn can_cut(&self, sequence: usize) -> bool;
    /// Whether a saved state of `length` tokens holds all of them, so that it can be cut when it is back. A sliding window may
    /// forget later than what is saved of it.
    fn can_cut_saved(&self, length: usize) -> bool;
    /// Keeps the first `length` tokens of a sequence that can be cut; false leaves it undefined.
    fn cut(&mut self, sequence: usize, length: usize) -> bool;
    /// Lets the empty sequence `to` hold the first `length` tokens of `from` too, in the same cells: only where they share a
    /// pool. False leaves `to` undefined.
    fn share(&mut self, from: usize, to: usize, length: usize) -> bool;
    /// Bytes that a copy of what a sequence holds takes in memory.
    fn saved_bytes(&self, sequence: usize) -> u64;
    /// Copies what a sequence holds to memory, with the bytes that it takes there; none where that fails.
    fn save(&mut self, sequence: usize) -> Option<(Self::State, u64)>;
    /// Copies a saved state to an empty sequence; false leaves it undefined.
    fn restore(&mut self, sequence: usize, state: &Self::State) -> bool;
}
