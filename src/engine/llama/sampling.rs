//! `SamplingParams` → llama.cpp's samplers.
//!
//! The order is llama-server's default (`common/sampling.cpp`): biases, among them of tokens that the model's file suppresses,
//! penalties, DRY, `top_k`, `typical_p`, `top_p`, `min_p`, XTC, temperature, and the draw. The first three change the logits of few
//! tokens, whatever the others' are; the rest needs the greatest logits only where it begins with a cut. Only what a request needs is there, and every draw ends in `greedy` or `dist`: without one,
//! sampling aborts the process (`llama-sampler.cpp`).

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;

use crate::config::ranges::to_f32;
use crate::engine::SamplingParams;
use crate::engine::token::Token;

/// Changes the logits of tokens that occurred.
#[derive(Debug)]
pub(super) struct Penalties {
    pub sampler: LlamaSampler,
    /// How many of the last tokens it looks at.
    pub window: usize,
}

/// Returns the penalties that `params` set, in a vocabulary of `n_vocab`, and `dry`; `None` if there are none.
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

/// Returns what is added to logits, in the order of tokens: −∞ for those that the model's file suppresses, and what `params` set.
pub(super) fn biases(params: &SamplingParams, vocab: &LlamaVocab<'_>) -> Vec<(Token, f32)> {
    let suppressed = vocab.suppress_tokens().iter();
    let mut biases: Vec<(Token, f32)> = suppressed
        .map(|token| (Token(token.0), f32::NEG_INFINITY))
        .collect();
    for (key, bias) in params.logit_bias.iter().flatten() {
        let is_id = key.bytes().all(|byte| byte.is_ascii_digit());
        let tokens = match key.parse() {
            Ok(token) if is_id => vec![LlamaToken(token)],
            _ => vocab.tokenize(key.as_bytes(), false, false),
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

/// What cuts the candidates, and draws among those that are left.
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

/// How many candidates of the greatest logits [`draw`] looks at; none where it needs all.
pub(super) fn drawn_from(params: &SamplingParams) -> Option<usize> {
    if is_greedy(params) {
        return Some(1);
    }
    usize::try_from(params.top_k)
        .ok()
        .filter(|top_k| *top_k > 0)
}

/// Returns how many of the last tokens the penalties look at, without DRY; 0 if none is set.
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

/// Whether a parameter differs from the value that switches its sampler off.
fn is_set(value: f64, off: f64) -> bool {
    (value - off).abs() > f64::from(f32::EPSILON)
}
