//! A backend whose models follow the script of a test, without a process.

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::runner::{Inbox, Mail, NewCall};
use super::{Ended, Life, Runner};
use crate::engine::{Answer, FinishReason, Generation, Phase, Usage};
use crate::telemetry::metrics::UnloadReason;

/// Hands every started model to the test.
#[derive(Debug)]
pub(crate) struct Script {
    started: UnboundedSender<ScriptedModel>,
}

/// A started model. The test plays the role of its task.
pub(crate) struct ScriptedModel {
    pub(crate) name: String,
    inbox: Inbox,
    life: Box<dyn Fn(Life) + Send + Sync>,
}

impl Script {
    /// Creates a script, and the receiver of the models that the registry starts.
    pub(crate) fn new() -> (Self, UnboundedReceiver<ScriptedModel>) {
        let (started, models) = unbounded_channel();
        (Self { started }, models)
    }

    pub(super) fn start(&self, name: &str, life: impl Fn(Life) + Send + Sync + 'static) -> Runner {
        let (runner, inbox) = Runner::new(name);
        let model = ScriptedModel {
            name: name.to_owned(),
            inbox,
            life: Box::new(life),
        };
        // A test that no longer waits for models has ended.
        self.started.send(model).ok();
        runner
    }
}

impl ScriptedModel {
    /// Finishes loading.
    pub(crate) fn load(&self) {
        (self.life)(Life::Loaded);
    }

    /// Returns the next message.
    pub(crate) async fn mail(&mut self) -> Option<Mail> {
        self.inbox.mail.recv().await
    }

    /// Returns the next message that does not cancel a call.
    async fn mail_but_cancels(&mut self) -> Option<Mail> {
        loop {
            let mail = self.mail().await;
            if !matches!(mail, Some(Mail::Cancel { .. })) {
                return mail;
            }
        }
    }

    /// Returns the next message, which must be a call.
    pub(crate) async fn call(&mut self) -> NewCall {
        match self.mail_but_cancels().await {
            Some(Mail::Call(call)) => *call,
            other => panic!("not a call: {other:?}"),
        }
    }

    /// Waits until the registry unloads the model, ends the model, and returns the reason.
    pub(crate) async fn unload(mut self) -> UnloadReason {
        let reason = match self.mail_but_cancels().await {
            Some(Mail::Unload(reason)) => reason,
            other => panic!("not unloaded: {other:?}"),
        };
        assert!(self.mail().await.is_none(), "another runner exists");
        (self.life)(Life::Ending(Ended::Done));
        (self.life)(Life::Gone);
        reason
    }

    /// Dies of `cause`: calls in the mailbox get no answer.
    pub(crate) fn die(self, cause: &str) {
        (self.life)(Life::Ending(Ended::Died(cause.to_owned())));
        (self.life)(Life::Gone);
    }
}

impl NewCall {
    /// Answers the call with `text`.
    pub(crate) fn answer(self, text: &str) {
        let generation = Generation {
            text: text.to_owned(),
            finish_reason: FinishReason::Stop,
            phase: Phase::Generate,
            still_thinking: false,
            seed: 1,
            usage: Usage::default(),
        };
        // A call that was cancelled needs no answer.
        self.answer_to.send(Ok(Answer::Generated(generation))).ok();
    }
}
