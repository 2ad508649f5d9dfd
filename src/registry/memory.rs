//! What a model needs, and whether it can ever have it: pure.

use std::collections::BTreeMap;

use super::budget::{raised_budget, way_out};
use super::footprint::{Demand, Footprint, Mapped, sum};
use super::residency::Shared;
use crate::config::units::human;
use crate::config::{FileFault, LoadSettings, ModelConfig, ModelFiles};
use crate::engine::fixed::{FixedPrompt, longest};
use crate::engine::limits::{CELL_STEP, Facts, Limits};
use crate::gguf::Header;
use crate::gguf::memory::{Estimate, Run};
use crate::worker::client::FixedPrompts;

/// What a model takes when it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Memory.
    pub estimate: Estimate,
    /// Weights in the mapped file, which other models can share; `None` if each model has its own copy.
    pub mapped: Option<Mapped>,
    /// Bytes that the model would take with the smallest context.
    pub least: u64,
    /// Bytes that it was planned for: what pinned models leave of the budget.
    pub allowance: u64,
    /// Tokens of one call.
    pub n_ctx: u32,
    /// Cells that it gets.
    pub kv_cells: u32,
    /// Cells that it would have where memory did not matter.
    pub wanted_cells: u32,
}

/// Returns the memory needs of `models`, in their order, if all together may take `budget` bytes; `fixed` has the prompts of their
/// tools by model name. Pinned models come first, and the others get only what they leave. A model whose files cannot be loaded has
/// an `Err`.
pub fn needs_of(
    models: &[ModelConfig],
    fixed: &BTreeMap<&str, FixedPrompts>,
    budget: u64,
) -> Vec<Result<Need, FileFault>> {
    let need_of = |model: &ModelConfig, pinned: &[Footprint]| {
        let files = model.files.as_ref().map_err(Clone::clone)?;
        let fixed = fixed.get(model.name.as_str());
        let fixed: &[FixedPrompt] = fixed.map_or(&[], |fixed| fixed);
        let left = left_for(&model.load, files, pinned, budget);
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
    let mapped = mapped_by(load, &files.header);
    let own = Footprint {
        total: mapped.map_or(0, |mapped| mapped.bytes),
        mapped,
    };
    let held = sum(pinned.iter().copied().chain([own])).saturating_sub(own.total);
    budget.saturating_sub(held)
}

/// Returns the weights that a model with the settings `load` maps from the file of `header`.
fn mapped_by(load: &LoadSettings, header: &Header) -> Option<Mapped> {
    let is_mapped = load.mmap && !is_on_gpu(load);
    let file = header.file.filter(|_| is_mapped)?;
    Some(Mapped {
        file,
        bytes: header.mapped_bytes,
        is_locked: load.mlock,
    })
}

/// Returns the memory need of a model with `files` and the settings `load`. It may take `budget` bytes, and its tools have the prompts
/// `fixed`.
pub fn need_of(
    load: &LoadSettings,
    files: &ModelFiles,
    fixed: &[FixedPrompt],
    budget: u64,
) -> Need {
    let header = &files.header;
    let load = &LoadSettings {
        fixed_prompt_bytes: longest(fixed),
        ..load.clone()
    };
    let on_gpu = is_on_gpu(load);
    let run = |limits: Limits, kv_cells: u32| Run {
        parallel: limits.parallel as u64,
        kv_cells: kv_cells.into(),
        n_ubatch: limits.n_ubatch(load, on_gpu) as u64,
        key_bytes_of_32: load.cache_type_k.bytes_of_32(),
        value_bytes_of_32: load.cache_type_v.bytes_of_32(),
        is_pool: limits.is_pool,
        has_flash_attention: limits.has_flash_attention(load, on_gpu),
    };
    let estimate = |limits: Limits, kv_cells: u32| {
        let estimate = header.estimate(run(limits, kv_cells));
        Estimate {
            weights: estimate.weights.saturating_add(files.adapter_bytes),
            ..estimate
        }
    };
    let plan = |limits: Limits, memory: Option<u64>| {
        let run = run(limits, 0);
        let scores = header.score_bytes_per_cell(run);
        let facts = Facts {
            n_ctx_train: u32::try_from(header.n_ctx_train.unwrap_or(0)).unwrap_or(u32::MAX),
            bytes_per_cell: header.bytes_per_cell(run).saturating_add(scores),
            available_memory: memory,
            keeps_all: header.keeps_all,
        };
        Limits::plan(load, facts)
    };
    let wanted = plan(Limits::asked(load), None);
    let planned = |limits: Limits| {
        let fixed = estimate(limits, 0).total();
        plan(limits, Some(budget.saturating_sub(fixed)))
    };
    // A pool of cells may cost more each than a cache for each sequence: planned again as what it came out to be.
    let limits = planned(planned(wanted));
    Need {
        estimate: estimate(limits, limits.kv_cells),
        mapped: mapped_by(load, header),
        least: estimate(limits, CELL_STEP).total(),
        allowance: budget,
        n_ctx: limits.n_ctx,
        kv_cells: limits.kv_cells,
        wanted_cells: wanted.kv_cells,
    }
}

/// Whether a GPU computes, as far as the build tells.
pub fn is_on_gpu(load: &LoadSettings) -> bool {
    load.n_gpu_layers > 0 && HAS_GPU
}

/// Whether this build can use a GPU at all.
const HAS_GPU: bool = cfg!(any(
    feature = "cuda",
    feature = "vulkan",
    feature = "metal",
    all(target_os = "macos", target_arch = "aarch64")
));

impl Need {
    /// Bytes that the estimate leaves of what the model may take.
    ///
    /// What `cache_ram` allows is no part of the estimate: it may never be used, and counted it would refuse models that fit.
    /// So a worker gets as much of it as there is beside its estimate, and what it took in the end is measured like the rest.
    pub fn spare(&self) -> u64 {
        self.allowance.saturating_sub(self.estimate.total())
    }

    /// Returns the model's demand, for the registry.
    pub fn demand(&self) -> Demand {
        Demand {
            footprint: Footprint {
                total: self.estimate.total(),
                mapped: self.mapped,
            },
            least: self.least,
        }
    }

    /// Returns why the model `name` with this need can never be loaded: the key to change, the fault, and the way out. Returns `None` if it
    /// can be loaded.
    pub fn refusal(&self, name: &str, shared: Shared) -> Option<(&'static str, String, String)> {
        let budget = shared.budget;
        let Estimate {
            weights,
            cache,
            compute,
        } = self.estimate;
        let total = self.estimate.total();
        if total <= budget {
            return None;
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
}
