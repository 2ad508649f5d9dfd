//! Reads the state of models, and records results of their calls.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::model::Model;
use super::{ModelManager, read_free_memory};
use crate::config::Stamp;
use crate::engine::Usage;
use crate::registry::ids::Edition;
use crate::registry::residency::Refusal;
use crate::registry::status::Observed;

/// Longest time that a call waits for the check of its model's files. After that the call uses the last known state, and the model's
/// process finds any fault.
const FILE_LIMIT: Duration = Duration::from_secs(10);

impl ModelManager {
    /// Returns the status of each model, sorted by name.
    pub(in crate::registry) fn statuses(&self) -> Vec<Observed> {
        let state = self.lock();
        let statuses = state.residency.statuses().into_iter();
        let mut models: Vec<Observed> = statuses
            .filter_map(|(edition, slot)| state.observed(edition, slot))
            .collect();
        models.sort_by(|one, other| one.name.cmp(&other.name));
        models
    }

    /// Checks the files of `model` if it is not running, and reads the free memory, for [`Self::lease`] and [`Self::statuses`]. Waits at most
    /// [`FILE_LIMIT`]. Later checks wait until the returned guard is dropped, so that calls are queued in the order of their arrival.
    pub(in crate::registry) async fn check_files(
        self: &Arc<Self>,
        model: Edition,
    ) -> Option<OwnedMutexGuard<()>> {
        // Most calls join a running process.
        if self.is_running(model) {
            return None;
        }
        let check = async {
            let guard = Arc::clone(&self.checking).lock_owned().await;
            let manager = Arc::clone(self);
            let check = move || {
                manager.check_files_now(model);
                guard
            };
            tokio::task::spawn_blocking(check).await.ok()
        };
        tokio::time::timeout(FILE_LIMIT, check).await.ok()?
    }

    /// Checks the files of all models that are not running.
    pub(in crate::registry) async fn check_all_files(self: &Arc<Self>) {
        let models: Vec<Edition> = self.lock().models.keys().copied().collect();
        for model in models {
            drop(self.check_files(model).await);
        }
    }

    fn check_files_now(&self, model: Edition) {
        // Do not hold the lock while waiting for the disk.
        let Some((model, known)) = self.unloaded(model) else {
            return;
        };
        let check = known.check();
        let free = read_free_memory();
        let mut state = self.lock();
        state.free = free;
        // A model that was started in the meantime keeps the stamp with which it was started.
        if !state.residency.is_running(model) {
            state.apply_check(model, check);
        }
    }

    /// Returns the known reason why `model` cannot be loaded, such as its files or its memory; `None` if none is known.
    pub(in crate::registry) fn failure(&self, model: Edition) -> Option<String> {
        let state = self.lock();
        let model = state.current(model);
        let of_files = state.fault_of(model).map(|fault| fault.to_string());
        of_files.or_else(|| state.residency.status(model)?.failure)
    }

    /// Returns whether `model` has a process that accepts calls.
    fn is_running(&self, model: Edition) -> bool {
        let state = self.lock();
        state.residency.is_running(state.current(model))
    }

    /// Returns the current edition of `model` if it is not running.
    fn unloaded(&self, model: Edition) -> Option<(Edition, Model)> {
        let state = self.lock();
        let model = state.current(model);
        let known = state.models.get(&model)?;
        (!state.residency.is_running(model)).then(|| (model, known.clone()))
    }

    /// Updates the speed of `model` from the usage of an answer.
    pub(in crate::registry) fn learn_speed(&self, model: Edition, usage: &Usage) {
        let mut state = self.lock();
        let model = state.current(model);
        if let Some(model) = state.models.get_mut(&model) {
            model.speed = model.speed.updated(usage);
        }
    }

    /// Records that `model` answered a call.
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
        let state = self.lock();
        let model = state.current(model);
        (model, state.models.get(&model).map(|known| known.stamp))
    }
}
