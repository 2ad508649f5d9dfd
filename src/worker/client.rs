//! The server's side of a worker: spawn, feed, read, end.
//!
//! [`Worker`] is a handle; one task per worker owns the process and the table of its calls. Dropping the last handle
//! ends the worker. The task never waits for a client: progress goes into a `watch` channel, where the newest state
//! replaces the older one.

pub mod calls;
mod process;
mod progress;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::BufReader;
use tokio::process::ChildStdout;
use tokio::sync::{mpsc, oneshot, watch};

use calls::{Call, Calls, News};
use process::Process;
pub use process::{Launcher, WorkerEnvironment};
pub use progress::Progress;

use super::{Command, Ready, WIRE_VERSION};
use crate::config::LoadSettings;
use crate::config::units::human;
use crate::engine::fixed::FixedPrompt;
use crate::engine::{CancelReason, EngineError, GenerateRequest, Generation, Stats};
use crate::telemetry::metrics::{self, ProcessEnd};

/// What all calls of a tool begin with, for each tool of a model that has such.
pub type FixedPrompts = Arc<[FixedPrompt]>;

/// A call that has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The engine refused it or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The process could not be started.
    #[error("the model's process could not be started: {0}")]
    NotStarted(String),
    /// The deadline passed and the process did not hand over what it had.
    #[error("the deadline passed, and the model's process did not answer in time")]
    Stuck,
    /// The process was ended before it had loaded its model, which is not wanted any more.
    #[error("the model is not wanted any more")]
    Stopped,
    /// The process ended before the call was done.
    #[error("the model's process stopped unexpectedly ({reason})")]
    Died {
        /// How it ended, and what it said last.
        reason: String,
        /// The call had begun, or was just being prepared; one that only waited can be sent again.
        begun: bool,
    },
}

/// A handle of a running worker. Clones share it.
#[derive(Debug, Clone)]
pub struct Worker {
    name: Arc<str>,
    to_task: mpsc::UnboundedSender<ToTask>,
    ids: Arc<AtomicU64>,
}

/// What becomes of a worker, in this order, its measures at any time between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// It serves.
    Loaded,
    /// Bytes of memory that its process takes: after the load, and after calls where it is more than before.
    Measured(u64),
    /// It takes no more calls: none where it was not needed any more or died after it had served, else why it could not load,
    /// and whether it died of that.
    Ending(Option<(String, bool)>),
    /// Its process is gone, and its memory is free.
    Gone,
}

enum ToTask {
    Generate(u64, Call, String, Box<GenerateRequest>),
    Cancel(u64, CancelReason),
    Stats(oneshot::Sender<Stats>),
    Stop,
}

impl Worker {
    /// Starts a worker for `model`, called `name` in logs. Returns at once; what goes wrong is told to every call, and what
    /// becomes of it to `life`. It keeps `fixed` ready, and what that is changed to.
    pub fn start(
        launcher: &Launcher,
        name: String,
        model: LoadSettings,
        fixed: watch::Receiver<FixedPrompts>,
        life: impl Fn(Life) + Send + 'static,
    ) -> Self {
        let (to_task, inbox) = mpsc::unbounded_channel();
        let launcher = launcher.clone();
        let log_name = name.as_str().into();
        tokio::spawn(async move {
            Task::run(&launcher, name, model, fixed, inbox, Box::new(life)).await;
        });
        Self {
            name: log_name,
            to_task,
            ids: Arc::new(AtomicU64::new(1)),
        }
    }

    /// What logs call its model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its process has ended, or is about to: a new call would not be answered.
    pub fn has_ended(&self) -> bool {
        self.to_task.is_closed()
    }

    /// Ends the process though calls wait for it, which get [`CallError::Stopped`].
    pub fn stop(&self) {
        drop(self.to_task.send(ToTask::Stop));
    }

    /// What it holds at the moment; none where it is loading, or ends. Comes back after its step.
    pub async fn stats(&self) -> Option<Stats> {
        let (answer_to, answer) = oneshot::channel();
        drop(self.to_task.send(ToTask::Stats(answer_to)));
        answer.await.ok()
    }

