//! How the models stand: for people and programs that look after the server.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::residency::{ModelState, Standing};
use crate::backend::Need;
use crate::backend::Vitals;
use crate::engine::{Stats, Usage};

/// A model at the moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelStatus {
    /// Its name in the configuration.
    pub name: String,
    /// What it does.
    pub state: ModelState,
    /// Process id of the model's process.
    pub pid: Option<u32>,
    /// Seconds since the process last finished a step or made progress with the load; `None` if it has nothing to do.
    pub last_step_seconds: Option<u64>,
    /// Bytes that are counted for it: the estimate, or what its process was seen to take where that is more. None where it has
    /// no process.
    pub memory_bytes: Option<u64>,
    /// Layers that GPUs compute, with the output counted as one; `None` if they compute none.
    pub gpu_layers: Option<u64>,
    /// Most layers that GPUs could compute; `None` if `gpu_layers` is `None`.
    pub layers: Option<u64>,
    /// Estimate of the bytes that it takes of GPUs' own memory; `None` if it has no process, or takes none.
    pub gpu_memory_bytes: Option<u64>,
    /// Calls that are answered.
    pub running: usize,
    /// Calls that wait: for room, for its load, for a sequence.
    pub waiting: usize,
    /// Cells of its cache, a token each.
    pub kv_cells: Option<u32>,
    /// How many of them the calls at work may come to use.
    pub kv_cells_reserved: Option<u32>,
    /// How fast its last answer's prompt was read, what came from the cache aside.
    pub prompt_tokens_per_second: Option<f64>,
    /// How fast its last answer was written.
    pub generation_tokens_per_second: Option<f64>,
    /// Since when nobody called it, where it is loaded.
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
    pub(super) fn of(need: &Need) -> Option<Self> {
        (need.gpu_layers > 0).then(|| Self {
            gpu_layers: need.gpu_layers,
            layers: need.layers,
            memory: need.gpu.total(),
        })
    }
}

/// How fast a model was.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Speed {
    prompt: Option<f64>,
    generation: Option<f64>,
}

impl Speed {
    /// The same after an answer, which tells of one or both.
    pub(super) fn after(self, usage: &Usage) -> Self {
        Self {
            prompt: usage.prompt_speed().or(self.prompt),
            generation: usage.generation_speed().or(self.generation),
        }
    }
}

/// What is told of `name`, from what is decided of it, and from what its process says, where it does.
pub(super) fn status(
    name: String,
    standing: Standing,
    speed: Speed,
    offload: Option<Offload>,
    vitals: Vitals,
    stats: Option<Stats>,
    now: Instant,
) -> ModelStatus {
    let Standing { calls, .. } = standing;
    let (running, waiting) = match (standing.state, stats) {
        (ModelState::Loading, _) => (0, calls),
        (_, Some(stats)) => {
            let running = stats.active.min(calls);
            (running, calls - running)
        }
        (_, None) => (calls, 0),
    };
    ModelStatus {
        name,
        state: standing.state,
        pid: vitals.pid,
        last_step_seconds: vitals.silence.map(|silence| silence.as_secs()),
        memory_bytes: standing.memory,
        gpu_layers: offload.map(|offload| offload.gpu_layers),
        layers: offload.map(|offload| offload.layers),
        gpu_memory_bytes: offload
            .map(|offload| offload.memory)
            .filter(|bytes| *bytes > 0),
        running,
        waiting: waiting + standing.waiting,
        kv_cells: stats.map(|stats| stats.kv_cells),
        kv_cells_reserved: stats.map(|stats| stats.reserved_cells),
        prompt_tokens_per_second: speed.prompt,
        generation_tokens_per_second: speed.generation,
        idle_seconds: standing.idle_since.map(|since| (now - since).as_secs()),
        error: standing.failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(state: ModelState, calls: usize, active: Option<usize>) -> (usize, usize) {
        let standing = Standing {
            state,
            memory: Some(1),
            calls,
            waiting: 2,
            worker: None,
            idle_since: None,
            failure: None,
        };
        let stats = active.map(|active| Stats {
            active,
            waiting: 0,
            reserved_cells: 0,
            kv_cells: 0,
            warm: 0,
        });
        let status = status(
            "m".into(),
            standing,
            Speed::default(),
            None,
            Vitals::default(),
            stats,
            Instant::now(),
        );
        (status.running, status.waiting)
    }

    #[test]
    fn calls_run_where_their_process_says_so_and_wait_elsewhere() {
        assert_eq!(told(ModelState::Loading, 3, None), (0, 5));
        assert_eq!(told(ModelState::Loaded, 3, Some(2)), (2, 3));
        assert_eq!(told(ModelState::Loaded, 3, None), (3, 2));
        // A call that has just ended there may still be held here, and the other way round.
        assert_eq!(told(ModelState::Loaded, 1, Some(2)), (1, 2));
    }

    #[test]
    fn a_speed_stays_that_an_answer_tells_nothing_of() {
        let usage = |completion_tokens, prefill_ms, decode_ms| Usage {
            prompt_tokens: 10,
            completion_tokens,
            prefill_ms,
            decode_ms,
            ..Usage::default()
        };
        let first = Speed::default().after(&usage(101, 20, 1000));
        let second = first.after(&usage(1, 40, 0));
        assert_eq!((first.prompt, first.generation), (Some(500.0), Some(100.0)));
        assert_eq!(
            (second.prompt, second.generation),
            (Some(250.0), Some(100.0))
        );
    }
}
