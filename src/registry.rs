//! The models of the server: which worker serves a call, and which workers there are.
//!
//! [`residency`] decides, under one short lock; here its actions are carried out, and what becomes of workers is told to it.
//! A call holds a lease: while there is one, its model stays.

pub mod budget;
pub mod memory;
pub mod residency;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use crate::config::{ModelConfig, RegistryConfig};
use crate::engine::{FinishReason, GenerateRequest, Generation, Phase, Usage};
use crate::gguf;
use crate::process;
use crate::worker::client::{CallError, Launcher, Life, Progress, Worker};
use crate::worker::turns::TurnFiles;
use memory::need_of;
use residency::{Action, CallId, Ended, ModelTerms, Refusal, Residency, Shared, Stamp, WorkerId};

/// How long after a deadline the worker may take to hand over what it has: a step takes half a second at most, a load
/// step longer.
const DEADLINE_GRACE: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug)]
pub struct Registry(Arc<Shelf>);

#[derive(Debug)]
struct Shelf {
    launcher: Launcher,
    models: HashMap<String, ModelConfig>,
    budget: u64,
    /// Where several models share the CPUs.
    turns: Option<TurnFiles>,
    state: Mutex<State>,
    /// Something may idle earlier or later than was known.
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    residency: Residency,
    workers: HashMap<WorkerId, Worker>,
    waiting: HashMap<CallId, oneshot::Sender<Result<Worker, Refusal>>>,
    next_call: CallId,
    /// The files of which the needs are known.
    stamps: HashMap<String, Stamp>,
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

/// A call that was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Its model could not be had.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its worker did not answer it.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Registry {
    /// A registry of `models`, of which none is loaded yet. To be called inside the runtime.
    pub fn new(launcher: Launcher, models: &[ModelConfig], shared: &RegistryConfig) -> Self {
        let budget = shared.memory_budget.of(process::total_memory());
        let terms = |model: &ModelConfig| {
            let terms = ModelTerms {
                need: need_of(model, budget).estimate.total(),
                pin: model.pin,
                idle_ttl: model.idle_ttl,
            };
            (model.name.clone(), terms)
        };
        let limits = Shared {
            budget,
            max_loaded: shared.max_loaded,
        };
        let shelf = Arc::new(Shelf {
            launcher,
            models: models
                .iter()
                .map(|model| (model.name.clone(), model.clone()))
                .collect(),
            budget,
            turns: turns_for(models),
            state: Mutex::new(State {
                residency: Residency::new(limits, models.iter().map(terms)),
                workers: HashMap::new(),
                waiting: HashMap::new(),
                next_call: 1,
                stamps: models
                    .iter()
                    .map(|model| (model.name.clone(), stamp_of(&model.load.path)))
                    .collect(),
            }),
            changed: Arc::default(),
        });
        tokio::spawn(end_idle(Arc::downgrade(&shelf), Arc::clone(&shelf.changed)));
        Self(shelf)
    }

    /// Starts loading the models that are to be ready for the first call.
    pub fn preload(&self) {
        let mut names: Vec<&ModelConfig> = self
            .0
            .models
            .values()
            .filter(|model| model.preload)
            .collect();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        for model in names {
            let lease = self.0.lease(&model.name);
            let name = model.name.clone();
            tokio::spawn(async move {
                if let Err(refusal) = lease.worker().await {
                    tracing::error!(model = name, "not loaded: {refusal}");
                }
            });
        }
    }

    /// Has `model` answer `request`. Dropping the future cancels the call.
    ///
    /// A call that had not begun when its worker died is sent once more, to the next one.
    ///
    /// # Errors
    /// See [`RegistryError`]. A deadline is no error here: it ends the generation with what there is, or with nothing.
    pub async fn generate(
        &self,
        model: &str,
        request: GenerateRequest,
        context: &CallContext,
    ) -> Result<Generation, RegistryError> {
        match self.generate_once(model, request.clone(), context).await {
            Err(RegistryError::Call(CallError::Died {
                begun: false,
                reason,
            })) => {
                tracing::warn!(model, reason, "a waiting call is sent to a new worker");
                self.generate_once(model, request, context).await
            }
            result => result,
        }
    }

