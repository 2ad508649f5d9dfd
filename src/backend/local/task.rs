//! The task that owns a worker process: starts it, sends calls to it, handles its output, and ends it.

mod ending;

use std::time::Duration;

use tokio::io::BufReader;
use tokio::process::ChildStdout;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use ending::End;

use super::Launcher;
use super::calls::{Call, Calls, LineEffect};
use super::lines::{Line, Lines};
use super::liveness::Liveness;
use super::model_log::ModelLog;
use super::process::Process;
use super::watchdog::PATIENCE;
use crate::backend::runner::{Inbox, Mail, NewCall};
use crate::backend::{CallError, Ended, Life, SharedPrefixes};
use crate::config::units::{human, human_time};
use crate::engine::shared_prefix::PromptSamples;
use crate::engine::{CancelReason, Request, Stats};
use crate::process::usage::Usage;
use crate::telemetry::metrics::{self, UnloadReason};
use crate::worker::{Command, Launch, MAX_EVENT, Ready};

/// Longest time for reading the remaining events of a process that has ended. They are in the pipe already, but another process may keep the
/// pipe open.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// The owner of one worker process.
pub(super) struct Task {
    name: String,
    launcher: Launcher,
    process: Process,
    /// Log of the lines that are not events.
    log: ModelLog,
    prefixes: watch::Receiver<SharedPrefixes>,
    calls: Calls,
    /// Pending requests for statistics.
    stats_requests: Vec<oneshot::Sender<Stats>>,
    liveness: Liveness,
    /// Peak of the measured memory, in bytes.
    memory: u64,
    /// The last measurement of the process.
    usage: Usage,
    /// Reason why the process is unloaded once the last runner is dropped.
    unload_reason: UnloadReason,
    life: Box<dyn Fn(Life) + Send>,
}

impl Task {
    /// Starts the process, and serves it until it has ended.
    pub(super) async fn run(
        launcher: Launcher,
        name: String,
        launch: Launch,
        mut prefixes: watch::Receiver<SharedPrefixes>,
        inbox: Inbox,
        life: Box<dyn Fn(Life) + Send>,
    ) {
        let path = launch.settings.path.clone();
        let (mut process, stdout) = match launcher.spawn(&name, &launch).await {
            Ok(started) => started,
            Err(error) => {
                let failure = CallError::from_spawn(&error);
                tracing::error!(model = name, path = %path.display(), "{failure}");
                metrics::load_failed(&name);
                life(Life::Ending(Ended::LoadFailed(failure.to_string())));
                life(Life::Gone);
                return inbox.refuse_all(failure.into()).await;
            }
        };
        tracing::info!(
            model = name,
            pid = process.id(),
            path = %path.display(),
            "loading"
        );
        process.send(&Command::Load(Box::new(launch)));
        let prompts = prefixes.borrow_and_update().to_vec();
        if !prompts.is_empty() {
            process.send(&Command::Warm(prompts));
        }
        let mut task = Self {
            log: ModelLog::new(name.clone()),
            name,
            launcher,
            liveness: Liveness::new(process.id(), inbox.process_status.clone()),
            process,
            prefixes,
            calls: Calls::default(),
            stats_requests: Vec::new(),
            memory: 0,
            usage: Usage::default(),
            unload_reason: UnloadReason::Shutdown,
            life,
        };
        let mut inbox = inbox;
        let end = task.serve(&mut inbox.mail, BufReader::new(stdout)).await;
        // From here on, new calls go to a new process. Calls that are still in the mailbox get the same error as running ones.
        inbox.mail.close();
        task.end(end, inbox).await;
    }

