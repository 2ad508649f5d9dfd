//! What a model needs, and whether it can ever have it: pure.

use std::collections::BTreeMap;

use crate::config::units::human;
use crate::config::{FileFault, LoadSettings, ModelConfig, ModelFiles};
use crate::engine::fixed::{FixedPrompt, longest};
use crate::engine::limits::{Facts, Limits};
use crate::gguf::memory::{Estimate, Run};
use crate::worker::client::FixedPrompts;

/// What a model takes when it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Memory.
    pub estimate: Estimate,
    /// Bytes that it was planned for: what pinned models leave of the budget.
    pub allowance: u64,
    /// Tokens of one call.
    pub n_ctx: u32,
    /// Cells that it gets.
    pub kv_cells: u32,
    /// Cells that it would have where memory did not matter.
    pub wanted_cells: u32,
}

/// What `models` need, in their order, where all together may take `budget` bytes; `fixed` has the prompts of their tools by
/// their names. Those that are pinned have theirs first: the others get only what these leave. The need of a model whose files
/// cannot be loaded is unknown.
pub fn needs_of(
    models: &[ModelConfig],
    fixed: &BTreeMap<&str, FixedPrompts>,
    budget: u64,
) -> Vec<Result<Need, FileFault>> {
    let need_of = |model: &ModelConfig, budget| {
        let files = model.files.as_ref().map_err(Clone::clone)?;
        let fixed = fixed.get(model.name.as_str());
        let fixed: &[FixedPrompt] = fixed.map_or(&[], |fixed| fixed);
        Ok(need_of(&model.load, files, fixed, budget))
    };
    let mut left = budget;
    let mut pinned = Vec::new();
    for model in models.iter().filter(|model| model.pin) {
        let need = need_of(model, left);
        left = left.saturating_sub(need.as_ref().map_or(0, |need| need.estimate.total()));
        pinned.push(need);
    }
    let mut pinned = pinned.into_iter();
    models
        .iter()
        .map(|model| {
            let known = model.pin.then(|| pinned.next()).flatten();
            known.unwrap_or_else(|| need_of(model, left))
        })
        .collect()
}

/// What a model needs that is loaded from `files` as `load` says, where it may take `budget` bytes and its tools have the prompts
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

    /// Why the model `name`, which needs this, can never be loaded within `budget`: the key to change, what is wrong, and the
    /// way out.
    pub fn refusal(&self, name: &str, budget: u64) -> Option<(&'static str, String, &'static str)> {
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
        let (key, what, bytes, hint) = if cache >= weights && cache >= compute {
            let hint = "choose a smaller `n_ctx`, or `cache_type_k` and `cache_type_v` of `q8_0`";
            ("n_ctx", "cache is", cache, hint)
        } else if weights >= compute {
            let hint = "choose a smaller quantization, or raise `memory_budget` in `[registry]`";
            ("path", "weights are", weights, hint)
        } else {
            let hint = "choose a smaller `n_batch`, or raise `memory_budget` in `[registry]`";
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
