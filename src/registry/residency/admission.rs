//! Admission: decides for which waiting calls models are loaded, and which models are evicted for them.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::slot::{Slot, State};
use super::{Action, FreeMemory, Refusal, Residency, Waiting};
use crate::backend::footprint::Demand;
use crate::config::Stamp;
use crate::registry::budget::{Occupant, Room, room_for};
use crate::registry::ids::Edition;
use crate::telemetry::metrics::UnloadReason;

/// Starvation guard: once the first call in the queue has waited this long, new calls to a loaded model queue behind it if evicting that
/// model alone would make enough room.
const PATIENCE: Duration = Duration::from_secs(5);

/// Second starvation guard: after this long, new calls also queue if their model is one of several that must be evicted together.
const LONG_PATIENCE: Duration = Duration::from_mins(1);

impl Residency {
    /// Returns whether a new call to `model`, which is loaded, must queue because the first call in the queue has waited too long.
    pub(super) fn is_overtaking(
        &self,
        model: Edition,
        free: Option<FreeMemory>,
        now: Instant,
    ) -> bool {
        let Some(first) = self.waiting.front() else {
            return false;
        };
        let waited = now - first.since;
        let is_pinned = |slot: &Slot| slot.policy.pin;
        if waited < PATIENCE || self.slots.get(&model).is_none_or(is_pinned) {
            return false;
        }
        let room = |stays: &dyn Fn(&Occupant) -> bool| {
            let occupants = self
                .occupants(free)
                .into_iter()
                .filter(stays)
                .collect::<Vec<_>>();
            room_for(self.need(first.model), &occupants, self.shared, bytes(free))
        };
        let would_help = room(&|other| other.model != model) != Room::Busy;
        // Whether evicting all other unpinned models makes enough room.
        let may_stay = room(&|other| other.model == model || other.is_pinned) == Room::Available;
        would_help || (waited >= LONG_PATIENCE && !may_stay)
    }

    /// Starts models for waiting calls, in order, while there is room. Evicts idle models to make room. `free` is the free memory of the
    /// machine or container; `None` if it is unknown.
    pub(crate) fn admit(&mut self, free: Option<FreeMemory>, now: Instant) {
        while let Some(first) = self.waiting.front() {
            let (call, model, stamp) = (first.call, first.model, first.stamp);
            let Some(slot) = self.slots.get(&model) else {
                return;
            };
            match &slot.state {
                State::Running { .. } => {}
                // The former process must exit before a new one is started.
                State::Ending { .. } => return,
                State::Unloaded => {
                    // The load that the call waited for may have failed.
                    let refusal = match (slot.refusal(stamp, now), self.room(model, free)) {
                        (Some(refusal), _) => refusal,
                        (None, Room::Never(never)) => Refusal::NeverFits(never),
                        (None, Room::Available) => {
                            self.start(model, stamp, now);
                            self.grant_waiting(model);
                            continue;
                        }
                        (None, Room::AfterEviction(models)) => return self.evict(&models),
                        (None, Room::Busy) => return,
                    };
                    self.waiting.pop_front();
                    self.actions.push(Action::Refuse(call, refusal));
                    continue;
                }
            }
            self.grant_waiting(model);
        }
    }

    /// Grants all calls that wait for `model` a lease on its runner.
    fn grant_waiting(&mut self, model: Edition) {
        let Some(Slot {
            state: State::Running { runner, leases, .. },
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
            self.actions.push(Action::Grant(waiting.call, *runner));
        }
    }

    fn start(&mut self, model: Edition, stamp: Stamp, now: Instant) {
        let runner = self.next_runner.allocate();
        if let Some(slot) = self.slots.get_mut(&model) {
            slot.state = State::Running {
                runner,
                memory: slot.policy.need.footprint.total,
                leases: 0,
                idle_since: now,
                loaded_at: None,
                stamp,
            };
            self.actions.push(Action::Start(model, runner));
        }
    }

    fn need(&self, model: Edition) -> Demand {
        let slot = self.slots.get(&model);
        slot.map_or_else(Demand::default, |slot| slot.policy.need)
    }

    pub(super) fn room(&self, model: Edition, free: Option<FreeMemory>) -> Room {
        let occupants = self.occupants(free);
        room_for(self.need(model), &occupants, self.shared, bytes(free))
    }

    /// Returns the models that take memory. Those that `free` does not show yet count as loading.
    pub(super) fn occupants(&self, free: Option<FreeMemory>) -> Vec<Occupant> {
        let slots = self.slots.iter();
        slots
            .filter_map(|(model, slot)| slot.occupant(*model, free))
            .collect()
    }

    pub(super) fn evict(&mut self, models: &[Edition]) {
        for model in models {
            if let Some(slot) = self.slots.get_mut(model)
                && let Some(runner) = slot.state.runner()
            {
                slot.end();
                self.actions
                    .push(Action::End(runner, UnloadReason::Evicted));
            }
        }
    }
}

fn bytes(free: Option<FreeMemory>) -> Option<u64> {
    free.map(|free| free.bytes)
}
