//! Leases, with which calls keep their models loaded.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ids::{LeaseId, RunnerId};
use super::manager::ModelManager;
use super::residency::Refusal;
use crate::backend::Runner;

/// Result of a call's request for a lease: the runner, or the reason why there is none.
pub(super) type LeaseResult = Result<(RunnerId, Runner), Refusal>;

/// A call's lease on its model, or its position in the queue for one. Dropping it releases the lease, or leaves the queue.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) manager: Arc<ModelManager>,
    pub(super) id: LeaseId,
    pub(super) result: oneshot::Receiver<LeaseResult>,
}

/// A lease that was granted. Its model stays loaded until it is dropped.
#[derive(Debug)]
pub(super) struct GrantedLease {
    pub(super) id: RunnerId,
    pub(super) runner: Runner,
    _lease: Lease,
}

impl Lease {
    /// Returns whether the call still waits for its runner.
    pub(super) fn is_waiting(&self) -> bool {
        self.result.is_empty()
    }

    /// Waits for the runner. Dropping the future leaves the queue.
    pub(super) async fn runner(mut self) -> Result<GrantedLease, Refusal> {
        let result = (&mut self.result).await;
        let (id, runner) = result.expect("every queued call is answered")?;
        Ok(GrantedLease {
            id,
            runner,
            _lease: self,
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (id, now) = (self.id, Instant::now());
        self.manager.change(|state| {
            state.waiting.remove(&id);
            state.residency.release(id, now);
        });
    }
}
