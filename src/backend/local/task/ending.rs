//! Ends the process of a worker's task, and fails its calls.

use std::time::Duration;

use super::Task;
use crate::backend::runner::Inbox;
use crate::backend::{CallError, CallStage, Ended, Life, ProcessFailure, Unanswered};
use crate::config::units::human_time;
use crate::engine::EngineError;
use crate::telemetry::metrics::{self, ProcessEnd};
use crate::worker::WIRE_VERSION;

/// Reason why a worker must end.
pub(super) enum End {
    /// The last runner was dropped.
    Unused,
    /// The server stopped the worker.
    Stopped,
    /// The worker could not load the model.
    LoadFailed(EngineError),
    /// The worker cannot serve its loaded model any longer.
    Failed(EngineError),
    /// The worker's wire protocol has this version, which differs from the server's.
    OtherVersion(u32),
    /// The process ended by itself.
    Died,
    /// The process received SIGTERM, and the server is not shutting down.
    Terminated,
    /// The process finished no step for this long.
    Stalled(Duration),
    /// The process violated the wire protocol in this way.
    Violation(String),
}

impl Task {
    /// Ends the process, and all its calls, for the reason `end`.
    pub(super) async fn end(mut self, end: End, inbox: Inbox) {
        match end {
            End::Unused => {
                (self.life)(Life::Ending(Ended::Done));
                self.process.end().await;
                self.unloaded();
            }
            End::Stopped => {
                self.end_calls(|_| Unanswered::Stopped, inbox).await;
                (self.life)(Life::Ending(Ended::Done));
                self.process.end().await;
                self.unloaded();
            }
            End::LoadFailed(error) => self.load_failed(CallError::Engine(error), inbox).await,
            End::Failed(error) => {
                self.report_death(error.to_string());
                self.kill(ProcessFailure::Failed(error.to_string()), inbox)
                    .await;
            }
            End::OtherVersion(version) => {
                let text = format!(
                    "its wire protocol has version {version}, but the server's has version {WIRE_VERSION}; restart the server"
                );
                self.load_failed(CallError::NotStarted(text), inbox).await;
            }
            End::Died => {
                let reason = self.process.reason().await;
                self.report_death(reason.clone());
                self.gone(ProcessEnd::Died);
                let failure = ProcessFailure::Died(reason);
                tracing::error!(model = self.name, pid = self.process.id(), "{failure}");
                self.fail_calls(failure, inbox).await;
            }
            End::Violation(reason) => {
                let reason = format!("the server killed it: {reason}");
                self.report_death(reason.clone());
                self.kill(ProcessFailure::Died(reason), inbox).await;
            }
            End::Terminated => {
                (self.life)(Life::Ending(Ended::Terminated));
                self.kill(ProcessFailure::Terminated, inbox).await;
            }
            End::Stalled(silence) => {
                let failure = ProcessFailure::Stalled(silence);
                self.report_death(failure.to_string());
                self.kill(failure, inbox).await;
            }
        }
    }

    /// Ends a process that could not load its model, and fails its calls with `error`.
    async fn load_failed(mut self, error: CallError, inbox: Inbox) {
        metrics::load_failed(&self.name);
        let cause = match &error {
            CallError::NotStarted(text) => text.clone(),
            error => error.to_string(),
        };
        (self.life)(Life::Ending(Ended::LoadFailed(cause)));
        self.process.end().await;
        self.unloaded();
        tracing::error!(model = self.name, pid = self.process.id(), "{error}");
        self.end_calls(|_| error.clone().into(), inbox).await;
    }

    /// Kills the process, and fails its calls with `failure`. The calls do not wait for the process to exit, which may never happen if it is
    /// blocked in the kernel, for example by a hanging drive.
    async fn kill(mut self, failure: ProcessFailure, inbox: Inbox) {
        self.process.kill();
        let (model, pid) = (&self.name, self.process.id());
        let end = match &failure {
            ProcessFailure::Stalled(silence) => {
                tracing::warn!(
                    model,
                    pid,
                    "the model's process finished no step for {} (`stall_timeout`); it is killed, and the next call starts a new one",
                    human_time(*silence)
                );
                ProcessEnd::Stalled
            }
            ProcessFailure::Died(_) | ProcessFailure::Failed(_) => {
                tracing::error!(model, pid, "{failure}");
                ProcessEnd::Died
            }
            ProcessFailure::Terminated => {
                tracing::error!(model, pid, "{failure}");
                ProcessEnd::Terminated
            }
        };
        self.fail_calls(failure, inbox).await;
        self.process.end().await;
        self.gone(end);
    }

    /// Fails all calls because the process has ended.
    async fn fail_calls(&mut self, failure: ProcessFailure, inbox: Inbox) {
        self.end_calls(|stage| failure.of_call(stage).into(), inbox)
            .await;
    }

    /// Ends all calls, including those that are still in the mailbox, with the end that `end_of` returns for their stage.
    async fn end_calls(&mut self, end_of: impl Fn(CallStage) -> Unanswered, inbox: Inbox) {
        self.calls.end_all(&end_of);
        inbox.refuse_all(end_of(CallStage::Queued)).await;
    }

    /// Reports that the process died of `cause`.
    fn report_death(&self, cause: String) {
        let ended = if self.calls.is_loading() {
            metrics::load_failed(&self.name);
            Ended::DiedLoading(cause)
        } else {
            Ended::Died(cause)
        };
        (self.life)(Life::Ending(ended));
    }

    /// Reports that the process was unloaded and has exited.
    fn unloaded(&self) {
        self.gone(ProcessEnd::Unloaded(self.unload_reason));
    }

    /// Reports that the process has exited, for the reason `end`.
    fn gone(&self, end: ProcessEnd) {
        metrics::usage_changed(&self.name, self.usage, self.usage.without_memory());
        metrics::process_ended(&self.name, end, !self.calls.is_loading(), self.memory);
        (self.life)(Life::Gone);
    }
}
