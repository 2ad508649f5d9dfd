//! What a model needs, and whether it can ever have it: pure.

mod planner;

use std::collections::BTreeMap;

use super::budget::{raised_budget, way_out};
use super::footprint::{Demand, Footprint, Mapped, sum, sum_on_gpu};
use super::residency::Shared;
use crate::config::units::{GpuLayers, Size, human};
use crate::config::{FileFault, LoadSettings, ModelConfig, ModelFiles, RegistryConfig};
use crate::engine::shared_prefix::{FixedPrompt, longest};
use crate::gguf::Header;
use crate::gguf::memory::Estimate;
use crate::gpu;
use crate::worker::client::FixedPrompts;
use planner::Planner;

/// Memory that a model may take, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// The machine's memory.
    pub machine: u64,
    /// The GPUs' own memory; `None` if no GPU has its own memory, or its size is unknown.
    pub gpu: Option<u64>,
}

/// What a model takes when it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    /// Memory of the machine.
    pub estimate: Estimate,
    /// The GPUs' own memory.
    pub gpu: Estimate,
    /// Layers that GPUs compute, with the output counted as one.
    pub gpu_layers: u64,
    /// Most layers that GPUs can compute.
    pub layers: u64,
    /// Most layers that GPUs have memory for.
    pub fitting_layers: u64,
    /// Weights in the mapped file, which other models can share; `None` if each model has its own copy.
    pub mapped: Option<Mapped>,
    /// Bytes that the model would take with the smallest context.
    pub least: u64,
    /// Memory that the plan may use: the part that pinned models leave.
    pub allowance: Allowance,
    /// Tokens of one call.
    pub n_ctx: u32,
    /// Cells that it gets.
    pub kv_cells: u32,
    /// Cells that it would have where memory did not matter.
    pub wanted_cells: u32,
}

/// Returns the memory needs of `models`, in their order, if all together may take `budget` bytes and GPUs are as in `registry`; `fixed` has
/// the prompts of their tools by model name. Pinned models come first, and the others get only what they leave. A model whose files cannot
/// be loaded has an `Err`.
pub(crate) fn needs_of(
    models: &[ModelConfig],
    fixed: &BTreeMap<&str, FixedPrompts>,
    budget: u64,
    registry: &RegistryConfig,
) -> Vec<Result<Need, FileFault>> {
    let need_of = |model: &ModelConfig, pinned: &[Footprint]| {
        let files = model.files.as_ref().map_err(Clone::clone)?;
        let fixed = fixed.get(model.name.as_str());
        let fixed: &[FixedPrompt] = fixed.map_or(&[], |fixed| fixed);
        let left = Allowance {
            machine: left_for(&model.load, files, pinned, budget),
            gpu: gpu_left_for(&model.load, pinned, registry),
        };
        Ok(need_of(&model.load, files, fixed, left))
    };
    let (mut pinned, mut known) = (Vec::new(), Vec::new());
    for model in models.iter().filter(|model| model.pin) {
        let need = need_of(model, &pinned);
        pinned.extend(need.as_ref().map(|need: &Need| need.demand().footprint));
        known.push(need);
    }
    let mut known = known.into_iter();
    models
        .iter()
        .map(|model| {
            let known = model.pin.then(|| known.next()).flatten();
            known.unwrap_or_else(|| need_of(model, &pinned))
        })
        .collect()
}

/// Returns the bytes of `budget` that `pinned` models leave to a model with `files` and the settings `load`. Weights that the model
/// shares with them are included.
fn left_for(load: &LoadSettings, files: &ModelFiles, pinned: &[Footprint], budget: u64) -> u64 {
    let mapped = mapped_by(load, &files.header, is_on_gpu(load));
    let own = Footprint {
        mapped,
        ..Footprint::alone(mapped.map_or(0, |mapped| mapped.bytes))
    };
    let held = sum(pinned.iter().copied().chain([own])).saturating_sub(own.total);
    budget.saturating_sub(held)
}

/// Returns the bytes of GPU memory that `pinned` models leave to a model with the settings `load`.
pub(crate) fn gpu_left_for(
    load: &LoadSettings,
    pinned: &[Footprint],
    registry: &RegistryConfig,
) -> Option<u64> {
    let held = sum_on_gpu(pinned.iter().copied());
    Some(registry.gpu_memory_for(load)?.saturating_sub(held))
}

/// Returns the weights that a model with the settings `load` maps from the file of `header`. On a GPU there are none.
fn mapped_by(load: &LoadSettings, header: &Header, is_on_gpu: bool) -> Option<Mapped> {
    let is_mapped = load.mmap && !is_on_gpu;
    let file = header.file.filter(|_| is_mapped)?;
    Some(Mapped {
        file,
        bytes: header.mapped_bytes,
        is_locked: load.mlock,
    })
}

