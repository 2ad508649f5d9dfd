//! Changes of the state that the manager's lock guards.

use super::State;
use super::model::Model;
use crate::backend::{Runner, SourceCheck};
use crate::config::{FileFault, ModelConfig};
use crate::registry::ids::{Edition, LeaseId};
use crate::registry::residency::{ModelState, Refusal, SlotStatus};
use crate::registry::status::{Observed, Offload};

impl State {
    /// Removes runners that accept no more calls. The reason follows with [`crate::backend::Life::Ending`].
    pub(super) fn forget_ended(&mut self) {
        let runners = self.runners.iter();
        let ended = runners
            .filter(|(_, runner)| runner.has_ended())
            .map(|(id, _)| *id);
        for runner in ended.collect::<Vec<_>>() {
            self.runners.remove(&runner);
            self.residency.closed(runner);
        }
    }

    /// Returns the edition with the load settings of `config`, or else a new one. An edition does not match if its process is running and its
    /// files have changed since the process loaded them.
    pub(super) fn edition_of(&mut self, config: &ModelConfig) -> Edition {
        let mut models = self.models.iter();
        let same = models.find(|(edition, model)| {
            let loaded = self.residency.running_stamp(**edition);
            config.is_loaded_like(&model.config, loaded.unwrap_or(config.source.stamp()))
        });
        if let Some((edition, _)) = same {
            return *edition;
        }
        self.next_edition.allocate()
    }

    /// Inserts `model` as `edition`. If the edition exists, `model` takes over its speed and its channel to the running process, and sends
    /// the new shared prefixes to the process.
    pub(super) fn insert_model(&mut self, edition: Edition, mut model: Model) {
        if let Some(former) = self.models.remove(&edition) {
            let prefixes = model.prefixes.borrow().clone();
            former.prefixes.send_if_modified(|known| {
                let has_changed = *known != prefixes;
                *known = prefixes;
                has_changed
            });
            model.prefixes = former.prefixes;
            model.speed = former.speed;
        }
        self.models.insert(edition, model);
    }

    /// Returns the known fault of the files of `model`; `None` if none is known, or if the process of `model` is running.
    pub(super) fn fault_of(&self, model: Edition) -> Option<FileFault> {
        let fault = self.models.get(&model)?.need.as_ref().err()?;
        (!self.residency.is_running(model)).then(|| fault.clone())
    }

    /// Answers `call`, which waits for a runner, with `refusal`.
    pub(super) fn refuse(&mut self, call: LeaseId, refusal: Refusal) {
        if let Some(answer_to) = self.waiting.remove(&call) {
            // A call that was dropped in the meantime needs no answer.
            drop(answer_to.send(Err(refusal)));
        }
    }

    /// Completes the status in `slot` with the other facts about `model`. Returns `None` for a former edition whose process is ending.
    pub(super) fn observed(&self, model: Edition, mut slot: SlotStatus) -> Option<Observed> {
        let runner = slot.runner.and_then(|id| self.runners.get(&id));
        let known = self.models.get(&model);
        if let Some(fault) = self.fault_of(model).filter(|_| runner.is_none()) {
            slot.state = ModelState::Failed;
            slot.failure = Some(fault.to_string());
        }
        let name = known.map(|known| known.config.name.as_str());
        Some(Observed {
            name: name.or(runner.map(Runner::name))?.to_owned(),
            speed: known.map(|known| known.speed).unwrap_or_default(),
            offload: known
                .filter(|_| runner.is_some())
                .and_then(|known| Offload::from_need(known.need.as_ref().ok()?)),
            cpu_threads: known.and_then(Model::cpu_threads),
            runner: runner.cloned(),
            slot,
        })
    }

    /// Applies the result of checking the files of `model`.
    pub(super) fn apply_check(&mut self, model: Edition, check: SourceCheck) {
        let (Some(known), Some(need)) = (self.models.get_mut(&model), check.need) else {
            return;
        };
        let name = &known.config.name;
        match (&need, &known.need) {
            (Err(fault), Err(known)) if fault == known => {}
            (Err(fault), _) => tracing::warn!(model = name, "the model cannot be loaded: {fault}"),
            (Ok(_), Err(_)) => tracing::info!(model = name, "the model can be loaded now"),
            (Ok(_), Ok(_)) => {}
        }
        known.stamp = check.stamp;
        known.need = need;
        self.residency.set_need(model, known.demand());
    }
}
