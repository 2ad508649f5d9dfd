//! What a model needs, and whether it can ever have it: pure.

use std::collections::BTreeMap;

use super::budget::{raised_budget, way_out};
use super::footprint::{Demand, Footprint, Mapped, sum, sum_on_gpu};
use super::residency::Shared;
use crate::config::units::human;
use crate::config::{FileFault, LoadSettings, ModelConfig, ModelFiles, RegistryConfig};
use crate::engine::fixed::{FixedPrompt, longest};
use crate::engine::limits::{CELL_STEP, Facts, Limits};
use crate::gguf::Header;
use crate::gguf::memory::{Estimate, Run, Split};
use crate::gpu;
use crate::worker::client::FixedPrompts;

/// Memory that a model may take, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// The machine's memory.
    pub machine: u64,
    /// The GPUs' own memory; `None` if no GPU has its own memory, or its size is unknown.
    pub gpu: Option<u64>,
}

/// What a model takes when it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
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
pub fn needs_of(
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
    let mapped = mapped_by(load, &files.header);
    let own = Footprint {
        mapped,
        ..Footprint::alone(mapped.map_or(0, |mapped| mapped.bytes))
    };
    let held = sum(pinned.iter().copied().chain([own])).saturating_sub(own.total);
    budget.saturating_sub(held)
}

/// Returns the bytes of GPU memory that `pinned` models leave to a model with the settings `load`.
pub fn gpu_left_for(
    load: &LoadSettings,
    pinned: &[Footprint],
    registry: &RegistryConfig,
) -> Option<u64> {
    let held = sum_on_gpu(pinned.iter().copied());
    Some(registry.gpu_memory_for(load)?.saturating_sub(held))
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

/// Returns the memory need of a model with `files` and the settings `load`. It may take `allowance`, and its tools have the prompts
/// `fixed`.
pub fn need_of(
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
            load.n_gpu_layers.into()
        } else {
            0
        },
    };
    planner.need()
}

/// Plans a model's context and memory.
#[derive(Debug, Clone, Copy)]
struct Planner<'a> {
    load: &'a LoadSettings,
    files: &'a ModelFiles,
    allowance: Allowance,
    /// Layers that GPUs are to compute; a number above the model's layers means all.
    gpu_layers: u64,
}

