//! `SamplingParams` → llama.cpp's samplers.
//!
//! The order is llama-server's default (`common/sampling.cpp`): tokens that the model wants suppressed, penalties, `top_k`, `top_p`, `min_p`, temperature, and
//! the draw. The first two change the logits of few tokens, whatever the others' are; the rest needs the greatest logits only
//! where it begins with a cut. Only what a request needs is there, and every draw ends in `greedy` or `dist`: without one,
//! sampling aborts the process (`llama-sampler.cpp`).

use llama_cpp_2::sampling::LlamaSampler;

use crate::config::ranges::to_f32;
use crate::engine::SamplingParams;

/// What changes the logits of tokens that occurred among the last [`penalty_window`], in a vocabulary of `n_vocab`; none where
/// nothing does.
pub(super) fn penalties(params: &SamplingParams, n_vocab: i32) -> Option<LlamaSampler> {
    let last_n = penalty_window(params);
    (last_n > 0).then(|| {
        LlamaSampler::penalties(
            n_vocab,
            last_n,
            to_f32(repeat_penalty(params)),
            to_f32(params.frequency_penalty),
            to_f32(params.presence_penalty),
        )
    })
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
        if params.top_p < 1.0 {
            samplers.push(LlamaSampler::top_p(to_f32(params.top_p), 1));
        }
        if params.min_p > 0.0 {
            samplers.push(LlamaSampler::min_p(to_f32(params.min_p), 1));
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

/// How many of the last tokens the penalties look at; 0 where none is set.
pub(super) fn penalty_window(params: &SamplingParams) -> i32 {
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
