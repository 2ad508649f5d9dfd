//! Which models are loaded: the decisions, as a state machine. Pure: time and free memory come in as arguments, what is to be
//! done goes out as [`Action`]s, in order.
//!
//! - A model has one worker at most. One that is ending counts, with its memory, until its process is gone.
//! - An edit that changes how a model is loaded makes another edition of it: the former serves the calls that hold it to the
//!   end, and takes no new one.
//! - A call holds its model by a lease, and a model with a lease is never ended: not for room, not for idleness.
//! - Calls that need a load that has no room wait in order. For the first of them idle models go, the one that idled longest
//!   first, and only if that suffices; else it waits for leases to end.

mod admission;
mod breaker;
mod replacement;
mod slot;
mod standing;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use super::budget::Shared;
use super::budget::overrun;
use crate::backend::footprint::Demand;
pub(crate) use crate::config::Stamp;
use crate::engine::queue::limits::may_wait;
use crate::telemetry::metrics::UnloadReason;
pub(crate) use slot::Refusal;
use slot::{Slot, State};
pub(crate) use standing::{ModelState, Standing};

pub(crate) use crate::backend::Ended;

/// A worker's number; never used twice.
pub(crate) type RunnerId = u64;

/// A call's number.
pub(crate) type CallId = u64;

/// A model as it is loaded from one edit of its configuration to the next; never used twice.
pub(crate) type Edition = u64;

/// What the machine knows of a model beforehand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelTerms {
    /// Memory that the model will take.
    pub need: Demand,
    /// Never ended for room.
    pub pin: bool,
    /// Ended when it idled for so long.
    pub idle_ttl: Option<Duration>,
    /// Calls of one client that may wait for room.
    pub max_waiting: usize,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a worker for the model.
    Start(Edition, RunnerId),
    /// End the worker, which nobody holds, for this reason.
    End(RunnerId, UnloadReason),
    /// Stop the worker, which is still loading, for this reason. Calls that wait for it get [`Refusal::Superseded`].
    Stop(RunnerId, UnloadReason),
    /// Give the call this worker.
    Grant(CallId, RunnerId),
    /// Tell the call that it cannot be served.
    Refuse(CallId, Refusal),
    /// Tell people: models that are at work take more than the budget, so many bytes.
    OverBudget(u64),
}

/// A call that waits for room.
#[derive(Debug)]
struct Waiting {
    call: CallId,
    client: String,
    model: Edition,
    stamp: Stamp,
    since: Instant,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Residency {
    shared: Shared,
    slots: BTreeMap<Edition, Slot>,
    waiting: VecDeque<Waiting>,
    /// The models of the calls that have a lease.
    leases: BTreeMap<CallId, Edition>,
    next_worker: RunnerId,
    actions: Vec<Action>,
}

impl Residency {
    /// There are no models yet.
    pub(crate) fn new(shared: Shared) -> Self {
        Self {
            shared,
            slots: BTreeMap::new(),
            waiting: VecDeque::new(),
            leases: BTreeMap::new(),
            next_worker: 1,
            actions: Vec::new(),
        }
    }

    /// There is a model `model`, or it has other terms now.
    pub(crate) fn set_terms(&mut self, model: Edition, terms: ModelTerms) {
        match self.slots.entry(model) {
            Entry::Occupied(mut slot) => slot.get_mut().terms = terms,
            Entry::Vacant(place) => drop(place.insert(Slot::new(terms))),
        }
    }

    /// All models share something else now: what waits may have room, what idles may have to go.
    pub(crate) fn set_shared(&mut self, shared: Shared, free: Option<u64>, now: Instant) {
        self.shared = shared;
        self.shrink();
        self.admit(free, now);
    }

    /// Ends idle models while more are loaded than may be.
    fn shrink(&mut self) {
        let (models, over) = overrun(&self.occupants(), self.shared);
        self.end_all(&models);
        self.actions.extend(over.map(Action::OverBudget));
    }

    /// What is to be done since the last time, in order.
    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// The model's file has changed, and with it what it needs.
    pub(crate) fn set_need(&mut self, model: Edition, need: Demand) {
        if let Some(slot) = self.slots.get_mut(&model) {
            slot.terms.need = need;
        }
    }

    /// Whether any process is there.
    pub(crate) fn has_workers(&self) -> bool {
        self.slots
            .values()
            .any(|slot| slot.state.worker().is_some())
    }

