//! Facts about models: their state, and what their calls showed.

use std::sync::Arc;

use super::model::Model;
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

    /// Looks at the files of all models that are not running, so that [`Self::standings`] tells what a call would find.
    pub(in crate::registry) fn look_at_files(&self) {
        let unloaded: Vec<(Edition, Model)> = {
            let state = self.lock();
            let models = state.models.iter();
            let unloaded = models.filter(|(edition, _)| !state.residency.is_running(**edition));
            unloaded
                .map(|(edition, model)| (*edition, model.clone()))
                .collect()
        };
        // The disk is not waited for under the lock.
        for (edition, model) in unloaded {
            let look = model.look();
            let mut state = self.lock();
            // One that was started meanwhile has looked itself.
            if !state.residency.is_running(edition) {
                state.learn(edition, Some(look));
            }
        }
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
        (model, config.map(|config| config.load.stamp()))
    }
}
