//! How each model stands.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::slot::State;
use super::{Edition, Refusal, Residency, RunnerId, Stamp};
use crate::registry::budget::Room;

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ModelState {
    /// It takes no memory; its next call loads it.
    Unloaded,
    /// Not loaded: the last load failed, the process died several times in a row, the files are unusable, or there can never be enough memory.
    Failed,
    /// Its process reads its file.
    Loading,
    /// It answers, or could.
    Loaded,
    /// Its process is about to be gone.
    Ending,
    /// An edit changed or removed it: it answers the calls that it has.
    Replaced,
}

/// A model at the moment.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// What it does.
    pub state: ModelState,
    /// Bytes that are counted for it, where it has a process.
    pub memory: Option<u64>,
    /// Calls that hold it.
    pub calls: usize,
    /// Calls that wait for its room.
    pub waiting: usize,
    /// Its process.
    pub worker: Option<RunnerId>,
    /// Since when it is loaded for nobody.
    pub idle_since: Option<Instant>,
    /// The reason why its last load failed, or why it can never be loaded.
    pub failure: Option<String>,
}

impl Residency {
    /// All models, former editions that are still there included.
    pub(crate) fn standings(&self) -> Vec<(Edition, Standing)> {
        let editions = self.slots.keys().copied();
        editions
            .filter_map(|edition| Some((edition, self.standing(edition)?)))
            .collect()
    }

    /// Returns whether `model` has a worker that takes calls.
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

    /// Returns the state of `model`; `None` if there is none.
    pub(crate) fn standing(&self, model: Edition) -> Option<Standing> {
        let slot = self.slots.get(&model)?;
        let waiting = self.waiting.iter().filter(|call| call.model == model);
        let never_fits = || match self.room(model, None) {
            Room::Never(cause, hint) => Some(Refusal::NeverFits { cause, hint }.to_string()),
            _ => None,
        };
        let failure = match slot.state {
            State::Unloaded => slot.failure().or_else(never_fits),
            _ => slot.failure(),
        };
        let unloaded = Standing {
            state: match failure {
                None => ModelState::Unloaded,
                Some(_) => ModelState::Failed,
            },
            memory: None,
            calls: 0,
            waiting: waiting.count(),
            worker: slot.state.worker(),
            idle_since: None,
            failure,
        };
        Some(match slot.state {
            State::Unloaded => unloaded,
            State::Running {
                memory,
                leases,
                idle_since,
                is_loaded,
                ..
            } => Standing {
                state: match (is_loaded, slot.retired.is_some()) {
                    (false, _) => ModelState::Loading,
                    (true, false) => ModelState::Loaded,
                    (true, true) => ModelState::Replaced,
                },
                memory: Some(memory),
                calls: leases,
                idle_since: (is_loaded && leases == 0).then_some(idle_since),
                ..unloaded
            },
            State::Ending { memory, .. } => Standing {
                state: ModelState::Ending,
                memory: Some(memory),
                ..unloaded
            },
        })
    }
}
