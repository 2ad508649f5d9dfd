//! The state of the registry: what [`super::residency`] decides is carried out here, and what becomes of workers is told to it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::lease::Lease;
use super::memory::{is_on_gpu, need_of};
use super::residency::{
    Action, CallId, Ended, ModelTerms, Refusal, Residency, Shared, Stamp, WorkerId,
};
use crate::config::units::human;
use crate::config::{ModelConfig, RegistryConfig};
use crate::process;
use crate::worker::client::{Launcher, Life, Worker};
use crate::worker::turns::TurnFiles;

/// See the module.
#[derive(Debug)]
pub(super) struct Shelf {
    launcher: Launcher,
    /// As they were configured.
    pub(super) models: HashMap<String, ModelConfig>,
    budget: u64,
    /// Where several models share the CPUs.
    turns: Option<TurnFiles>,
    state: Mutex<State>,
    /// Something may idle earlier or later than was known.
    changed: Arc<Notify>,
    /// A worker's process is gone.
    gone: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) residency: Residency,
    workers: HashMap<WorkerId, Worker>,
    pub(super) waiting: HashMap<CallId, oneshot::Sender<Result<Worker, Refusal>>>,
    next_call: CallId,
    /// What is known of every model's files.
    known: HashMap<String, Known>,
}

/// What a model's files say.
#[derive(Debug, Clone, Copy)]
struct Known {
    stamp: Stamp,
    kv_cells: u32,
}

/// What a load is decided by.
struct Look {
    stamp: Stamp,
    /// Bytes that it will take and its cells, where its files are others than those that are known.
    need: Option<(u64, u32)>,
    /// Bytes that the machine has left.
    free: Option<u64>,
}

impl Shelf {
    pub(super) fn open(
        launcher: Launcher,
        models: &[ModelConfig],
        shared: &RegistryConfig,
    ) -> Arc<Self> {
        let budget = shared.memory_budget.of(process::total_memory());
        let limits = Shared {
            budget,
            max_loaded: shared.max_loaded,
        };
        let (mut terms, mut known) = (Vec::new(), HashMap::new());
        for model in models {
            let need = need_of(model, budget);
            let stamp = stamp_of(model);
            let kv_cells = need.kv_cells;
            known.insert(model.name.clone(), Known { stamp, kv_cells });
            let need = need.estimate.total();
            terms.push((
                model.name.clone(),
                ModelTerms {
                    need,
                    pin: model.pin,
                    idle_ttl: model.idle_ttl,
                },
            ));
        }
        let by_name = |model: &ModelConfig| (model.name.clone(), model.clone());
        let shelf = Arc::new(Self {
            launcher,
            models: models.iter().map(by_name).collect(),
            budget,
            turns: turns_for(models),
            state: Mutex::new(State {
                residency: Residency::new(limits, terms),
                workers: HashMap::new(),
                waiting: HashMap::new(),
                next_call: 1,
                known,
            }),
            changed: Arc::default(),
            gone: Notify::new(),
        });
        tokio::spawn(end_idle(Arc::downgrade(&shelf), Arc::clone(&shelf.changed)));
        shelf
    }

    /// A call of `model` takes its place.
    pub(super) fn lease(self: &Arc<Self>, model: &str) -> Lease {
        let (answer_to, answer) = oneshot::channel();
        let now = Instant::now();
        let model = &self.models[model];
        // Most calls join a running worker. The disk is not waited for under the lock.
        let is_running = self.lock().residency.is_running(&model.name);
        let look = (!is_running).then(|| self.look(model));
        let call = self.change(|state| {
            state.forget_ended(now);
            let call = state.next_call;
            state.next_call += 1;
            state.waiting.insert(call, answer_to);
            let free = look.as_ref().and_then(|look| look.free);
            let stamp = state.learn(&model.name, look);
            state.residency.call(call, &model.name, stamp, free, now);
            call
        });
        Lease {
            shelf: Arc::clone(self),
            call,
            answer,
        }
    }

    fn look(&self, model: &ModelConfig) -> Look {
        let stamp = stamp_of(model);
        let is_known = self.lock().known[&model.name].stamp == stamp;
        // What is no model any more is told by its load.
        let read = || {
            let need = need_of(&model.read_again().ok()?, self.budget);
            Some((need.estimate.total(), need.kv_cells))
        };
        Look {
            stamp,
            need: if is_known { None } else { read() },
            free: process::available_memory(),
        }
    }

