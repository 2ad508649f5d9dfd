//! Facts about models: their state, and what their calls showed.

use std::sync::Arc;

use super::look::stamp_of;
use super::{Observed, Shelf};
use crate::engine::Usage;
use crate::registry::residency::{Edition, Refusal, Stamp};

impl Shelf {
    /// How each model stands, by their names.
    pub(in crate::registry) fn standings(&self) -> Vec<Observed> {
        let state = self.lock();
        let standings = state.residency.standings().into_iter();
        let mut models: Vec<Observed> = standings
            .filter_map(|(edition, standing)| state.observed(edition, standing))
            .collect();
        models.sort_by(|one, other| one.name.cmp(&other.name));
        models
    }

    /// What an answer of `model` tells of its speed.
    pub(in crate::registry) fn learn_speed(&self, model: Edition, usage: &Usage) {
        let mut state = self.lock();
        let model = state.current(model);
        if let Some(model) = state.models.get_mut(&model) {
            model.speed = model.speed.after(usage);
        }
    }

    /// Notes that `model` answered a call.
    pub(in crate::registry) fn finished(&self, model: Edition) {
        let mut state = self.lock();
        let model = state.current(model);
        state.residency.finished(model);
    }

    /// Returns the refusal of `model` if its process died so often that it is not started again.
    pub(in crate::registry) fn given_up(&self, model: Edition) -> Option<Refusal> {
        let state = self.lock();
        state.residency.given_up(state.current(model))
    }

    /// Returns what tells `model` apart from what it was before an edit, a restart or a change of its file.
    pub(in crate::registry) fn version(&self, model: Edition) -> (Edition, Option<Stamp>) {
        let (model, config) = {
            let state = self.lock();
            let model = state.current(model);
            let known = state.models.get(&model);
            (model, known.map(|known| Arc::clone(&known.config)))
        };
        // The disk is not waited for under the lock.
        (model, config.as_deref().map(stamp_of))
    }
}
