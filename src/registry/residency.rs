//! Which models are loaded: the decisions, as a state machine. Pure: time and free memory come in as arguments, what is to be
//! done goes out as [`Action`]s, in order.
//!
//! - A model has one worker at most. One that is ending counts, with its memory, until its process is gone.
//! - A call holds its model by a lease, and a model with a lease is never ended: not for room, not for idleness.
//! - Calls that need a load that has no room wait in order. For the first of them idle models go, the one that idled longest
//!   first, and only if that suffices; else it waits for leases to end.

mod slot;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::budget::{Occupant, Room, overrun, room_for};
pub use slot::{Ended, Refusal};
use slot::{Slot, State};

/// A worker's number; never used twice.
pub type WorkerId = u64;

/// A call's number.
pub type CallId = u64;

/// What the machine knows of a model beforehand.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelTerms {
    /// Bytes that it will take.
    pub need: u64,
    /// Never ended for room.
    pub pin: bool,
    /// Ended when it idled for so long.
    pub idle_ttl: Option<Duration>,
}

/// Which files a model is loaded from: another number where any of them was replaced.
pub type Stamp = u64;

/// What all models share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shared {
    /// Bytes of all together.
    pub budget: u64,
    /// Models at once.
    pub max_loaded: Option<usize>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a worker for the model.
    Start(String, WorkerId),
    /// End the worker: nobody holds it.
    End(WorkerId),
    /// Give the call this worker.
    Grant(CallId, WorkerId),
    /// Tell the call that it cannot be served.
    Refuse(CallId, Refusal),
    /// Tell people: models that are at work take more than the budget, so many bytes.
    OverBudget(u64),
}

/// A call that waits for room.
#[derive(Debug)]
struct Waiting {
    call: CallId,
    model: String,
    stamp: Stamp,
    since: Instant,
}

/// Who has waited for room so long is not overtaken any more: calls of loaded models then wait behind, so that one of them
/// comes to rest and can go.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub struct Residency {
    shared: Shared,
    slots: BTreeMap<String, Slot>,
    waiting: VecDeque<Waiting>,
    /// The workers of the calls that have a lease.
    leases: BTreeMap<CallId, String>,
    next_worker: WorkerId,
    actions: Vec<Action>,
}

impl Residency {
    /// No model is loaded yet.
    pub fn new(shared: Shared, models: impl IntoIterator<Item = (String, ModelTerms)>) -> Self {
        let slot = |(name, terms)| {
            let slot = Slot {
                terms,
                state: State::Unloaded,
                failures: None,
            };
            (name, slot)
        };
        Self {
            shared,
            slots: models.into_iter().map(slot).collect(),
            waiting: VecDeque::new(),
            leases: BTreeMap::new(),
            next_worker: 1,
            actions: Vec::new(),
        }
    }

    /// What is to be done since the last time, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Whether a call of `model` gets a worker at once.
    pub fn is_running(&self, model: &str) -> bool {
        let slot = self.slots.get(model);
        slot.is_some_and(|slot| matches!(slot.state, State::Running { .. }))
    }

    /// The model's file has changed, and with it what it needs.
    pub fn set_need(&mut self, model: &str, need: u64) {
        if let Some(slot) = self.slots.get_mut(model) {
            slot.terms.need = need;
        }
    }

    /// Whether any process is there.
    pub fn has_workers(&self) -> bool {
        self.slots
            .values()
            .any(|slot| slot.state.worker().is_some())
    }

    /// Nothing is started any more for those that wait now.
    pub fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Whether calls wait for room.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A call wants `model`, whose file is now `stamp`. It gets a worker, a refusal, or waits; then [`Self::release`] follows.
    pub fn call(
        &mut self,
        call: CallId,
        model: &str,
        stamp: Stamp,
        free: Option<u64>,
        now: Instant,
    ) {
        let Some(slot) = self.slots.get_mut(model) else {
            return;
        };
        let is_overtaking = self
            .waiting
            .front()
            .is_some_and(|first| now - first.since >= PATIENCE);
        if let State::Running { worker, leases, .. } = &mut slot.state
            && (slot.terms.pin || !is_overtaking)
        {
            *leases += 1;
            self.leases.insert(call, model.to_owned());
            return self.actions.push(Action::Grant(call, *worker));
        }
        if let Some(refusal) = slot.refusal(stamp, now) {
            return self.actions.push(Action::Refuse(call, refusal));
        }
        self.waiting.push_back(Waiting {
            call,
            model: model.to_owned(),
            stamp,
            since: now,
        });
        self.admit(free, now);
    }

    /// A call is over, or does not wait any more.
    pub fn release(&mut self, call: CallId, free: Option<u64>, now: Instant) {
        self.waiting.retain(|waiting| waiting.call != call);
        if let Some(model) = self.leases.remove(&call)
            && let Some(Slot {
                state: State::Running {
                    leases, idle_since, ..
                },
                ..
            }) = self.slots.get_mut(&model)
        {
            *leases -= 1;
            *idle_since = now;
        }
        self.admit(free, now);
    }

