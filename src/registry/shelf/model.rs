//! A model of the registry, and the check of its files before it is loaded.

use std::sync::Arc;

use tokio::sync::watch;

use crate::backend::footprint::Demand;
use crate::backend::{self, Allowance, FixedPrompts, Need, SourceCheck};
use crate::config::{FileFault, ModelConfig, Stamp};
use crate::registry::residency::ModelTerms;
use crate::registry::status::Speed;

/// A model and the known facts about its files.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) config: Arc<ModelConfig>,
    /// Stamp of the files from which `need` was computed.
    pub(super) stamp: Stamp,
    /// Memory need, or the fault that keeps the model from being loaded.
    pub(super) need: Result<Need, FileFault>,
    /// Memory that pinned models leave to this model.
    allowance: Allowance,
    /// Shared prefixes that the model's runner keeps in its prefix cache.
    pub(super) fixed: watch::Sender<FixedPrompts>,
    pub(super) speed: Speed,
}

impl Model {
    /// Creates the model of `config`. Pinned models leave it the memory `left`.
    pub(super) fn new(
        config: &ModelConfig,
        need: Result<Need, FileFault>,
        left: Allowance,
        fixed: FixedPrompts,
    ) -> Self {
        Self {
            config: Arc::new(config.clone()),
            stamp: config.source.stamp(),
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

    /// Returns whether GPUs compute layers of the model. With `n_gpu_layers = "auto"`, their memory may be too small for any.
    pub(super) fn is_on_gpu(&self) -> bool {
        let has_layers = self.need.as_ref().is_ok_and(|need| need.gpu_layers > 0);
        has_layers && backend::is_on_gpu(&self.config.source)
    }

    /// Returns whether the registry uses the measured memory of the process instead of the estimate. If a GPU shares the machine's memory,
    /// its part is not visible in the process, so the estimate is used.
    pub(super) fn is_measured(&self) -> bool {
        !self.is_on_gpu() || self.allowance.gpu.is_some()
    }

    /// Returns the terms for loading and unloading the model.
    pub(super) fn terms(&self) -> ModelTerms {
        ModelTerms {
            need: self.demand(),
            pin: self.config.pin,
            idle_ttl: self.config.idle_ttl,
            max_waiting: self.config.gguf().settings.max_queue.max(1),
        }
    }

    /// Checks the stamp of the source, and reads the source if it has changed or could not be read. Blocks on the file system.
    pub(super) fn check(&self) -> SourceCheck {
        let fault = self.need.as_ref().err();
        let is_passing = fault.is_some_and(|fault| fault.is_passing);
        let fixed = self.fixed.borrow().clone();
        backend::check_source(
            &self.config.source,
            self.stamp,
            is_passing,
            &fixed,
            self.allowance,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Config, Overrides, Surroundings};
    use crate::process::Cpus;

    #[test]
    fn memory_is_measured_unless_a_gpu_shares_the_machines_memory() {
        let typed = Overrides {
            models: vec!["tests/models/tiny-crab-chat.Q8_0.gguf".into()],
            ..Overrides::default()
        };
        let around = Surroundings {
            program: None,
            cpus: Cpus::single(8),
            variables: std::collections::BTreeMap::new(),
            folders: Vec::new(),
        };
        let (config, _) = Config::load(&typed, &around).unwrap();
        let is_measured = |is_on_gpu, gpu| {
            let mut config = config.models[0].clone();
            config.gguf_mut().is_on_gpu = is_on_gpu;
            let left = Allowance {
                machine: 1 << 40,
                gpu,
            };
            let need = backend::need_of(&config.source, &[], left);
            Model::new(&config, need, left, Arc::from([])).is_measured()
        };
        assert!(is_measured(false, None));
        assert!(is_measured(true, Some(1 << 40)));
        assert!(is_measured(true, Some(0)), "no layer fits");
        assert!(!is_measured(true, None));
    }
}
