//! What a model needs to be loaded. Pure.

use super::footprint::{Demand, Footprint, Mapped};
use crate::gguf::memory::Estimate;
use crate::worker::ContextPlan;

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

impl Need {
    /// Returns the values for what the settings leave open.
    pub(crate) fn context_plan(&self) -> ContextPlan {
        ContextPlan {
            n_ctx: self.n_ctx,
            kv_cells: self.kv_cells,
            gpu_layers: u32::try_from(self.gpu_layers).unwrap_or(u32::MAX),
            cache_ram: self.spare(),
        }
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
}
