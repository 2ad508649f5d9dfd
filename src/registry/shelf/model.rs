//! A model of the registry, and what the disk tells of it before it is loaded.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::{FileFault, ModelConfig, ModelFiles};
use crate::memory;
use crate::registry::footprint::Demand;
use crate::registry::memory::{Allowance, Need, is_on_gpu, need_of};
use crate::registry::residency::{ModelTerms, Stamp};
use crate::registry::standing::Speed;
use crate::worker::client::FixedPrompts;

/// A model, and what is known of its files.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) config: Arc<ModelConfig>,
    /// Stamp of the files that `need` is of.
    pub(super) stamp: Stamp,
    /// What it needs, or why it cannot be loaded.
    pub(super) need: Result<Need, FileFault>,
    /// Memory that it may take: what pinned models leave.
    allowance: Allowance,
    /// Prompts that its workers keep ready.
    pub(super) fixed: watch::Sender<FixedPrompts>,
    pub(super) speed: Speed,
}

/// What a load is decided by.
pub(super) struct Look {
    pub(super) stamp: Stamp,
    /// What the model needs, or why it cannot be loaded; `None` if its files are those that are known.
    pub(super) need: Option<Result<Need, FileFault>>,
    /// Memory that the machine has left, in bytes.
    pub(super) free: Option<u64>,
}

impl Model {
    /// The model of `config`; pinned models leave it `left`.
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

    /// Returns what the registry counts for it; nothing if that is unknown.
    pub(super) fn demand(&self) -> Demand {
        let need = self.need.as_ref();
        need.map(Need::demand).unwrap_or_default()
    }

    /// Returns whether the memory of its process is what is counted for it. Of a GPU that shares the machine's memory a process does not
    /// show what it takes: there the estimate stands.
    pub(super) fn is_measured(&self) -> bool {
        !is_on_gpu(&self.config.load) || self.allowance.gpu.is_some()
    }

    /// Returns the terms by which it is loaded and unloaded.
    pub(super) fn terms(&self) -> ModelTerms {
        ModelTerms {
            need: self.demand(),
            pin: self.config.pin,
            idle_ttl: self.config.idle_ttl,
            max_waiting: self.config.load.max_queue.max(1),
        }
    }

    /// Looks at the files, and reads them if they have changed or could not be read.
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
            free: memory::free(),
        }
    }
}
