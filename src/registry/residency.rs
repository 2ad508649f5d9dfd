//! State machine that decides which models are loaded. Pure: time and free memory are arguments, and the results are [`Action`]s, which the
//! caller carries out in order.
//!
//! - A model has at most one runner. A runner that is ending takes memory until its process has exited.
//! - An edit that changes the load settings of a model creates a new edition of it. The former edition finishes the calls that have a lease
//!   on it, and accepts no new ones.
//! - A call holds a lease on its model. A model with a lease is never unloaded: it is neither evicted nor idle.
//! - Calls whose model is not loaded wait in a queue. [`Residency::admit`] loads their models while there is room. For the first call in the
//!   queue it evicts idle models, least recently used first, but only if that makes enough room. Otherwise the call waits for leases to end.
//!   Other events only change the state: run `admit` after each of them.

mod admission;
mod breaker;
mod free_memory;
mod replacement;
mod slot;
mod status;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::budget::{Overrun, SharedLimits, overrun};
use super::ids::{Edition, LeaseId, RunnerId};
use crate::backend::Ended;
use crate::backend::footprint::Demand;
use crate::config::Stamp;
use crate::engine::queue::limits::may_wait;
use crate::telemetry::metrics::UnloadReason;
pub(crate) use free_memory::FreeMemory;
pub(crate) use slot::Refusal;
use slot::{Slot, State};
pub(crate) use status::{ModelState, SlotStatus};

/// Memory need and policies of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelPolicy {
    /// Memory that the model will take.
    pub need: Demand,
    /// Whether the model is pinned, so that it is never evicted.
    pub pin: bool,
    /// Idle timeout, after which the model is unloaded; `None` means never.
    pub idle_ttl: Option<Duration>,
    /// Maximum number of calls of one client that may wait until the model can be loaded.
    pub max_waiting: usize,
}

/// Action that the caller of the state machine must carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Starts a runner for the model.
    Start(Edition, RunnerId),
    /// Ends the runner. No call has a lease on it.
    End(RunnerId, UnloadReason),
    /// Stops the runner, which is still loading. Calls that wait for it get [`Refusal::Superseded`].
    Stop(RunnerId, UnloadReason),
    /// Grants the call a lease on the runner.
    Grant(LeaseId, RunnerId),
    /// Refuses the call.
    Refuse(LeaseId, Refusal),
    /// Warns that busy models take this many bytes, more than the budget.
    OverBudget(u64),
}

/// A call that waits until its model can be loaded.
#[derive(Debug)]
struct Waiting {
    call: LeaseId,
    client: String,
    model: Edition,
    stamp: Stamp,
    since: Instant,
}

/// State machine that decides which models are loaded.
#[derive(Debug)]
pub(crate) struct Residency {
    shared: SharedLimits,
    slots: BTreeMap<Edition, Slot>,
    waiting: VecDeque<Waiting>,
    /// The models of the calls that have a lease.
    leases: BTreeMap<LeaseId, Edition>,
    next_runner: RunnerId,
    actions: Vec<Action>,
}

impl Residency {
    /// Creates a state machine without models.
    pub(crate) fn new(shared: SharedLimits) -> Self {
        Self {
            shared,
            slots: BTreeMap::new(),
            waiting: VecDeque::new(),
            leases: BTreeMap::new(),
            next_runner: RunnerId(1),
            actions: Vec::new(),
        }
    }

    /// Adds `model`, or replaces its policy.
    pub(crate) fn set_policy(&mut self, model: Edition, policy: ModelPolicy) {
        match self.slots.entry(model) {
            Entry::Occupied(mut slot) => slot.get_mut().policy = policy,
            Entry::Vacant(place) => drop(place.insert(Slot::new(policy))),
        }
    }

    /// Replaces the limits that all models share. Idle models may be evicted.
    pub(crate) fn set_shared(&mut self, shared: SharedLimits) {
        self.shared = shared;
        self.shrink();
    }

    /// Evicts idle models while the loaded ones exceed the limits.
    fn shrink(&mut self) {
        let Overrun {
            evicted,
            over_budget,
        } = overrun(&self.occupants(None), self.shared);
        self.evict(&evicted);
        self.actions.extend(over_budget.map(Action::OverBudget));
    }

    /// Takes the actions since the last call of this function, in order.
    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Replaces the memory need of `model`, whose file has changed.
    pub(crate) fn set_need(&mut self, model: Edition, need: Demand) {
        if let Some(slot) = self.slots.get_mut(&model) {
            slot.policy.need = need;
        }
    }

    /// Returns whether any model has a process.
    pub(crate) fn has_runners(&self) -> bool {
        self.slots
            .values()
            .any(|slot| slot.state.runner().is_some())
    }

