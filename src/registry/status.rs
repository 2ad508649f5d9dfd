//! Status of the models, for operators and monitoring.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::residency::{ModelState, SlotStatus};
use crate::backend::{Need, ProcessStatus, Runner};
use crate::engine::{Stats, Usage};

/// Status of a model, from the registry and from its process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelStatus {
    /// Name of the model in the configuration.
    pub name: String,
    /// State of the model and its process.
    pub state: ModelState,
    /// Process id of the model's process.
    pub pid: Option<u32>,
    /// Seconds since the process last finished a step or made progress with the load; `None` if it has no work.
    pub last_step_seconds: Option<u64>,
    /// Bytes reserved for the model: the estimate, or the measured memory of its process if that is more. `None` without a process.
    pub memory_bytes: Option<u64>,
    /// Layers that GPUs compute, with the output layer counted as one; `None` if they compute none.
    pub gpu_layers: Option<u64>,
    /// Number of layers that GPUs could compute; `None` if `gpu_layers` is `None`.
    pub layers: Option<u64>,
    /// Estimated bytes of GPUs' own memory; `None` if the model has no process, or takes no such memory.
    pub gpu_memory_bytes: Option<u64>,
    /// Calls that the model is answering.
    pub running: usize,
    /// Calls that wait for memory, for the load or for a slot of `parallel`.
    pub waiting: usize,
    /// Cells of the KV cache, one per token.
    pub kv_cells: Option<u32>,
    /// Cells reserved for running calls.
    pub kv_cells_reserved: Option<u32>,
    /// Threads with which the model computes now: fewer than configured while other programs use the CPUs. `None` if GPUs compute layers.
    pub n_threads: Option<usize>,
    /// Configured threads, at most one for each CPU; `None` if `n_threads` is `None`.
    pub n_threads_configured: Option<usize>,
    /// Prefill speed of the last answered call, without tokens from the prefix cache.
    pub prompt_tokens_per_second: Option<f64>,
    /// Decode speed of the last answered call.
    pub generation_tokens_per_second: Option<f64>,
    /// Seconds since the last call ended; `None` unless the model is loaded and idle.
    pub idle_seconds: Option<u64>,
    /// Reason why the last load failed, or why the model cannot be loaded.
    pub error: Option<String>,
}

/// Layers of a model on GPUs, and their memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offload {
    /// Layers that GPUs compute, at least one.
    pub(super) gpu_layers: u64,
    /// Layers that GPUs could compute.
    pub(super) layers: u64,
    /// Bytes of GPUs' own memory.
    pub(super) memory: u64,
}

impl Offload {
    /// Returns the offload of a model with this `need`; `None` if GPUs compute no layer.
    pub(super) fn from_need(need: &Need) -> Option<Self> {
        (need.gpu_layers > 0).then(|| Self {
            gpu_layers: need.gpu_layers,
            layers: need.layers,
            memory: need.gpu.total(),
        })
    }
}

/// Speed of the last answered call, in tokens per second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Speed {
    prompt: Option<f64>,
    generation: Option<f64>,
}

impl Speed {
    /// Returns the speed updated from `usage`. A phase that processed no tokens keeps its former speed.
    pub(super) fn updated(self, usage: &Usage) -> Self {
        Self {
            prompt: usage.prompt_speed().or(self.prompt),
            generation: usage.generation_speed().or(self.generation),
        }
    }
}

/// A model as the registry knows it.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) name: String,
    pub(super) slot: SlotStatus,
    pub(super) speed: Speed,
    /// Layers on GPUs; `None` if the model has no such layers, or no process.
    pub(super) offload: Option<Offload>,
    /// Configured threads; `None` if the model does not compute on the CPUs.
    pub(super) cpu_threads: Option<usize>,
    /// Runner of the model. Its process does not end before this handle is dropped.
    pub(super) runner: Option<Runner>,
}

