//! The machine under random schedules, beside a plain record of what must hold.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const MODELS: [(&str, u64); 4] = [("a", 40), ("b", 40), ("c", 60), ("d", 100)];
const BUDGET: u64 = 100;
const TTL: Duration = Duration::from_mins(1);

/// What may happen next; numbers choose among what there is.
#[derive(Debug, Clone)]
enum Event {
    Call(usize),
    Release(usize),
    Loaded(usize, u64),
    LoadFails(usize, bool),
    Dies(usize),
    Gone(usize),
    Time(u64),
    /// What the machine says that it has left.
    Free(Option<u64>),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let at = 0..1000_usize;
    let event = prop_oneof![
        4 => (0..MODELS.len()).prop_map(Event::Call),
        4 => at.clone().prop_map(Event::Release),
        4 => (at.clone(), 1..=70_u64).prop_map(|(at, memory)| Event::Loaded(at, memory)),
        1 => (at.clone(), any::<bool>()).prop_map(|(at, died)| Event::LoadFails(at, died)),
        1 => at.clone().prop_map(Event::Dies),
        4 => at.prop_map(Event::Gone),
        2 => (1..400_u64).prop_map(Event::Time),
        1 => proptest::option::of(0..120_u64).prop_map(Event::Free),
    ];
    proptest::collection::vec(event, 1..200)
}

/// A worker as the world sees it.
#[derive(Debug)]
struct Process {
    model: String,
    memory: u64,
    is_loaded: bool,
    /// It was told to end, or failed.
    is_ending: bool,
}

/// The machine and what is true outside.
struct World {
    machine: Residency,
    now: Instant,
    next_call: CallId,
    processes: BTreeMap<WorkerId, Process>,
    /// Calls that have a worker.
    held: BTreeMap<CallId, WorkerId>,
    waiting: BTreeSet<CallId>,
    free: Option<u64>,
    pinned: Option<usize>,
    /// What every model is known to take.
    needs: BTreeMap<String, u64>,
    /// It was told that more than the budget is taken.
    is_over: bool,
}

impl World {
    fn new(max_loaded: Option<usize>) -> Self {
        Self::with_pin(max_loaded, None)
    }