    async fn generate_once(
        &self,
        model: &str,
        request: GenerateRequest,
        context: &CallContext,
    ) -> Result<Generation, RegistryError> {
        let lease = self.0.lease(model);
        if lease.waits() {
            context.progress.send_replace(Progress::WaitingForRoom);
        }
        let held = match context.deadline {
            None => lease.worker().await?,
            Some(deadline) => match tokio::time::timeout_at(deadline, lease.worker()).await {
                Ok(worker) => worker?,
                Err(_elapsed) => return Ok(never_begun(&request)),
            },
        };
        let mut call = held
            .worker
            .call(context.client.clone(), request, context.progress.clone());
        let Some(deadline) = context.deadline else {
            return Ok(call.result().await?);
        };
        if let Ok(result) = tokio::time::timeout_at(deadline, call.result()).await {
            return Ok(result?);
        }
        call.end_by_deadline();
        let result = tokio::time::timeout(DEADLINE_GRACE, call.result()).await;
        Ok(result.unwrap_or(Err(CallError::Stuck))?)
    }
}

/// What a call ends with whose deadline passed before it had a worker.
fn never_begun(request: &GenerateRequest) -> Generation {
    Generation {
        text: String::new(),
        finish_reason: FinishReason::Deadline,
        phase: Phase::Queue,
        still_thinking: false,
        seed: request.sampling.seed,
        usage: Usage::default(),
    }
}

/// A call's hold on its model, or its place in the line for one; gone when it is dropped.
#[derive(Debug)]
struct Lease {
    shelf: Arc<Shelf>,
    call: CallId,
    answer: oneshot::Receiver<Result<Worker, Refusal>>,
}

/// A lease that has its worker.
#[derive(Debug)]
struct Held {
    worker: Worker,
    _lease: Lease,
}

impl Lease {
    /// Whether there is no answer yet.
    fn waits(&self) -> bool {
        self.answer.is_empty()
    }

