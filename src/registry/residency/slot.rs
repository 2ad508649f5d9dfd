//! State of one model: unloaded, running or ending, and its failed loads.

use std::time::Duration;

use tokio::time::Instant;

use super::FreeMemory;
use super::ModelPolicy;
use super::breaker::{Breaker, DEATHS_TO_OPEN};
use crate::backend::Ended;
use crate::backend::footprint::Footprint;
use crate::config::units::human_time;
use crate::config::{FileFault, Stamp};
use crate::registry::budget::{NeverFits, Occupant};
use crate::registry::ids::{Edition, RunnerId};
use crate::telemetry::metrics::UnloadReason;

/// Backoff after the first failed load. It doubles with every further failure in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest backoff between two loads.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Reason why a call gets no runner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The model can never be loaded, since it needs too much memory.
    #[error(transparent)]
    NeverFits(NeverFits),
    /// The model's files are missing, incomplete or of the wrong kind.
    #[error("{0}; try again{when}", when = if .0.is_transient { "" } else { " once the file has changed" })]
    NotLoadable(FileFault),
    /// The model was changed or removed by an edit of the configuration, so the tool's name may mean something else now, or it was unloaded
    /// or restarted on request.
    #[error("the model was edited, unloaded or restarted; try again")]
    Superseded,
    /// The queue of calls that wait until the model can be loaded is full. It holds this many calls.
    #[error(
        "the model is busy: {0} {calls} already waiting for other models to be unloaded; try again later",
        calls = if *.0 == 1 { "call is" } else { "calls are" }
    )]
    Busy(usize),
    /// The last load failed, and the backoff has not passed.
    #[error("the model could not be loaded: {cause}; try again in {} s", pause.as_secs_f64().ceil())]
    Paused {
        /// Reason why the load failed.
        cause: String,
        /// Time until the next load may start.
        pause: Duration,
    },
    /// The model's process died several times in a row.
    #[error(
        "the model's process died {DEATHS_TO_OPEN} times in a row without finishing a call ({cause}); to start it again, change its file (`touch` is enough) or its configuration, or run `llama-mcp-server restart MODEL`"
    )]
    GivenUp {
        /// Cause of the last death.
        cause: String,
    },
    /// The model's process died twice while it worked on the same prompt.
    #[error(
        "the model's process died twice while it worked on this prompt; the prompt is refused for {} so that other calls are answered; change the prompt",
        human_time(*pause)
    )]
    PromptRefused {
        /// Time until the prompt is accepted again.
        pause: Duration,
    },
}

/// State and history of one model.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) policy: ModelPolicy,
    pub(super) state: State,
    /// Failed loads in a row; `None` if the last load succeeded.
    pub(super) failures: Option<Failures>,
    /// Circuit breaker for deaths of the process.
    pub(super) breaker: Breaker,
    /// Reason why a new edition replaced this one; `None` if none has. A replaced edition ends with its last call.
    pub(super) retired: Option<UnloadReason>,
}

/// Failed loads in a row.
#[derive(Debug)]
pub(super) struct Failures {
    count: u32,
    /// Cause of the last failure.
    cause: String,
    retry_at: Instant,
    /// Stamp of the files that could not be loaded.
    stamp: Stamp,
}

/// State of a model's process, with the memory that it takes.
#[derive(Debug)]
pub(super) enum State {
    Unloaded,
    Running {
        runner: RunnerId,
        memory: u64,
        leases: usize,
        idle_since: Instant,
        /// Time at which the load finished; `None` while the model loads. Idle time counts from then on.
        loaded_at: Option<Instant>,
        stamp: Stamp,
    },
    Ending {
        runner: RunnerId,
        memory: u64,
        stamp: Stamp,
    },
}

impl State {
    pub(super) fn runner(&self) -> Option<RunnerId> {
        match self {
            Self::Unloaded => None,
            Self::Running { runner, .. } | Self::Ending { runner, .. } => Some(*runner),
        }
    }
}

