//! The task that owns a worker's process: starts it, hands calls over, hears it, ends it.

use std::time::Duration;

use tokio::io::BufReader;
use tokio::process::ChildStdout;
use tokio::sync::{mpsc, oneshot, watch};

use super::calls::{Calls, News};
use super::lines::{Line, Lines};
use super::model_log::ModelLog;
use super::process::Process;
use super::{CallError, FixedPrompts, Launcher, Life, ToTask};
use crate::config::LoadSettings;
use crate::config::units::human;
use crate::engine::fixed::FixedPrompt;
use crate::engine::{CancelReason, EngineError, Stats};
use crate::telemetry::metrics::{self, ProcessEnd};
use crate::worker::{Command, Ready, WIRE_VERSION};

/// Most bytes of an event. An answer is the longest, and 100,000 tokens of text have half a megabyte.
const MAX_EVENT: usize = 8 * 1024 * 1024;

/// How long the events of a process that has ended are read: what it wrote is in the pipe, but another process may hold the pipe
/// open.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// The owner of one worker process.
pub(super) struct Task {
    name: String,
    process: Process,
    /// For what the process prints beside its events.
    log: ModelLog,
    fixed: watch::Receiver<FixedPrompts>,
    calls: Calls,
    /// Who asked what it holds.
    asking: Vec<oneshot::Sender<Stats>>,
    /// The most bytes that the process was seen to take.
    memory: u64,
    life: Box<dyn Fn(Life) + Send>,
}

impl Task {
    pub(super) async fn run(
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
                let failure = CallError::of_start(&error);
                metrics::load_failed(&name);
                inbox.close();
                life(Life::Ending(Some((failure.to_string(), false))));
                life(Life::Gone);
                return refuse_all(inbox, &failure).await;
            }
        };
        process.send(&Command::Load(Box::new(model)));
        let prompts = fixed.borrow_and_update().to_vec();
        if !prompts.is_empty() {
            process.send(&Command::Warm(prompts));
        }
        let mut task = Self {
            log: ModelLog::new(name.clone()),
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
                task.died(reason)
            }
            End::Broken(reason) => {
                task.process.kill();
                let failure = task.died(format!("the server killed it: {reason}"));
                task.process.end().await;
                failure
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
        let mut lines = Lines::new(events, MAX_EVENT);
        loop {
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(ToTask::Generate(id, call, client, request)) => {
                        self.calls.insert(id, call);
                        let request = *request;
                        self.process.send(&Command::Generate { id, client, request: Box::new(request) });
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
                    Some(line) => if let Some(end) = self.hear(&line) { return end },
                    None => return End::Died,
                },
                () = self.process.ended() => return self.hear_rest(lines).await,
            }
        }
    }

    /// Takes what a process that has ended still wrote.
    async fn hear_rest(&mut self, mut lines: Lines<BufReader<ChildStdout>>) -> End {
        // Whoever else of its group holds the pipe goes, too.
        self.process.kill();
        let rest = async {
            while let Some(line) = lines.next().await {
                if let Some(end) = self.hear(&line) {
                    return end;
                }
            }
            End::Died
        };
        let rest = tokio::time::timeout(DRAIN_LIMIT, rest).await;
        rest.unwrap_or(End::Died)
    }

    /// Takes a line of the process; returns why it is not served any more, if that is so.
    fn hear(&mut self, line: &Line) -> Option<End> {
        if line.is_cut {
            return Some(End::Broken("it wrote a line longer than 8 MiB".into()));
        }
        match self.calls.take(&line.text) {
            News::Nothing => {}
            News::Ready(ready) => self.loaded(&ready),
            News::Ended => self.measure(),
            News::Stats(stats) => {
                for answer_to in self.asking.drain(..) {
                    // Who asked may not wait any more.
                    answer_to.send(stats).ok();
                }
            }
            News::LoadFailed(error) if self.calls.is_loading() => {
                return Some(End::LoadFailed(error));
            }
            News::LoadFailed(error) => return Some(End::Broken(error.to_string())),
            News::OtherVersion(version) => return Some(End::OtherVersion(version)),
            News::Broken(reason) => return Some(End::Broken(reason.into())),
            News::NoEvent => self.log.relay(line),
        }
        None
    }

    /// Tells that the process died, and returns what its calls get.
    fn died(&self, reason: String) -> CallError {
        let is_loading = self.calls.is_loading();
        if is_loading {
            metrics::load_failed(&self.name);
        }
        (self.life)(Life::Ending(is_loading.then(|| (reason.clone(), true))));
        CallError::Died {
            reason,
            begun: false,
            is_first: false,
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
    /// It wrote what no sound worker writes; says what.
    Broken(String),
}

async fn refuse_all(mut inbox: mpsc::UnboundedReceiver<ToTask>, failure: &CallError) {
    inbox.close();
    while let Some(message) = inbox.recv().await {
        if let ToTask::Generate(_, call, ..) = message {
            call.fail(failure.clone());
        }
    }
}
