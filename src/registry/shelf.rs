//! State of the registry behind one lock. Carries out the decisions of [`super::residency`], and feeds it the events of runners.

mod facts;
mod model;
mod replace;
mod state;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use model::Model;
pub(super) use replace::Replaced;
use replace::Successors;

use super::budget::SharedLimits;
use super::ids::{Edition, LeaseId, RunnerId};
use super::lease::{Lease, LeaseResult};
use super::memory::{gpu_left_for, needs_of};
use super::residency::{Action, Refusal, Residency, SlotStatus};
use super::status::{Offload, Speed};
use crate::backend::footprint::{Footprint, sum};
use crate::backend::{self, Allowance, Backend, FixedPrompts, Life, Need, Runner};
use crate::config::units::human;
use crate::config::{ModelConfig, RegistryConfig};
use crate::engine::shared_prefix::longest;
use crate::memory;
use crate::telemetry::metrics;
use crate::worker::Grant;
use crate::worker::cpu_lock::TurnFiles;

/// State of the registry, shared with leases and runners.
#[derive(Debug)]
pub(super) struct Shelf {
    backend: Backend,
    state: Mutex<State>,
    /// Signals that the next idle timeout may have changed.
    changed: Arc<Notify>,
    /// Signals that a process has exited.
    gone: Notify,
    /// Held while files are checked. A check keeps a blocking thread for as long as a drive hangs, so only one may run.
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
    /// Lock files with which models take turns at the CPUs; `None` if no model computes there.
    turns: Option<TurnFiles>,
}

/// Status of a model, and its runner.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) name: String,
    pub(super) slot: SlotStatus,
    pub(super) speed: Speed,
    /// Layers on GPUs; `None` if there are none, or no process.
    pub(super) offload: Option<Offload>,
    /// Runner of the model. Its process does not end before this handle is dropped.
    pub(super) runner: Option<Runner>,
}

