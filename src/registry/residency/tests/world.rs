//! The state machine, and a simple model of it that checks its invariants.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use crate::backend::Ended;
use crate::backend::footprint::Demand;
use crate::config::Stamp;
use crate::registry::budget::SharedLimits;
use crate::registry::ids::{Edition, LeaseId, RunnerId};
use crate::registry::residency::{Action, FreeMemory, ModelPolicy, Residency};
use crate::telemetry::metrics::UnloadReason;

/// Bytes that each model needs.
pub(super) const MODELS: [u64; 4] = [40, 40, 60, 100];
pub(super) const BUDGET: u64 = 100;
pub(super) const TTL: Duration = Duration::from_mins(1);

/// An event. Numbers select one of the models, calls or processes to which it can happen.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Call(usize),
    Release(usize),
    Loaded(usize),
    LoadFails(usize, bool),
    Dies(usize),
    /// A call is answered.
    Finish(usize),
    Gone(usize),
    Time(u64),
    /// The machine's free memory changes.
    Free(Option<u64>),
    /// An edit changes the model's load settings.
    Edit(usize),
    /// The process of a loaded model takes more memory.
    Grows(usize, u64),
}

pub(super) fn events() -> impl Strategy<Value = Vec<Event>> {
    let at = 0..1000_usize;
    let event = prop_oneof![
        4 => (0..MODELS.len()).prop_map(Event::Call),
        4 => at.clone().prop_map(Event::Release),
        4 => at.clone().prop_map(Event::Loaded),
        1 => (at.clone(), any::<bool>()).prop_map(|(at, died)| Event::LoadFails(at, died)),
        1 => at.clone().prop_map(Event::Dies),
        2 => at.clone().prop_map(Event::Finish),
        4 => at.clone().prop_map(Event::Gone),
        2 => (1..400_u64).prop_map(Event::Time),
        1 => proptest::option::of(0..120_u64).prop_map(Event::Free),
        1 => (0..MODELS.len()).prop_map(Event::Edit),
        1 => (at.clone(), 1..=120_u64).prop_map(|(at, memory)| Event::Grows(at, memory)),
    ];
    proptest::collection::vec(event, 1..200)
}

/// A process of a model.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) model: Edition,
    pub(super) memory: u64,
    pub(super) is_loaded: bool,
    /// Whether the process is ending.
    pub(super) is_ending: bool,
}

/// The state machine and its surroundings.
pub(super) struct World {
    pub(super) machine: Residency,
    pub(super) now: Instant,
    pub(super) next_lease: LeaseId,
    pub(super) processes: BTreeMap<RunnerId, Process>,
    /// Calls that have a lease.
    pub(super) held: BTreeMap<LeaseId, RunnerId>,
    pub(super) waiting: BTreeSet<LeaseId>,
    pub(super) free: Option<u64>,
    /// Current edition of each model.
    pub(super) current: Vec<Edition>,
    pub(super) next_edition: Edition,
    pub(super) pinned: Option<usize>,
    /// Bytes that each edition is known to take.
    pub(super) needs: BTreeMap<Edition, u64>,
    /// Whether the state machine warned that the budget is exceeded.
    pub(super) is_over: bool,
    /// Deaths of each edition's process since its last answered call.
    pub(super) deaths: BTreeMap<Edition, u32>,
}

impl World {
    pub(super) fn new(max_loaded: Option<usize>) -> Self {
        Self::with_pin(max_loaded, None)
    }

    pub(super) fn with_pin(max_loaded: Option<usize>, pinned: Option<usize>) -> Self {
        let shared = SharedLimits {
            budget: BUDGET,
            machine: BUDGET,
            max_loaded,
            gpu: None,
        };
        let mut world = Self {
            machine: Residency::new(shared),
            now: Instant::now(),
            next_lease: LeaseId(1),
            processes: BTreeMap::new(),
            held: BTreeMap::new(),
            waiting: BTreeSet::new(),
            free: None,
            current: Vec::new(),
            next_edition: Edition(1),
            pinned,
            needs: BTreeMap::new(),
            is_over: false,
            deaths: BTreeMap::new(),
        };
        for at in 0..MODELS.len() {
            let edition = world.add(at);
            world.current.push(edition);
        }
        world
    }

