//! Selects a token from the logits of a row, and gives llama.cpp's samplers only the candidates that the result depends on.
//!
//! An array of candidates for a whole vocabulary takes up to 3 MB, and the penalties look up each of them. But biases and penalties change
//! only the logits of a few known tokens, and a draw that begins with `top_k` needs only the greatest of the other logits. So the penalties
//! get the known tokens, and the draw gets these and the greatest others. The result is the same as with all candidates, except among equal
//! logits.

use std::collections::VecDeque;

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;

use super::top_k_scan::TopKScan;
use crate::engine::SamplingParams;
use crate::engine::llama::sampling::{self, Penalties};
use crate::engine::token::Token;

/// Selects the tokens of one call, without its grammar.
#[derive(Debug)]
pub(in crate::engine::llama) struct TokenSelector {
    penalties: Option<Penalties>,
    draw: LlamaSampler,
    max_candidates: Option<usize>,
    /// Recent tokens that `penalties` takes into account, at most its window.
    last: VecDeque<Token>,
    /// Biases that are added to logits, in ascending order of tokens. A token with −∞ is never selected.
    biases: Vec<(Token, f32)>,
}

/// Buffers of a selection, reused for the next one.
#[derive(Debug)]
pub(super) struct Buffers {
    scan: TopKScan,
    /// Tokens with a bias or a penalty, in ascending order.
    tokens: Vec<Token>,
    /// The logits of `tokens`, with biases and penalties.
    changed: LlamaTokenDataArray,
    candidates: LlamaTokenDataArray,
}

impl Default for Buffers {
    fn default() -> Self {
        let empty = LlamaTokenDataArray::new(Vec::new(), false);
        Self {
            scan: TopKScan::default(),
            tokens: Vec::new(),
            changed: empty.clone(),
            candidates: empty,
        }
    }
}

impl TokenSelector {
    /// Creates a selector for a vocabulary of `n_vocab` tokens. `biases` has at most one entry for each token, in ascending order. `dry` is
    /// the DRY sampler, if `params` use it.
    pub(in crate::engine::llama) fn new(
        params: &SamplingParams,
        n_vocab: i32,
        biases: Vec<(Token, f32)>,
        dry: Option<Penalties>,
    ) -> Self {
        Self {
            penalties: sampling::penalties(params, n_vocab, dry),
            draw: sampling::draw(params),
            max_candidates: sampling::max_candidates(params),
            last: VecDeque::new(),
            biases,
        }
    }

    /// Records that `tokens` of the prompt or the answer were written.
    pub(super) fn accept(&mut self, tokens: &[Token]) {
        let Some(penalties) = &mut self.penalties else {
            return;
        };
        let Penalties { sampler, window } = penalties;
        for token in &tokens[tokens.len().saturating_sub(*window)..] {
            sampler.accept(LlamaToken(token.0));
            if self.last.len() == *window {
                self.last.pop_front();
            }
            self.last.push_back(*token);
        }
    }

    /// Selects a token by `logits`, which has one logit for each token. Returns `None` if all logits are −∞ or NaN.
    pub(super) fn select(&mut self, logits: &[f32], buffers: &mut Buffers) -> Option<Token> {
        self.adjust(logits, buffers);
        self.gather(logits, buffers);
        let candidates = &mut buffers.candidates;
        candidates.selected = None;
        candidates.sorted = false;
        if candidates.data.is_empty() {
            return None;
        }
        // `LlamaSampler::sample` would also accept the token, and does not catch C++ exceptions.
        self.draw.apply(candidates);
        let selected = candidates.selected_token();
        let selected = selected.expect("every draw ends in a sampler that selects");
        Some(Token(selected.0))
    }

    /// Computes the logits of the tokens with a bias or a penalty.
    fn adjust(&mut self, logits: &[f32], buffers: &mut Buffers) {
        buffers.tokens.clear();
        buffers.tokens.extend(&self.last);
        buffers
            .tokens
            .extend(self.biases.iter().map(|(token, _)| token));
        buffers.tokens.sort_unstable();
        buffers.tokens.dedup();
        let bias = |token: Token| {
            let at = self
                .biases
                .binary_search_by_key(&token, |(token, _)| *token);
            at.map_or(0.0, |at| self.biases[at].1)
        };
        buffers.changed.data.clear();
        buffers
            .changed
            .data
            .extend(buffers.tokens.iter().map(|token| {
                let logit = token.index().and_then(|at| logits.get(at));
                let logit = logit.copied().unwrap_or(f32::NEG_INFINITY);
                LlamaTokenData::new(LlamaToken(token.0), logit + bias(*token), 0.0)
            }));
        if let Some(penalties) = &mut self.penalties {
            penalties.sampler.apply(&mut buffers.changed);
        }
    }

    /// Collects the candidates in ascending order: the changed ones, and as many of the others as the draw needs.
    fn gather(&self, logits: &[f32], buffers: &mut Buffers) {
        let candidates = &mut buffers.candidates.data;
        candidates.clear();
        let mut add = |candidate: LlamaTokenData| {
            if candidate.logit() > f32::NEG_INFINITY {
                candidates.push(candidate);
            }
        };
        let mut changed = buffers.changed.data.iter().copied().peekable();
        // Each changed token may be one of the greatest, so the scan returns that many more.
        let count = self
            .max_candidates
            .map_or(usize::MAX, |count| count.saturating_add(changed.len()));
        buffers.scan.scan(logits, count, |token, logit| {
            while let Some(before) = changed.next_if(|changed| changed.id().0 < token.0) {
                add(before);
            }
            let same = changed.next_if(|changed| changed.id().0 == token.0);
            add(same.unwrap_or_else(|| LlamaTokenData::new(LlamaToken(token.0), logit, 0.0)));
        });
        changed.for_each(add);
    }
}

#[cfg(test)]
mod tests;