    /// Waits for the worker. Dropping the future gives the place up.
    async fn worker(mut self) -> Result<Held, Refusal> {
        let answer = (&mut self.answer).await;
        let worker = answer.expect("every call in the line is answered")?;
        Ok(Held {
            worker,
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

impl Shelf {
    /// A call of `model` takes its place.
    fn lease(self: &Arc<Self>, model: &str) -> Lease {
        let (answer_to, answer) = oneshot::channel();
        let now = Instant::now();
        let call = self.change(|state| {
            // One that is about to end answers no new call; why it ends is told later.
            let ended = state
                .workers
                .iter()
                .filter(|(_, worker)| worker.has_ended())
                .map(|(id, _)| *id);
            for worker in ended.collect::<Vec<_>>() {
                state.workers.remove(&worker);
                state.residency.ending(worker, Ended::Done, now);
            }
            let call = state.next_call;
            state.next_call += 1;
            state.waiting.insert(call, answer_to);
            // Looked at only where a load is in question: most calls join a running worker.
            let is_running = state.residency.is_running(model);
            let stamp = self
                .models
                .get(model)
                .filter(|_| !is_running)
                .and_then(|model| stamp_of(&model.load.path));
            if !is_running && let Some(model) = self.models.get(model) {
                state.learn_need(model, stamp, self.budget);
            }
            let free = if is_running {
                None
            } else {
                process::available_memory()
            };
            state.residency.call(call, model, stamp, free, now);
            call
        });
        Lease {
            shelf: Arc::clone(self),
            call,
            answer,
        }
    }

    /// Changes the state and carries out what that asks for.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        self.carry_out(&mut state);
        drop(state);
        self.changed.notify_one();
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry_out(self: &Arc<Self>, state: &mut State) {
        for action in state.residency.take_actions() {
            match action {
                Action::Start(name, id) => {
                    let worker = self.start(&name, id);
                    state.workers.insert(id, worker);
                }
                Action::End(id) => {
                    // Its last handle: the process ends in order.
                    state.workers.remove(&id);
                }
                Action::Grant(call, id) => {
                    if let (Some(answer_to), Some(worker)) =
                        (state.waiting.remove(&call), state.workers.get(&id))
                    {
                        // A call that has left meanwhile gives its lease back when it is dropped.
                        drop(answer_to.send(Ok(worker.clone())));
                    }
                }
                Action::Refuse(call, refusal) => {
                    if let Some(answer_to) = state.waiting.remove(&call) {
                        drop(answer_to.send(Err(refusal)));
                    }
                }
            }
        }
    }

    fn start(self: &Arc<Self>, name: &str, id: WorkerId) -> Worker {
        let mut load = self.models[name].load.clone();
        load.memory_limit = Some(self.budget);
        if load.kv_cells == 0 {
            // As many as the estimate counts.
            load.kv_cells = need_of(&self.models[name], self.budget).kv_cells;
        }
        let turns = self.turns.as_ref().filter(|_| !memory::is_on_gpu(&load));
        load.cpu_turns = turns.map(TurnFiles::turns);
        let shelf = Arc::downgrade(self);
        Worker::start(&self.launcher, name.to_owned(), load, move |life| {
            if let Some(shelf) = shelf.upgrade() {
                shelf.heard(id, life);
            }
        })
    }

    /// News of a worker.
    fn heard(self: &Arc<Self>, id: WorkerId, life: Life) {
        let now = Instant::now();
        self.change(|state| {
            let free = state.free();
            match life {
                Life::Loaded(memory) => state.residency.loaded(id, memory, free, now),
                Life::Ending(failure) => {
                    let ended = match failure {
                        None => Ended::Done,
                        Some((cause, true)) => Ended::DiedLoading(cause),
                        Some((cause, false)) => Ended::LoadFailed(cause),
                    };
                    state.residency.ending(id, ended, now);
                    state.workers.remove(&id);
                }
                Life::Gone => state.residency.gone(id, free, now),
            }
        });
    }
}

impl State {
    /// Looks at the model's file again where it was replaced. One that is no model any more is told by its load.
    fn learn_need(&mut self, model: &ModelConfig, stamp: Stamp, budget: u64) {
        if self.stamps.get(&model.name) == Some(&stamp) {
            return;
        }
        self.stamps.insert(model.name.clone(), stamp);
        if let Ok(header) = gguf::read_header(&model.load.path) {
            let model = ModelConfig {
                header,
                ..model.clone()
            };
            self.residency
                .set_need(&model.name, need_of(&model, budget).estimate.total());
        }
    }

    /// Bytes that the machine has left, where somebody waits for them.
    fn free(&self) -> Option<u64> {
        self.residency
            .has_waiting()
            .then(process::available_memory)
            .flatten()
    }
}

/// Turns at the CPUs, where there are several models that compute there.
fn turns_for(models: &[ModelConfig]) -> Option<TurnFiles> {
    let on_cpu = models
        .iter()
        .filter(|model| !memory::is_on_gpu(&model.load));
    let threads: Vec<usize> = on_cpu.map(|model| model.load.n_threads).collect();
    if threads.len() < 2 {
        return None;
    }
    let widest = threads.into_iter().max().unwrap_or(1);
    TurnFiles::create(widest, process::available_cpus())
        .inspect_err(|error| tracing::warn!(%error, "no turns at the CPUs: models at work hold each other up"))
        .ok()
}

fn stamp_of(path: &std::path::Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

/// Ends models that idle, as long as there is a registry.
async fn end_idle(shelf: std::sync::Weak<Shelf>, changed: Arc<Notify>) {
    loop {
        let next = {
            let Some(shelf) = shelf.upgrade() else { return };
            let mut state = shelf.lock();
            let next = state.residency.tick(Instant::now());
            shelf.carry_out(&mut state);
            next
        };
        match next {
            Some(next) => {
                drop(tokio::time::timeout_at(next, changed.notified()).await);
            }
            None => changed.notified().await,
        }
    }
}
