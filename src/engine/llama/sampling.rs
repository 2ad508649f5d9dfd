//! Converts `SamplingParams` to llama.cpp's samplers.
//!
//! The order is that of llama-server (`common/sampling.cpp`): biases (including those of tokens that the model file suppresses), penalties,
//! DRY, `top_k`, `typical_p`, `top_p`, `min_p`, XTC, temperature, and the draw. Samplers that a request does not use are left out.
//!
//! Biases, penalties and DRY change the logits of few tokens, independently of the others. With `top_k`, the other samplers need only the
//! greatest logits. Every draw ends in `greedy` or `dist`: without one, sampling aborts the process (`llama-sampler.cpp`).

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;

use crate::config::ranges::to_f32;
use crate::engine::SamplingParams;
use crate::engine::bias_key::BiasKey;
use crate::engine::token::Token;

/// A sampler that changes the logits of recent tokens.
#[derive(Debug)]
pub(super) struct Penalties {
    pub sampler: LlamaSampler,
    /// Number of recent tokens that the sampler takes into account.
    pub window: usize,
}

/// Returns the penalties of `params` for a vocabulary of `n_vocab` tokens, together with `dry`. Returns `None` if there are none.
pub(super) fn penalties(
    params: &SamplingParams,
    n_vocab: i32,
    dry: Option<Penalties>,
) -> Option<Penalties> {
    let last_n = penalty_window(params);
    let penalties = (last_n > 0).then(|| Penalties {
        window: last_n.unsigned_abs() as usize,
        sampler: LlamaSampler::penalties(
            n_vocab,
            last_n,
            to_f32(repeat_penalty(params)),
            to_f32(params.frequency_penalty),
            to_f32(params.presence_penalty),
        ),
    });
    let all: Vec<Penalties> = penalties.into_iter().chain(dry).collect();
    let window = all.iter().map(|penalties| penalties.window).max()?;
    let samplers = all.into_iter().map(|penalties| penalties.sampler);
    Some(Penalties {
        sampler: LlamaSampler::chain(samplers, true),
        window,
    })
}

/// Returns the biases that are added to logits, in ascending order of tokens: −∞ for tokens that the model file suppresses, and the
/// `logit_bias` of `params`.
pub(super) fn biases(params: &SamplingParams, vocab: &LlamaVocab<'_>) -> Vec<(Token, f32)> {
    let suppressed = vocab.suppress_tokens().iter();
    let mut biases: Vec<(Token, f32)> = suppressed
        .map(|token| (Token(token.0), f32::NEG_INFINITY))
        .collect();
    for (key, bias) in params.logit_bias.iter().flatten() {
        let tokens: Vec<LlamaToken> = match BiasKey::parse(key) {
            BiasKey::Token(token) => token.map(LlamaToken).into_iter().collect(),
            BiasKey::Text(text) => vocab.tokenize(text.as_bytes(), false, false),
        };
        biases.extend(tokens.iter().map(|token| (Token(token.0), to_f32(*bias))));
    }
    biases.sort_unstable_by_key(|(token, _)| *token);
    biases.dedup_by(|(token, bias), (first, sum)| {
        let is_same = token == first;
        if is_same {
            *sum += *bias;
        }
        is_same
    });
    biases
}

/// Returns the samplers that truncate the candidates and draw one of them.
pub(super) fn draw(params: &SamplingParams) -> LlamaSampler {
    let mut samplers = Vec::new();
    if is_greedy(params) {
        samplers.push(LlamaSampler::greedy());
    } else {
        if params.top_k > 0 {
            samplers.push(LlamaSampler::top_k(params.top_k));
        }
        if params.typical_p < 1.0 {
            samplers.push(LlamaSampler::typical(to_f32(params.typical_p), 1));
        }
        if params.top_p < 1.0 {
            samplers.push(LlamaSampler::top_p(to_f32(params.top_p), 1));
        }
        if params.min_p > 0.0 {
            samplers.push(LlamaSampler::min_p(to_f32(params.min_p), 1));
        }
        if params.xtc_probability > 0.0 {
            let (probability, threshold) = (params.xtc_probability, params.xtc_threshold);
            let (probability, threshold) = (to_f32(probability), to_f32(threshold));
            samplers.push(LlamaSampler::xtc(
                probability,
                threshold,
                1,
                params.llama_seed(),
            ));
        }
        samplers.push(LlamaSampler::temp(to_f32(params.temperature)));
        samplers.push(LlamaSampler::dist(params.llama_seed()));
    }
    LlamaSampler::chain(samplers, true)
}

/// Returns how many candidates with the greatest logits [`draw`] needs. Returns `None` if it needs all candidates.
pub(super) fn max_candidates(params: &SamplingParams) -> Option<usize> {
    if is_greedy(params) {
        return Some(1);
    }
    usize::try_from(params.top_k)
        .ok()
        .filter(|top_k| *top_k > 0)
}

/// Returns the number of recent tokens that the penalties without DRY take into account, or 0 if no penalty is set.
fn penalty_window(params: &SamplingParams) -> i32 {
    let penalties = [
        (repeat_penalty(params), 1.0),
        (params.presence_penalty, 0.0),
        (params.frequency_penalty, 0.0),
    ];
    if penalties.iter().any(|(value, off)| is_set(*value, *off)) {
        i32::try_from(params.repeat_last_n).unwrap_or(i32::MAX)
    } else {
        0
    }
}

fn repeat_penalty(params: &SamplingParams) -> f64 {
    params.repeat_penalty.unwrap_or(1.0)
}

fn is_greedy(params: &SamplingParams) -> bool {
    !is_set(params.temperature, 0.0)
}

/// Returns whether a parameter differs from the value that switches its sampler off.
fn is_set(value: f64, off: f64) -> bool {
    (value - off).abs() > f64::from(f32::EPSILON)
}