impl Slot {
    /// Returns the slot of a model that is not loaded.
    pub(super) fn new(policy: ModelPolicy) -> Self {
        Self {
            policy,
            state: State::Unloaded,
            failures: None,
            breaker: Breaker::default(),
            retired: None,
        }
    }

    /// Marks the runner as ending. Returns the stamp of the files that it loaded; `None` if there is no runner.
    pub(super) fn end(&mut self) -> Option<Stamp> {
        let (runner, memory, stamp) = match self.state {
            State::Unloaded => return None,
            State::Running {
                runner,
                memory,
                stamp,
                ..
            }
            | State::Ending {
                runner,
                memory,
                stamp,
            } => (runner, memory, stamp),
        };
        self.state = State::Ending {
            runner,
            memory,
            stamp,
        };
        Some(stamp)
    }

    /// Returns why the model, whose files have this `stamp`, must not be loaded now; `None` if it may be loaded.
    pub(super) fn refusal(&self, stamp: Stamp, now: Instant) -> Option<Refusal> {
        if let Some(cause) = self.breaker.open_for(stamp) {
            let cause = cause.to_owned();
            return Some(Refusal::GivenUp { cause });
        }
        // Another version of the file may load, so only failures of this version count.
        let failures = self
            .failures
            .as_ref()
            .filter(|failures| failures.stamp == stamp)?;
        let cause = failures.cause.clone();
        let pause = failures
            .retry_at
            .checked_duration_since(now)
            .filter(|pause| !pause.is_zero())?;
        Some(Refusal::Paused { cause, pause })
    }

    /// Returns why the last load failed, or why the model is no longer started.
    pub(super) fn failure(&self) -> Option<String> {
        match self.breaker.open() {
            Some(cause) => {
                let cause = cause.to_owned();
                Some(Refusal::GivenUp { cause }.to_string())
            }
            None => Some(self.failures.as_ref()?.cause.clone()),
        }
    }

    /// Records that the runner, which had loaded the file `stamp`, has ended.
    pub(super) fn fail(&mut self, ended: Ended, stamp: Stamp, now: Instant) {
        let cause = match ended {
            Ended::Done | Ended::Terminated => return,
            Ended::Died(cause) => return self.breaker.died(&cause, stamp),
            Ended::DiedLoading(cause) => {
                self.breaker.died(&cause, stamp);
                cause
            }
            Ended::LoadFailed(cause) => {
                self.breaker.close();
                cause
            }
        };
        let last = self.failures.take().filter(|last| last.stamp == stamp);
        let count = last.map_or(0, |last| last.count);
        let pause = FIRST_PAUSE
            .saturating_mul(2_u32.saturating_pow(count))
            .min(LONGEST_PAUSE);
        self.failures = Some(Failures {
            count: count + 1,
            cause,
            retry_at: now + pause,
            stamp,
        });
    }

    /// Returns the memory that the model takes; `None` if it has no runner. A model whose memory the reading `free` does not show yet
    /// counts as loading.
    pub(super) fn occupant(&self, model: Edition, free: Option<FreeMemory>) -> Option<Occupant> {
        let footprint = |total| Footprint {
            total,
            ..self.policy.need.footprint
        };
        let occupant = match self.state {
            State::Unloaded => return None,
            State::Running {
                memory,
                leases,
                idle_since,
                loaded_at,
                ..
            } => Occupant {
                model,
                memory: footprint(memory),
                // A model that is loading is not evicted.
                idle_since: (leases == 0 && loaded_at.is_some() && !self.policy.pin)
                    .then_some(idle_since),
                is_pinned: self.policy.pin,
                is_ending: false,
                is_loading: loaded_at.is_none_or(|at| free.is_some_and(|free| !free.shows(at))),
            },
            State::Ending { memory, .. } => Occupant {
                model,
                memory: footprint(memory),
                idle_since: None,
                is_pinned: false,
                is_ending: true,
                is_loading: false,
            },
        };
        Some(occupant)
    }
}