    fn with_pin(max_loaded: Option<usize>, pinned: Option<usize>) -> Self {
        let shared = Shared {
            budget: BUDGET,
            max_loaded,
        };
        let terms = |(at, (name, need)): (usize, &(&str, u64))| {
            let terms = ModelTerms {
                need: *need,
                pin: pinned == Some(at),
                idle_ttl: Some(TTL),
            };
            ((*name).to_owned(), terms)
        };
        Self {
            machine: Residency::new(shared, MODELS.iter().enumerate().map(terms)),
            now: Instant::now(),
            next_call: 1,
            processes: BTreeMap::new(),
            held: BTreeMap::new(),
            waiting: BTreeSet::new(),
            free: None,
            pinned,
            needs: MODELS
                .iter()
                .map(|(name, need)| ((*name).to_owned(), *need))
                .collect(),
            is_over: false,
        }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Call(model) => {
                let call = self.next_call;
                self.next_call += 1;
                self.waiting.insert(call);
                self.machine
                    .call(call, MODELS[model].0, 0, self.free, self.now);
            }
            Event::Release(at) => {
                let calls: Vec<CallId> = self.held.keys().chain(&self.waiting).copied().collect();
                if let Some(call) = chosen(&calls, at) {
                    self.held.remove(&call);
                    self.waiting.remove(&call);
                    self.machine.release(call, self.free, self.now);
                }
            }
            Event::Loaded(at, memory) => {
                if let Some(id) =
                    self.process(at, |process| !process.is_loaded && !process.is_ending)
                {
                    let process = self.processes.get_mut(&id).unwrap();
                    process.is_loaded = true;
                    process.memory = memory;
                    let need = self.needs.get_mut(&process.model).unwrap();
                    *need = memory.min(BUDGET).max(*need);
                    self.is_over = false;
                    self.machine.loaded(id, Some(memory), self.free, self.now);
                }
            }
            Event::LoadFails(at, died) => {
                if let Some(id) =
                    self.process(at, |process| !process.is_loaded && !process.is_ending)
                {
                    let cause = "it is broken".to_owned();
                    self.fail(
                        id,
                        if died {
                            Ended::DiedLoading(cause)
                        } else {
                            Ended::LoadFailed(cause)
                        },
                    );
                }
            }
            Event::Dies(at) => {
                if let Some(id) =
                    self.process(at, |process| process.is_loaded && !process.is_ending)
                {
                    self.fail(id, Ended::Done);
                }
            }
            Event::Gone(at) => {
                if let Some(id) = self.process(at, |process| process.is_ending) {
                    self.processes.remove(&id);
                    self.machine.gone(id, self.free, self.now);
                }
            }
            Event::Time(seconds) => {
                self.now += Duration::from_secs(seconds);
                self.machine.tick(self.now);
            }
            Event::Free(free) => self.free = free,
        }
        self.carry_out(matches!(event, Event::Time(_)));
        let staying = self.processes.values().filter(|process| !process.is_ending);
        let taken: u64 = staying.map(|process| process.memory).sum();
        assert!(
            taken <= BUDGET || self.is_over,
            "over the budget, and not told: {:?}",
            self.processes
        );
    }

    fn process(&self, at: usize, wanted: impl Fn(&Process) -> bool) -> Option<WorkerId> {
        let fitting: Vec<WorkerId> = self
            .processes
            .iter()
            .filter(|(_, process)| wanted(process))
            .map(|(id, _)| *id)
            .collect();
        chosen(&fitting, at)
    }

    /// A worker ends by itself, and its calls with it.
    fn fail(&mut self, id: WorkerId, ended: Ended) {
        self.processes.get_mut(&id).unwrap().is_ending = true;
        let calls: Vec<CallId> = self
            .held
            .iter()
            .filter(|(_, worker)| **worker == id)
            .map(|(call, _)| *call)
            .collect();
        self.machine.ending(id, ended, self.now);
        for call in calls {
            self.held.remove(&call);
            self.machine.release(call, self.free, self.now);
        }
    }

    fn carry_out(&mut self, is_time: bool) {
        for action in self.machine.take_actions() {
            match action {
                Action::Start(model, id) => {
                    let has_one = self
                        .processes
                        .values()
                        .any(|process| process.model == model);
                    assert!(!has_one, "a second worker of {model}");
                    let memory = self.needs[&model];
                    let process = Process {
                        model,
                        memory,
                        is_loaded: false,
                        is_ending: false,
                    };
                    self.processes.insert(id, process);
                    let all: u64 = self.processes.values().map(|process| process.memory).sum();
                    assert!(all <= BUDGET, "over the budget: {:?}", self.processes);
                }
                Action::End(id) => {
                    assert!(
                        !self.held.values().any(|worker| *worker == id),
                        "ended under a lease"
                    );
                    let process = self.processes.get_mut(&id).unwrap();
                    let is_pinned = self.pinned.is_some_and(|at| MODELS[at].0 == process.model);
                    assert!(is_time || !is_pinned, "a pinned model made room");
                    process.is_ending = true;
                }
                Action::OverBudget(taken) => {
                    assert!(taken > BUDGET);
                    self.is_over = true;
                }
                Action::Grant(call, id) => {
                    assert!(
                        self.waiting.remove(&call),
                        "granted twice, or to a call that has left"
                    );
                    assert!(!self.processes[&id].is_ending, "granted a worker that ends");
                    self.held.insert(call, id);
                }
                Action::Refuse(call, _) => assert!(
                    self.waiting.remove(&call),
                    "refused a call that does not wait"
                ),
            }
        }
    }

    /// All goes well from here on: nobody may be left.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let event = if self.process(0, |process| process.is_ending).is_some() {
                Event::Gone(0)
            } else if self
                .process(0, |process| !process.is_loaded && !process.is_ending)
                .is_some()
            {
                Event::Loaded(0, 10)
            } else if !self.held.is_empty() {
                Event::Release(0)
            } else {
                return;
            };
            self.happen(&event);
        }
        panic!("it never comes to rest");
    }
}

