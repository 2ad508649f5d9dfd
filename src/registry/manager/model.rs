//! A model of the registry, and the check of its files before it is loaded.

use std::sync::Arc;

use tokio::sync::watch;

use crate::backend::footprint::Demand;
use crate::backend::{self, Allowance, Need, SharedPrefixes, SourceCheck};
use crate::config::{FileFault, ModelConfig, Stamp};
use crate::registry::memory::Planned;
use crate::registry::residency::ModelPolicy;
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
    pub(super) prefixes: watch::Sender<SharedPrefixes>,
    pub(super) speed: Speed,
}

impl Model {
    /// Creates the model of `config` with its `planned` memory.
    pub(super) fn new(config: &ModelConfig, planned: Planned, prefixes: SharedPrefixes) -> Self {
        let Planned { need, allowance } = planned;
        Self {
            config: Arc::new(config.clone()),
            stamp: config.source.stamp(),
            allowance,
            need,
            prefixes: watch::Sender::new(prefixes),
            speed: Speed::default(),
        }
    }

    /// Returns the model's demand; zero if it is unknown.
    pub(super) fn demand(&self) -> Demand {
        let need = self.need.as_ref();
        need.map(Need::demand).unwrap_or_default()
    }

    /// Returns the number of threads with which the model computes on the CPUs of this machine; `None` if it does not compute there.
    pub(super) fn cpu_threads(&self) -> Option<usize> {
        backend::cpu_threads(&self.config.source, self.need.as_ref().ok())
    }

    /// Returns whether the registry uses the measured memory of the process instead of the estimate. If a GPU shares the machine's memory,
    /// its part is not visible in the process, so the estimate is used.
    pub(super) fn is_measured(&self) -> bool {
        let is_on_gpu = self.need.as_ref().is_ok_and(Need::is_on_gpu);
        !is_on_gpu || self.allowance.gpu.is_some()
    }

    /// Returns the policy for loading and unloading the model.
    pub(super) fn policy(&self) -> ModelPolicy {
        ModelPolicy {
            need: self.demand(),
            pin: self.config.pin,
            idle_ttl: self.config.idle_ttl,
            max_waiting: self.config.source.max_queue().max(1),
        }
    }

    /// Checks the stamp of the source, and reads the source if it has changed or could not be read. Blocks on the file system.
    pub(super) fn check(&self) -> SourceCheck {
        let fault = self.need.as_ref().err();
        let is_transient = fault.is_some_and(|fault| fault.is_transient);
        let prefixes = self.prefixes.borrow().clone();
        backend::check_source(
            &self.config.source,
            self.stamp,
            is_transient,
            &prefixes,
            self.allowance,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::units::GpuLayers;
    use crate::config::{Config, Overrides, Surroundings};
    use crate::process::Cpus;

    #[test]
    fn a_model_without_layers_on_a_gpu_computes_on_the_cpus_and_its_memory_is_measured() {
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
        let model = |is_on_gpu, gpu| {
            let mut config = config.models[0].clone();
            config.gguf_mut().is_on_gpu = is_on_gpu;
            config.gguf_mut().settings.n_gpu_layers = GpuLayers::Auto;
            let allowance = Allowance {
                machine: 1 << 40,
                gpu,
            };
            let need = backend::need_of(&config.source, &[], allowance);
            let model = Model::new(&config, Planned { need, allowance }, Arc::from([]));
            (model.is_measured(), model.cpu_threads().is_some())
        };
        assert_eq!(model(false, None), (true, true));
        assert_eq!(model(true, Some(1 << 40)), (true, false));
        assert_eq!(model(true, Some(0)), (true, true), "no layer fits");
        assert_eq!(model(true, None), (false, false));
    }
}
