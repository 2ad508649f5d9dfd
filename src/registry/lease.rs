//! A call's hold on its model.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::residency::{CallId, Refusal, RunnerId};
use super::shelf::Shelf;
use crate::backend::Runner;

/// The worker that a call gets, or the reason why it gets none.
pub(super) type Granted = Result<(RunnerId, Runner), Refusal>;

/// A call's hold on its model, or its place in the line for one; gone when it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) shelf: Arc<Shelf>,
    pub(super) call: CallId,
    pub(super) answer: oneshot::Receiver<Granted>,
}

/// A lease that has its worker.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: RunnerId,
    pub(super) runner: Runner,
    _lease: Lease,
}

impl Lease {
    /// Whether there is no answer yet.
    pub(super) fn waits(&self) -> bool {
        self.answer.is_empty()
    }

    /// Waits for the worker. Dropping the future gives the place up.
    pub(super) async fn runner(mut self) -> Result<Held, Refusal> {
        let answer = (&mut self.answer).await;
        let (id, runner) = answer.expect("every call in the line is answered")?;
        Ok(Held {
            id,
            runner,
            _lease: self,
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (call, now) = (self.call, Instant::now());
        self.shelf.change(|state| {
            state.waiting.remove(&call);
            let free = state.free();
            state.residency.release(call, free, now);
        });
    }
}
