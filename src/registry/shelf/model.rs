//! A model of the registry, and the check of its files before it is loaded.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::{FileFault, ModelConfig, ModelFiles};
use crate::registry::footprint::Demand;
use crate::registry::memory::{Allowance, Need, is_on_gpu, need_of};
use crate::registry::residency::{ModelTerms, Stamp};
use crate::registry::standing::Speed;
use crate::worker::client::FixedPrompts;

/// A model and the known facts about its files.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) config: Arc<ModelConfig>,
    /// Stamp of the files from which `need` was computed.
    pub(super) stamp: Stamp,
    /// Memory need, or the fault that keeps the model from being loaded.
    pub(super) need: Result<Need, FileFault>,
    /// Memory that the model may take: what pinned models leave.
    allowance: Allowance,
    /// Prompts that the model's workers keep ready.
    pub(super) fixed: watch::Sender<FixedPrompts>,
    pub(super) speed: Speed,
}

/// State of the files before a load.
pub(super) struct Look {
    pub(super) stamp: Stamp,
    /// Memory need, or the fault that keeps the model from being loaded; `None` if the files have not changed.
    pub(super) need: Option<Result<Need, FileFault>>,
}

impl Model {
    /// Makes the model of `config`. Pinned models leave `left` to it.
    pub(super) fn new(
        config: &ModelConfig,
        need: Result<Need, FileFault>,
        left: Allowance,
        fixed: FixedPrompts,
    ) -> Self {
        Self {
            config: Arc::new(config.clone()),
            stamp: config.stamp,
            allowance: need.as_ref().map_or(left, |need| need.allowance),
            need,
            fixed: watch::Sender::new(fixed),
            speed: Speed::default(),
        }
    }

    /// Returns the model's demand; zero if it is unknown.
    pub(super) fn demand(&self) -> Demand {
        let need = self.need.as_ref();
        need.map(Need::demand).unwrap_or_default()
    }

    /// Returns whether the model is counted by the measured memory of its process. A process does not show what it takes of a GPU that
    /// shares the machine's memory: there the estimate counts.
    pub(super) fn is_measured(&self) -> bool {
        !is_on_gpu(&self.config.load) || self.allowance.gpu.is_some()
    }

    /// Returns the settings for loading and unloading the model.
    pub(super) fn terms(&self) -> ModelTerms {
        ModelTerms {
            need: self.demand(),
            pin: self.config.pin,
            idle_ttl: self.config.idle_ttl,
            max_waiting: self.config.load.max_queue.max(1),
        }
    }

    /// Checks the stamp of the files, and reads the files if they have changed or could not be read.
    pub(super) fn look(&self) -> Look {
        let load = &self.config.load;
        let stamp = load.stamp();
        let fault = self.need.as_ref().err();
        let is_passing = fault.is_some_and(|fault| fault.is_passing);
        let read = || {
            let files = ModelFiles::read(load)?;
            Ok(need_of(load, &files, &self.fixed.borrow(), self.allowance))
        };
        Look {
            stamp,
            need: (self.stamp != stamp || is_passing).then(read),
        }
    }
}