    /// Sends a call; its news go to `progress` and its end comes back. Dropping what is returned cancels it.
    pub fn call(
        &self,
        client: String,
        request: GenerateRequest,
        progress: watch::Sender<Progress>,
    ) -> RunningCall {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (done, result) = oneshot::channel();
        let call = Call::new(progress, done);
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
pub struct RunningCall {
    id: u64,
    to_task: mpsc::UnboundedSender<ToTask>,
    result: oneshot::Receiver<Result<Generation, CallError>>,
}

impl RunningCall {
    /// Waits for the end. Cancel safe.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn result(&mut self) -> Result<Generation, CallError> {
        (&mut self.result).await.unwrap_or_else(|_| {
            Err(CallError::Died {
                reason: "it was about to end".into(),
                begun: false,
            })
        })
    }

    /// Asks for what there is; it comes as the result.
    pub fn end_by_deadline(&self) {
        drop(
            self.to_task
                .send(ToTask::Cancel(self.id, CancelReason::Deadline)),
        );
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

/// The owner of one worker process.
struct Task {
    name: String,
    process: Process,
    fixed: watch::Receiver<FixedPrompts>,
    calls: Calls,
    /// Who asked what it holds.
    asking: Vec<oneshot::Sender<Stats>>,
    /// The most bytes that the process was seen to take.
    memory: u64,
    life: Box<dyn Fn(Life) + Send>,
}

impl Task {
    async fn run(
        launcher: &Launcher,
        name: String,
        model: LoadSettings,
        mut fixed: watch::Receiver<FixedPrompts>,
        mut inbox: mpsc::UnboundedReceiver<ToTask>,
        life: Box<dyn Fn(Life) + Send>,
    ) {
        tracing::info!(model = name, path = %model.path.display(), "loading");
        let (process, stdout) = match launcher.spawn(&name).await {
            Ok(started) => started,
            Err(error) => {
                metrics::load_failed(&name);
                inbox.close();
                life(Life::Ending(Some((error.to_string(), false))));
                life(Life::Gone);
                return refuse_all(inbox, &CallError::NotStarted(error.to_string())).await;
            }
        };
        process.send(&Command::Load(Box::new(model)));
        let prompts = fixed.borrow_and_update().to_vec();
        if !prompts.is_empty() {
            process.send(&Command::Warm(prompts));
        }
        let mut task = Self {
            name,
            process,
            fixed,
            calls: Calls::default(),
            asking: Vec::new(),
            memory: 0,
            life,
        };
        let failure = task.serve(&mut inbox, BufReader::new(stdout)).await;
        // From here on new calls go to a new worker; those that are still in the channel get the same error.
        inbox.close();
        let failure = match failure {
            End::Unused => {
                (task.life)(Life::Ending(None));
                task.process.end().await;
                return task.gone(ProcessEnd::Unloaded);
            }
            End::Stopped => {
                task.calls.fail_all(&CallError::Stopped);
                refuse_all(inbox, &CallError::Stopped).await;
                (task.life)(Life::Ending(None));
                task.process.end().await;
                return task.gone(ProcessEnd::Unloaded);
            }
            End::LoadFailed(error) => {
                metrics::load_failed(&task.name);
                (task.life)(Life::Ending(Some((error.to_string(), false))));
                task.process.end().await;
                CallError::Engine(error)
            }
            End::OtherVersion(version) => {
                metrics::load_failed(&task.name);
                (task.life)(Life::Ending(Some((
                    "it is of another version".into(),
                    false,
                ))));
                task.process.end().await;
                let text = format!(
                    "its wire has version {version}, the server's {WIRE_VERSION}; restart the server"
                );
                CallError::NotStarted(text)
            }
            End::Died => {
                let reason = task.process.reason().await;
                if task.calls.is_loading() {
                    metrics::load_failed(&task.name);
                }
                (task.life)(Life::Ending(
                    task.calls.is_loading().then(|| (reason.clone(), true)),
                ));
                CallError::Died {
                    reason,
                    begun: false,
                }
            }
        };
        task.gone(match failure {
            CallError::Died { .. } => ProcessEnd::Died,
            _ => ProcessEnd::Unloaded,
        });
        tracing::error!(model = task.name, "{failure}");
        task.calls.fail_all(&failure);
        refuse_all(inbox, &failure).await;
    }

    async fn serve(
        &mut self,
        inbox: &mut mpsc::UnboundedReceiver<ToTask>,
        events: BufReader<ChildStdout>,
    ) -> End {
        let mut lines = process::Lines::new(events);
        loop {
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(ToTask::Generate(id, call, client, request)) => {
                        self.calls.insert(id, call);
                        let request = *request;
                        self.process.send(&Command::Generate { id, client, request });
                    }
                    Some(ToTask::Cancel(id, reason)) => {
                        if reason == CancelReason::Cancelled && !self.calls.forget(id) {
                            continue;
                        }
                        self.process.send(&Command::Cancel { id, reason });
                    }
                    // One that loads does not answer.
                    Some(ToTask::Stats(_)) if self.calls.is_loading() => {}
                    Some(ToTask::Stats(answer_to)) => {
                        self.asking.push(answer_to);
                        self.process.send(&Command::Stats);
                    }
                    Some(ToTask::Stop) => return End::Stopped,
                    None => return End::Unused,
                },
                prompts = changed(&mut self.fixed) => self.process.send(&Command::Warm(prompts)),
                line = lines.next() => match line {
                    Some(line) => match self.calls.take(&line) {
                        News::Nothing => {}
                        News::Ready(ready) => self.loaded(&ready),
                        News::Ended => self.measure(),
                        News::Stats(stats) => {
                            for answer_to in self.asking.drain(..) {
                                // Who asked may not wait any more.
                                answer_to.send(stats).ok();
                            }
                        }
                        News::LoadFailed(error) => return End::LoadFailed(error),
                        News::OtherVersion(version) => return End::OtherVersion(version),
                        News::NoEvent => {
                            crate::telemetry::relay(&self.name, &line);
                        }
                    },
                    None => return End::Died,
                },
            }
        }
    }

    fn loaded(&mut self, ready: &Ready) {
        (self.life)(Life::Loaded);
        metrics::loaded(&self.name, Duration::from_millis(ready.load_ms));
        self.measure();
        tracing::info!(
            model = self.name,
            load_ms = ready.load_ms,
            n_ctx = ready.n_ctx,
            kv_cells = ready.kv_cells,
            memory = human(self.memory),
            "model loaded"
        );
    }

    fn gone(&self, end: ProcessEnd) {
        metrics::gone(&self.name, end, !self.calls.is_loading(), self.memory);
        (self.life)(Life::Gone);
    }

    fn measure(&mut self) {
        if let Some(memory) = self.process.memory().filter(|memory| *memory > self.memory) {
            metrics::takes_more(&self.name, memory - self.memory);
            self.memory = memory;
            (self.life)(Life::Measured(memory));
        }
    }
}

/// What they are changed to; comes back only when they are. Cancel safe.
async fn changed(fixed: &mut watch::Receiver<FixedPrompts>) -> Vec<FixedPrompt> {
    if fixed.changed().await.is_err() {
        // Nobody can change them any more.
        std::future::pending::<()>().await;
    }
    fixed.borrow_and_update().to_vec()
}

/// Why a worker is not served any more.
enum End {
    /// Nobody holds a handle.
    Unused,
    /// It was told to.
    Stopped,
    /// It could not load the model.
    LoadFailed(EngineError),
    /// It is of another build than the server.
    OtherVersion(u32),
    /// It ended by itself.
    Died,
}

async fn refuse_all(mut inbox: mpsc::UnboundedReceiver<ToTask>, failure: &CallError) {
    inbox.close();
    while let Some(message) = inbox.recv().await {
        if let ToTask::Generate(_, call, ..) = message {
            call.fail(failure.clone());
        }
    }
}