    /// A worker has loaded its model and takes `measured` bytes, where that can be measured. Where that is more than was
    /// estimated, idle models may have to go, and the next load of it counts with it.
    pub fn loaded(
        &mut self,
        worker: WorkerId,
        measured: Option<u64>,
        free: Option<u64>,
        now: Instant,
    ) {
        for slot in self.slots.values_mut() {
            if let State::Running {
                worker: own,
                memory,
                idle_since,
                is_loaded,
                ..
            } = &mut slot.state
                && *own == worker
            {
                *memory = measured.unwrap_or(*memory);
                *idle_since = now;
                *is_loaded = true;
                // It ran: so it is never told that it can not.
                slot.terms.need = slot.terms.need.max((*memory).min(self.shared.budget));
                slot.failures = None;
            }
        }
        let (names, over) = overrun(&self.occupants(), self.shared.budget);
        self.end_all(names);
        self.actions.extend(over.map(Action::OverBudget));
        self.admit(free, now);
    }

    /// A worker does not take calls any more; its process is still there. May be told again, with the reason.
    pub fn ending(&mut self, worker: WorkerId, ended: Ended, now: Instant) {
        let mut slots = self.slots.iter_mut();
        let Some((name, slot)) = slots.find(|(_, slot)| slot.state.worker() == Some(worker)) else {
            return;
        };
        if let Some(stamp) = slot.end() {
            slot.fail(ended, stamp, now);
        }
        // Its calls are told by the worker itself; what they hold is gone.
        self.leases.retain(|_, model| model != name);
    }

    /// A worker's process is gone.
    pub fn gone(&mut self, worker: WorkerId, free: Option<u64>, now: Instant) {
        for slot in self.slots.values_mut() {
            if matches!(slot.state, State::Ending { worker: own, .. } if own == worker) {
                slot.state = State::Unloaded;
            }
        }
        self.admit(free, now);
    }

    /// Ends what idled for too long; gives the next time at which something may.
    pub fn tick(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for slot in self.slots.values_mut() {
            let State::Running {
                worker,
                leases: 0,
                idle_since,
                is_loaded: true,
                ..
            } = slot.state
            else {
                continue;
            };
            let Some(due) = slot.terms.idle_ttl.map(|ttl| idle_since + ttl) else {
                continue;
            };
            if due <= now {
                slot.end();
                self.actions.push(Action::End(worker));
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        next
    }

    /// Starts what has room, in order.
    fn admit(&mut self, free: Option<u64>, now: Instant) {
        while let Some(first) = self.waiting.front() {
            let (call, model, stamp) = (first.call, first.model.clone(), first.stamp);
            let Some(slot) = self.slots.get(&model) else {
                return;
            };
            match &slot.state {
                State::Running { .. } => {}
                // Its process must be gone before another one is started.
                State::Ending { .. } => return,
                State::Unloaded => {
                    // The load that it waited for may have failed meanwhile.
                    let refusal = slot
                        .refusal(stamp, now)
                        .or_else(|| self.make_room(&model, free)?.err());
                    if let Some(refusal) = refusal {
                        self.waiting.pop_front();
                        self.actions.push(Action::Refuse(call, refusal));
                        continue;
                    }
                    if !self.has_room(&model, free) {
                        return;
                    }
                    self.start(&model, stamp, now);
                }
            }
            self.grant_all(&model);
        }
    }

    /// Gives the running worker of `model` to all that wait for it.
    fn grant_all(&mut self, model: &str) {
        let Some(Slot {
            state: State::Running { worker, leases, .. },
            ..
        }) = self.slots.get_mut(model)
        else {
            return;
        };
        let (granted, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.model == model);
        self.waiting = rest;
        let granted: VecDeque<Waiting> = granted;
        for waiting in granted {
            *leases += 1;
            self.leases.insert(waiting.call, model.to_owned());
            self.actions.push(Action::Grant(waiting.call, *worker));
        }
    }

    fn start(&mut self, model: &str, stamp: Stamp, now: Instant) {
        let worker = self.next_worker;
        self.next_worker += 1;
        if let Some(slot) = self.slots.get_mut(model) {
            slot.state = State::Running {
                worker,
                memory: slot.terms.need,
                leases: 0,
                idle_since: now,
                is_loaded: false,
                stamp,
            };
            self.actions.push(Action::Start(model.to_owned(), worker));
        }
    }

    fn room(&self, model: &str, free: Option<u64>) -> Room {
        let need = self.slots.get(model).map_or(0, |slot| slot.terms.need);
        room_for(need, &self.occupants(), self.shared, free)
    }

    fn occupants(&self) -> Vec<Occupant<'_>> {
        let slots = self.slots.iter();
        slots
            .filter_map(|(name, slot)| slot.occupant(name))
            .collect()
    }

    fn has_room(&self, model: &str, free: Option<u64>) -> bool {
        self.room(model, free) == Room::There
    }

    /// Ends idle models where that gives `model` its room. A refusal where it can never have it.
    fn make_room(&mut self, model: &str, free: Option<u64>) -> Option<Result<(), Refusal>> {
        match self.room(model, free) {
            Room::There | Room::Busy => None,
            Room::Never(cause, hint) => Some(Err(Refusal::NeverFits { cause, hint })),
            Room::After(names) => {
                self.end_all(names);
                Some(Ok(()))
            }
        }
    }

    fn end_all(&mut self, names: Vec<String>) {
        for name in names {
            if let Some(slot) = self.slots.get_mut(&name)
                && let Some(worker) = slot.state.worker()
            {
                slot.end();
                self.actions.push(Action::End(worker));
            }
        }
    }
}

#[cfg(test)]
mod tests;
