//! Memory needs of all models, and refusals of models that can never fit. Pure.

use std::collections::BTreeMap;

use super::budget::{SharedLimits, advice, raised_budget};
use crate::backend::footprint::{Footprint, Mapped, sum, sum_on_gpu};
use crate::backend::{self, Allowance, Estimate, Need, SharedPrefixes};
use crate::config::units::human;
use crate::config::{FileFault, ModelConfig, RegistryConfig, Source};
use crate::engine::shared_prefix::PromptSamples;

/// Returns the memory needs of `models`, in their order, or `Err` for a model whose files cannot be loaded. See [`plan`].
pub(crate) fn needs_of(
    models: &[ModelConfig],
    prefixes: &BTreeMap<&str, SharedPrefixes>,
    budget: u64,
    registry: &RegistryConfig,
) -> Vec<Result<Need, FileFault>> {
    let planned = plan(models, prefixes, budget, registry);
    planned.into_iter().map(|planned| planned.need).collect()
}

/// Memory need of a model, and the memory that it may take.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    /// Memory need, or the fault of the model's files.
    pub(super) need: Result<Need, FileFault>,
    /// Memory that pinned models leave to the model. If the files of the model cannot be read, it is assumed to share no
    /// weights with pinned models.
    pub(super) allowance: Allowance,
}

/// Plans the memory of `models`, in their order.
///
/// All models together may take `budget` bytes, `registry` describes the GPUs, and `prefixes` has the shared prefixes of tools by model
/// name. Pinned models come first, and the others get only the memory that pinned models leave.
pub(super) fn plan(
    models: &[ModelConfig],
    prefixes: &BTreeMap<&str, SharedPrefixes>,
    budget: u64,
    registry: &RegistryConfig,
) -> Vec<Planned> {
    let plan_of = |model: &ModelConfig, pinned: &[Footprint]| {
        let prefixes = prefixes.get(model.name.as_str());
        let prefixes: &[PromptSamples] = prefixes.map_or(&[], |prefixes| prefixes);
        let with = |mapped| {
            let allowance = Allowance {
                machine: left_for(mapped, pinned, budget),
                gpu: gpu_left_for(&model.source, pinned, registry),
            };
            let need = backend::need_of(&model.source, prefixes, allowance);
            Planned { need, allowance }
        };
        let planned = with(None);
        // The plan decides whether the model maps its file. If it does, it may share weights with pinned models, which leaves it more memory.
        match planned.need.as_ref().ok().and_then(|need| need.mapped) {
            Some(mapped) => with(Some(mapped)),
            None => planned,
        }
    };
    let (mut pinned, mut known) = (Vec::new(), Vec::new());
    for model in models.iter().filter(|model| model.pin) {
        let planned = plan_of(model, &pinned);
        let need = planned.need.as_ref();
        pinned.extend(need.map(|need| need.demand().footprint));
        known.push(planned);
    }
    let mut known = known.into_iter();
    models
        .iter()
        .map(|model| {
            let known = model.pin.then(|| known.next()).flatten();
            known.unwrap_or_else(|| plan_of(model, &pinned))
        })
        .collect()
}

/// Returns the bytes of `budget` that `pinned` models leave to a model that maps the weights `mapped`. Weights that it shares with them are
/// included.
fn left_for(mapped: Option<Mapped>, pinned: &[Footprint], budget: u64) -> u64 {
    let own = Footprint {
        mapped,
        ..Footprint::alone(mapped.map_or(0, |mapped| mapped.bytes))
    };
    let held = sum(pinned.iter().copied().chain([own])).saturating_sub(own.total);
    budget.saturating_sub(held)
}

/// Returns the bytes of GPU memory that `pinned` models leave to a model of `source`.
fn gpu_left_for(source: &Source, pinned: &[Footprint], registry: &RegistryConfig) -> Option<u64> {
    let held = sum_on_gpu(pinned.iter().copied());
    Some(registry.gpu_memory_for(source)?.saturating_sub(held))
}

/// Reason why a model can never have the memory that it needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MemoryRefusal {
    /// Configuration key to change.
    pub key: &'static str,
    /// Memory that the model needs, and the limit.
    pub message: String,
    /// Advice for the operator.
    pub hint: String,
}

/// The part of a model's memory that takes the most bytes.
enum Largest {
    Weights,
    Cache,
    Buffers,
}

impl Largest {
    fn of(estimate: Estimate) -> Self {
        let Estimate {
            weights,
            cache,
            compute,
        } = estimate;
        if weights >= cache.max(compute) {
            Self::Weights
        } else if cache >= compute {
            Self::Cache
        } else {
            Self::Buffers
        }
    }

    /// Returns the part with its verb, and its bytes in `estimate`.
    fn named(&self, estimate: Estimate) -> (&'static str, u64) {
        match self {
            Self::Weights => ("weights take", estimate.weights),
            Self::Cache => ("cache takes", estimate.cache),
            Self::Buffers => ("buffers take", estimate.compute),
        }
    }
}

/// Advice for a cache that is too large.
const SMALLER_CACHE: &str =
    "choose a smaller `n_ctx`, or `cache_type_k` and `cache_type_v` of `q8_0`";

/// Returns why the model `name` with this `need` can never be loaded; `None` if it can.
pub(crate) fn refusal(need: &Need, name: &str, shared: SharedLimits) -> Option<MemoryRefusal> {
    let budget = shared.budget;
    let estimate = need.estimate;
    let total = estimate.total();
    if total <= budget {
        return gpu_refusal(need, name);
    }
    let largest = if estimate.weights >= budget {
        Largest::Weights
    } else {
        Largest::of(estimate)
    };
    let (key, hint) = match largest {
        Largest::Cache => ("n_ctx", SMALLER_CACHE.to_owned()),
        Largest::Buffers if need.fits_with_a_small_batch(budget) => {
            let raised = raised_budget(total, shared);
            ("n_batch", format!("choose a smaller `n_batch`{raised}"))
        }
        // A shorter context needs fewer cells.
        Largest::Buffers if need.least <= budget => ("n_ctx", advice(need.demand(), 0, shared)),
        Largest::Weights | Largest::Buffers => ("path", advice(need.demand(), 0, shared)),
    };
    let (what, bytes) = largest.named(estimate);
    let message = format!(
        "the model `{name}` needs {}, of which its {what} {}; the limit for all models together is {}",
        human(total),
        human(bytes),
        human(budget)
    );
    Some(MemoryRefusal { key, message, hint })
}

/// Returns why GPUs can never hold the model `name`; `None` if they can.
fn gpu_refusal(need: &Need, name: &str) -> Option<MemoryRefusal> {
    let total = need.gpu.total();
    let there = need.allowance.gpu.filter(|there| total > *there)?;
    let fewer = format!(
        "set `n_gpu_layers = {}`, which fits, of {} layers",
        need.fitting_layers, need.layers
    );
    let largest = Largest::of(need.gpu);
    let (key, hint) = match largest {
        Largest::Weights => (
            "n_gpu_layers",
            format!("{fewer}, or choose a smaller model or quantization"),
        ),
        Largest::Cache => ("n_ctx", format!("{SMALLER_CACHE}; or {fewer}")),
        Largest::Buffers => ("n_batch", format!("choose a smaller `n_batch`; or {fewer}")),
    };
    let (what, bytes) = largest.named(need.gpu);
    let message = format!(
        "the model `{name}` needs {} of GPU memory, of which its {what} {}; only {} are available to it",
        human(total),
        human(bytes),
        human(there)
    );
    Some(MemoryRefusal { key, message, hint })
}

#[cfg(test)]
mod tests;
