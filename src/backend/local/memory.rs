//! Memory that a model in a process of this machine needs. Pure.

use super::planner::Planner;
use crate::backend::footprint::Mapped;
use crate::backend::{Allowance, Need};
use crate::config::units::{GpuLayers, human};
use crate::config::{LoadSettings, ModelFiles};
use crate::engine::shared_prefix::{FixedPrompt, longest};
use crate::gguf::Header;
use crate::gpu;

/// Returns the weights that a model with the settings `load` maps from the file of `header`. On a GPU there are none.
pub(in crate::backend) fn mapped_by(
    load: &LoadSettings,
    header: &Header,
    is_on_gpu: bool,
) -> Option<Mapped> {
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
    let planner = Planner {
        load,
        files,
        allowance,
        shared_prefix_bytes: longest(fixed),
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

/// Returns whether a GPU computes the model, as far as the build and the settings tell.
pub(crate) fn is_on_gpu(load: &LoadSettings) -> bool {
    load.n_gpu_layers.is_any() && gpu::IN_BUILD
}

/// Logs where the layers of the model `name` will be computed, if GPUs are involved.
pub(in crate::backend) fn log_offload(name: &str, load: &LoadSettings, need: &Need) {
    if load.n_gpu_layers == GpuLayers::Auto && gpu::IN_BUILD && need.gpu_layers == 0 {
        tracing::warn!(
            model = name,
            "no layer fits into the GPU's free memory: the model runs on the CPU"
        );
    }
    if need.gpu_layers > 0 {
        tracing::info!(
            model = name,
            layers = need.layers,
            gpu_layers = need.gpu_layers,
            gpu_memory = human(need.gpu.total()),
            "offloading to the GPU"
        );
    }
}

#[cfg(test)]
pub(crate) mod tests;
