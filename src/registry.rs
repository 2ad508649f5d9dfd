//! Loads and unloads the models of the server, and gives each call a runner of its model.
//!
//! [`Residency`](residency::Residency) decides, under one short lock, and the manager carries out its decisions. A call holds a lease on its
//! model, and a model with a lease stays loaded.
//!
//! # Example
//!
//! ```ignore
#![doc = include_str!("registry/example.rs")]
//! ```

pub(crate) mod budget;
pub(crate) mod ids;
mod lease;
mod manager;
pub(crate) mod memory;
pub(crate) mod residency;
mod status;
mod suspects;

use std::collections::BTreeMap;
use std::hash::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backend::{
    Backend, CallError, Progress, Runner, RunningCall, SharedPrefixes, Unanswered,
};
use crate::config::{ModelConfig, RegistryConfig};
use crate::engine::{Answer, FinishReason, GenerateRequest, Generation, Phase, Request, Usage};
use crate::telemetry::metrics::{self, Occupancy};
use crate::telemetry::millis;
pub(crate) use ids::Edition;
use lease::Lease;
use manager::{ModelManager, Replaced};
pub(crate) use residency::ModelState;
use residency::Refusal;
pub(crate) use status::ModelStatus;
use status::Observed;
use suspects::{PromptHash, Suspects};

/// Grace period after a deadline, in which the runner returns its partial answer. A step usually takes a second, and more during a load.
const DEADLINE_GRACE: Duration = Duration::from_secs(3);

/// Longest time that [`Registry::observe`] waits for the check of files, and then for a process: about two prefill steps.
const OBSERVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Client name for preloads and restarts, which do not come from a client.
const NO_CLIENT: &str = "";

/// Loads and unloads models, and routes calls to them.
#[derive(Debug)]
pub(crate) struct Registry {
    manager: Arc<ModelManager>,
    suspects: Mutex<Suspects>,
    /// Hasher of prompts. Its keys are random, so that nobody can craft two prompts with the same hash.
    hasher: RandomState,
}

/// Result of unloading or restarting a model on request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unloaded {
    /// The model's name in the configuration.
    pub model: String,
    /// State of the model before the request.
    pub was: ModelState,
    /// Calls that the former process answers before it ends.
    pub running: usize,
    /// Reason why no new process can start, such as a missing file or too little memory; `None` if none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// Context of a call: its client, its deadline, and where it reports progress.
#[derive(Debug)]
pub(crate) struct CallContext {
    /// Client that makes the call. The queue is fair among clients.
    pub client: String,
    /// Time at which the call ends with a partial answer; `None` if it has no deadline.
    pub deadline: Option<Instant>,
    /// Channel to which the call reports its progress.
    pub progress: watch::Sender<Progress>,
}

/// Reason why a call was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RegistryError {
    /// The call got no runner.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The runner failed, or refused the call.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl From<Unanswered> for RegistryError {
    fn from(end: Unanswered) -> Self {
        match end {
            Unanswered::Stopped => Self::Refused(Refusal::Superseded),
            Unanswered::Failed(error) => Self::Call(error),
        }
    }
}

