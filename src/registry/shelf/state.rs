//! What the shelf's lock guards changes by.

use tokio::time::Instant;

use super::model::Model;
use super::{Observed, State};
use crate::backend::{self, Look, Runner};
use crate::config::{FileFault, ModelConfig};
use crate::memory;
use crate::process;
use crate::registry::residency::{CallId, Edition, Ended, ModelState, Refusal, Standing};
use crate::registry::standing::Offload;
use crate::worker::cpu_lock::TurnFiles;

impl State {
    /// A worker that is about to end answers no new call; why it ends is told later.
    pub(super) fn forget_ended(&mut self, now: Instant) {
        let runners = self.runners.iter();
        let ended = runners
            .filter(|(_, runner)| runner.has_ended())
            .map(|(id, _)| *id);
        for worker in ended.collect::<Vec<_>>() {
            self.runners.remove(&worker);
            self.residency.ending(worker, Ended::Done, now);
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
        self.next_edition()
    }

    /// Returns an unused edition number.
    pub(super) fn next_edition(&mut self) -> Edition {
        self.next_edition += 1;
        self.next_edition
    }

    /// `model` is what `edition` is from here on: its workers keep ready what is fixed now.
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

    /// Refuses `call`, which waits for its worker.
    pub(super) fn refuse(&mut self, call: CallId, refusal: Refusal) {
        if let Some(answer_to) = self.waiting.remove(&call) {
            // A call that was dropped meanwhile needs no answer.
            drop(answer_to.send(Err(refusal)));
        }
    }

    /// What is known of `model`; none of one that no configuration names any more and whose process is about to be gone.
    pub(super) fn observed(&self, model: Edition, mut standing: Standing) -> Option<Observed> {
        let runner = standing.worker.and_then(|id| self.runners.get(&id));
        let known = self.models.get(&model);
        if let Some(fault) = self.fault_of(model).filter(|_| runner.is_none()) {
            standing.state = ModelState::Failed;
            standing.failure = Some(fault.to_string());
        }
        let name = known.map(|known| known.config.name.as_str());
        Some(Observed {
            name: name.or(runner.map(Runner::name))?.to_owned(),
            speed: known.map(|known| known.speed).unwrap_or_default(),
            offload: known
                .filter(|_| runner.is_some())
                .and_then(|known| Offload::of(known.need.as_ref().ok()?)),
            runner: runner.cloned(),
            standing,
        })
    }

    /// Turns at the CPUs for the models that compute there; also for one, since an edit may add another. A worker keeps those
    /// with which it began.
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
            .inspect_err(|error| tracing::warn!(%error, "no turns at the CPUs: models at work hold each other up"))
            .ok();
    }

    /// Applies what a check of the model's files found.
    pub(super) fn learn(&mut self, model: Edition, look: Look) {
        let (Some(known), Some(need)) = (self.models.get_mut(&model), look.need) else {
            return;
        };
        let name = &known.config.name;
        match (&need, &known.need) {
            (Err(fault), Err(known)) if fault == known => {}
            (Err(fault), _) => tracing::warn!(model = name, "the model cannot be loaded: {fault}"),
            (Ok(_), Err(_)) => tracing::info!(model = name, "the model can be loaded now"),
            (Ok(_), Ok(_)) => {}
        }
        known.stamp = look.stamp;
        known.need = need;
        self.residency.set_need(model, known.demand());
    }

    /// Bytes that the machine has left, where somebody waits for them.
    pub(in crate::registry) fn free(&self) -> Option<u64> {
        self.residency.has_waiting().then(memory::free).flatten()
    }
}
