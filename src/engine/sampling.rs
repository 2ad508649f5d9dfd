//! `SamplingParams` → a chain of llama.cpp's samplers.
//!
//! The order is llama-server's default (`common/sampling.cpp`): tokens that the model wants suppressed, penalties, `top_k`, `top_p`, `min_p`, temperature, and
//! the draw. Only what a request needs is in its chain, and every chain ends in `greedy` or `dist`: without one,
//! sampling aborts the process (`llama-sampler.cpp`).

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::logit_bias::LlamaLogitBias;

use super::SamplingParams;

/// How many of the last tokens the repeat penalty looks at (llama.cpp's default).
pub const REPEAT_LAST_N: i32 = 64;

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
    if is_set(params.repeat_penalty, 1.0) {
        samplers.push(LlamaSampler::penalties(
            n_vocab,
            REPEAT_LAST_N,
            params.repeat_penalty,
            0.0,
            0.0,
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

/// Whether a parameter differs from the value that switches its sampler off.
fn is_set(value: f32, off: f32) -> bool {
    (value - off).abs() > f32::EPSILON
}