    /// Changes the state and carries out what that asks for.
    pub(super) fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
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
                    let worker = self.start(&name, state.known[&name].kv_cells, id);
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
                Action::OverBudget(bytes) => tracing::warn!(
                    taken = human(bytes),
                    memory_budget = human(self.budget),
                    "the models at work take more than `memory_budget`: one took more than was estimated"
                ),
            }
        }
    }

    fn start(self: &Arc<Self>, name: &str, kv_cells: u32, id: WorkerId) -> Worker {
        let mut load = self.models[name].load.clone();
        load.memory_limit = Some(self.budget);
        if load.kv_cells == 0 {
            // As many as the estimate counts.
            load.kv_cells = kv_cells;
        }
        let is_on_gpu = is_on_gpu(&load);
        let turns = self.turns.as_ref().filter(|_| !is_on_gpu);
        load.cpu_turns = turns.map(TurnFiles::turns);
        let shelf = Arc::downgrade(self);
        Worker::start(&self.launcher, name.to_owned(), load, move |life| {
            if let Some(shelf) = shelf.upgrade() {
                shelf.heard(id, life, is_on_gpu);
            }
        })
    }

    /// News of a worker.
    fn heard(self: &Arc<Self>, id: WorkerId, life: Life, is_on_gpu: bool) {
        let now = Instant::now();
        let is_gone = life == Life::Gone;
        self.change(|state| {
            let free = state.free();
            match life {
                Life::Loaded(memory) => {
                    // The process does not show what it takes of a GPU's: there the estimate stands.
                    let memory = memory.filter(|_| !is_on_gpu);
                    state.residency.loaded(id, memory, free, now);
                }
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
        if is_gone {
            self.gone.notify_waiters();
        }
    }

    /// Ends the workers that nobody calls; comes back when no process is left. For the end of the server: no call may come
    /// any more.
    pub(super) async fn close(&self) {
        {
            let mut state = self.lock();
            state.residency.forget_waiting();
            state.workers.clear();
        }
        loop {
            let gone = self.gone.notified();
            if !self.lock().residency.has_workers() {
                return;
            }
            gone.await;
        }
    }
}

impl State {
    /// A worker that is about to end answers no new call; why it ends is told later.
    fn forget_ended(&mut self, now: Instant) {
        let workers = self.workers.iter();
        let ended = workers
            .filter(|(_, worker)| worker.has_ended())
            .map(|(id, _)| *id);
        for worker in ended.collect::<Vec<_>>() {
            self.workers.remove(&worker);
            self.residency.ending(worker, Ended::Done, now);
        }
    }

    /// Takes over what was seen of the model's files; gives their stamp.
    fn learn(&mut self, name: &str, look: Option<Look>) -> Stamp {
        let known = self.known.get_mut(name).expect("every model is known");
        let Some(look) = look else { return known.stamp };
        known.stamp = look.stamp;
        if let Some((need, kv_cells)) = look.need {
            known.kv_cells = kv_cells;
            self.residency.set_need(name, need);
        }
        look.stamp
    }

    /// Bytes that the machine has left, where somebody waits for them.
    pub(super) fn free(&self) -> Option<u64> {
        self.residency
            .has_waiting()
            .then(process::available_memory)
            .flatten()
    }
}

/// Turns at the CPUs, where there are several models that compute there.
fn turns_for(models: &[ModelConfig]) -> Option<TurnFiles> {
    let on_cpu = models.iter().filter(|model| !is_on_gpu(&model.load));
    let threads: Vec<usize> = on_cpu.map(|model| model.load.n_threads).collect();
    if threads.len() < 2 {
        return None;
    }
    let widest = threads.into_iter().max().unwrap_or(1);
    TurnFiles::create(widest, process::available_cpus())
        .inspect_err(|error| tracing::warn!(%error, "no turns at the CPUs: models at work hold each other up"))
        .ok()
}

/// Of the lengths and times of all files of `model`.
fn stamp_of(model: &ModelConfig) -> Stamp {
    let mut hasher = DefaultHasher::new();
    for path in model.files() {
        let metadata = std::fs::metadata(path).ok();
        metadata
            .map(|metadata| (metadata.len(), metadata.modified().ok()))
            .hash(&mut hasher);
    }
    hasher.finish()
}

/// Ends models that idle, as long as there is a registry.
async fn end_idle(shelf: Weak<Shelf>, changed: Arc<Notify>) {
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