impl Shelf {
    /// Creates a shelf without models, and the task that ends idle ones.
    pub(super) fn open(backend: Backend) -> Arc<Self> {
        let no_limits = SharedLimits {
            budget: 0,
            machine: 0,
            max_loaded: None,
            gpu: None,
        };
        let shelf = Arc::new(Self {
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
                turns: None,
            }),
            changed: Arc::default(),
            gone: Notify::new(),
            checking: Arc::default(),
        });
        tokio::spawn(end_idle(Arc::downgrade(&shelf), Arc::clone(&shelf.changed)));
        shelf
    }

    /// Adds `models`, and returns their editions in their order. A model whose load settings are unchanged keeps its edition, and so its
    /// process. All other editions stay until [`Self::retire_all_but`].
    pub(super) fn stage(
        self: &Arc<Self>,
        models: &[ModelConfig],
        fixed: &BTreeMap<&str, FixedPrompts>,
        shared: &RegistryConfig,
    ) -> Vec<Edition> {
        let machine = memory::total();
        let budget = shared.memory_budget.of(machine);
        let needs = needs_of(models, fixed, budget, shared);
        let pinned = models.iter().zip(&needs).filter(|(model, _)| model.pin);
        let pinned = pinned.filter_map(|(_, need)| Some(need.as_ref().ok()?.demand().footprint));
        let pinned: Vec<Footprint> = pinned.collect();
        let left_for = |config: &ModelConfig| Allowance {
            machine: budget.saturating_sub(sum(pinned.iter().copied())),
            gpu: gpu_left_for(&config.source, &pinned, shared),
        };
        let models: Vec<Model> = models
            .iter()
            .zip(needs)
            .map(|(config, need)| {
                let fixed = fixed.get(config.name.as_str()).cloned();
                Model::new(config, need, left_for(config), fixed.unwrap_or_default())
            })
            .collect();
        let (free, now) = (memory::free(), Instant::now());
        self.change(|state| {
            state.budget = budget;
            state.share_cpus(models.iter().map(|model| &*model.config));
            let editions: Vec<Edition> = models
                .into_iter()
                .map(|model| {
                    let edition = state.edition_of(&model.config);
                    state.residency.set_terms(edition, model.terms());
                    state.put(edition, model);
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
            state.residency.set_shared(shared, free, now);
            editions
        })
    }

    /// Retires all editions except `kept`: they accept no new calls.
    pub(super) fn retire_all_but(self: &Arc<Self>, kept: &[Edition]) {
        let (free, now) = (memory::free(), Instant::now());
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
                state.residency.retire(edition, free, now);
            }
        });
    }

    /// Queues a call of `client` for `model`. Run [`Self::check_files`] before, unless the files were just read.
    pub(super) fn lease(self: &Arc<Self>, model: Edition, client: &str) -> Lease {
        let (answer_to, result) = oneshot::channel();
        let now = Instant::now();
        let id = self.change(|state| {
            state.forget_ended(now);
            let model = state.current(model);
            let id = state.next_lease.allocate();
            state.waiting.insert(id, answer_to);
            let free = if state.residency.is_running(model) {
                state.free()
            } else {
                memory::free()
            };
            let known = state.models.get(&model);
            let stamp = known.map(|known| known.stamp).unwrap_or_default();
            match state.fault_of(model) {
                Some(fault) => {
                    if let Some(known) = state.models.get(&model) {
                        metrics::load_failed(&known.config.name);
                    }
                    state.refuse(id, Refusal::NotLoadable(fault));
                }
                None => state.residency.call(id, client, model, stamp, free, now),
            }
            id
        });
        Lease {
            shelf: Arc::clone(self),
            id,
            result,
        }
    }

    /// Changes the state, and carries out the actions that follow.
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
                            "the load was stopped"
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
        let fixed = model.fixed.subscribe();
        let cpus = state.turns.as_ref().filter(|_| !model.is_on_gpu());
        // If the files became unusable while the call waited, there is no plan, and the load reports it.
        let need = model.need.as_ref().ok();
        let grant = Grant {
            plan: need.map(Need::context_plan),
            memory_limit: Some(state.budget),
            cpu_locks: cpus.map(TurnFiles::locks),
            shared_prefix_bytes: longest(&fixed.borrow()),
            driver_cache: None,
        };
        if let Some(need) = need {
            backend::log_offload(name, &model.config.source, need);
        }
        let is_measured = model.is_measured();
        let shelf = Arc::downgrade(self);
        let life = move |life| {
            if let Some(shelf) = shelf.upgrade() {
                shelf.handle_life(id, life, is_measured);
            }
        };
        self.backend
            .start(name, &model.config.source, grant, fixed, life)
    }

    /// Handles an event in the life of a runner. Measurements are ignored unless the model `is_measured`.
    fn handle_life(self: &Arc<Self>, id: RunnerId, life: Life, is_measured: bool) {
        let now = Instant::now();
        let is_gone = life == Life::Gone;
        self.change(|state| {
            let free = state.free();
            match life {
                Life::Loaded => state.residency.loaded(id, free, now),
                Life::Measured(_) if !is_measured => {}
                Life::Measured(memory) => state.residency.measured(id, memory),
                Life::Ending(ended) => {
                    state.residency.ending(id, ended, now);
                    state.runners.remove(&id);
                }
                Life::Gone => state.residency.gone(id, free, now),
            }
        });
        if is_gone {
            self.gone.notify_waiters();
        }
    }

    /// Ends all runners, and returns once no process is left. Called at the end of the server, when no more calls can arrive.
    pub(super) async fn close(&self) {
        {
            let mut state = self.lock();
            state.residency.forget_waiting();
            state.runners.clear();
            // Removes the lock files now, since a holder of this shelf may outlive the runtime.
            state.turns = None;
        }
        loop {
            let gone = self.gone.notified();
            if !self.lock().residency.has_runners() {
                return;
            }
            gone.await;
        }
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        // Wakes `end_idle`, which then ends.
        self.changed.notify_one();
    }
}

/// Unloads idle models until the shelf is dropped.
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
