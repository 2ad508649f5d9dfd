//! `SamplingParams` → a chain of llama.cpp's samplers.
//!
//! The order is llama-server's default (`common/sampling.cpp`): tokens that the model wants suppressed, penalties, `top_k`, `top_p`, `min_p`, temperature, and
//! the draw. Only what a request needs is in its chain, and every chain ends in `greedy` or `dist`: without one,
//! sampling aborts the process (`llama-sampler.cpp`).

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::logit_bias::LlamaLogitBias;

use super::SamplingParams;

/// The chain for one request over a vocabulary of `n_vocab` tokens, of which `suppressed` are never chosen.
pub fn chain(params: &SamplingParams, n_vocab: i32, suppressed: &[LlamaToken]) -> LlamaSampler {
    let mut samplers = Vec::new();
    if !suppressed.is_empty() {
        let never: Vec<_> = suppressed
            .iter()
            .map(|token| LlamaLogitBias::new(*token, f32::NEG_INFINITY))
            .collect();
        samplers.push(LlamaSampler::logit_bias(n_vocab, &never));
    }
    let last_n = penalty_window(params);
    if last_n > 0 {
        samplers.push(LlamaSampler::penalties(
            n_vocab,
            last_n,
            params.repeat_penalty,
            params.frequency_penalty,
            params.presence_penalty,
        ));
    }
    if is_set(params.temperature, 0.0) {
        if params.top_k > 0 {
            samplers.push(LlamaSampler::top_k(params.top_k));
        }
        if params.top_p < 1.0 {
            samplers.push(LlamaSampler::top_p(params.top_p, 1));
        }
        if params.min_p > 0.0 {
            samplers.push(LlamaSampler::min_p(params.min_p, 1));
        }
        samplers.push(LlamaSampler::temp(params.temperature));
        samplers.push(LlamaSampler::dist(params.seed));
    } else {
        samplers.push(LlamaSampler::greedy());
    }
    LlamaSampler::chain(samplers, true)
}

/// How many of the last tokens the penalties look at; 0 where none is set.
pub fn penalty_window(params: &SamplingParams) -> i32 {
    let penalties = [
        (params.repeat_penalty, 1.0),
        (params.presence_penalty, 0.0),
        (params.frequency_penalty, 0.0),
    ];
    if penalties.iter().any(|(value, off)| is_set(*value, *off)) {
        i32::try_from(params.repeat_last_n).unwrap_or(i32::MAX)
    } else {
        0
    }
}

/// Whether a parameter differs from the value that switches its sampler off.
fn is_set(value: f32, off: f32) -> bool {
    (value - off).abs() > f32::EPSILON
}
