//! Launch of a worker: the settings of its model, and its share of the machine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::LoadSettings;
use crate::config::units::{GpuLayers, Size};

/// The configured settings of a worker's model, and what the server grants the worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// Settings of the model. Two launches with equal settings and files can serve the same model.
    pub settings: LoadSettings,
    /// Share of the machine for this process.
    #[serde(default)]
    pub grant: Grant,
}

/// Share of the machine that the server grants one process of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Grant {
    /// Plan for the context; `None` if the files could not be read beforehand.
    pub plan: Option<ContextPlan>,
    /// Maximum memory of the model, in bytes; `None` means all free memory.
    pub memory_limit: Option<u64>,
    /// Lock files of CPU turns; `None` if this process need not share the CPUs.
    pub cpu_locks: Option<CpuLocks>,
    /// Bytes of the longest prompt that all calls of one tool share; 0 if there is none.
    pub shared_prefix_bytes: u64,
    /// Directory in which GPU drivers cache compiled shaders; `None` if they use their own.
    pub driver_cache: Option<PathBuf>,
}

/// Planned values of settings that the configuration leaves to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContextPlan {
    /// Tokens of one call, for `n_ctx = 0`.
    pub n_ctx: u32,
    /// Cells of the KV cache, for `kv_cells = 0`.
    pub kv_cells: u32,
    /// Layers on GPUs, for `n_gpu_layers = "auto"`; 0 overrides any number, since there is no GPU.
    pub gpu_layers: u32,
    /// Maximum size of saved prefixes in bytes, if `cache_ram` allows more.
    pub cache_ram: u64,
}

/// Lock files of CPU turns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CpuLocks {
    /// File that a process locks while it waits for the next turn.
    pub queue: PathBuf,
    /// Files of the places, at least one. Each computing process locks one of them.
    pub places: Vec<PathBuf>,
}

impl Launch {
    /// Returns the settings, with the planned values of those that the configuration leaves to the server.
    pub(crate) fn planned_settings(&self) -> LoadSettings {
        let mut settings = self.settings.clone();
        let Some(plan) = self.grant.plan else {
            return settings;
        };
        if settings.kv_cells == 0 {
            settings.kv_cells = plan.kv_cells;
        }
        if settings.n_ctx == 0 {
            settings.n_ctx = plan.n_ctx;
        }
        if settings.n_gpu_layers == GpuLayers::Auto || plan.gpu_layers == 0 {
            settings.n_gpu_layers = GpuLayers::Count(plan.gpu_layers);
        }
        settings.cache_ram = Size(settings.cache_ram.0.min(plan.cache_ram));
        settings
    }
}

impl From<LoadSettings> for Launch {
    /// Returns a launch without grants, for a worker that a person or a test starts.
    fn from(settings: LoadSettings) -> Self {
        Self {
            settings,
            grant: Grant::default(),
        }
    }
}
