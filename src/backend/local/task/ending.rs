//! Ends the process of a worker's task, and fails its calls.

use std::time::Duration;

use super::Task;
use crate::backend::runner::Inbox;
use crate::backend::{CallError, Ended, Life, Unanswered};
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
        let failure = match end {
            End::Unused => {
                (self.life)(Life::Ending(Ended::Done));
                self.process.end().await;
                return self.gone(ProcessEnd::Unloaded(self.unload_reason));
            }
            End::Stopped => {
                self.end_calls(Unanswered::Stopped, inbox).await;
                (self.life)(Life::Ending(Ended::Done));
                self.process.end().await;
                return self.gone(ProcessEnd::Unloaded(self.unload_reason));
            }
            End::LoadFailed(error) => {
                metrics::load_failed(&self.name);
                (self.life)(Life::Ending(Ended::LoadFailed(error.to_string())));
                self.process.end().await;
                CallError::Engine(error)
            }
            End::OtherVersion(version) => {
                metrics::load_failed(&self.name);
                let text = format!(
                    "its wire protocol has version {version}, but the server's has version {WIRE_VERSION}; restart the server"
                );
                (self.life)(Life::Ending(Ended::LoadFailed(text.clone())));
                self.process.end().await;
                CallError::NotStarted(text)
            }
            End::Died => {
                let reason = self.process.reason().await;
                self.died(reason)
            }
            End::Violation(reason) => {
                let failure = self.died(format!("the server killed it: {reason}"));
                return self.kill(failure, ProcessEnd::Died, inbox).await;
            }
            End::Terminated => {
                (self.life)(Life::Ending(Ended::Terminated));
                let failure = CallError::Terminated { begun: false };
                return self.kill(failure, ProcessEnd::Terminated, inbox).await;
            }
            End::Stalled(silence) => {
                let failure = CallError::Stalled {
                    silence,
                    begun: false,
                };
                self.died(failure.to_string());
                return self.kill(failure, ProcessEnd::Stalled, inbox).await;
            }
        };
        self.gone(match failure {
            CallError::Died { .. } => ProcessEnd::Died,
            _ => ProcessEnd::Unloaded(self.unload_reason),
        });
        tracing::error!(model = self.name, pid = self.process.id(), "{failure}");
        self.end_calls(failure.into(), inbox).await;
    }

    /// Ends all calls, including those that are still in the mailbox.
    async fn end_calls(&mut self, end: Unanswered, inbox: Inbox) {
        self.calls.end_all(&end);
        inbox.refuse_all(end).await;
    }

    /// Kills the process, and fails its calls with `failure`. The calls do not wait for the process to exit, which may never happen if it is
    /// blocked in the kernel, for example by a hanging drive.
    async fn kill(mut self, failure: CallError, end: ProcessEnd, inbox: Inbox) {
        self.process.kill();
        let (model, pid) = (&self.name, self.process.id());
        match &failure {
            CallError::Stalled { silence, .. } => tracing::warn!(
                model,
                pid,
                "the model's process finished no step for {} (`stall_timeout`); it is killed, and the next call starts a new one",
                human_time(*silence)
            ),
            failure => tracing::error!(model, pid, "{failure}"),
        }
        self.end_calls(failure.into(), inbox).await;
        self.process.end().await;
        self.gone(end);
    }

    /// Reports that the process died, and returns the error of its calls.
    fn died(&self, reason: String) -> CallError {
        let ended = if self.calls.is_loading() {
            metrics::load_failed(&self.name);
            Ended::DiedLoading(reason.clone())
        } else {
            Ended::Died(reason.clone())
        };
        (self.life)(Life::Ending(ended));
        CallError::Died {
            reason,
            begun: false,
            is_first: false,
        }
    }

    fn gone(&self, end: ProcessEnd) {
        metrics::usage_changed(&self.name, self.usage, self.usage.without_memory());
        metrics::process_ended(&self.name, end, !self.calls.is_loading(), self.memory);
        (self.life)(Life::Gone);
    }
}
