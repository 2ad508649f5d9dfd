//! Retires former editions of models. Each ends with its last call.

use std::collections::VecDeque;

use super::slot::State;
use super::{Action, Refusal, Residency, Waiting};
use crate::registry::ids::Edition;
use crate::telemetry::metrics::UnloadReason;

impl Residency {
    /// Unpins `model`, a former edition. It ends with its last call, so its memory is no longer permanently reserved.
    pub(crate) fn unpin(&mut self, model: Edition) {
        if let Some(slot) = self.slots.get_mut(&model) {
            slot.policy.pin = false;
        }
    }

    /// Retires `model`: it accepts no new calls, and calls that wait for it are refused. Calls with a lease are finished, unless the model is
    /// still loading.
    pub(crate) fn retire(&mut self, model: Edition) {
        self.retire_for(UnloadReason::Edited, model);
    }

    fn retire_for(&mut self, reason: UnloadReason, model: Edition) {
        let waiting = std::mem::take(&mut self.waiting);
        let (refused, rest): (VecDeque<_>, VecDeque<_>) = waiting
            .into_iter()
            .partition(|waiting| waiting.model == model);
        self.waiting = rest;
        let refuse = |waiting: &Waiting| Action::Refuse(waiting.call, Refusal::Superseded);
        self.actions.extend(refused.iter().map(refuse));
        let Some(slot) = self.slots.get_mut(&model) else {
            return;
        };
        slot.retired.get_or_insert(reason);
        slot.policy.pin = false;
        match slot.state {
            State::Unloaded => drop(self.slots.remove(&model)),
            State::Running {
                runner,
                loaded_at: None,
                ..
            } => {
                slot.end();
                self.leases.retain(|_, held| *held != model);
                self.actions.push(Action::Stop(runner, reason));
            }
            State::Running {
                runner, leases: 0, ..
            } => {
                slot.end();
                self.actions.push(Action::End(runner, reason));
            }
            State::Running { .. } | State::Ending { .. } => {}
        }
    }

    /// Replaces `old` with `new`. The process of `old` finishes its calls, and new calls start a new process.
    pub(crate) fn replace(&mut self, old: Edition, new: Edition) {
        if let Some(slot) = self.slots.get(&old) {
            let policy = slot.policy.clone();
            self.set_policy(new, policy);
            self.retire_for(UnloadReason::Requested, old);
        }
    }
}
