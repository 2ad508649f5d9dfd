//! Who may be loaded now, and who must wait or go for that.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::slot::{Slot, State};
use super::{Action, Edition, Refusal, Residency, Stamp, Waiting};
use crate::backend::footprint::Demand;
use crate::registry::budget::{Occupant, Room, room_for};
use crate::telemetry::metrics::UnloadReason;

/// Who has waited for room so long is not overtaken any more by calls of a model that alone is in the way: they wait behind, so
/// that it comes to rest and can go.
const PATIENCE: Duration = Duration::from_secs(5);

/// And after so long by no call of any model that is in the way with others.
const LONG_PATIENCE: Duration = Duration::from_mins(1);

impl Residency {
    /// Whether a call of `model`, which is loaded, would keep the first that waits for room from it for too long.
    pub(super) fn is_overtaking(&self, model: Edition, free: Option<u64>, now: Instant) -> bool {
        let Some(first) = self.waiting.front() else {
            return false;
        };
        let waited = now - first.since;
        let is_pinned = |slot: &Slot| slot.terms.pin;
        if waited < PATIENCE || self.slots.get(&model).is_none_or(is_pinned) {
            return false;
        }
        let room = |stays: &dyn Fn(&Occupant) -> bool| {
            let occupants = self
                .occupants()
                .into_iter()
                .filter(stays)
                .collect::<Vec<_>>();
            room_for(self.need(first.model), &occupants, self.shared, free)
        };
        let would_help = room(&|other| other.model != model) != Room::Busy;
        // Not in the way: room could be made beside it.
        let may_stay = room(&|other| other.model == model || other.is_pinned) == Room::There;
        would_help || (waited >= LONG_PATIENCE && !may_stay)
    }

    /// Starts what has room, in order; ends idle models for it.
    pub(super) fn admit(&mut self, free: Option<u64>, now: Instant) {
        while let Some(first) = self.waiting.front() {
            let (call, model, stamp) = (first.call, first.model, first.stamp);
            let Some(slot) = self.slots.get(&model) else {
                return;
            };
            match &slot.state {
                State::Running { .. } => {}
                // Its process must be gone before another one is started.
                State::Ending { .. } => return,
                State::Unloaded => {
                    // The load that it waited for may have failed meanwhile.
                    let refusal = match (slot.refusal(stamp, now), self.room(model, free)) {
                        (Some(refusal), _) => refusal,
                        (None, Room::Never(cause, hint)) => Refusal::NeverFits { cause, hint },
                        (None, Room::There) => {
                            self.start(model, stamp, now);
                            self.grant_all(model);
                            continue;
                        }
                        (None, Room::After(models)) => return self.end_all(&models),
                        (None, Room::Busy) => return,
                    };
                    self.waiting.pop_front();
                    self.actions.push(Action::Refuse(call, refusal));
                    continue;
                }
            }
            self.grant_all(model);
        }
    }

    /// Gives the running worker of `model` to all that wait for it.
    fn grant_all(&mut self, model: Edition) {
        let Some(Slot {
            state: State::Running { worker, leases, .. },
            ..
        }) = self.slots.get_mut(&model)
        else {
            return;
        };
        let waiting = std::mem::take(&mut self.waiting);
        let (granted, rest): (VecDeque<Waiting>, _) = waiting
            .into_iter()
            .partition(|waiting| waiting.model == model);
        self.waiting = rest;
        for waiting in granted {
            *leases += 1;
            self.leases.insert(waiting.call, model);
            self.actions.push(Action::Grant(waiting.call, *worker));
        }
    }

    fn start(&mut self, model: Edition, stamp: Stamp, now: Instant) {
        let worker = self.next_worker;
        self.next_worker += 1;
        if let Some(slot) = self.slots.get_mut(&model) {
            slot.state = State::Running {
                worker,
                memory: slot.terms.need.footprint.total,
                leases: 0,
                idle_since: now,
                is_loaded: false,
                stamp,
            };
            self.actions.push(Action::Start(model, worker));
        }
    }

    fn need(&self, model: Edition) -> Demand {
        let slot = self.slots.get(&model);
        slot.map_or_else(Demand::default, |slot| slot.terms.need)
    }

    pub(super) fn room(&self, model: Edition, free: Option<u64>) -> Room {
        room_for(self.need(model), &self.occupants(), self.shared, free)
    }

    pub(super) fn occupants(&self) -> Vec<Occupant> {
        let slots = self.slots.iter();
        slots
            .filter_map(|(model, slot)| slot.occupant(*model))
            .collect()
    }

    pub(super) fn end_all(&mut self, models: &[Edition]) {
        for model in models {
            if let Some(slot) = self.slots.get_mut(model)
                && let Some(worker) = slot.state.worker()
            {
                slot.end();
                self.actions
                    .push(Action::End(worker, UnloadReason::Evicted));
            }
        }
    }
}
