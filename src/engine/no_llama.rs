//! Stands in for `llama` in a build without the feature `llama`: the same interface, but every model fails to load.
//!
//! Such a build compiles in a minute and runs all tests that need no model. The types here have no values.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::decoder::{DecodeError, Decoder, Row, Sampled};
use super::device::Device;
use super::grammar::{Grammar, GrammarVocabulary, Tokenizer};
use super::limits::{Facts, Limits};
use super::thinking::blocks::AnswerStart;
use super::threaded::{Content, ThreadedDecoder};
use super::timing::Timing;
use super::token::Token;
use super::vocabulary::Vocabulary;
use super::{EngineError, EngineErrorKind, SamplingParams};
use crate::config::LoadSettings;

/// A loaded model.
#[derive(Debug)]
pub(crate) enum Model {}

/// The vocabulary of a loaded model.
#[derive(Debug)]
pub(crate) struct ModelVocabulary(Infallible);

/// The decoder of a loaded model.
#[derive(Debug)]
pub(crate) struct LlamaDecoder<'model>(Infallible, PhantomData<&'model Model>);

/// The CPU backend of this process.
#[derive(Debug, Clone)]
pub(crate) enum CpuBackend {}

impl fmt::Display for CpuBackend {
    fn fmt(&self, _formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// Returns the CPU backend: always fails.
///
/// # Errors
/// Always `Load`.
pub(crate) fn cpu_backend() -> Result<CpuBackend, EngineError> {
    Err(
        EngineError::new(EngineErrorKind::Load, "this build has no llama.cpp")
            .hint("compile the program with the feature `llama`, which is on by default"),
    )
}

/// Returns all devices: none.
pub(crate) fn devices() -> Vec<Device> {
    Vec::new()
}

impl Model {
    /// Sends llama.cpp's log to tracing.
    pub(crate) fn capture_logs() {}

    /// Loads the model file of `load`: always fails.
    pub(crate) fn load(
        _load: &LoadSettings,
        _progress: impl FnMut(u8) + 'static,
    ) -> Result<Self, EngineError> {
        match cpu_backend()? {}
    }

    /// Returns whether a GPU computes layers of the model.
    pub(crate) fn is_on_gpu(&self, _load: &LoadSettings) -> bool {
        match *self {}
    }

    /// Returns the bytes of the weights in the machine's memory.
    pub(crate) fn weights_on_machine(&self, _load: &LoadSettings) -> u64 {
        match *self {}
    }

    /// Returns the facts from which [`Limits`] are planned.
    pub(crate) fn facts(
        &self,
        _load: &LoadSettings,
        _available_memory: Option<u64>,
        _shared_prefix_bytes: u64,
    ) -> Facts {
        match *self {}
    }

    /// Returns the source of the model's chat template.
    pub(crate) fn chat_template(&self) -> Option<String> {
        match *self {}
    }

    /// Returns the vocabulary.
    pub(crate) fn vocabulary(&self) -> ModelVocabulary {
        match *self {}
    }

    /// Creates a context for `limits`.
    pub(crate) fn decoder(
        &self,
        _limits: Limits,
        _load: &LoadSettings,
    ) -> Result<LlamaDecoder<'_>, EngineError> {
        match *self {}
    }
}

impl ModelVocabulary {
    /// Returns the texts of the BOS and EOS tokens.
    pub(crate) fn bos_and_eos(&self) -> (String, String) {
        match self.0 {}
    }
}

impl GrammarVocabulary for ModelVocabulary {
    fn token_bytes(&self) -> Vec<Vec<u8>> {
        match self.0 {}
    }

    fn eog_token(&self) -> Option<Token> {
        match self.0 {}
    }

    fn tokenizer(&self) -> Tokenizer {
        match self.0 {}
    }
}

impl Vocabulary for ModelVocabulary {
    fn tokenize(&self, _text: &str, _parse_special: bool) -> Vec<Token> {
        match self.0 {}
    }

    fn bos(&self) -> Option<Token> {
        match self.0 {}
    }

    fn adds_bos(&self) -> bool {
        match self.0 {}
    }

    fn control_texts(&self, _template: &str) -> Vec<String> {
        match self.0 {}
    }

    fn longest_token(&self) -> usize {
        match self.0 {}
    }

    fn blanks(&self) -> Vec<Token> {
        match self.0 {}
    }

    fn special_texts(&self) -> Vec<String> {
        match self.0 {}
    }

    fn begins(&self, _text: &str) -> Vec<(Token, usize)> {
        match self.0 {}
    }
}

impl LlamaDecoder<'_> {
    /// Returns the times of this decoder.
    pub(crate) fn timing(&self) -> Timing {
        match self.0 {}
    }
}

impl Decoder for LlamaDecoder<'_> {
    type Sampler = Infallible;
    type State = Infallible;

    fn n_ubatch(&self) -> usize {
        match self.0 {}
    }

    fn sampler(
        &self,
        _params: &SamplingParams,
        _prompt: &[Token],
        _grammar: Option<Grammar>,
        _start: &AnswerStart,
    ) -> Infallible {
        match self.0 {}
    }

    fn force(&self, sampler: &mut Infallible, _token: Token) {
        match *sampler {}
    }

    fn offer(&self, sampler: &mut Infallible, _start: AnswerStart) {
        match *sampler {}
    }

    fn begin_answer(&self, sampler: &mut Infallible, _text: &str) -> Result<bool, EngineError> {
        match *sampler {}
    }

    fn fast_forward(&self, sampler: &mut Infallible) -> Result<Vec<Sampled>, EngineError> {
        match *sampler {}
    }

    fn decode(&mut self, _batch: &[Row]) -> Result<Duration, DecodeError> {
        match self.0 {}
    }

    fn sample(&mut self, _row: usize, sampler: &mut Infallible) -> Result<Sampled, EngineError> {
        match *sampler {}
    }

    fn piece(&self, _token: Token) -> Vec<u8> {
        match self.0 {}
    }

    fn clear(&mut self, _sequence: usize) {
        match self.0 {}
    }

    fn can_truncate(&self, _sequence: usize) -> bool {
        match self.0 {}
    }

    fn keeps_all_cells(&self, _length: usize) -> bool {
        match self.0 {}
    }

    fn truncate(&mut self, _sequence: usize, _length: usize) -> bool {
        match self.0 {}
    }

    fn share(&mut self, _from: usize, _to: usize, _length: usize) -> bool {
        match self.0 {}
    }

    fn saved_bytes(&self, _sequence: usize) -> u64 {
        match self.0 {}
    }

    fn save(&mut self, _sequence: usize) -> Option<(Infallible, u64)> {
        match self.0 {}
    }

    fn restore(&mut self, _sequence: usize, state: &Infallible) -> bool {
        match *state {}
    }
}

impl ThreadedDecoder for LlamaDecoder<'_> {
    fn n_threads(&self) -> usize {
        match self.0 {}
    }

    fn bytes_to_switch(&self) -> u64 {
        match self.0 {}
    }

    fn with_threads(self, _n_threads: usize) -> Result<(Self, Content), EngineError> {
        match self.0 {}
    }
}
