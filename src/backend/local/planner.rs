//! Plans a model's context, cache and layers on GPUs from the memory that it may take. Pure.

use crate::backend::footprint::Mapped;
use crate::backend::{Allowance, Need};
use crate::config::{LoadSettings, ModelFiles};
use crate::engine::limits::{Facts, Limits};
use crate::gguf::Header;
use crate::gguf::memory::{CELL_STEP, Estimate, Run, Split};

/// Smallest context, in tokens, for which `n_gpu_layers = "auto"` leaves room if `n_ctx` is 0. llama.cpp uses the same value.
const LEAST_CONTEXT: u32 = 4096;

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

/// Plans a model's context and memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planner<'a> {
    pub(super) load: &'a LoadSettings,
    pub(super) files: &'a ModelFiles,
    pub(super) allowance: Allowance,
    /// Bytes of the longest prompt that all calls of one tool share.
    pub(super) shared_prefix_bytes: u64,
    /// Number of layers that GPUs should compute. A number above the model's layers means all.
    pub(super) gpu_layers: u64,
}

impl Planner<'_> {
    /// Returns the memory need, with the plan for context and layers.
    pub(super) fn need(self) -> Need {
        let layers = self.files.header.offloadable();
        let (limits, wanted) = self.limits();
        let Split { machine, gpu } = self.estimate(limits, limits.kv_cells);
        Need {
            estimate: machine,
            gpu,
            gpu_layers: self.gpu_layers.min(layers),
            layers,
            fitting_layers: self.fitting_layers(limits),
            mapped: mapped_by(self.load, &self.files.header, self.gpu_layers > 0),
            least: self.estimate(limits, CELL_STEP).machine.total(),
            allowance: self.allowance,
            n_ctx: limits.n_ctx,
            kv_cells: limits.kv_cells,
            wanted_cells: wanted.kv_cells,
        }
    }

    /// Chooses the largest number of layers for which GPUs have memory, in addition to the context of one call. One more layer on a GPU is
    /// worth more than room for more concurrent calls. If `n_ctx` is 0, it is also worth more than a context of over [`LEAST_CONTEXT`] tokens.
    pub(super) fn with_fitting_layers(self) -> Self {
        let with = |gpu_layers| Self { gpu_layers, ..self };
        let all = self.files.header.offloadable();
        let fits = |layers: &u64, least_context: u32| {
            let fewer = with(*layers);
            let (limits, _) = fewer.limits();
            let least_context = least_context.min(limits.n_ctx_train);
            let taken = fewer.estimate(limits, limits.kv_cells).gpu.total();
            taken <= self.allowance.gpu.unwrap_or(u64::MAX)
                && (self.load.n_ctx > 0 || limits.n_ctx >= least_context)
        };
        let most = |least_context| (0..=all).rev().find(|layers| fits(layers, least_context));
        with(most(LEAST_CONTEXT).or_else(|| most(0)).unwrap_or(0))
    }

    /// Returns the limits that fit in memory, and the limits without a memory bound.
    fn limits(self) -> (Limits, Limits) {
        let wanted = self.plan(Limits::requested(self.load), None);
        // A cell of a pool may cost more than a cell of a sequence's own cache. The second plan uses the layout that the first one chose.
        (self.plan_to_fit(self.plan_to_fit(wanted)), wanted)
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
            // A GPU without its own memory uses the machine's.
            gpu_layers: self.allowance.gpu.map_or(0, |_| self.gpu_layers),
        }
    }

    pub(super) fn estimate(self, limits: Limits, kv_cells: u32) -> Split<Estimate> {
        let run = self.run(limits, kv_cells);
        let mut estimate = self.files.header.estimate(run);
        // An adapter is in the same memory as the weights that it modifies.
        let side = match run.gpu_layers {
            0 => &mut estimate.machine,
            _ => &mut estimate.gpu,
        };
        side.weights = side.weights.saturating_add(self.files.adapter_bytes);
        estimate
    }

    /// Plans for a cache of `left` bytes; `None` sets no limit.
    pub(super) fn plan(self, limits: Limits, left: Option<Split<u64>>) -> Limits {
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
            shared_prefix_bytes: self.shared_prefix_bytes,
        };
        Limits::plan(self.load, facts)
    }

    /// Plans again, with the part of the allowance that a context with `limits` leaves for the cache.
    pub(super) fn plan_to_fit(self, limits: Limits) -> Limits {
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

    /// Returns the largest number of layers, up to the requested one, for which GPUs have memory.
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

/// Returns the bytes per cell, and the bytes left, of the memory in which fewer cells fit.
fn tighter(cell: Split<u64>, left: Split<u64>) -> (u64, u64) {
    let cells = |cell, left: u64| left.checked_div(cell).unwrap_or(u64::MAX);
    if cells(cell.gpu, left.gpu) < cells(cell.machine, left.machine) {
        (cell.gpu, left.gpu)
    } else {
        (cell.machine, left.machine)
    }
}
