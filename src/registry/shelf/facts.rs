//! Facts about models: their state, and observations from their calls.

use std::sync::Arc;

use super::model::Model;
use super::{Observed, Shelf};
use crate::engine::Usage;
use crate::registry::residency::{Edition, Refusal, Stamp};

impl Shelf {
    /// Returns the status of each model, sorted by name.
    pub(in crate::registry) fn standings(&self) -> Vec<Observed> {
        let state = self.lock();
        let standings = state.residency.standings().into_iter();
        let mut models: Vec<Observed> = standings
            .filter_map(|(edition, standing)| state.observed(edition, standing))
            .collect();
        models.sort_by(|one, other| one.name.cmp(&other.name));
        models
    }

    /// Checks the files of all models that are not running, so that [`Self::standings`] reports what a call would find.
    pub(in crate::registry) fn look_at_files(&self) {
        let unloaded: Vec<(Edition, Model)> = {
            let state = self.lock();
            let models = state.models.iter();
            let unloaded = models.filter(|(edition, _)| !state.residency.is_running(**edition));
            unloaded
                .map(|(edition, model)| (*edition, model.clone()))
                .collect()
        };
        // Do not wait for the disk under the lock.
        for (edition, model) in unloaded {
            let look = model.look();
            let mut state = self.lock();
            // A model that was started meanwhile has checked its files itself.
            if !state.residency.is_running(edition) {
                state.learn(edition, Some(look));
            }
        }
    }

    /// Updates the speed of `model` from the usage of an answer.
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

    /// Returns the refusal of `model` if its process died several times in a row and is not started again.
    pub(in crate::registry) fn given_up(&self, model: Edition) -> Option<Refusal> {
        let state = self.lock();
        state.residency.given_up(state.current(model))
    }

    /// Returns the version of `model`, which changes with an edit, a restart or a change of its file.
    pub(in crate::registry) fn version(&self, model: Edition) -> (Edition, Option<Stamp>) {
        let (model, config) = {
            let state = self.lock();
            let model = state.current(model);
            let known = state.models.get(&model);
            (model, known.map(|known| Arc::clone(&known.config)))
        };
        // Do not wait for the disk under the lock.
        (model, config.map(|config| config.load.stamp()))
    }
}
