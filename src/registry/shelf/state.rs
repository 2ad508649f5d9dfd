//! Changes of the state that the shelf's lock guards.

use tokio::time::Instant;

use super::model::Model;
use super::{Observed, State};
use crate::backend::{self, Ended, Runner, SourceCheck};
use crate::config::{FileFault, ModelConfig};
use crate::memory;
use crate::process;
use crate::registry::ids::{Edition, LeaseId};
use crate::registry::residency::{ModelState, Refusal, SlotStatus};
use crate::registry::status::Offload;
use crate::worker::cpu_lock::TurnFiles;

impl State {
    /// Removes runners that accept no more calls. The reason follows with [`crate::backend::Life::Ending`].
    pub(super) fn forget_ended(&mut self, now: Instant) {
        let runners = self.runners.iter();
        let ended = runners
            .filter(|(_, runner)| runner.has_ended())
            .map(|(id, _)| *id);
        for runner in ended.collect::<Vec<_>>() {
            self.runners.remove(&runner);
            self.residency.ending(runner, Ended::Done, now);
        }
    }

    /// Returns the edition whose process can serve `config`, else a new one. A process that loaded files which have changed since cannot.
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

    /// Inserts `model` as `edition`. A former model of the edition passes on its speed and its channel to the running process, which then
    /// keeps the new fixed prompts ready.
    pub(super) fn put(&mut self, edition: Edition, mut model: Model) {
        if let Some(former) = self.models.remove(&edition) {
            let fixed = model.fixed.borrow().clone();
            former.fixed.send_if_modified(|known| {
                let is_other = *known != fixed;
                *known = fixed;
                is_other
            });
            model.fixed = former.fixed;
            model.speed = former.speed;
        }
        self.models.insert(edition, model);
    }

    /// Returns why `model` cannot be loaded, if it has no running process and its files are known to be unusable.
    pub(super) fn fault_of(&self, model: Edition) -> Option<FileFault> {
        let fault = self.models.get(&model)?.need.as_ref().err()?;
        (!self.residency.is_running(model)).then(|| fault.clone())
    }

    /// Answers `call`, which waits for a runner, with `refusal`.
    pub(super) fn refuse(&mut self, call: LeaseId, refusal: Refusal) {
        if let Some(answer_to) = self.waiting.remove(&call) {
            // A call that was dropped meanwhile needs no answer.
            drop(answer_to.send(Err(refusal)));
        }
    }

    /// Adds to the status in `slot` what else is known about `model`. Returns `None` for a former edition whose process is ending.
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
            runner: runner.cloned(),
            slot,
        })
    }

    /// Creates the lock files of CPU turns for `models` that compute on the CPUs. Even a single model takes turns, since an edit may add
    /// another one, and a running process keeps the files with which it was started.
    pub(super) fn share_cpus<'a>(&mut self, models: impl Iterator<Item = &'a ModelConfig>) {
        let threads = models.filter_map(|model| backend::cpu_threads(&model.source));
        let Some(widest) = threads.max() else {
            return;
        };
        let cpus = process::available_cpus().all;
        let places = TurnFiles::places(widest, cpus);
        if self
            .turns
            .as_ref()
            .is_some_and(|turns| turns.locks().places.len() == places)
        {
            return;
        }
        self.turns = TurnFiles::create(widest, cpus)
            .inspect_err(|error| tracing::warn!(%error, "could not create the lock files of CPU turns: busy models will slow each other down"))
            .ok();
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

    /// Returns the free memory of the machine; `None` if no call waits for it, or it is unknown.
    pub(in crate::registry) fn free(&self) -> Option<u64> {
        self.residency.has_waiting().then(memory::free).flatten()
    }
}
