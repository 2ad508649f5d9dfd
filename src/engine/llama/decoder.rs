//! [`Decoder`] for llama.cpp.

use std::time::{Duration, Instant};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use llama_cpp_2::{LlamaStateSeqFlags, SeqState};

use super::dry::DrySamplers;
use super::sampler::{Sampler, Scratch, TokenSelector};
use super::{Model, sampling};
use crate::config::LoadSettings;
use crate::engine::decoder::{DecodeError, Decoder, Row, Sampled};
use crate::engine::grammar::Grammar;
use crate::engine::limits::Limits;
use crate::engine::thinking::blocks::AnswerStart;
use crate::engine::threaded::{Content, ThreadedDecoder};
use crate::engine::timing::Timing;
use crate::engine::token::Token;
use crate::engine::{EngineError, SamplingParams};

/// Sequence ID that stands for all sequences of a context (`state_write` of `llama-kv-cache.cpp`).
const ALL_SEQUENCES: i32 = -1;

/// The only context of a worker.
#[derive(Debug)]
pub(crate) struct LlamaDecoder<'model> {
    pub(super) model: &'model Model,
    pub(super) limits: Limits,
    /// Settings, with the current number of threads, which only this field has.
    pub(super) load: LoadSettings,
    pub(super) context: LlamaContext<'model>,
    /// Longest sequence, in tokens, that drops no cells; `None` if every cell stays.
    pub(super) window: Option<usize>,
    pub(super) vocab: LlamaVocab<'model>,
    pub(super) dry: DrySamplers<'model>,
    /// Control tokens that are markers of reasoning, in ascending order.
    pub(super) marker_tokens: Vec<Token>,
    pub(super) batch: LlamaBatch<'static>,
    /// Tokens that end an answer, in ascending order.
    pub(super) ends: Vec<Token>,
    pub(super) scratch: Scratch,
    pub(super) timing: Timing,
}

impl LlamaDecoder<'_> {
    /// Returns the times of this decoder, shared with it.
    pub(crate) fn timing(&self) -> Timing {
        self.timing.clone()
    }
}

impl Decoder for LlamaDecoder<'_> {
    type Sampler = Sampler;
    type State = SeqState;

    fn n_ubatch(&self) -> usize {
        self.context.n_ubatch() as usize
    }

    fn sampler(
        &self,
        params: &SamplingParams,
        prompt: &[Token],
        grammar: Option<Grammar>,
        start: &AnswerStart,
    ) -> Sampler {
        let dry = self.dry.sampler(params, self.context.n_ctx());
        let selector = TokenSelector::new(
            params,
            self.vocab.n_tokens(),
            sampling::biases(params, &self.vocab),
            dry,
        );
        Sampler::new(selector, prompt, grammar, start)
    }

    fn force(&self, sampler: &mut Sampler, token: Token) {
        sampler.force(token);
    }

    fn offer(&self, sampler: &mut Sampler, start: AnswerStart) {
        sampler.offer(start);
    }

    fn begin_answer(&self, sampler: &mut Sampler, text: &str) -> Result<bool, EngineError> {
        sampler.begin_answer(text)
    }

    fn fast_forward(&self, sampler: &mut Sampler) -> Result<Vec<Sampled>, EngineError> {
        sampler.fast_forward()
    }

    fn decode(&mut self, batch: &[Row]) -> Result<Duration, DecodeError> {
        let started = Instant::now();
        self.batch.clear();
        for row in batch {
            let position = i32::try_from(row.position).map_err(DecodeError::new)?;
            let sequence = sequence_id(row.sequence);
            self.batch
                .add(LlamaToken(row.token.0), position, &[sequence], row.logits)
                .map_err(DecodeError::new)?;
        }
        self.context
            .decode(&mut self.batch)
            .map_err(DecodeError::new)?;
        // GPU backends compute in the background, which is part of the step.
        self.context.synchronize();
        let elapsed = started.elapsed();
        self.timing.add(|times| {
            times.steps += 1;
            times.decode += elapsed;
        });
        Ok(elapsed)
    }

    fn sample(&mut self, row: usize, sampler: &mut Sampler) -> Result<Sampled, EngineError> {
        let started = Instant::now();
        let row = i32::try_from(row).expect("a batch has fewer rows than 2^31");
        let logits = self.context.get_logits_ith(row);
        let sampled = sampler.sample(logits, &self.ends, &mut self.scratch);
        self.timing.add(|times| {
            times.tokens += 1;
            times.masks += self.scratch.take_masks();
            times.sample += started.elapsed();
        });
        sampled
    }

    fn piece(&self, token: Token) -> Vec<u8> {
        let is_marker = self.marker_tokens.binary_search(&token).is_ok();
        self.vocab
            .token_to_piece(LlamaToken(token.0), is_marker, None)
    }

    fn clear(&mut self, sequence: usize) {
        if let Err(error) = self
            .context
            .kv_cache_seq_rm(sequence_id(sequence), None, None)
        {
            // A whole sequence can always be removed (llama.h: llama_memory_seq_rm).
            tracing::error!(sequence, %error, "llama.cpp could not clear a sequence");
        }
    }

    /// A sequence whose window has slid, or with a recurrent state, has a first position above 0 (`llama_memory_seq_pos_min` of
    /// `llama-kv-cache-iswa.cpp`, `llama-memory-recurrent.cpp` and `llama-memory-hybrid.cpp`).
    fn can_truncate(&self, sequence: usize) -> bool {
        self.context.kv_cache_seq_pos_min(sequence_id(sequence)) <= 0
    }

    /// Cells outside a window stay until they are needed, but a saved state does not include them (`state_write` of `llama-kv-cache.cpp`).
    fn keeps_all_cells(&self, length: usize) -> bool {
        self.window.is_none_or(|window| length <= window)
    }

    fn truncate(&mut self, sequence: usize, length: usize) -> bool {
        let Ok(length) = u32::try_from(length) else {
            return false;
        };
        self.context
            .kv_cache_seq_rm(sequence_id(sequence), Some(length), None)
            .is_ok()
    }

    fn share(&mut self, from: usize, to: usize, length: usize) -> bool {
        let Ok(length) = u32::try_from(length) else {
            return false;
        };
        let (from, to) = (sequence_id(from), sequence_id(to));
        self.context
            .kv_cache_seq_cp(from, to, Some(0), Some(length))
            .is_ok()
    }

    fn saved_bytes(&self, sequence: usize) -> u64 {
        let (sequence, flags) = (sequence_id(sequence), LlamaStateSeqFlags::empty());
        self.context.state_seq_get_size_ext(sequence, flags) as u64
    }

    fn save(&mut self, sequence: usize) -> Option<(SeqState, u64)> {
        let state = self
            .context
            .state_seq_get(sequence_id(sequence), LlamaStateSeqFlags::empty())
            .inspect_err(|error| tracing::warn!(%error, "llama.cpp could not save a sequence"))
            .ok()?;
        let bytes = state.byte_len() as u64;
        Some((state, bytes))
    }

    fn restore(&mut self, sequence: usize, state: &SeqState) -> bool {
        self.context
            .state_seq_set(state, sequence_id(sequence))
            .inspect_err(|error| tracing::warn!(%error, "llama.cpp could not restore a sequence"))
            .is_ok()
    }
}

