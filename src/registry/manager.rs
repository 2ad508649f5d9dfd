//! Owner of the models. Carries out the decisions of [`super::residency`], and feeds it the events of runners, behind one lock.

mod facts;
mod model;
mod replace;
mod state;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use model::Model;
pub(super) use replace::Replaced;
use replace::Successors;

use super::budget::SharedLimits;
use super::ids::{Edition, LeaseId, RunnerId};
use super::lease::{Lease, LeaseResult};
use super::memory::plan;
use super::residency::{Action, FreeMemory, Refusal, Residency};
use crate::backend::{Backend, Life, Offer, Runner, SharedPrefixes};
use crate::config::units::human;
use crate::config::{ModelConfig, RegistryConfig};
use crate::memory;
use crate::telemetry::metrics;

/// Maximum age of a reading of the free memory that may admit a call. Other programs may have taken memory since.
const RECENT: Duration = Duration::from_secs(1);

/// Owner of the models, shared with leases and runners.
#[derive(Debug)]
pub(super) struct ModelManager {
    backend: Backend,
    state: Mutex<State>,
    /// Signals [`maintain`] that the state has changed.
    changed: Arc<Notify>,
    /// Signals that a process has exited.
    gone: Notify,
    /// Held while files are checked. A check blocks a thread for as long as a drive hangs, so only one check may run at a time.
    checking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) residency: Residency,
    runners: HashMap<RunnerId, Runner>,
    pub(super) waiting: HashMap<LeaseId, oneshot::Sender<LeaseResult>>,
    next_lease: LeaseId,
    next_edition: Edition,
    successors: Successors,
    /// Current editions, and former ones that tools may still call.
    models: HashMap<Edition, Model>,
    budget: u64,
    /// Last reading of the free memory; `None` if it is unknown.
    free: Option<FreeMemory>,
}

impl ModelManager {
    /// Creates a manager without models, and the task that maintains it.
    pub(super) fn open(backend: Backend) -> Arc<Self> {
        let no_limits = SharedLimits {
            budget: 0,
            machine: 0,
            max_loaded: None,
            gpu: None,
        };
        let manager = Arc::new(Self {
            backend,
            state: Mutex::new(State {
                residency: Residency::new(no_limits),
                runners: HashMap::new(),
                waiting: HashMap::new(),
                next_lease: LeaseId(1),
                next_edition: Edition(1),
                successors: Successors::default(),
                models: HashMap::new(),
                budget: 0,
                free: None,
            }),
            changed: Arc::default(),
            gone: Notify::new(),
            checking: Arc::default(),
        });
        tokio::spawn(maintain(
            Arc::downgrade(&manager),
            Arc::clone(&manager.changed),
        ));
        manager
    }

    /// Adds `models`, and returns their editions in their order. A model whose load settings are unchanged keeps its edition, and so its
    /// process. All other editions stay until [`Self::retire_all_but`]. Blocks on the file system.
    pub(super) fn stage(
        self: &Arc<Self>,
        models: &[ModelConfig],
        prefixes: &BTreeMap<&str, SharedPrefixes>,
        shared: &RegistryConfig,
    ) -> Vec<Edition> {
        self.backend.set_stall_timeout(shared.stall_timeout.0);
        let machine = memory::total();
        let budget = shared.memory_budget.in_bytes(machine);
        let planned = plan(models, prefixes, budget, shared);
        let models: Vec<Model> = models
            .iter()
            .zip(planned)
            .map(|(config, planned)| {
                let prefixes = prefixes.get(config.name.as_str()).cloned();
                Model::new(config, planned, prefixes.unwrap_or_default())
            })
            .collect();
        if let Some(n_threads) = models.iter().filter_map(Model::cpu_threads).max() {
            self.backend.share_cpus(n_threads);
        }
        let free = read_free_memory();
        self.change(|state| {
            state.budget = budget;
            state.free = free;
            let editions: Vec<Edition> = models
                .into_iter()
                .map(|model| {
                    let edition = state.edition_of(&model.config);
                    state.residency.set_policy(edition, model.policy());
                    state.insert_model(edition, model);
                    edition
                })
                .collect();
            let former = state
                .models
                .keys()
                .filter(|known| !editions.contains(known));
            for edition in former.copied().collect::<Vec<_>>() {
                state.residency.unpin(edition);
            }
            let shared = SharedLimits {
                budget,
                machine,
                max_loaded: shared.max_loaded,
                gpu: shared.all_gpu_memory(),
            };
            state.residency.set_shared(shared);
            editions
        })
    }

    /// Retires all editions except `kept`: they accept no new calls.
    pub(super) fn retire_all_but(self: &Arc<Self>, kept: &[Edition]) {
        self.change(|state| {
            state.successors.retain(kept);
            let kept: Vec<Edition> = kept.iter().map(|edition| state.current(*edition)).collect();
            let former: Vec<Edition> = state
                .models
                .keys()
                .filter(|edition| !kept.contains(edition))
                .copied()
                .collect();
            for edition in former {
                state.models.remove(&edition);
                state.residency.retire(edition);
            }
        });
    }

