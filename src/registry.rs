//! Which worker serves a model: started when it is first wanted, started again when it has died.
//!
//! The one place that decides between joining a worker and starting one is `Registry::worker`, under one short lock.

pub mod memory;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::ModelConfig;
use crate::engine::{GenerateRequest, Generation};
use crate::worker::client::{CallError, Launcher, Progress, Worker};

/// How long after a deadline the worker may take to hand over what it has: a step takes half a second at most, a load
/// step longer.
const DEADLINE_GRACE: Duration = Duration::from_secs(3);

/// The models of the server.
#[derive(Debug)]
pub struct Registry {
    launcher: Launcher,
    slots: HashMap<String, Slot>,
}

#[derive(Debug)]
struct Slot {
    model: ModelConfig,
    worker: Mutex<Option<Worker>>,
}

/// Who calls, and what a call may take.
#[derive(Debug)]
pub struct CallContext {
    /// Whose call it is, for fairness.
    pub client: String,
    /// When to end with what there is.
    pub deadline: Option<Instant>,
    /// Where its progress goes.
    pub progress: watch::Sender<Progress>,
}

impl Registry {
    /// A registry of `models`, of which none is loaded yet.
    pub fn new(launcher: Launcher, models: &[ModelConfig]) -> Self {
        let slot = |model: &ModelConfig| {
            let slot = Slot {
                model: model.clone(),
                worker: Mutex::new(None),
            };
            (model.name.clone(), slot)
        };
        Self {
            launcher,
            slots: models.iter().map(slot).collect(),
        }
    }

    /// Starts loading the models that are to be ready for the first call.
    pub fn preload(&self) {
        for slot in self.slots.values().filter(|slot| slot.model.preload) {
            drop(self.worker(slot));
        }
    }

    /// The running worker, or a new one where there is none.
    fn worker(&self, slot: &Slot) -> Worker {
        let mut worker = slot.worker.lock().unwrap_or_else(PoisonError::into_inner);
        match worker.as_ref() {
            Some(worker) if !worker.has_ended() => worker.clone(),
            _ => {
                let started = Worker::start(
                    &self.launcher,
                    slot.model.name.clone(),
                    slot.model.load.clone(),
                );
                worker.insert(started).clone()
            }
        }
    }

    /// Has the model answer `request`. Dropping the future cancels the call.
    ///
    /// A call that had not begun when its worker died is sent once more, to the next one.
    ///
    /// # Errors
    /// See [`CallError`]. A deadline is no error here: it ends the generation with what there is, or with nothing.
    pub async fn generate(
        &self,
        model: &str,
        request: GenerateRequest,
        context: &CallContext,
    ) -> Result<Generation, CallError> {
        let slot = self
            .slots
            .get(model)
            .expect("tools are made of the same models");
        match self.generate_once(slot, request.clone(), context).await {
            Err(CallError::Died {
                begun: false,
                reason,
            }) => {
                tracing::warn!(model, reason, "a waiting call is sent to a new worker");
                self.generate_once(slot, request, context).await
            }
            result => result,
        }
    }

    async fn generate_once(
        &self,
        slot: &Slot,
        request: GenerateRequest,
        context: &CallContext,
    ) -> Result<Generation, CallError> {
        let mut call =
            self.worker(slot)
                .call(context.client.clone(), request, context.progress.clone());
        let Some(deadline) = context.deadline else {
            return call.result().await;
        };
        if let Ok(result) = tokio::time::timeout_at(deadline, call.result()).await {
            return result;
        }
        call.end_by_deadline();
        tokio::time::timeout(DEADLINE_GRACE, call.result())
            .await
            .unwrap_or(Err(CallError::Stuck))
    }
}