impl ThreadedDecoder for LlamaDecoder<'_> {
    fn n_threads(&self) -> usize {
        self.load.n_threads
    }

    fn bytes_to_switch(&self) -> u64 {
        let flags = LlamaStateSeqFlags::empty();
        self.context.state_seq_get_size_ext(ALL_SEQUENCES, flags) as u64
    }

    /// llama-cpp-2 cannot change the threads of a context, so a new one takes over the cells. The state of all sequences also says which of
    /// them share a cell.
    fn with_threads(mut self, n_threads: usize) -> Result<(Self, Content), EngineError> {
        let flags = LlamaStateSeqFlags::empty();
        let state = match self.context.state_seq_get(ALL_SEQUENCES, flags) {
            Ok(state) => state,
            Err(error) => {
                tracing::warn!(%error, "llama.cpp could not save its sequences");
                return Ok((self, Content::Kept));
            }
        };
        let former = std::mem::replace(&mut self.load.n_threads, n_threads);
        // The memory of two contexts may not be there.
        drop(self.context);
        let (context, content) = match self.model.context(&self.limits, &self.load) {
            Ok(mut context) => {
                let content = restore_all(&mut context, &state);
                (context, content)
            }
            Err(error) => {
                tracing::error!(%error, "llama.cpp could not create a context with another number of threads");
                // Without the copy, there is as much memory as for the first context.
                drop(state);
                self.load.n_threads = former;
                let context = self.model.context(&self.limits, &self.load)?;
                (context, Content::Lost)
            }
        };
        Ok((Self { context, ..self }, content))
    }
}

/// Copies the saved `state` of all sequences to a new context.
fn restore_all(context: &mut LlamaContext<'_>, state: &SeqState) -> Content {
    match context.state_seq_set(state, ALL_SEQUENCES) {
        Ok(()) => Content::Kept,
        Err(error) => {
            tracing::error!(%error, "llama.cpp could not restore its sequences");
            Content::Lost
        }
    }
}

fn sequence_id(sequence: usize) -> i32 {
    i32::try_from(sequence).expect("sequences are fewer than llama.cpp's 256")
}

#[cfg(test)]
mod tests;
