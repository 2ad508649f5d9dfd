//! DRY samplers of one model.
//!
//! llama.cpp looks for every sequence breaker in every token of the vocabulary: for four of them in Gemma's 262,144 tokens that takes
//! tenths of a second. A clone of a sampler keeps what was found.

use std::cell::RefCell;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;

use super::sampling::Penalties;
use crate::config::ranges::to_f32;
use crate::engine::SamplingParams;

/// Creates DRY samplers, and keeps one for each combination of settings. A configuration has few of them.
#[derive(Debug)]
pub(super) struct DrySamplers<'model> {
    model: &'model LlamaModel,
    made: RefCell<Vec<(Settings, LlamaSampler)>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Settings {
    multiplier: f32,
    base: f32,
    allowed_length: i32,
    window: i32,
    breakers: Vec<String>,
}

impl<'model> DrySamplers<'model> {
    pub(super) fn new(model: &'model LlamaModel) -> Self {
        Self {
            model,
            made: RefCell::new(Vec::new()),
        }
    }

    /// Returns a sampler that has seen no token, in a context of `n_ctx`; `None` if `params` switch DRY off.
    pub(super) fn sampler(&self, params: &SamplingParams, n_ctx: u32) -> Option<Penalties> {
        let n_ctx = i32::try_from(n_ctx).unwrap_or(i32::MAX);
        let window = match params.dry_penalty_last_n {
            -1 => n_ctx,
            last_n => last_n.min(n_ctx),
        };
        if params.dry_multiplier <= 0.0 || window <= 0 {
            return None;
        }
        let settings = Settings {
            multiplier: to_f32(params.dry_multiplier),
            base: to_f32(params.dry_base),
            allowed_length: params.dry_allowed_length,
            window,
            breakers: params.dry_sequence_breakers.clone(),
        };
        let mut made = self.made.borrow_mut();
        let known = made.iter().find(|(known, _)| *known == settings);
        let sampler = if let Some((_, sampler)) = known {
            sampler.clone()
        } else {
            let sampler = self.build(&settings);
            made.push((settings, sampler.clone()));
            sampler
        };
        Some(Penalties {
            sampler,
            window: window.unsigned_abs() as usize,
        })
    }

    fn build(&self, settings: &Settings) -> LlamaSampler {
        // llama-cpp-2 panics on NUL, which no token of a text has.
        let breakers = settings.breakers.iter();
        let breakers = breakers.filter(|breaker| !breaker.contains('\0'));
        LlamaSampler::dry(
            self.model,
            settings.multiplier,
            settings.base,
            settings.allowed_length,
            settings.window,
            breakers,
        )
    }
}
