//! Status of each model, as known to the registry.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Residency;
use super::slot::State;
use crate::config::Stamp;
use crate::registry::budget::Room;
use crate::registry::ids::{Edition, RunnerId};

/// State of a model and its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ModelState {
    /// Not loaded. The next call loads the model.
    Unloaded,
    /// Not loaded: the last load failed, the process died several times in a row, the files are unusable, or there can never be enough memory.
    Failed,
    /// The process is loading the model.
    Loading,
    /// Ready for calls, or answering calls.
    Loaded,
    /// The process is ending.
    Ending,
    /// Changed or removed by an edit, or unloaded on request. The process finishes its calls and accepts no new ones.
    Replaced,
}

/// Status of one model, as far as the registry knows it.
#[derive(Debug, Clone)]
pub(crate) struct SlotStatus {
    /// State of the model and its process.
    pub state: ModelState,
    /// Bytes reserved for the model; `None` without a process.
    pub memory: Option<u64>,
    /// Calls that hold a lease.
    pub calls: usize,
    /// Calls that wait until the model can be loaded.
    pub waiting: usize,
    /// Runner of the model; `None` without a process.
    pub runner: Option<RunnerId>,
    /// Time at which the last lease ended; `None` unless the model is loaded and idle.
    pub idle_since: Option<Instant>,
    /// Reason why the last load failed, or why the model cannot be loaded.
    pub failure: Option<String>,
}

impl Residency {
    /// Returns the status of every model, including former editions that still have a process.
    pub(crate) fn statuses(&self) -> Vec<(Edition, SlotStatus)> {
        let editions = self.slots.keys().copied();
        editions
            .filter_map(|edition| Some((edition, self.status(edition)?)))
            .collect()
    }

    /// Returns whether `model` has a runner that accepts calls.
    pub(crate) fn is_running(&self, model: Edition) -> bool {
        self.running_stamp(model).is_some()
    }

    /// Returns the stamp of the files that the running process of `model` loaded; `None` if no process runs.
    pub(crate) fn running_stamp(&self, model: Edition) -> Option<Stamp> {
        match self.slots.get(&model)?.state {
            State::Running { stamp, .. } => Some(stamp),
            State::Unloaded | State::Ending { .. } => None,
        }
    }

    /// Returns the status of `model`; `None` if there is no such model.
    pub(crate) fn status(&self, model: Edition) -> Option<SlotStatus> {
        let slot = self.slots.get(&model)?;
        let waiting = self.waiting.iter().filter(|call| call.model == model);
        let never_fits = || match self.room(model, None) {
            Room::Never(never) => Some(never.to_string()),
            _ => None,
        };
        let failure = match slot.state {
            State::Unloaded => slot.failure().or_else(never_fits),
            _ => slot.failure(),
        };
        let unloaded = SlotStatus {
            state: match failure {
                None => ModelState::Unloaded,
                Some(_) => ModelState::Failed,
            },
            memory: None,
            calls: 0,
            waiting: waiting.count(),
            runner: slot.state.runner(),
            idle_since: None,
            failure,
        };
        Some(match slot.state {
            State::Unloaded => unloaded,
            State::Running {
                memory,
                leases,
                idle_since,
                loaded_at,
                ..
            } => SlotStatus {
                state: match (loaded_at.is_some(), slot.retired.is_some()) {
                    (false, _) => ModelState::Loading,
                    (true, false) => ModelState::Loaded,
                    (true, true) => ModelState::Replaced,
                },
                memory: Some(memory),
                calls: leases,
                idle_since: (loaded_at.is_some() && leases == 0).then_some(idle_since),
                ..unloaded
            },
            State::Ending { memory, .. } => SlotStatus {
                state: ModelState::Ending,
                memory: Some(memory),
                ..unloaded
            },
        })
    }
}