impl Registry {
    /// Creates a registry without models. Call it within a Tokio runtime.
    pub(crate) fn new(backend: Backend) -> Self {
        Self {
            manager: ModelManager::open(backend),
            suspects: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// Applies a configuration, and returns the editions of `models` in their order. A model whose load settings are unchanged keeps its
    /// edition. Former editions serve calls until [`Self::retire_all_but`]. `prefixes` has the shared prefixes of each model by name, which
    /// its process keeps in the prefix cache.
    pub(crate) fn stage(
        &self,
        models: &[ModelConfig],
        prefixes: &BTreeMap<&str, SharedPrefixes>,
        shared: &RegistryConfig,
    ) -> Vec<Edition> {
        self.manager.stage(models, prefixes, shared)
    }

    /// Retires all editions except `kept`. They finish their running calls, and calls that wait for them get [`Refusal::Superseded`].
    pub(crate) fn retire_all_but(&self, kept: &[Edition]) {
        self.manager.retire_all_but(kept);
    }

    /// Unloads the model called `name`: its process finishes its calls and ends, and the next call starts a new process. Forgets failed
    /// loads, deaths and refused prompts of the model. Returns `None` if there is no such model.
    pub(crate) async fn unload(&self, name: &str) -> Option<Unloaded> {
        let replaced = self.manager.replace(name)?;
        let Replaced { name, running, .. } = &replaced;
        tracing::info!(model = name, running, "unloaded on request");
        let check = self.manager.check_files(replaced.edition);
        drop(tokio::time::timeout(OBSERVE_TIMEOUT, check).await);
        Some(self.unloaded(replaced))
    }

    /// Unloads the model called `name` like [`Self::unload`], and starts a new process at once, even if the caller drops the future.
    pub(crate) async fn restart(&self, name: &str) -> Option<Unloaded> {
        let replaced = self.manager.replace(name)?;
        let (manager, edition) = (Arc::clone(&self.manager), replaced.edition);
        let Replaced { name, running, .. } = &replaced;
        tracing::info!(model = name, running, "restarted on request");
        let name = name.clone();
        let started = tokio::spawn(async move {
            let checked = manager.check_files(edition).await;
            let lease = manager.lease(edition, NO_CLIENT);
            drop(checked);
            tokio::spawn(load(lease, name));
        });
        drop(tokio::time::timeout(OBSERVE_TIMEOUT, started).await);
        Some(self.unloaded(replaced))
    }

    fn unloaded(&self, replaced: Replaced) -> Unloaded {
        Unloaded {
            model: replaced.name,
            was: replaced.was,
            running: replaced.running,
            fault: self.manager.failure(replaced.edition),
        }
    }

    /// Starts loading `model`, called `name`, so that it is ready for the first call.
    pub(crate) fn preload(&self, name: &str, model: Edition) {
        let lease = self.manager.lease(model, NO_CLIENT);
        tokio::spawn(load(lease, name.to_owned()));
    }

    /// Returns the edition that replaced `model` when it was unloaded or restarted on request, or `model` itself.
    pub(crate) fn current(&self, model: Edition) -> Edition {
        self.manager.current(model)
    }

    /// Generates the answer of `model` to `request`. Dropping the future cancels the call.
    ///
    /// A call that had not begun when its process ended is retried once, with the next process.
    ///
    /// # Errors
    /// See [`RegistryError`]. A deadline that passes is not an error: the generation ends with the text so far, which may be empty.
    pub(crate) async fn generate(
        &self,
        model: Edition,
        request: GenerateRequest,
        context: &CallContext,
    ) -> Result<Generation, RegistryError> {
        let request = Arc::new(request);
        let arrived = Instant::now();
        let first = self.generate_once(model, &request, context, arrived).await;
        let result = match first {
            Err(RegistryError::Call(error)) if error.is_end_of_process() && !error.has_begun() => {
                tracing::debug!(%error, "retrying a call that had not begun");
                self.generate_once(model, &request, context, arrived).await
            }
            result => result,
        };
        match result {
            Err(RegistryError::Call(error)) if error.is_end_of_process() => {
                let given_up = self.manager.given_up(model);
                Err(given_up.map_or(error.into(), RegistryError::Refused))
            }
            result => result,
        }
    }

    /// Returns the hash of the prompt of `request`; `None` if no prompt is suspected of killing processes.
    fn suspect(&self, model: Edition, request: &GenerateRequest) -> Option<PromptHash> {
        let is_needed = !self.suspects().is_empty();
        is_needed.then(|| self.hash(model, request))
    }

    fn refused_for(&self, prompt: PromptHash) -> Option<Duration> {
        self.suspects().refused_for(prompt, Instant::now())
    }

    /// Records that `model` answered a call. `suspect` is the hash of its prompt; `None` if no prompt is suspected.
    fn finished(&self, model: Edition, suspect: Option<PromptHash>) {
        self.manager.finished(model);
        if let Some(prompt) = suspect {
            self.suspects().clear(prompt);
        }
    }

    /// Returns the hash of a prompt for the current version of `model`. After an edit or with another file, the prompt may be harmless.
    fn hash(&self, model: Edition, request: &GenerateRequest) -> PromptHash {
        let version = self.manager.version(model);
        PromptHash::new(&self.hasher, version, &request.conversation)
    }

    fn suspects(&self) -> MutexGuard<'_, Suspects> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `request` to one process. The call has waited since it `arrived`, possibly for an earlier process.
    async fn generate_once(
        &self,
        model: Edition,
        request: &Arc<GenerateRequest>,
        context: &CallContext,
        arrived: Instant,
    ) -> Result<Generation, RegistryError> {
        let check = self.manager.check_files(model);
        let checked = match context.deadline {
            None => check.await,
            Some(deadline) => tokio::time::timeout_at(deadline, check)
                .await
                .ok()
                .flatten(),
        };
        let suspect = self.suspect(model, request);
        if let Some(pause) = suspect.and_then(|prompt| self.refused_for(prompt)) {
            return Err(Refusal::PromptRefused { pause }.into());
        }
        let lease = self.manager.lease(model, &context.client);
        drop(checked);
        if lease.is_waiting() {
            context.progress.send_replace(Progress::WaitingForRoom);
        }
        let lease = match context.deadline {
            None => lease.runner().await?,
            Some(deadline) => match tokio::time::timeout_at(deadline, lease.runner()).await {
                Ok(runner) => runner?,
                Err(_elapsed) => return Ok(never_begun(request, arrived.elapsed())),
            },
        };
        let waited = arrived.elapsed();
        let (client, progress) = (context.client.clone(), context.progress.clone());
        let mut call = lease
            .runner
            .call(client, Request::Generate(Arc::clone(request)), progress);
        let answered = answer(&mut call, context.deadline).await;
        if let Err(Unanswered::Failed(error)) = &answered
            && error.is_crash()
            && error.has_begun()
        {
            let prompt = self.hash(model, request);
            self.suspects().blame(prompt, lease.id, Instant::now());
        }
        let Answer::Generated(mut generation) = answered?;
        if generation.phase == Phase::Generate {
            self.finished(model, suspect);
        }
        self.manager.learn_speed(model, &generation.usage);
        let queue_ms = &mut generation.usage.queue_ms;
        *queue_ms = queue_ms.saturating_add(millis(waited));
        Ok(generation)
    }

    /// Returns the status of every model, sorted by name, and updates the metrics. Asks each process for its statistics. A process that is
    /// in the middle of a long step does not answer, so its statistics are missing.
    pub(crate) async fn observe(&self) -> Vec<ModelStatus> {
        // A drive that does not answer must not block `status`.
        drop(tokio::time::timeout(OBSERVE_TIMEOUT, self.manager.check_all_files()).await);
        let models = self.manager.statuses().into_iter().map(Self::status_of);
        join_all(models).await
    }

    /// Asks the process of `model` for its statistics, and returns the status with them.
    async fn status_of(model: Observed) -> ModelStatus {
        let stats = async { model.runner.as_ref()?.stats().await };
        let stats = tokio::time::timeout(OBSERVE_TIMEOUT, stats)
            .await
            .ok()
            .flatten();
        // The metrics of a process that has ended are 0 already.
        let runner = model.runner.as_ref().filter(|runner| !runner.has_ended());
        let process_status = runner.map(Runner::process_status);
        let stats = stats.filter(|_| runner.is_some());
        if let Some(process_status) = process_status {
            metrics::last_step(&model.name, process_status.silence.unwrap_or_default());
        }
        if let Some(stats) = stats {
            let now = Occupancy {
                waiting: stats.waiting,
                cells: stats.kv_cells,
                reserved_cells: stats.reserved_cells,
                threads: model.cpu_threads.map_or(0, |_| stats.n_threads),
            };
            metrics::occupancy_changed(&model.name, now);
        }
        model.into_status(process_status.unwrap_or_default(), stats, Instant::now())
    }

    /// Unloads all models, and returns once their processes have exited. No call may be running, and none may follow.
    pub(crate) async fn close(&self) {
        self.manager.close().await;
    }
}

/// Waits until the model called `name` is loaded for `lease`. Logs an error if it cannot be loaded.
async fn load(lease: Lease, name: String) {
    if let Err(refusal) = lease.runner().await
        // A superseded model needs no error: another edition is loaded instead.
        && refusal != Refusal::Superseded
    {
        tracing::error!(model = name, "could not load the model: {refusal}");
    }
}

/// Waits for the answer to `call`, and for a partial one once `deadline` has passed.
async fn answer(call: &mut RunningCall, deadline: Option<Instant>) -> Result<Answer, Unanswered> {
    let Some(deadline) = deadline else {
        return call.answer().await;
    };
    if let Ok(result) = tokio::time::timeout_at(deadline, call.answer()).await {
        return result;
    }
    call.end_by_deadline();
    let result = tokio::time::timeout(DEADLINE_GRACE, call.answer()).await;
    result.unwrap_or_else(|_elapsed| {
        call.report_overdue();
        Err(CallError::Stuck.into())
    })
}

/// Returns the empty generation of a call that `waited` for a runner until its deadline passed.
fn never_begun(request: &GenerateRequest, waited: Duration) -> Generation {
    Generation {
        text: String::new(),
        finish_reason: FinishReason::Deadline,
        phase: Phase::Queue,
        still_thinking: false,
        seed: request.sampling.llama_seed(),
        usage: Usage {
            queue_ms: millis(waited),
            ..Usage::default()
        },
    }
}

#[cfg(test)]
mod example;
#[cfg(test)]
mod tests;