    /// Queues a call of `client` for `model`. Run [`Self::check_files`] first, unless the files were just read. The call gets its runner at
    /// once if a recent reading of the free memory shows enough room. Otherwise [`maintain`] reads it again.
    pub(super) fn lease(self: &Arc<Self>, model: Edition, client: &str) -> Lease {
        let (answer_to, result) = oneshot::channel();
        let now = Instant::now();
        let id = self.change(|state| {
            state.forget_ended();
            let model = state.current(model);
            let id = state.next_lease.allocate();
            state.waiting.insert(id, answer_to);
            let known = state.models.get(&model);
            let stamp = known.map(|known| known.stamp).unwrap_or_default();
            if let Some(fault) = state.fault_of(model) {
                if let Some(known) = state.models.get(&model) {
                    metrics::load_failed(&known.config.name);
                }
                state.refuse(id, Refusal::NotLoadable(fault));
            } else {
                let free = state.free;
                state.residency.call(id, client, model, stamp, free, now);
                if free.is_some_and(|free| now - free.read_at < RECENT) {
                    state.residency.admit(free, now);
                }
            }
            id
        });
        Lease {
            manager: Arc::clone(self),
            id,
            result,
        }
    }

    /// Changes the state, and carries out the resulting actions.
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
                Action::Start(model, id) => {
                    let runner = self.start(state, model, id);
                    state.runners.insert(id, runner);
                }
                Action::Stop(id, reason) => {
                    if let Some(runner) = state.runners.remove(&id) {
                        tracing::info!(
                            model = runner.name(),
                            reason = reason.name(),
                            "load stopped"
                        );
                        runner.stop(reason);
                    }
                }
                Action::End(id, reason) => {
                    // This is the last handle, so the process shuts down gracefully.
                    if let Some(runner) = state.runners.remove(&id) {
                        tracing::info!(model = runner.name(), reason = reason.name(), "unloaded");
                        runner.unload(reason);
                    }
                }
                Action::Grant(call, id) => {
                    if let (Some(answer_to), Some(runner)) =
                        (state.waiting.remove(&call), state.runners.get(&id))
                    {
                        // A call that no longer waits releases its lease when it is dropped.
                        drop(answer_to.send(Ok((id, runner.clone()))));
                    }
                }
                Action::Refuse(call, refusal) => state.refuse(call, refusal),
                Action::OverBudget(bytes) => tracing::warn!(
                    taken = human(bytes),
                    memory_budget = human(state.budget),
                    "busy models take more than `memory_budget`: one of them takes more than estimated"
                ),
            }
        }
    }

    fn start(self: &Arc<Self>, state: &State, model: Edition, id: RunnerId) -> Runner {
        let model = &state.models[&model];
        let name = &model.config.name;
        let prefixes = model.prefixes.subscribe();
        let offer = Offer {
            // The files may have become unusable while the call waited.
            need: model.need.as_ref().ok().copied(),
            memory_limit: state.budget,
        };
        let is_measured = model.is_measured();
        let manager = Arc::downgrade(self);
        let life = move |life| {
            if let Some(manager) = manager.upgrade() {
                manager.handle_life(id, life, is_measured);
            }
        };
        self.backend
            .start(name, &model.config.source, offer, prefixes, life)
    }

    /// Handles an event in the life of a runner. Measurements are ignored unless the model `is_measured`.
    fn handle_life(self: &Arc<Self>, id: RunnerId, life: Life, is_measured: bool) {
        let now = Instant::now();
        let is_gone = life == Life::Gone;
        self.change(|state| match life {
            Life::Loaded => state.residency.loaded(id, now),
            Life::Measured(_) if !is_measured => {}
            Life::Measured(memory) => state.residency.measured(id, memory),
            Life::Ending(ended) => {
                state.residency.ending(id, ended, now);
                state.runners.remove(&id);
            }
            Life::Gone => state.residency.gone(id),
        });
        if is_gone {
            self.gone.notify_waiters();
        }
    }

    /// Ends all runners, and returns once no process is left. Called during shutdown, when no more calls can arrive.
    pub(super) async fn close(&self) {
        {
            let mut state = self.lock();
            state.residency.forget_waiting();
            state.runners.clear();
        }
        self.backend.close().await;
        loop {
            let gone = self.gone.notified();
            if !self.lock().residency.has_runners() {
                return;
            }
            gone.await;
        }
    }
}

/// Returns the free memory. Blocks on files of the system.
fn read_free_memory() -> Option<FreeMemory> {
    let read_at = Instant::now();
    memory::free().map(|bytes| FreeMemory { bytes, read_at })
}

impl Drop for ModelManager {
    fn drop(&mut self) {
        // Wakes `maintain`, which then ends.
        self.changed.notify_one();
    }
}

/// Admits waiting calls and unloads idle models, until the manager is dropped.
///
/// Reading the free memory blocks on files, so it happens here and not where the state changes. The reading is then also newer than the
/// change that may have made room.
async fn maintain(manager: Weak<ModelManager>, changed: Arc<Notify>) {
    loop {
        let next = {
            let Some(manager) = manager.upgrade() else {
                return;
            };
            let is_waited = manager.lock().residency.has_waiting();
            let free = if is_waited {
                spawn_blocking(read_free_memory).await.ok().flatten()
            } else {
                None
            };
            let mut state = manager.lock();
            let now = Instant::now();
            if is_waited {
                state.free = free;
                state.residency.admit(free, now);
            }
            let next = state.residency.tick(now);
            manager.carry_out(&mut state);
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
