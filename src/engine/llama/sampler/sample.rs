//! From the logits of a row to a token, with as much of llama.cpp's samplers as the result depends on.
//!
//! They work on an array of candidates, for a whole vocabulary 3 MB, and the penalties look up each of them. But biases
//! and penalties change few logits, those of tokens that are known; and where the draw begins with a cut, only the
//! greatest of the others can matter. So the penalties see the former alone, and the draw these and the greatest. What is
//! chosen is the same as over the whole array, except among equal logits.

use std::collections::VecDeque;

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;

use super::top_k_scan::Greatest;
use crate::engine::SamplingParams;
use crate::engine::llama::sampling::{self, Penalties};
use crate::engine::token::Token;

/// How one call chooses, and the tokens that its penalties look at.
#[derive(Debug)]
pub(in crate::engine::llama) struct Choice {
    penalties: Option<Penalties>,
    draw: LlamaSampler,
    drawn_from: Option<usize>,
    /// The last tokens, as `penalties` has them; never more than its window.
    last: VecDeque<Token>,
    /// Additions to logits, in the order of tokens; a token with −∞ is never chosen.
    biases: Vec<(Token, f32)>,
}

/// Memory to work in, kept between tokens.
#[derive(Debug)]
pub(super) struct Work {
    greatest: Greatest,
    /// Tokens that are biased or penalised, in order, and their logits.
    tokens: Vec<Token>,
    changed: LlamaTokenDataArray,
    candidates: LlamaTokenDataArray,
}

impl Default for Work {
    fn default() -> Self {
        let empty = LlamaTokenDataArray::new(Vec::new(), false);
        Self {
            greatest: Greatest::default(),
            tokens: Vec::new(),
            changed: empty.clone(),
            candidates: empty,
        }
    }
}

impl Choice {
    /// Makes a choice among a vocabulary of `n_vocab` tokens, whose logits get `biases`, one a token in order, and the penalties of
    /// `dry`.
    pub(in crate::engine::llama) fn new(
        params: &SamplingParams,
        n_vocab: i32,
        biases: Vec<(Token, f32)>,
        dry: Option<Penalties>,
    ) -> Self {
        Self {
            penalties: sampling::penalties(params, n_vocab, dry),
            draw: sampling::draw(params),
            drawn_from: sampling::drawn_from(params),
            last: VecDeque::new(),
            biases,
        }
    }

    /// `tokens` were written, the prompt's or a chosen one.
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

    /// Chooses by `logits`, by the place of their token; −∞ is never chosen. None where nothing is left to choose.
    pub(super) fn select(&mut self, logits: &[f32], work: &mut Work) -> Option<Token> {
        self.change(logits, work);
        self.gather(logits, work);
        let candidates = &mut work.candidates;
        candidates.selected = None;
        candidates.sorted = false;
        if candidates.data.is_empty() {
            return None;
        }
        // Not `LlamaSampler::sample`: it accepts by itself, and lets C++ exceptions through.
        self.draw.apply(candidates);
        let selected = candidates.selected_token();
        let selected = selected.expect("every draw ends in a sampler that selects");
        Some(Token(selected.0))
    }

    /// The tokens whose logits are not those that the model computed, in order.
    fn change(&mut self, logits: &[f32], work: &mut Work) {
        work.tokens.clear();
        work.tokens.extend(&self.last);
        work.tokens
            .extend(self.biases.iter().map(|(token, _)| token));
        work.tokens.sort_unstable();
        work.tokens.dedup();
        let bias = |token: Token| {
            let at = self
                .biases
                .binary_search_by_key(&token, |(token, _)| *token);
            at.map_or(0.0, |at| self.biases[at].1)
        };
        work.changed.data.clear();
        work.changed.data.extend(work.tokens.iter().map(|token| {
            let logit = token.index().and_then(|at| logits.get(at));
            let logit = logit.copied().unwrap_or(f32::NEG_INFINITY);
            LlamaTokenData::new(LlamaToken(token.0), logit + bias(*token), 0.0)
        }));
        if let Some(penalties) = &mut self.penalties {
            penalties.sampler.apply(&mut work.changed);
        }
    }

    /// The candidates, in order: those that changed, and as many others as may be drawn.
    fn gather(&self, logits: &[f32], work: &mut Work) {
        let candidates = &mut work.candidates.data;
        candidates.clear();
        let mut add = |candidate: LlamaTokenData| {
            if candidate.logit() > f32::NEG_INFINITY {
                candidates.push(candidate);
            }
        };
        let mut changed = work.changed.data.iter().copied().peekable();
        // Of the greatest, as many may be among those that changed.
        let count = self
            .drawn_from
            .map_or(usize::MAX, |count| count.saturating_add(changed.len()));
        work.greatest.of(logits, count, |token, logit| {
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