impl Observed {
    /// Completes what the registry knows about a model at the time `now` with the values that its process reports.
    pub(super) fn into_status(
        self,
        process_status: ProcessStatus,
        stats: Option<Stats>,
        now: Instant,
    ) -> ModelStatus {
        let Self {
            name,
            slot,
            speed,
            offload,
            cpu_threads,
            runner: _,
        } = self;
        let SlotStatus { calls, .. } = slot;
        let (running, waiting) = match (slot.state, stats) {
            (ModelState::Loading, _) => (0, calls),
            (_, Some(stats)) => {
                let running = stats.active.min(calls);
                (running, calls - running)
            }
            (_, None) => (calls, 0),
        };
        let threads = stats
            .map(|stats| stats.n_threads)
            .filter(|_| cpu_threads.is_some());
        ModelStatus {
            name,
            state: slot.state,
            pid: process_status.pid,
            last_step_seconds: process_status.silence.map(|silence| silence.as_secs()),
            memory_bytes: slot.memory,
            gpu_layers: offload.map(|offload| offload.gpu_layers),
            layers: offload.map(|offload| offload.layers),
            gpu_memory_bytes: offload
                .map(|offload| offload.memory)
                .filter(|bytes| *bytes > 0),
            running,
            waiting: waiting + slot.waiting,
            kv_cells: stats.map(|stats| stats.kv_cells),
            kv_cells_reserved: stats.map(|stats| stats.reserved_cells),
            n_threads: threads,
            n_threads_configured: threads.and(cpu_threads),
            prompt_tokens_per_second: speed.prompt,
            generation_tokens_per_second: speed.generation,
            idle_seconds: slot.idle_since.map(|since| (now - since).as_secs()),
            error: slot.failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATS: Stats = Stats {
        active: 0,
        waiting: 0,
        reserved_cells: 0,
        kv_cells: 0,
        warm: 0,
        n_threads: 1,
    };

    /// Returns the status of a model that answers or queues `calls`, and whose configured number of threads is `cpu_threads`.
    fn status(
        state: ModelState,
        calls: usize,
        cpu_threads: Option<usize>,
        stats: Option<Stats>,
    ) -> ModelStatus {
        let slot = SlotStatus {
            state,
            memory: Some(1),
            calls,
            waiting: 2,
            runner: None,
            idle_since: None,
            failure: None,
        };
        let model = Observed {
            name: "m".into(),
            slot,
            speed: Speed::default(),
            offload: None,
            cpu_threads,
            runner: None,
        };
        model.into_status(ProcessStatus::default(), stats, Instant::now())
    }

    fn running_and_waiting(
        state: ModelState,
        calls: usize,
        active: Option<usize>,
    ) -> (usize, usize) {
        let stats = active.map(|active| Stats { active, ..STATS });
        let status = status(state, calls, None, stats);
        (status.running, status.waiting)
    }

    #[test]
    fn the_threads_of_a_loaded_model_are_shown_unless_gpus_compute_it() {
        let threads = |cpu_threads, stats| {
            let status = status(ModelState::Loaded, 0, cpu_threads, stats);
            (status.n_threads, status.n_threads_configured)
        };
        assert_eq!(threads(Some(2), Some(STATS)), (Some(1), Some(2)));
        assert_eq!(threads(None, Some(STATS)), (None, None));
        assert_eq!(threads(Some(2), None), (None, None));
    }

    #[test]
    fn calls_that_the_process_does_not_report_as_running_are_waiting() {
        assert_eq!(running_and_waiting(ModelState::Loading, 3, None), (0, 5));
        assert_eq!(running_and_waiting(ModelState::Loaded, 3, Some(2)), (2, 3));
        assert_eq!(running_and_waiting(ModelState::Loaded, 3, None), (3, 2));
        // A call that has just ended in the process may still hold its lease, and vice versa.
        assert_eq!(running_and_waiting(ModelState::Loaded, 1, Some(2)), (1, 2));
    }

    #[test]
    fn a_phase_without_tokens_keeps_its_former_speed() {
        let usage = |completion_tokens, prefill_ms, decode_ms| Usage {
            prompt_tokens: 10,
            completion_tokens,
            prefill_ms,
            decode_ms,
            ..Usage::default()
        };
        let first = Speed::default().updated(&usage(101, 20, 1000));
        let second = first.updated(&usage(1, 40, 0));
        assert_eq!((first.prompt, first.generation), (Some(500.0), Some(100.0)));
        assert_eq!(
            (second.prompt, second.generation),
            (Some(250.0), Some(100.0))
        );
    }
}