    /// Adds a new edition of a model.
    pub(super) fn add(&mut self, at: usize) -> Edition {
        let edition = self.next_edition.allocate();
        let policy = ModelPolicy {
            need: Demand::alone(MODELS[at]),
            pin: self.pinned == Some(at),
            idle_ttl: Some(TTL),
            max_waiting: 100,
        };
        self.needs.insert(edition, MODELS[at]);
        self.machine.set_policy(edition, policy);
        edition
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match *event {
            Event::Call(model) => {
                let call = self.next_lease.allocate();
                self.waiting.insert(call);
                let (edition, stamp) = (self.current[model], Stamp::default());
                self.machine
                    .call(call, "one", edition, stamp, self.reading(), self.now);
            }
            Event::Release(at) => {
                let calls: Vec<LeaseId> = self.held.keys().chain(&self.waiting).copied().collect();
                if let Some(call) = chosen(&calls, at) {
                    self.held.remove(&call);
                    self.waiting.remove(&call);
                    self.machine.release(call, self.now);
                }
            }
            Event::Loaded(at) => {
                if let Some(id) =
                    self.process(at, |process| !process.is_loaded && !process.is_ending)
                {
                    self.processes.get_mut(&id).unwrap().is_loaded = true;
                    self.machine.loaded(id, self.now);
                }
            }
            Event::Grows(at, memory) => {
                let can_grow = |process: &Process| {
                    process.is_loaded && !process.is_ending && process.memory < memory
                };
                if let Some(id) = self.process(at, can_grow) {
                    let process = self.processes.get_mut(&id).unwrap();
                    process.memory = memory;
                    let need = self.needs.get_mut(&process.model).unwrap();
                    *need = memory.min(BUDGET).max(*need);
                    self.machine.measured(id, memory);
                }
            }
            Event::Edit(at) => {
                let edition = self.add(at);
                let former = std::mem::replace(&mut self.current[at], edition);
                self.machine.retire(former);
            }
            Event::LoadFails(at, died) => {
                if let Some(id) =
                    self.process(at, |process| !process.is_loaded && !process.is_ending)
                {
                    let cause = "it is broken".to_owned();
                    let ended = if died {
                        Ended::DiedLoading(cause)
                    } else {
                        Ended::LoadFailed(cause)
                    };
                    self.fail(id, ended);
                }
            }
            Event::Dies(at) => {
                if let Some(id) =
                    self.process(at, |process| process.is_loaded && !process.is_ending)
                {
                    self.fail(id, Ended::Died("it is broken".to_owned()));
                }
            }
            Event::Finish(at) => {
                let calls: Vec<LeaseId> = self.held.keys().copied().collect();
                if let Some(call) = chosen(&calls, at)
                    && let process = &self.processes[&self.held[&call]]
                    && process.is_loaded
                {
                    let model = process.model;
                    self.machine.finished(model);
                    self.deaths.remove(&model);
                    self.held.remove(&call);
                    self.machine.release(call, self.now);
                }
            }
            Event::Gone(at) => {
                if let Some(id) = self.process(at, |process| process.is_ending) {
                    self.processes.remove(&id);
                    self.machine.gone(id);
                }
            }
            Event::Time(seconds) => {
                self.now += Duration::from_secs(seconds);
                self.machine.tick(self.now);
            }
            Event::Free(free) => self.free = free,
        }
        self.carry_out(matches!(event, Event::Time(_)));
        self.machine.admit(self.reading(), self.now);
        self.carry_out(false);
        let staying = self.processes.values().filter(|process| !process.is_ending);
        let taken: u64 = staying.map(|process| process.memory).sum();
        assert!(
            taken <= BUDGET || self.is_over,
            "over the budget without a warning: {:?}",
            self.processes
        );
        self.is_over &= taken > BUDGET;
    }

    /// Returns a reading of the free memory at this moment.
    fn reading(&self) -> Option<FreeMemory> {
        let read_at = self.now;
        self.free.map(|bytes| FreeMemory { bytes, read_at })
    }

    pub(super) fn process(&self, at: usize, wanted: impl Fn(&Process) -> bool) -> Option<RunnerId> {
        let fitting: Vec<RunnerId> = self
            .processes
            .iter()
            .filter(|(_, process)| wanted(process))
            .map(|(id, _)| *id)
            .collect();
        chosen(&fitting, at)
    }

