//! The server's side of a worker: spawn, feed, read, end.
//!
//! [`Worker`] is a handle; one task per worker owns the process and the table of its calls. Dropping the last handle
//! ends the worker. The task never waits for a client: progress goes into a `watch` channel, where the newest state
//! replaces the older one.

pub(crate) mod calls;
mod lines;
mod liveness;
mod model_log;
mod process;
mod progress;
mod task;
#[cfg(all(test, target_os = "linux"))]
mod tests;
mod watchdog;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use calls::Call;
pub(crate) use process::Launcher;
pub(crate) use progress::Progress;
use task::Task;

use crate::config::LoadSettings;
use crate::config::units::human_time;
use crate::engine::shared_prefix::FixedPrompt;
use crate::engine::{CancelReason, EngineError, GenerateRequest, Generation, Stats};
use crate::telemetry::metrics::UnloadReason;
use crate::threads::SystemLimit;

/// What all calls of a tool begin with, for each tool of a model that has such.
pub(crate) type FixedPrompts = Arc<[FixedPrompt]>;

/// A call that has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The engine refused it or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The process could not be started.
    #[error("the model's process could not be started: {0}")]
    NotStarted(String),
    /// The system refuses to start processes.
    #[error(transparent)]
    SystemLimit(#[from] SystemLimit),
    /// The deadline passed and the process did not hand over what it had.
    #[error("the deadline passed, and the model's process did not answer in time")]
    Stuck,
    /// The process finished no step for too long, and was killed.
    #[error("the model's process finished no step for {} and was killed", human_time(*silence))]
    Stalled {
        /// Time since the process's last step.
        silence: Duration,
        /// Whether the call had begun or was being prepared.
        begun: bool,
    },
    /// The process was ended by SIGTERM, which does not count as a crash.
    #[error("the model's process was ended by SIGTERM")]
    Terminated {
        /// Whether the call had begun or was being prepared.
        begun: bool,
    },
    /// The process was ended before it had loaded its model, which is not wanted any more.
    #[error("the model was unloaded while it was loading")]
    Stopped,
    /// The process ended before the call was done.
    #[error("the model's process stopped unexpectedly ({reason})")]
    Died {
        /// Exit status or signal, and the last lines of its log.
        reason: String,
        /// Whether the call had begun or was being prepared. A call that was only queued can be sent again.
        begun: bool,
        /// Whether no call had received a token from the process yet. Its file or the machine may be the cause then, and a retry useless.
        is_first: bool,
    },
}

impl CallError {
    /// Returns the error of calls whose process could not be started.
    fn of_start(error: &io::Error) -> Self {
        match SystemLimit::of("the model's process", error) {
            Some(limit) => Self::SystemLimit(limit),
            None => Self::NotStarted(error.to_string()),
        }
    }

    /// Returns whether the process ended before the call was done.
    pub(crate) fn is_end_of_process(&self) -> bool {
        self.is_crash() || matches!(self, Self::Terminated { .. })
    }

    /// Returns whether the process crashed or hung, for which a prompt may be the cause.
    pub(crate) fn is_crash(&self) -> bool {
        matches!(self, Self::Died { .. } | Self::Stalled { .. })
    }

    /// Returns whether the process ended while it prepared the call or after it had begun it.
    pub(crate) fn has_begun(&self) -> bool {
        matches!(
            self,
            Self::Died { begun: true, .. }
                | Self::Stalled { begun: true, .. }
                | Self::Terminated { begun: true }
        )
    }
}

/// A handle of a running worker. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    name: Arc<str>,
    vitals: watch::Receiver<Vitals>,
    to_task: mpsc::UnboundedSender<ToTask>,
    ids: Arc<AtomicU64>,
}

/// Facts about a worker's process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Vitals {
    /// Process id; `None` until the process is started.
    pub pid: Option<u32>,
    /// Time since the last finished step; `None` if the process has no work.
    pub silence: Option<Duration>,
}

/// What becomes of a worker, in this order, its measures at any time between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Life {
    /// It serves.
    Loaded,
    /// Bytes of memory that its process takes: after the load, and after calls where it is more than before.
    Measured(u64),
    /// The worker takes no more calls.
    Ending(Ended),
    /// Its process is gone, and its memory is free.
    Gone,
}