    async fn serve(
        &mut self,
        inbox: &mut mpsc::UnboundedReceiver<Mail>,
        events: BufReader<ChildStdout>,
    ) -> End {
        let mut lines = Lines::new(events, MAX_EVENT);
        loop {
            if self.process.ignores_commands() {
                return End::Violation("it does not read its commands".into());
            }
            let next_check = self.liveness.next_check(self.launcher.stall_timeout());
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => if let Some(end) = self.handle(message) { return end },
                    None => return End::Unused,
                },
                prompts = changed(&mut self.prefixes) => self.process.send(&Command::Warm(prompts)),
                line = lines.next() => match line {
                    Some(line) => if let Some(end) = self.handle_line(&line) { return end },
                    None => return End::Died,
                },
                () = self.process.ended() => return self.handle_rest(lines).await,
                () = sleep_until(next_check) => if let Some(end) = self.check() { return end },
            }
        }
    }

    /// Handles `mail`. Returns the reason if the process must end.
    fn handle(&mut self, mail: Mail) -> Option<End> {
        match mail {
            Mail::Call(call) => self.send_call(*call),
            Mail::Cancel { id, reason } => {
                if reason == CancelReason::Cancelled && !self.calls.forget(id) {
                    return None;
                }
                self.process.send(&Command::Cancel { id, reason });
            }
            // A process that is loading does not answer.
            Mail::Stats(_) if self.calls.is_loading() => self.count_usage(),
            Mail::Stats(answer_to) => {
                self.count_usage();
                // Forget requests whose caller has stopped waiting.
                self.stats_requests.retain(|request| !request.is_closed());
                self.stats_requests.push(answer_to);
                self.ask();
            }
            Mail::Overdue => {
                if let Some(silence) = self.liveness.report_overdue() {
                    self.warn_overdue(silence);
                }
            }
            Mail::Unload(reason) => self.unload_reason = reason,
            Mail::Stop(reason) => {
                self.unload_reason = reason;
                return Some(End::Stopped);
            }
        }
        None
    }

    fn send_call(&mut self, call: NewCall) {
        let NewCall {
            id,
            client,
            request,
            progress,
            answer_to,
        } = call;
        let Request::Generate(generate) = &request;
        self.calls
            .insert(id, Call::new(progress, answer_to, generate.max_tokens));
        self.liveness.expect();
        self.process.send(&Command::Call {
            id,
            client,
            request,
        });
    }

    fn warn_overdue(&self, silence: Duration) {
        let pid = self.process.id();
        let advice = match self.launcher.stall_timeout() {
            Some(limit) => format!(
                "it is killed after {} without any work, or {} without a finished step (`stall_timeout`)",
                human_time(limit),
                human_time(limit.saturating_mul(PATIENCE))
            ),
            None => format!("end it with `kill -9 {pid}`"),
        };
        tracing::warn!(
            model = self.name,
            pid,
            "the model's process is stuck: a call got no answer by its deadline, and no step has finished for {}; {advice}",
            human_time(silence)
        );
    }

    /// Asks the process for its statistics. The answer is also a sign of life, since the thread that decodes sends it between two steps.
    fn ask(&mut self) {
        self.process.send(&Command::Stats);
        self.liveness.asked();
    }

    /// Checks whether the process makes progress. Returns the reason if the process must end.
    fn check(&mut self) -> Option<End> {
        if self.liveness.take_termination() && !self.launcher.is_draining() {
            return Some(End::Terminated);
        }
        let limit = self.launcher.stall_timeout();
        // Also without a limit, since an edit may set one.
        self.liveness.check(limit, self.process.activity());
        if self.liveness.has_stalled(limit) {
            return Some(End::Stalled(self.liveness.silence()));
        }
        if !self.calls.is_loading() && self.liveness.needs_ping() {
            self.ask();
        }
        None
    }

    /// Handles the remaining events of a process that has ended.
    async fn handle_rest(&mut self, mut lines: Lines<BufReader<ChildStdout>>) -> End {
        // Other processes of its group may keep the pipe open.
        self.process.kill();
        let rest = async {
            while let Some(line) = lines.next().await {
                if let Some(end) = self.handle_line(&line) {
                    return end;
                }
            }
            End::Died
        };
        let rest = tokio::time::timeout(DRAIN_LIMIT, rest).await;
        rest.unwrap_or(End::Died)
    }

    /// Handles a line of output. Returns the reason if the process must end.
    fn handle_line(&mut self, line: &Line) -> Option<End> {
        if line.is_truncated {
            let longest = human(MAX_EVENT as u64);
            return Some(End::Violation(format!(
                "it wrote a line longer than {longest}"
            )));
        }
        match self.calls.apply_line(&line.text) {
            LineEffect::None => {}
            LineEffect::Ready(ready) => {
                self.liveness.heard(self.calls.is_empty());
                self.loaded(&ready);
            }
            LineEffect::Ended => {
                self.liveness.heard(self.calls.is_empty());
                self.measure();
            }
            LineEffect::Alive => self.liveness.heard(false),
            LineEffect::Terminated => self.liveness.terminated(),
            LineEffect::Stats(stats) => {
                self.liveness.answered(self.calls.is_empty());
                for answer_to in self.stats_requests.drain(..) {
                    // The caller may have stopped waiting.
                    answer_to.send(stats).ok();
                }
            }
            LineEffect::LoadFailed(error) => return Some(End::LoadFailed(error)),
            LineEffect::Failed(error) => return Some(End::Failed(error)),
            LineEffect::OtherVersion(version) => return Some(End::OtherVersion(version)),
            LineEffect::Violation(reason) => return Some(End::Violation(reason)),
            LineEffect::NotAnEvent => self.log.relay(line),
        }
        None
    }

    fn loaded(&mut self, ready: &Ready) {
        (self.life)(Life::Loaded);
        metrics::loaded(&self.name, Duration::from_millis(ready.load_ms));
        self.measure();
        tracing::info!(
            model = self.name,
            pid = self.process.id(),
            load_ms = ready.load_ms,
            n_ctx = ready.n_ctx,
            kv_cells = ready.kv_cells,
            memory = human(self.memory),
            "model loaded"
        );
    }

    fn measure(&mut self) {
        self.count_usage();
        let memory = self.usage.resident;
        if memory > self.memory {
            metrics::memory_grew(&self.name, memory - self.memory);
            self.memory = memory;
            (self.life)(Life::Measured(memory));
        }
    }

    /// Updates the metrics with the CPU time that the process has used since the last update, and with its memory.
    fn count_usage(&mut self) {
        if let Some(usage) = self.process.usage() {
            metrics::usage_changed(&self.name, self.usage, usage);
            self.usage = usage;
        }
    }
}

/// Waits until the prompts change, and returns the new ones. Cancel safe.
async fn changed(prefixes: &mut watch::Receiver<SharedPrefixes>) -> Vec<PromptSamples> {
    if prefixes.changed().await.is_err() {
        // The sender was dropped, so the prompts never change again.
        std::future::pending::<()>().await;
    }
    prefixes.borrow_and_update().to_vec()
}

/// Waits until `time`; forever if it is `None`. Cancel safe.
async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
