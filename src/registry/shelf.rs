//! The state of the registry: what [`super::residency`] decides is carried out here, and what becomes of workers is told to it.

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

use super::lease::{Granted, Lease};
use super::memory::{gpu_left_for, needs_of};
use super::residency::{Action, CallId, Edition, Refusal, Residency, RunnerId, Shared, Standing};
use super::standing::{Offload, Speed};
use crate::backend::footprint::{Footprint, sum};
use crate::backend::{self, Allowance, Backend, FixedPrompts, Life, Need, Runner};
use crate::config::units::human;
use crate::config::{ModelConfig, RegistryConfig};
use crate::engine::shared_prefix::longest;
use crate::memory;
use crate::telemetry::metrics;
use crate::worker::Grant;
use crate::worker::cpu_lock::TurnFiles;

/// See the module.
#[derive(Debug)]
pub(super) struct Shelf {
    backend: Backend,
    state: Mutex<State>,
    /// Something may idle earlier or later than was known.
    changed: Arc<Notify>,
    /// A worker's process is gone.
    gone: Notify,
    /// Held while files are checked. A check keeps a blocking thread for as long as a drive hangs, so only one may run.
    checking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) residency: Residency,
    runners: HashMap<RunnerId, Runner>,
    pub(super) waiting: HashMap<CallId, oneshot::Sender<Granted>>,
    next_call: CallId,
    next_edition: Edition,
    successors: Successors,
    /// Those that new calls may ask for, and those before them that tools may still ask for.
    models: HashMap<Edition, Model>,
    budget: u64,
    /// Where several models share the CPUs.
    turns: Option<TurnFiles>,
}

/// What is known of a model at the moment.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) name: String,
    pub(super) standing: Standing,
    pub(super) speed: Speed,
    /// Its layers on GPUs; `None` if there are none, or no process.
    pub(super) offload: Option<Offload>,
    /// Whoever holds it keeps it from being ended.
    pub(super) runner: Option<Runner>,
}

impl Shelf {
    /// A shelf without models.
    pub(super) fn open(backend: Backend) -> Arc<Self> {
        let nothing = Shared {
            budget: 0,
            machine: 0,
            max_loaded: None,
            gpu: None,
        };
        let shelf = Arc::new(Self {
            backend,
            state: Mutex::new(State {
                residency: Residency::new(nothing),
                runners: HashMap::new(),
                waiting: HashMap::new(),
                next_call: 1,
                next_edition: 1,
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

    /// Takes `models` in: one that is loaded as before keeps its edition, and with it what runs. Gives the editions in their
    /// order; all others stay until [`Self::retire_all_but`].
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
            let shared = Shared {
                budget,
                machine,
                max_loaded: shared.max_loaded,
                gpu: shared.all_gpu_memory(),
            };
            state.residency.set_shared(shared, free, now);
            editions
        })
    }

    /// No call gets a model any more that is not among `kept`.
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
        let (answer_to, answer) = oneshot::channel();
        let now = Instant::now();
        let call = self.change(|state| {
            state.forget_ended(now);
            let model = state.current(model);
            let call = state.next_call;
            state.next_call += 1;
            state.waiting.insert(call, answer_to);
            let free = if state.residency.is_running(model) {
                state.free()
            } else {
                memory::free()
            };
            let stamp = state.models.get(&model).map_or(0, |known| known.stamp);
            match state.fault_of(model) {
                Some(fault) => {
                    if let Some(known) = state.models.get(&model) {
                        metrics::load_failed(&known.config.name);
                    }
                    state.refuse(call, Refusal::NotLoadable(fault));
                }
                None => state.residency.call(call, client, model, stamp, free, now),
            }
            call
        });
        Lease {
            shelf: Arc::clone(self),
            call,
            answer,
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
                    // Its last handle: the process ends in order.
                    if let Some(runner) = state.runners.remove(&id) {
                        tracing::info!(model = runner.name(), reason = reason.name(), "unloaded");
                        runner.unload(reason);
                    }
                }
                Action::Grant(call, id) => {
                    if let (Some(answer_to), Some(runner)) =
                        (state.waiting.remove(&call), state.runners.get(&id))
                    {
                        // A call that has left meanwhile gives its lease back when it is dropped.
                        drop(answer_to.send(Ok((id, runner.clone()))));
                    }
                }
                Action::Refuse(call, refusal) => state.refuse(call, refusal),
                Action::OverBudget(bytes) => tracing::warn!(
                    taken = human(bytes),
                    memory_budget = human(state.budget),
                    "the models at work take more than `memory_budget`: one took more than was estimated"
                ),
            }
        }
    }

    fn start(self: &Arc<Self>, state: &State, model: Edition, id: RunnerId) -> Runner {
        let model = &state.models[&model];
        let name = &model.config.name;
        let fixed = model.fixed.subscribe();
        let is_on_gpu = backend::is_on_gpu(&model.config.source);
        let cpus = state.turns.as_ref().filter(|_| !is_on_gpu);
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
                shelf.heard(id, life, is_measured);
            }
        };
        self.backend
            .start(name, &model.config.source, grant, fixed, life)
    }

    /// News of a worker.
    fn heard(self: &Arc<Self>, id: RunnerId, life: Life, is_measured: bool) {
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

    /// Ends the workers that nobody calls; comes back when no process is left. For the end of the server: no call may come
    /// any more.
    pub(super) async fn close(&self) {
        {
            let mut state = self.lock();
            state.residency.forget_waiting();
            state.runners.clear();
            // Their files go now: who holds this shelf may outlive the server's runtime.
            state.turns = None;
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

impl Drop for Shelf {
    fn drop(&mut self) {
        // `end_idle` sees that there is none.
        self.changed.notify_one();
    }
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
