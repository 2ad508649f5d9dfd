//! Errors of calls.

use std::io;
use std::time::Duration;

use crate::config::units::human_time;
use crate::engine::EngineError;
use crate::threads::SystemLimit;

/// Reason why a call ended without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// The model was stopped while it was loading, because it was no longer needed.
    Stopped,
    /// The call failed.
    Failed(CallError),
}

impl From<CallError> for Unanswered {
    fn from(error: CallError) -> Self {
        Self::Failed(error)
    }
}

/// Failure of a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The engine refused the call, or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The process could not be started.
    #[error("the model's process could not be started: {0}")]
    NotStarted(String),
    /// The system refuses to start processes.
    #[error(transparent)]
    SystemLimit(#[from] SystemLimit),
    /// The deadline passed, and the process did not return its partial answer.
    #[error("the deadline passed, and the model's process did not answer in time")]
    Stuck,
    /// The process ended before it had answered the call.
    #[error("{failure}")]
    Process {
        /// Reason for the end of the process.
        failure: ProcessFailure,
        /// State of the call when the process ended.
        stage: CallStage,
    },
}

/// Reason why a process ended before it had answered its calls.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProcessFailure {
    /// The process ended by itself, or was killed because it violated the wire protocol. Has the exit status or signal, and the last lines of
    /// its log.
    #[error("the model's process stopped unexpectedly ({0})")]
    Died(String),
    /// The process reported this error after it had loaded the model, and ended.
    #[error("the model's process cannot continue ({0})")]
    Failed(String),
    /// The process finished no step for this long, and was killed.
    #[error("the model's process finished no step for {} and was killed", human_time(*.0))]
    Stalled(Duration),
    /// The process was ended by SIGTERM, which does not count as a crash.
    #[error("the model's process was ended by SIGTERM")]
    Terminated,
}

/// State of a call when its process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallStage {
    /// The process had not begun the call, which can be sent again.
    Queued,
    /// The call had begun or was being prepared, and may be the cause.
    Begun,
    /// Like [`Self::Begun`], but no call had received a token from the process yet. The model's file or the machine may then be the cause, and
    /// a retry would not help.
    BegunFirst,
}

impl ProcessFailure {
    /// Returns the error of a call that was in this `stage` when the process ended.
    pub(super) fn of_call(&self, stage: CallStage) -> CallError {
        CallError::Process {
            failure: self.clone(),
            stage,
        }
    }
}

impl CallError {
    /// Returns the error of calls whose process could not be spawned.
    pub(super) fn from_spawn(error: &io::Error) -> Self {
        match SystemLimit::from_io_error("the model's process", error) {
            Some(limit) => Self::SystemLimit(limit),
            None => Self::NotStarted(error.to_string()),
        }
    }

    /// Returns whether the process ended before it had answered the call.
    pub(crate) fn is_end_of_process(&self) -> bool {
        matches!(self, Self::Process { .. })
    }

    /// Returns whether the process crashed or hung. A prompt may be the cause.
    pub(crate) fn is_crash(&self) -> bool {
        matches!(
            self,
            Self::Process {
                failure: ProcessFailure::Died(_)
                    | ProcessFailure::Failed(_)
                    | ProcessFailure::Stalled(_),
                ..
            }
        )
    }

    /// Returns whether the call had begun, or was being prepared, when the process ended.
    pub(crate) fn has_begun(&self) -> bool {
        matches!(
            self,
            Self::Process {
                stage: CallStage::Begun | CallStage::BegunFirst,
                ..
            }
        )
    }
}