fn chosen<T: Copy>(among: &[T], at: usize) -> Option<T> {
    among.get(at.checked_rem(among.len())?).copied()
}

proptest! {
    #[test]
    fn no_schedule_breaks_a_promise(
        events in events(),
        max_loaded in proptest::option::of(1..4_usize),
        pinned in proptest::option::of(0..MODELS.len()),
    ) {
        let mut world = World::with_pin(max_loaded, pinned);
        for event in &events {
            world.happen(event);
            let loaded = world.processes.len();
            prop_assert!(max_loaded.is_none_or(|max| loaded <= max), "{loaded} are loaded");
        }
        world.settle();
        prop_assert!(world.waiting.is_empty(), "forgotten: {:?}", world.waiting);
    }
}

#[test]
fn idle_time_counts_from_the_end_of_the_last_lease_and_not_while_the_model_loads() {
    let mut world = World::new(None);
    world.happen(&Event::Call(0));
    world.happen(&Event::Release(0));
    world.happen(&Event::Time(100));
    assert!(!world.processes[&1].is_ending, "it was loading");
    world.happen(&Event::Loaded(0, 10));
    world.happen(&Event::Call(0));
    world.happen(&Event::Time(100));
    assert!(!world.processes[&1].is_ending, "it was held");
    world.happen(&Event::Release(0));
    world.happen(&Event::Time(59));
    assert!(!world.processes[&1].is_ending, "its time was not over");
    world.happen(&Event::Time(1));
    assert!(world.processes[&1].is_ending);
}

#[test]
fn who_waits_for_room_is_overtaken_for_some_seconds_and_not_for_ever() {
    let mut world = World::new(Some(1));
    world.happen(&Event::Call(0));
    world.happen(&Event::Loaded(0, 10));
    // The second model waits while calls of the first overlap.
    world.happen(&Event::Call(1));
    world.happen(&Event::Call(0));
    assert_eq!((world.held.len(), world.waiting.len()), (2, 1));
    world.happen(&Event::Time(5));
    world.happen(&Event::Call(0));
    assert_eq!((world.held.len(), world.waiting.len()), (2, 2));
    world.happen(&Event::Release(0));
    world.happen(&Event::Release(0));
    world.happen(&Event::Gone(0));
    assert_eq!(
        world.held.keys().copied().collect::<Vec<_>>(),
        [2],
        "the one that waited first"
    );
}

#[test]
fn a_failed_load_is_not_tried_again_at_once_and_after_three_deaths_not_until_the_file_changes() {
    let mut world = World::new(None);
    let refusal = |world: &mut World, stamp: Stamp| {
        world.machine.call(999, "a", stamp, None, world.now);
        let actions = world.machine.take_actions();
        match &actions[..] {
            [Action::Refuse(999, refusal)] => refusal.to_string(),
            other => panic!("not refused: {other:?}"),
        }
    };
    for pause in [1, 2, 4] {
        world.happen(&Event::Call(0));
        world.happen(&Event::LoadFails(0, true));
        world.happen(&Event::Gone(0));
        if pause < 4 {
            let told = refusal(&mut world, 0);
            assert_eq!(
                told,
                format!(
                    "the model could not be loaded: it is broken; it is tried again in {pause} s"
                )
            );
        }
        world.happen(&Event::Time(pause));
    }
    let told = refusal(&mut world, 0);
    assert_eq!(
        told,
        "the model's process died 3 times while it was loaded (it is broken); it is tried again when its file changes"
    );
    let changed = 1;
    world.machine.call(1000, "a", changed, None, world.now);
    assert!(matches!(
        world.machine.take_actions()[..],
        [Action::Start(..), Action::Grant(1000, _)]
    ));
}