/// Reason why a worker takes no more calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nobody needs the worker any longer.
    Done,
    /// The process received SIGTERM, which is no failure of the model.
    Terminated,
    /// The model could not be loaded, for this cause.
    LoadFailed(String),
    /// The process died of this cause while loading.
    DiedLoading(String),
    /// The process died of this cause after loading.
    Died(String),
}

enum ToTask {
    Generate(u64, Call, String, Box<GenerateRequest>),
    Cancel(u64, CancelReason),
    Stats(oneshot::Sender<Stats>),
    /// A call got no answer although its deadline passed.
    Overdue,
    /// The process ends for this reason once nobody holds a handle.
    Unload(UnloadReason),
    Stop(UnloadReason),
}

impl Worker {
    /// Starts a worker for `model`, called `name` in logs. Returns at once; what goes wrong is told to every call, and what
    /// becomes of it to `life`. It keeps `fixed` ready, and what that is changed to.
    pub(crate) fn start(
        launcher: &Launcher,
        name: String,
        model: LoadSettings,
        fixed: watch::Receiver<FixedPrompts>,
        life: impl Fn(Life) + Send + 'static,
    ) -> Self {
        let (to_task, inbox) = mpsc::unbounded_channel();
        let launcher = launcher.clone();
        let log_name = name.as_str().into();
        let (to_vitals, vitals) = watch::channel(Vitals::default());
        tokio::spawn(async move {
            let life = Box::new(life);
            Task::run(launcher, name, model, fixed, inbox, to_vitals, life).await;
        });
        Self {
            name: log_name,
            vitals,
            to_task,
            ids: Arc::new(AtomicU64::new(1)),
        }
    }

    /// What logs call its model.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns facts about the worker's process.
    pub(crate) fn vitals(&self) -> Vitals {
        *self.vitals.borrow()
    }

    /// Whether its process has ended, or is about to: a new call would not be answered.
    pub(crate) fn has_ended(&self) -> bool {
        self.to_task.is_closed()
    }

    /// Gives this handle back; the process ends when it was the last one. The `reason` is counted.
    pub(crate) fn unload(self, reason: UnloadReason) {
        drop(self.to_task.send(ToTask::Unload(reason)));
    }

    /// Ends the process though calls wait for it, which get [`CallError::Stopped`]. The `reason` is counted.
    pub(crate) fn stop(&self, reason: UnloadReason) {
        drop(self.to_task.send(ToTask::Stop(reason)));
    }

    /// What it holds at the moment; none where it is loading, or ends. Comes back after its step.
    pub(crate) async fn stats(&self) -> Option<Stats> {
        let (answer_to, answer) = oneshot::channel();
        drop(self.to_task.send(ToTask::Stats(answer_to)));
        answer.await.ok()
    }

    /// Sends a call; its news go to `progress` and its end comes back. Dropping what is returned cancels it.
    pub(crate) fn call(
        &self,
        client: String,
        request: GenerateRequest,
        progress: watch::Sender<Progress>,
    ) -> RunningCall {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (done, result) = oneshot::channel();
        let call = Call::new(progress, done, request.max_tokens);
        // A task that has ended drops `done`, which the receiver takes for the worker's end.
        drop(
            self.to_task
                .send(ToTask::Generate(id, call, client, Box::new(request))),
        );
        RunningCall {
            id,
            to_task: self.to_task.clone(),
            result,
        }
    }
}

/// A call on its way. Dropping it cancels the call.
#[derive(Debug)]
pub(crate) struct RunningCall {
    id: u64,
    to_task: mpsc::UnboundedSender<ToTask>,
    result: oneshot::Receiver<Result<Generation, CallError>>,
}

impl RunningCall {
    /// Waits for the end. Cancel safe.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn result(&mut self) -> Result<Generation, CallError> {
        (&mut self.result).await.unwrap_or_else(|_| {
            Err(CallError::Died {
                reason: "it was about to end".into(),
                begun: false,
                is_first: false,
            })
        })
    }

    /// Asks for what there is; it comes as the result.
    pub(crate) fn end_by_deadline(&self) {
        drop(
            self.to_task
                .send(ToTask::Cancel(self.id, CancelReason::Deadline)),
        );
    }

    /// Logs that the process did not answer in time.
    pub(crate) fn report_overdue(&self) {
        drop(self.to_task.send(ToTask::Overdue));
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        // After the end of the call this does nothing.
        drop(
            self.to_task
                .send(ToTask::Cancel(self.id, CancelReason::Cancelled)),
        );
    }
}
