//! DRY samplers of one model.
//!
//! llama.cpp looks for every sequence breaker in every token of the vocabulary, which takes a while; a clone takes what it found along.

use std::cell::RefCell;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;

use super::sampling::Penalties;
use crate::config::ranges::to_f32;
use crate::engine::SamplingParams;

/// Makes DRY samplers, and keeps the last one.
#[derive(Debug)]
pub(super) struct DrySamplers<'model> {
    model: &'model LlamaModel,
    last: RefCell<Option<(Settings, LlamaSampler)>>,
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
            last: RefCell::new(None),
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
        let mut last = self.last.borrow_mut();
        let (_, sampler) = match &mut *last {
            Some(last) if last.0 == settings => last,
            last => last.insert((settings.clone(), self.build(&settings))),
        };
        Some(Penalties {
            sampler: sampler.clone(),
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
