//! What a model needs, and whether it can ever have it: pure.

use crate::config::units::human;
use crate::config::{LoadSettings, ModelConfig};
use crate::engine::limits::{Facts, Limits, ubatch};
use crate::gguf::memory::{Estimate, Run};

/// What a model takes when it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Bytes.
    pub estimate: Estimate,
    /// Cells that it gets.
    pub kv_cells: u32,
    /// Cells that it would have where memory did not matter.
    pub wanted_cells: u32,
}

/// What `model` needs where all models together may take `budget` bytes.
pub fn need_of(model: &ModelConfig, budget: u64) -> Need {
    let (load, header) = (&model.load, &model.header);
    let run = |kv_cells: u32| Run {
        parallel: load.parallel as u64,
        kv_cells: kv_cells.into(),
        n_ubatch: ubatch(is_on_gpu(load)).into(),
        key_bytes_of_32: load.cache_type_k.bytes_of_32(),
        value_bytes_of_32: load.cache_type_v.bytes_of_32(),
    };
    let estimate = |kv_cells: u32| {
        let estimate = header.estimate(run(kv_cells));
        Estimate {
            weights: estimate.weights.saturating_add(model.adapter_bytes),
            ..estimate
        }
    };
    let facts = |memory| Facts {
        n_ctx_train: u32::try_from(header.n_ctx_train.unwrap_or(0)).unwrap_or(u32::MAX),
        bytes_per_cell: header.bytes_per_cell(run(0)),
        available_memory: memory,
    };
    let kv_cells = Limits::plan(
        load,
        facts(Some(budget.saturating_sub(estimate(0).total()))),
    )
    .kv_cells;
    Need {
        estimate: estimate(kv_cells),
        kv_cells,
        wanted_cells: Limits::plan(load, facts(None)).kv_cells,
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
    /// Why a model that needs this can never be loaded within `budget`: the key to change, what is wrong, and the way out.
    pub fn refusal(&self, budget: u64) -> Option<(&'static str, String, String)> {
        let total = self.estimate.total();
        if total <= budget {
            return None;
        }
        let needs = format!(
            "the model needs {}, and all models together may take {}",
            human(total),
            human(budget)
        );
        Some(if self.estimate.weights + self.estimate.compute > budget {
            let message = format!(
                "{needs}; its weights alone are {}",
                human(self.estimate.weights)
            );
            (
                "path",
                message,
                "choose a smaller quantization, or raise `memory_budget` in `[registry]`".into(),
            )
        } else {
            let message = format!(
                "{needs}; its cache is {} of that",
                human(self.estimate.cache)
            );
            (
                "n_ctx",
                message,
                "choose a smaller `n_ctx`, or `cache_type_k` and `cache_type_v` of `q8_0`".into(),
            )
        })
    }
}
