//! The handle of a running model: the sending side of the mailbox of its task.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot, watch};

use super::{CallStage, ProcessFailure, ProcessStatus, Progress, Unanswered};
use crate::engine::{Answer, CallId, CancelReason, Request, Stats};
use crate::telemetry::metrics::UnloadReason;

/// A running model. Clones share it; when the last one is dropped, the model is unloaded.
///
/// A runner is the mailbox of a task that owns a process or a connection. Each backend starts such a task, and code outside the backend
/// does not know which. `registry/example.rs` shows the whole life of a runner.
#[derive(Debug, Clone)]
pub(crate) struct Runner {
    name: Arc<str>,
    process_status: watch::Receiver<ProcessStatus>,
    mailbox: mpsc::UnboundedSender<Mail>,
    ids: Arc<AtomicU64>,
}

/// A message to the task behind a runner.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A new call.
    Call(Box<NewCall>),
    /// Ends a call.
    Cancel {
        /// Id of the call.
        id: CallId,
        /// Reason for ending the call.
        reason: CancelReason,
    },
    /// Requests the model's current statistics. The sender is dropped if the model is loading, or if it ends first.
    Stats(oneshot::Sender<Stats>),
    /// A call got no answer although its deadline passed.
    Overdue,
    /// Sets the reason why the model is unloaded. Sent before the last runner is dropped.
    Unload(UnloadReason),
    /// Ends the model although calls wait for it, which get [`Unanswered::Stopped`].
    Stop(UnloadReason),
}

/// A call that is sent to the task behind a runner.
#[derive(Debug)]
pub(crate) struct NewCall {
    /// Id of the call, unique for the runner.
    pub id: CallId,
    /// Client that makes the call.
    pub client: String,
    /// The client's request.
    pub request: Request,
    /// Channel for the progress of the call.
    pub progress: watch::Sender<Progress>,
    /// Channel for the answer.
    pub answer_to: oneshot::Sender<Result<Answer, Unanswered>>,
}

impl NewCall {
    /// Ends the call without an answer. Does nothing if the client is no longer waiting.
    pub(crate) fn fail(self, end: impl Into<Unanswered>) {
        drop(self.answer_to.send(Err(end.into())));
    }
}

/// The task's side of a runner: its messages, and the channel for facts about its process.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// Messages to the task. The channel closes when the last runner is dropped.
    pub mail: mpsc::UnboundedReceiver<Mail>,
    /// Channel for the process id, and the time since the last step.
    pub process_status: watch::Sender<ProcessStatus>,
}

impl Inbox {
    /// Closes the mailbox, and ends the calls that are still in it.
    pub(crate) async fn refuse_all(mut self, end: Unanswered) {
        self.mail.close();
        while let Some(mail) = self.mail.recv().await {
            if let Mail::Call(call) = mail {
                call.fail(end.clone());
            }
        }
    }
}

impl Runner {
    /// Creates a runner of the model `name`, and the inbox of its task.
    pub(super) fn new(name: &str) -> (Self, Inbox) {
        let (mailbox, mail) = mpsc::unbounded_channel();
        let (to_process_status, process_status) = watch::channel(ProcessStatus::default());
        let runner = Self {
            name: name.into(),
            process_status,
            mailbox,
            ids: Arc::new(AtomicU64::new(1)),
        };
        let inbox = Inbox {
            mail,
            process_status: to_process_status,
        };
        (runner, inbox)
    }

    /// Returns the name of the model.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the process id, and the time since the last step.
    pub(crate) fn process_status(&self) -> ProcessStatus {
        *self.process_status.borrow()
    }

    /// Returns whether a new call would get no answer, because the model has ended or is about to.
    pub(crate) fn has_ended(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// Drops this handle. The model is unloaded if it was the last one; metrics count the `reason`.
    pub(crate) fn unload(self, reason: UnloadReason) {
        drop(self.mailbox.send(Mail::Unload(reason)));
    }

    /// Ends the model although calls wait for it, which get [`Unanswered::Stopped`]. Metrics count the `reason`.
    pub(crate) fn stop(&self, reason: UnloadReason) {
        drop(self.mailbox.send(Mail::Stop(reason)));
    }

    /// Returns the model's statistics after its current step; `None` if it is loading, or if it ends first.
    pub(crate) async fn stats(&self) -> Option<Stats> {
        let (answer_to, answer) = oneshot::channel();
        drop(self.mailbox.send(Mail::Stats(answer_to)));
        answer.await.ok()
    }

    /// Sends a call of `client`, which reports to `progress`. Dropping the returned call cancels it.
    pub(crate) fn call(
        &self,
        client: String,
        request: Request,
        progress: watch::Sender<Progress>,
    ) -> RunningCall {
        let id = CallId(self.ids.fetch_add(1, Ordering::Relaxed));
        let (answer_to, answer) = oneshot::channel();
        let call = NewCall {
            id,
            client,
            request,
            progress,
            answer_to,
        };
        // A task that has ended drops the call, which the receiver treats as the end of the model.
        drop(self.mailbox.send(Mail::Call(Box::new(call))));
        RunningCall {
            id,
            mailbox: self.mailbox.clone(),
            answer,
        }
    }
}

/// A call that waits for its answer. Dropping it cancels the call.
#[derive(Debug)]
pub(crate) struct RunningCall {
    id: CallId,
    mailbox: mpsc::UnboundedSender<Mail>,
    answer: oneshot::Receiver<Result<Answer, Unanswered>>,
}

impl RunningCall {
    /// Waits for the answer. Cancel safe.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub(crate) async fn answer(&mut self) -> Result<Answer, Unanswered> {
        (&mut self.answer).await.unwrap_or_else(|_| {
            let failure = ProcessFailure::Died("it was shutting down".into());
            Err(failure.of_call(CallStage::Queued).into())
        })
    }

    /// Requests a partial answer, which [`Self::answer`] then returns.
    pub(crate) fn end_by_deadline(&self) {
        let mail = Mail::Cancel {
            id: self.id,
            reason: CancelReason::Deadline,
        };
        drop(self.mailbox.send(mail));
    }

    /// Reports that the model did not answer in time.
    pub(crate) fn report_overdue(&self) {
        drop(self.mailbox.send(Mail::Overdue));
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        // After the end of the call this does nothing.
        let mail = Mail::Cancel {
            id: self.id,
            reason: CancelReason::Cancelled,
        };
        drop(self.mailbox.send(mail));
    }
}