impl Planner<'_> {
    fn need(self) -> Need {
        let layers = self.files.header.offloadable();
        let wanted = self.plan(Limits::asked(self.load), None);
        // A cell of a pool may cost more than a cell of a sequence's own cache. The second plan uses the layout that the first one chose.
        let limits = self.plan_to_fit(self.plan_to_fit(wanted));
        let Split { machine, gpu } = self.estimate(limits, limits.kv_cells);
        Need {
            estimate: machine,
            gpu,
            gpu_layers: self.gpu_layers.min(layers),
            layers,
            fitting_layers: self.fitting_layers(limits),
            mapped: mapped_by(self.load, &self.files.header),
            least: self.estimate(limits, CELL_STEP).machine.total(),
            allowance: self.allowance,
            n_ctx: limits.n_ctx,
            kv_cells: limits.kv_cells,
            wanted_cells: wanted.kv_cells,
        }
    }

    fn run(self, limits: Limits, kv_cells: u32) -> Run {
        let Self { load, .. } = self;
        let on_gpu = self.gpu_layers > 0;
        Run {
            parallel: limits.parallel as u64,
            kv_cells: kv_cells.into(),
            n_ubatch: limits.n_ubatch(load, on_gpu) as u64,
            key_bytes_of_32: load.cache_type_k.bytes_of_32(),
            value_bytes_of_32: load.cache_type_v.bytes_of_32(),
            is_pool: limits.is_pool,
            has_flash_attention: limits.has_flash_attention(load, on_gpu),
            // A GPU without memory of its own takes the machine's.
            gpu_layers: self.allowance.gpu.map_or(0, |_| self.gpu_layers),
        }
    }

    fn estimate(self, limits: Limits, kv_cells: u32) -> Split<Estimate> {
        let run = self.run(limits, kv_cells);
        let mut estimate = self.files.header.estimate(run);
        // An adapter is in the same memory as the weights that it changes.
        let side = match run.gpu_layers {
            0 => &mut estimate.machine,
            _ => &mut estimate.gpu,
        };
        side.weights = side.weights.saturating_add(self.files.adapter_bytes);
        estimate
    }

    /// Plans for a cache of `left` bytes; `None` sets no limit.
    fn plan(self, limits: Limits, left: Option<Split<u64>>) -> Limits {
        let header = &self.files.header;
        let run = self.run(limits, 0);
        let scores = header.score_bytes_per_cell(run);
        let cell = header.bytes_per_cell(run);
        let with_scores = |bytes: u64| match bytes {
            0 => 0,
            bytes => bytes.saturating_add(scores),
        };
        let cell = Split {
            machine: with_scores(cell.machine),
            gpu: with_scores(cell.gpu),
        };
        let (bytes_per_cell, available_memory) = match left {
            Some(left) => tighter(cell, left),
            None => (cell.machine.saturating_add(cell.gpu), u64::MAX),
        };
        let facts = Facts {
            n_ctx_train: u32::try_from(header.n_ctx_train.unwrap_or(0)).unwrap_or(u32::MAX),
            bytes_per_cell,
            available_memory: left.map(|_| available_memory),
            keeps_all: header.keeps_all,
        };
        Limits::plan(self.load, facts)
    }

    /// Plans again for what `limits` leave of the allowance.
    fn plan_to_fit(self, limits: Limits) -> Limits {
        let without = self.estimate(limits, 0);
        let left = Split {
            machine: self
                .allowance
                .machine
                .saturating_sub(without.machine.total()),
            gpu: self
                .allowance
                .gpu
                .unwrap_or(0)
                .saturating_sub(without.gpu.total()),
        };
        self.plan(limits, Some(left))
    }

    /// Returns the most layers, up to the number asked for, that GPUs have memory for.
    fn fitting_layers(self, limits: Limits) -> u64 {
        let fits = |gpu_layers: &u64| {
            let fewer = Self {
                gpu_layers: *gpu_layers,
                ..self
            };
            let gpu = fewer.estimate(limits, limits.kv_cells).gpu.total();
            gpu <= self.allowance.gpu.unwrap_or(u64::MAX)
        };
        let asked = self.gpu_layers.min(self.files.header.offloadable());
        (0..=asked).rev().find(fits).unwrap_or(0)
    }
}

/// Returns the side on which fewer cells fit: the bytes of a cell there, and the bytes that are left there.
fn tighter(cell: Split<u64>, left: Split<u64>) -> (u64, u64) {
    let cells = |cell, left: u64| left.checked_div(cell).unwrap_or(u64::MAX);
    if cells(cell.gpu, left.gpu) < cells(cell.machine, left.machine) {
        (cell.gpu, left.gpu)
    } else {
        (cell.machine, left.machine)
    }
}

/// Whether a GPU computes, as far as the build tells.
pub fn is_on_gpu(load: &LoadSettings) -> bool {
    load.n_gpu_layers > 0 && gpu::IN_BUILD
}

impl Need {
    /// Bytes that the estimate leaves of what the model may take.
    ///
    /// What `cache_ram` allows is no part of the estimate: it may never be used, and counted it would refuse models that fit.
    /// So a worker gets as much of it as there is beside its estimate, and what it took in the end is measured like the rest.
    pub fn spare(&self) -> u64 {
        self.allowance.machine.saturating_sub(self.estimate.total())
    }

    /// Returns the model's demand, for the registry.
    pub fn demand(&self) -> Demand {
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
    pub fn refusal(&self, name: &str, shared: Shared) -> Option<(&'static str, String, String)> {
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
