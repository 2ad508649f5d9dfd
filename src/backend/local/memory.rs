//! Memory need of a model that runs in a process on this machine.

use super::planner::Planner;
use crate::backend::{Allowance, Need};
use crate::config::units::{GpuLayers, human};
use crate::config::{GgufSource, ModelFiles};
use crate::engine::shared_prefix::{PromptSamples, longest};

/// Returns the memory need of the model of `source` with `files`. The model may take `allowance`, and its tools have the shared prefixes
/// `prefixes`.
pub(crate) fn need_of(
    source: &GgufSource,
    files: &ModelFiles,
    prefixes: &[PromptSamples],
    allowance: Allowance,
) -> Need {
    let load = &source.settings;
    let planner = Planner {
        load,
        files,
        allowance,
        shared_prefix_bytes: longest(prefixes),
        gpu_layers: if source.is_on_gpu {
            load.n_gpu_layers.most().into()
        } else {
            0
        },
    };
    match load.n_gpu_layers {
        GpuLayers::Auto if source.is_on_gpu => planner.with_fitting_layers().need(),
        GpuLayers::Auto | GpuLayers::Count(_) => planner.need(),
    }
}

/// Returns the number of threads with which the model of `source` computes on the CPUs of this machine; `None` if GPUs compute its layers.
pub(in crate::backend) fn cpu_threads(source: &GgufSource, need: Option<&Need>) -> Option<usize> {
    let is_on_gpu = need.map_or(source.is_on_gpu, Need::is_on_gpu);
    (!is_on_gpu).then_some(source.settings.n_threads)
}

/// Logs where the layers of the model `name` will be computed, if GPUs are involved.
pub(super) fn log_offload(name: &str, source: &GgufSource, need: &Need) {
    let is_auto = source.settings.n_gpu_layers == GpuLayers::Auto;
    if is_auto && source.is_on_gpu && need.gpu_layers == 0 {
        tracing::warn!(
            model = name,
            "no layer fits in the GPU's free memory; running the model on the CPU"
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