    /// Lets a process end by itself, and its calls with it.
    pub(super) fn fail(&mut self, id: RunnerId, ended: Ended) {
        let process = self.processes.get_mut(&id).unwrap();
        process.is_ending = true;
        match ended {
            Ended::Died(_) | Ended::DiedLoading(_) => {
                *self.deaths.entry(process.model).or_default() += 1;
            }
            Ended::LoadFailed(_) => drop(self.deaths.remove(&process.model)),
            Ended::Done | Ended::Terminated => {}
        }
        let calls: Vec<LeaseId> = self
            .held
            .iter()
            .filter(|(_, runner)| **runner == id)
            .map(|(call, _)| *call)
            .collect();
        self.machine.ending(id, ended, self.now);
        for call in calls {
            self.held.remove(&call);
            self.machine.release(call, self.now);
        }
    }

    pub(super) fn carry_out(&mut self, is_time: bool) {
        for action in self.machine.take_actions() {
            match action {
                Action::Start(model, id) => {
                    assert!(self.current.contains(&model), "a former edition is loaded");
                    let deaths = self.deaths.get(&model);
                    assert!(deaths.is_none_or(|deaths| *deaths < 3), "started again");
                    let mut others = self.processes.values();
                    assert!(
                        others.all(|process| process.model != model),
                        "a second runner of {model:?}"
                    );
                    let process = Process {
                        model,
                        memory: self.needs[&model],
                        is_loaded: false,
                        is_ending: false,
                    };
                    self.check_room_for(&process);
                    self.processes.insert(id, process);
                }
                Action::End(id, reason) => {
                    assert!(
                        !self.held.values().any(|runner| *runner == id),
                        "ended under a lease"
                    );
                    let process = &self.processes[&id];
                    let is_former = !self.current.contains(&process.model);
                    let is_replaced =
                        matches!(reason, UnloadReason::Edited | UnloadReason::Requested);
                    assert!(is_former || !is_replaced, "{reason:?} of a current edition");
                    assert!(is_time || reason != UnloadReason::Idle);
                    assert!(
                        is_time || !self.is_pinned(process),
                        "a pinned model was evicted"
                    );
                    self.processes.get_mut(&id).unwrap().is_ending = true;
                }
                Action::Stop(id, _) => {
                    let process = self.processes.get_mut(&id).unwrap();
                    assert!(!process.is_loaded && !self.current.contains(&process.model));
                    process.is_ending = true;
                    // Its calls are refused, and their clients retry.
                    self.held.retain(|_, runner| *runner != id);
                }
                Action::OverBudget(taken) => {
                    assert!(taken > BUDGET);
                    self.is_over = true;
                }
                Action::Grant(call, id) => {
                    assert!(
                        self.waiting.remove(&call),
                        "granted twice, or to a call that no longer waits"
                    );
                    assert!(
                        !self.processes[&id].is_ending,
                        "granted a runner that is ending"
                    );
                    self.held.insert(call, id);
                }
                Action::Refuse(call, _) => assert!(
                    self.waiting.remove(&call),
                    "refused a call that does not wait"
                ),
            }
        }
    }

    pub(super) fn is_pinned(&self, process: &Process) -> bool {
        self.pinned
            .is_some_and(|at| self.current[at] == process.model)
    }

    /// Checks that a new process fits the budget and, unless only pinned models are loaded, the free memory.
    pub(super) fn check_room_for(&self, process: &Process) {
        let others = || self.processes.values();
        let all: u64 = others().map(|other| other.memory).sum();
        assert!(
            all + process.memory <= BUDGET,
            "over the budget: {:?}",
            self.processes
        );
        let loading = others().filter(|other| !other.is_loaded && !other.is_ending);
        let taken_soon: u64 = loading.map(|other| other.memory).sum();
        let is_free = self
            .free
            .is_none_or(|free| free.saturating_sub(taken_soon) >= process.memory);
        assert!(
            is_free || others().all(|other| self.is_pinned(other)),
            "{:?} are free: {:?}",
            self.free,
            self.processes
        );
    }

    /// Lets every load and call succeed until nothing is left to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            let event = if self.process(0, |process| process.is_ending).is_some() {
                Event::Gone(0)
            } else if self
                .process(0, |process| !process.is_loaded && !process.is_ending)
                .is_some()
            {
                Event::Loaded(0)
            } else if !self.held.is_empty() {
                Event::Release(0)
            } else {
                return;
            };
            self.apply(&event);
        }
        panic!("the state machine never settles");
    }
}

pub(super) fn chosen<T: Copy>(among: &[T], at: usize) -> Option<T> {
    among.get(at.checked_rem(among.len())?).copied()
}