    /// Nothing is started any more for those that wait now.
    pub(crate) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Whether calls wait for room.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A call of a client wants `model`, whose file is now `stamp`. It gets a worker, a refusal, or waits; then [`Self::release`] follows.
    pub(crate) fn call(
        &mut self,
        call: CallId,
        client: &str,
        model: Edition,
        stamp: Stamp,
        free: Option<u64>,
        now: Instant,
    ) {
        let is_overtaking = self.is_overtaking(model, free, now);
        let slot = self
            .slots
            .get_mut(&model)
            .filter(|slot| slot.retired.is_none());
        let Some(slot) = slot else {
            return self.actions.push(Action::Refuse(call, Refusal::Superseded));
        };
        if let State::Running { worker, leases, .. } = &mut slot.state
            && !is_overtaking
        {
            *leases += 1;
            self.leases.insert(call, model);
            return self.actions.push(Action::Grant(call, *worker));
        }
        if let Some(refusal) = slot.refusal(stamp, now) {
            return self.actions.push(Action::Refuse(call, refusal));
        }
        let waiting = self.waiting.iter().filter(|other| other.model == model);
        let own = waiting.clone().filter(|other| other.client == client);
        let (own, all) = (own.count(), waiting.count());
        if !may_wait(slot.terms.max_waiting, own, all) {
            return self.actions.push(Action::Refuse(call, Refusal::Busy(all)));
        }
        self.waiting.push_back(Waiting {
            call,
            client: client.to_owned(),
            model,
            stamp,
            since: now,
        });
        self.admit(free, now);
    }

    /// A call is over, or does not wait any more.
    pub(crate) fn release(&mut self, call: CallId, free: Option<u64>, now: Instant) {
        self.waiting.retain(|waiting| waiting.call != call);
        if let Some(model) = self.leases.remove(&call)
            && let Some(slot) = self.slots.get_mut(&model)
            && let State::Running {
                worker,
                leases,
                idle_since,
                ..
            } = &mut slot.state
        {
            *leases -= 1;
            *idle_since = now;
            if *leases == 0
                && let Some(reason) = slot.retired
            {
                self.actions.push(Action::End(*worker, reason));
                slot.end();
            }
        }
        self.admit(free, now);
    }

    /// A worker has loaded its model.
    pub(crate) fn loaded(&mut self, worker: RunnerId, free: Option<u64>, now: Instant) {
        if let Some(slot) = self.slot_of(worker)
            && let State::Running {
                idle_since,
                is_loaded,
                ..
            } = &mut slot.state
        {
            *idle_since = now;
            *is_loaded = true;
            slot.failures = None;
        }
        self.admit(free, now);
    }

    /// A worker's process takes `memory` bytes. Less than was estimated does not count: buffers are not there before they are
    /// first written, so a process is at its largest only when it is busiest. Where it is more, idle models may have to go,
    /// and the next load counts with it.
    pub(crate) fn measured(&mut self, worker: RunnerId, memory: u64) {
        let budget = self.shared.budget;
        let Some(slot) = self.slot_of(worker) else {
            return;
        };
        let State::Running { memory: known, .. } = &mut slot.state else {
            return;
        };
        if memory <= *known {
            return;
        }
        *known = memory;
        // Alone it ran, so alone it runs again.
        let total = &mut slot.terms.need.footprint.total;
        *total = (*total).max(memory.min(budget));
        self.shrink();
    }

    /// Notes that a call of `model` was answered.
    pub(crate) fn finished(&mut self, model: Edition) {
        if let Some(slot) = self.slots.get_mut(&model) {
            slot.breaker.close();
        }
    }

    /// Returns the refusal of `model` if its process died several times in a row and is not started again.
    pub(crate) fn given_up(&self, model: Edition) -> Option<Refusal> {
        let cause = self.slots.get(&model)?.breaker.open()?.to_owned();
        Some(Refusal::GivenUp { cause })
    }

    fn slot_of(&mut self, worker: RunnerId) -> Option<&mut Slot> {
        let mut slots = self.slots.values_mut();
        slots.find(|slot| slot.state.worker() == Some(worker))
    }

    /// A worker does not take calls any more; its process is still there. May be told again, with the reason.
    pub(crate) fn ending(&mut self, worker: RunnerId, ended: Ended, now: Instant) {
        let mut slots = self.slots.iter_mut();
        let Some((model, slot)) = slots.find(|(_, slot)| slot.state.worker() == Some(worker))
        else {
            return;
        };
        if let Some(stamp) = slot.end() {
            slot.fail(ended, stamp, now);
        }
        // Its calls are told by the worker itself; what they hold is gone.
        self.leases.retain(|_, held| held != model);
    }

    /// A worker's process is gone.
    pub(crate) fn gone(&mut self, worker: RunnerId, free: Option<u64>, now: Instant) {
        for slot in self.slots.values_mut() {
            if matches!(slot.state, State::Ending { worker: own, .. } if own == worker) {
                slot.state = State::Unloaded;
            }
        }
        self.slots
            .retain(|_, slot| slot.retired.is_none() || slot.state.worker().is_some());
        self.admit(free, now);
    }

    /// Ends what idled for too long; gives the next time at which something may.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<Instant> {
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
                self.actions.push(Action::End(worker, UnloadReason::Idle));
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        next
    }
}

#[cfg(test)]
mod tests;
