//! Memory that a model needs, and the plan for it. Pure.

use super::footprint::{Demand, Footprint, Mapped};
use crate::gguf::memory::{BASE_BYTES, Estimate};
use crate::worker::ContextPlan;

/// Memory that a model may take, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// Bytes of the machine's memory that the model may take.
    pub machine: u64,
    /// Bytes of the GPUs' own memory that the model may take; `None` if no GPU has its own memory, or its size is unknown.
    pub gpu: Option<u64>,
}

/// Memory need of a model, and the plan for its context and layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    /// Estimate of the machine's memory.
    pub estimate: Estimate,
    /// Estimate of the GPUs' own memory.
    pub gpu: Estimate,
    /// Layers that GPUs compute, with the output layer counted as one.
    pub gpu_layers: u64,
    /// Number of layers that GPUs can compute.
    pub layers: u64,
    /// Number of layers for which GPUs have memory.
    pub fitting_layers: u64,
    /// Weights in the mapped file, which other models can share; `None` if each model has its own copy.
    pub mapped: Option<Mapped>,
    /// Bytes that the model would take with the smallest context.
    pub least: u64,
    /// Memory that the plan may use: the part that pinned models leave.
    pub allowance: Allowance,
    /// Context of one call, in tokens.
    pub n_ctx: u32,
    /// Planned cells of the KV cache.
    pub kv_cells: u32,
    /// Cells that the KV cache would have without a memory limit.
    pub wanted_cells: u32,
}

impl Need {
    /// Returns whether GPUs compute layers of the model. With `n_gpu_layers = "auto"`, their memory may be too small for any.
    pub(crate) fn is_on_gpu(&self) -> bool {
        self.gpu_layers > 0
    }

    /// Returns whether the model fits into `budget` bytes if `n_batch` is small enough. The buffers shrink with `n_batch`, but not below the
    /// code and tables of a process.
    pub(crate) fn fits_with_a_small_batch(&self, budget: u64) -> bool {
        let Estimate { weights, cache, .. } = self.estimate;
        let least = weights.saturating_add(cache).saturating_add(BASE_BYTES);
        least < budget
    }

    /// Returns the planned values of settings that the configuration leaves open.
    pub(crate) fn context_plan(&self) -> ContextPlan {
        ContextPlan {
            n_ctx: self.n_ctx,
            kv_cells: self.kv_cells,
            gpu_layers: u32::try_from(self.gpu_layers).unwrap_or(u32::MAX),
            cache_ram: self.spare(),
        }
    }

    /// Returns the bytes of the allowance that the estimate leaves for saved prefixes.
    ///
    /// The estimate does not include `cache_ram`: saved prefixes may never use all of it, so including it would refuse models that do fit.
    /// The memory that saved prefixes actually use is measured like all other memory of the process.
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
}
