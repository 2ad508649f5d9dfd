//! How the task of a worker ends: the process goes, and every call gets its error.

use std::time::Duration;

use tokio::sync::mpsc;

use super::Task;
use crate::config::units::human_time;
use crate::engine::EngineError;
use crate::telemetry::metrics::{self, ProcessEnd};
use crate::worker::WIRE_VERSION;
use crate::worker::client::{CallError, Ended, Life, ToTask};

/// The cause for which a worker is no longer served.
pub(super) enum End {
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
    /// It received SIGTERM, and the server goes on.
    Terminated,
    /// It finished no step for so long.
    Stalled(Duration),
    /// It wrote what no sound worker writes; says what.
    Broken(String),
}

impl Task {
    /// Ends the process for the cause `end`, and all calls with it.
    pub(super) async fn end(mut self, end: End, inbox: mpsc::UnboundedReceiver<ToTask>) {
        let failure = match end {
            End::Unused => {
                (self.life)(Life::Ending(Ended::Done));
                self.process.end().await;
                return self.gone(ProcessEnd::Unloaded(self.unload_reason));
            }
            End::Stopped => {
                self.calls.fail_all(&CallError::Stopped);
                refuse_all(inbox, &CallError::Stopped).await;
                (self.life)(Life::Ending(Ended::Done));
                self.process.end().await;
                return self.gone(ProcessEnd::Unloaded(self.unload_reason));
            }
            End::Stalled(silence) => return self.kill_stalled(silence, inbox).await,
            End::LoadFailed(error) => {
                metrics::load_failed(&self.name);
                (self.life)(Life::Ending(Ended::LoadFailed(error.to_string())));
                self.process.end().await;
                CallError::Engine(error)
            }
            End::OtherVersion(version) => {
                metrics::load_failed(&self.name);
                let cause = "it is of another version".into();
                (self.life)(Life::Ending(Ended::LoadFailed(cause)));
                self.process.end().await;
                let text = format!(
                    "its wire has version {version}, the server's {WIRE_VERSION}; restart the server"
                );
                CallError::NotStarted(text)
            }
            End::Died => {
                let reason = self.process.reason().await;
                self.died(reason)
            }
            End::Broken(reason) => {
                self.process.kill();
                let failure = self.died(format!("the server killed it: {reason}"));
                self.process.end().await;
                failure
            }
            End::Terminated => {
                self.process.kill();
                let failure = self.died("it was ended by SIGTERM".into());
                self.process.end().await;
                failure
            }
        };
        self.gone(match failure {
            CallError::Died { .. } => ProcessEnd::Died,
            _ => ProcessEnd::Unloaded(self.unload_reason),
        });
        tracing::error!(model = self.name, pid = self.process.id(), "{failure}");
        self.calls.fail_all(&failure);
        refuse_all(inbox, &failure).await;
    }

    /// Kills a process that finished no step for `silence`.
    async fn kill_stalled(mut self, silence: Duration, inbox: mpsc::UnboundedReceiver<ToTask>) {
        tracing::warn!(
            model = self.name,
            pid = self.process.id(),
            "the model's process finished no step for {} (`stall_timeout`); it is killed, and the next call starts a new one",
            human_time(silence)
        );
        self.process.kill();
        let failure = CallError::Stalled {
            silence,
            begun: false,
        };
        self.died(failure.to_string());
        // Before its end is waited for, which may not come: a process that waits for a dead disk cannot even be killed.
        self.calls.fail_all(&failure);
        refuse_all(inbox, &failure).await;
        self.process.end().await;
        self.gone(ProcessEnd::Stalled);
    }

    /// Tells that the process died, and returns what its calls get.
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
        metrics::used(&self.name, self.usage, self.usage.without_memory());
        metrics::gone(&self.name, end, !self.calls.is_loading(), self.memory);
        (self.life)(Life::Gone);
    }
}

/// Tells all calls that are still in the channel that they failed.
pub(super) async fn refuse_all(mut inbox: mpsc::UnboundedReceiver<ToTask>, failure: &CallError) {
    inbox.close();
    while let Some(message) = inbox.recv().await {
        if let ToTask::Generate(_, call, ..) = message {
            call.fail(failure.clone());
        }
    }
}
