//! Which worker serves a model: started when it is first wanted, started again when it has died.
//!
//! The one place that decides between joining a worker and starting one is `Registry::worker`, under one short lock.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::ModelConfig;
use crate::engine::{GenerateRequest, Generation};
use crate::worker::LoadModel;
use crate::worker::client::{CallError, Launcher, Progress, Worker};

/// How long after a deadline the worker may take to hand over what it has: a step takes half a second at most, a load
/// step longer.
const DEADLINE_GRACE: Duration = Duration::from_secs(3);

/// The models of the server.
#[derive(Debug)]
pub struct Registry {
    launcher: Launcher,
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
    /// A registry of `model`, which is not loaded yet.
    pub fn new(launcher: Launcher, model: ModelConfig) -> Self {
        Self {
            launcher,
            model,
            worker: Mutex::new(None),
        }
    }

    /// Starts loading the model, so that the first call finds it ready or on its way.
    pub fn preload(&self) {
        drop(self.worker());
    }

    /// The running worker, or a new one where there is none.
    fn worker(&self) -> Worker {
        let mut slot = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.as_ref() {
            Some(worker) if !worker.has_ended() => worker.clone(),
            _ => {
                let worker = Worker::start(
                    &self.launcher,
                    self.model.name.clone(),
                    load_of(&self.model),
                );
                slot.insert(worker).clone()
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
        request: GenerateRequest,
        context: &CallContext,
    ) -> Result<Generation, CallError> {
        match self.generate_once(request.clone(), context).await {
            Err(CallError::Died {
                begun: false,
                reason,
            }) => {
                tracing::warn!(
                    model = self.model.name,
                    reason,
                    "a waiting call is sent to a new worker"
                );
                self.generate_once(request, context).await
            }
            result => result,
        }
    }

    async fn generate_once(
        &self,
        request: GenerateRequest,
        context: &CallContext,
    ) -> Result<Generation, CallError> {
        let mut call =
            self.worker()
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

fn load_of(model: &ModelConfig) -> LoadModel {
    LoadModel {
        path: model.path.clone(),
        n_gpu_layers: model.n_gpu_layers,
        n_ctx: model.n_ctx,
        n_batch: model.n_batch,
        n_threads: model.n_threads,
        parallel: model.parallel,
        max_queue: model.max_queue,
    }
}