    /// Forgets the waiting calls, so that no model is started for them.
    pub(crate) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Returns whether calls wait until a model can be loaded.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Handles a call of `client` for `model`, whose files have this `stamp`. The call is granted a lease, is refused, or waits. Call
    /// [`Self::release`] at its end.
    pub(crate) fn call(
        &mut self,
        call: LeaseId,
        client: &str,
        model: Edition,
        stamp: Stamp,
        free: Option<FreeMemory>,
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
        if let State::Running { runner, leases, .. } = &mut slot.state
            && !is_overtaking
        {
            *leases += 1;
            self.leases.insert(call, model);
            return self.actions.push(Action::Grant(call, *runner));
        }
        if let Some(refusal) = slot.refusal(stamp, now) {
            return self.actions.push(Action::Refuse(call, refusal));
        }
        let waiting = self.waiting.iter().filter(|other| other.model == model);
        let own = waiting.clone().filter(|other| other.client == client);
        let (own, all) = (own.count(), waiting.count());
        if !may_wait(slot.policy.max_waiting, own, all) {
            return self.actions.push(Action::Refuse(call, Refusal::Busy(all)));
        }
        self.waiting.push_back(Waiting {
            call,
            client: client.to_owned(),
            model,
            stamp,
            since: now,
        });
    }

    /// Handles the end of a call, or of its wait in the queue.
    pub(crate) fn release(&mut self, call: LeaseId, now: Instant) {
        self.waiting.retain(|waiting| waiting.call != call);
        if let Some(model) = self.leases.remove(&call)
            && let Some(slot) = self.slots.get_mut(&model)
            && let State::Running {
                runner,
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
                self.actions.push(Action::End(*runner, reason));
                slot.end();
            }
        }
    }

    /// Records that `runner` has loaded its model.
    pub(crate) fn loaded(&mut self, runner: RunnerId, now: Instant) {
        if let Some(slot) = self.slot_of(runner)
            && let State::Running {
                idle_since,
                loaded_at,
                ..
            } = &mut slot.state
        {
            *idle_since = now;
            *loaded_at = Some(now);
            slot.failures = None;
        }
    }

    /// Records that the process of `runner` takes `memory` bytes. If that is more than the estimate, idle models may be evicted, and the next
    /// load reserves that much. A smaller measurement is ignored: the system allocates buffers when they are first written, so a process
    /// reaches its full size only under full load.
    pub(crate) fn measured(&mut self, runner: RunnerId, memory: u64) {
        let budget = self.shared.budget;
        let Some(slot) = self.slot_of(runner) else {
            return;
        };
        let State::Running { memory: known, .. } = &mut slot.state else {
            return;
        };
        if memory <= *known {
            return;
        }
        *known = memory;
        // A model that ran may be loaded again, even if it exceeds the budget.
        let total = &mut slot.policy.need.footprint.total;
        *total = (*total).max(memory.min(budget));
        self.shrink();
    }

    /// Records that a call of `model` was answered.
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

    fn slot_of(&mut self, runner: RunnerId) -> Option<&mut Slot> {
        let mut slots = self.slots.values_mut();
        slots.find(|slot| slot.state.runner() == Some(runner))
    }

    /// Records that `runner` accepts no more calls, while its process still exists. [`Self::ending`] gives the reason later.
    pub(crate) fn closed(&mut self, runner: RunnerId) {
        let mut slots = self.slots.iter_mut();
        let of_runner = slots.find(|(_, slot)| slot.state.runner() == Some(runner));
        if let Some((model, slot)) = of_runner {
            slot.end();
            // The runner itself ends its calls, and their leases are void.
            self.leases.retain(|_, held| held != model);
        }
    }

    /// Handles the end of `runner`, for the reason `ended`: it accepts no more calls, while its process still exists.
    pub(crate) fn ending(&mut self, runner: RunnerId, ended: Ended, now: Instant) {
        self.closed(runner);
        if let Some(slot) = self.slot_of(runner)
            && let Some(stamp) = slot.end()
        {
            slot.fail(ended, stamp, now);
        }
    }

    /// Records that the process of `runner` has exited.
    pub(crate) fn gone(&mut self, runner: RunnerId) {
        for slot in self.slots.values_mut() {
            if matches!(slot.state, State::Ending { runner: own, .. } if own == runner) {
                slot.state = State::Unloaded;
            }
        }
        self.slots
            .retain(|_, slot| slot.retired.is_none() || slot.state.runner().is_some());
    }

    /// Ends models that have reached their idle timeout. Returns the time at which the next one can reach it; `None` if no model is idle.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for slot in self.slots.values_mut() {
            let State::Running {
                runner,
                leases: 0,
                idle_since,
                loaded_at: Some(_),
                ..
            } = slot.state
            else {
                continue;
            };
            let Some(due) = slot.policy.idle_ttl.map(|ttl| idle_since + ttl) else {
                continue;
            };
            if due <= now {
                slot.end();
                self.actions.push(Action::End(runner, UnloadReason::Idle));
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        next
    }
}

#[cfg(test)]
mod tests;