/// Returns the memory need of a model with `files` and the settings `load`. It may take `allowance`, and its tools have the prompts
/// `fixed`.
pub(crate) fn need_of(
    load: &LoadSettings,
    files: &ModelFiles,
    fixed: &[FixedPrompt],
    allowance: Allowance,
) -> Need {
    let load = &LoadSettings {
        fixed_prompt_bytes: longest(fixed),
        ..load.clone()
    };
    let planner = Planner {
        load,
        files,
        allowance,
        gpu_layers: if is_on_gpu(load) {
            load.n_gpu_layers.most().into()
        } else {
            0
        },
    };
    match load.n_gpu_layers {
        GpuLayers::Auto => planner.with_fitting_layers().need(),
        GpuLayers::Count(_) => planner.need(),
    }
}

/// Whether a GPU computes, as far as the build tells.
pub(crate) fn is_on_gpu(load: &LoadSettings) -> bool {
    load.n_gpu_layers.is_any() && gpu::IN_BUILD
}

impl Need {
    /// Replaces the values that `load` leaves open by those of the plan.
    pub(crate) fn complete(&self, load: &mut LoadSettings) {
        if load.kv_cells == 0 {
            load.kv_cells = self.kv_cells;
        }
        if load.n_ctx == 0 {
            load.n_ctx = self.n_ctx;
        }
        if load.n_gpu_layers == GpuLayers::Auto {
            let layers = u32::try_from(self.gpu_layers).unwrap_or(u32::MAX);
            load.n_gpu_layers = GpuLayers::Count(layers);
        }
        load.cache_ram = Size(load.cache_ram.0.min(self.spare()));
    }

    /// Bytes that the estimate leaves of what the model may take.
    ///
    /// What `cache_ram` allows is no part of the estimate: it may never be used, and counted it would refuse models that fit.
    /// So a worker gets as much of it as there is beside its estimate, and what it took in the end is measured like the rest.
    fn spare(&self) -> u64 {
        self.allowance.machine.saturating_sub(self.estimate.total())
    }

    /// Returns the model's demand, for the registry.
    pub(crate) fn demand(&self) -> Demand {
        Demand {
            footprint: Footprint {
                total: self.estimate.total(),
                mapped: self.mapped,
                gpu: self.gpu.total(),
            },
            least: self.least,
        }
    }

    /// Returns why the model `name` with this need can never be loaded: the key to change, the fault, and the way out. Returns `None` if it
    /// can be loaded.
    pub(crate) fn refusal(
        &self,
        name: &str,
        shared: Shared,
    ) -> Option<(&'static str, String, String)> {
        let budget = shared.budget;
        let Estimate {
            weights,
            cache,
            compute,
        } = self.estimate;
        let total = self.estimate.total();
        if total <= budget {
            return self.gpu_refusal(name);
        }
        // What takes most of it is what to change.
        let (key, what, bytes, hint) = if weights >= budget || weights >= cache.max(compute) {
            let hint = way_out(self.demand(), 0, shared);
            ("path", "weights are", weights, hint)
        } else if cache >= compute {
            let hint = "choose a smaller `n_ctx`, or `cache_type_k` and `cache_type_v` of `q8_0`";
            ("n_ctx", "cache is", cache, hint.to_owned())
        } else {
            let mut hint = "choose a smaller `n_batch`".to_owned();
            hint.push_str(raised_budget(total, shared));
            ("n_batch", "buffers are", compute, hint)
        };
        let message = format!(
            "the model `{name}` needs {}, and all models together may take {}; its {what} {} of that",
            human(total),
            human(budget),
            human(bytes)
        );
        Some((key, message, hint))
    }

    /// Returns why GPUs can never hold the model `name`, in the form of [`Self::refusal`]; `None` if they can.
    fn gpu_refusal(&self, name: &str) -> Option<(&'static str, String, String)> {
        let total = self.gpu.total();
        let there = self.allowance.gpu.filter(|there| total > *there)?;
        let Estimate {
            weights,
            cache,
            compute,
        } = self.gpu;
        let fewer = format!(
            "set `n_gpu_layers = {}`, which fits, of {} layers",
            self.fitting_layers, self.layers
        );
        let (key, what, bytes, hint) = if weights >= cache.max(compute) {
            let hint = format!("{fewer}, or choose a smaller model or quantization");
            ("n_gpu_layers", "weights are", weights, hint)
        } else if cache >= compute {
            let hint = format!(
                "choose a smaller `n_ctx`, or `cache_type_k` and `cache_type_v` of `q8_0`; or {fewer}"
            );
            ("n_ctx", "cache is", cache, hint)
        } else {
            let hint = format!("choose a smaller `n_batch`; or {fewer}");
            ("n_batch", "buffers are", compute, hint)
        };
        let message = format!(
            "the model `{name}` needs {} of GPU memory, and there are {} for it; its {what} {} of that",
            human(total),
            human(there),
            human(bytes)
        );
        Some((key, message, hint))
    }
}

#[cfg(test)]
mod tests;
