//! Decides which models run on GPUs: a pure function of the backend of the build, the devices that llama.cpp finds, and `n_gpu_layers`.

use std::path::Path;
use std::sync::OnceLock;

use crate::config::load::Layers;
use crate::config::units::GpuLayers;
use crate::config::{Config, Surroundings};
use crate::gpu::{self, GpuBackend};
use crate::worker::machine::{self, DetectError, Machine};

/// Known GPUs that models can use.
#[derive(Debug, Clone, Copy)]
struct Gpus<'machine> {
    /// GPU backend of the build.
    backend: Option<GpuBackend>,
    /// Devices that llama.cpp finds; `None` if they are unknown.
    machine: Option<&'machine Machine>,
}

impl Gpus<'_> {
    /// Returns whether GPUs compute a model with `n_gpu_layers = layers`.
    ///
    /// If the devices are unknown, a build with a GPU backend is assumed to run on a machine with a GPU. Such a model gets no CPU slots,
    /// and its memory is estimated as if the GPU used the machine's memory, which is never too low.
    fn compute(self, layers: GpuLayers) -> bool {
        self.backend.is_some() && layers.is_any() && self.machine.is_none_or(Machine::has_gpu)
    }

    /// Sets in `config` which models run on GPUs, and the memory of these GPUs.
    fn apply(self, config: &mut Config) {
        for model in &mut config.models {
            let gguf = model.gguf_mut();
            gguf.is_on_gpu = self.compute(gguf.settings.n_gpu_layers);
        }
        let machine = self.machine.filter(|_| self.backend.is_some());
        config.registry.gpu_memory = machine.map_or_else(Vec::new, Machine::gpu_memory);
    }
}

/// Decides for each model of `config` whether it runs on a GPU. If a model could, asks llama.cpp in a separate process which GPUs exist.
pub(super) fn assign(config: &mut Config, around: &Surroundings, layers: &mut Layers) {
    let backend = gpu::BACKEND;
    let uses_gpu = config
        .models
        .iter()
        .any(|model| model.gguf().settings.n_gpu_layers.is_any());
    // All Macs that Metal supports have a GPU, without memory of its own.
    let asks = uses_gpu && backend.is_some_and(GpuBackend::may_have_memory);
    let machine = around.program.as_deref().filter(|_| asks).map(detect_once);
    if let (Some(backend), Some(machine)) = (backend, &machine) {
        match machine {
            Ok(machine) if machine.has_gpu() => {}
            Ok(_) => layers.notes.push(format!(
                "{backend} finds no GPU, so models run on the CPU; run `llama-mcp-server doctor` to find out why"
            )),
            Err(error) => layers
                .notes
                .push(format!("the GPU memory is unknown: {error}")),
        }
    }
    let machine = machine.and_then(Result::ok);
    Gpus { backend, machine }.apply(config);
}

/// Returns the devices of this machine. Asks llama.cpp until it succeeds once, since a reload must not depend on a busy driver.
fn detect_once(program: &Path) -> Result<&'static Machine, DetectError> {
    static FOUND: OnceLock<Machine> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found);
    }
    let found = machine::detect(program)?;
    Ok(FOUND.get_or_init(|| found))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::backend;
    use crate::config::Overrides;
    use crate::engine::device::Device;
    use crate::process::Cpus;
    use crate::registry::memory::needs_of;

    const CRAB: &str = "tests/models/tiny-crab-chat.Q8_0.gguf";

    const GIB: u64 = 1 << 30;

    fn machine(devices: Vec<Device>) -> Machine {
        Machine {
            cpu_backend: Ok("libggml-cpu-zen4.so".into()),
            devices,
        }
    }

    fn h100() -> Device {
        Device {
            name: "CUDA0".into(),
            description: "NVIDIA H100".into(),
            is_gpu: true,
            has_memory: true,
            memory_total: 80 * GIB,
            memory_free: 79 * GIB,
        }
    }

    fn config(gpus: Gpus<'_>) -> Config {
        let typed = Overrides {
            models: vec![CRAB.into()],
            ..Overrides::default()
        };
        let around = Surroundings {
            program: None,
            cpus: Cpus::single(8),
            variables: BTreeMap::new(),
            folders: Vec::new(),
        };
        let (mut config, _) = Config::load(&typed, &around).unwrap();
        gpus.apply(&mut config);
        config
    }

    /// Returns the GPU layers, the GPU memory and the CPU threads that are planned for the model of `config`.
    fn planned(config: &Config) -> (u64, u64, Option<usize>) {
        let [model] = &config.models[..] else {
            panic!("one model")
        };
        let needs = needs_of(&config.models, &BTreeMap::new(), 64 * GIB, &config.registry);
        let need = needs[0].as_ref().unwrap();
        (
            need.gpu_layers,
            need.gpu.total(),
            backend::cpu_threads(&model.source, Some(need)),
        )
    }

    #[test]
    fn a_gpu_build_without_a_gpu_plans_like_a_cpu_build() {
        let none = machine(Vec::new());
        let without_gpu = config(Gpus {
            backend: Some(GpuBackend::Cuda),
            machine: Some(&none),
        });
        let cpu_build = config(Gpus {
            backend: None,
            machine: None,
        });
        let threads = cpu_build.models[0].gguf().settings.n_threads;
        assert_eq!(planned(&without_gpu), (0, 0, Some(threads)));
        assert_eq!(planned(&without_gpu), planned(&cpu_build));
    }

    #[test]
    fn with_a_gpu_layers_are_offloaded_and_no_cpu_threads_are_planned() {
        let one = machine(vec![h100()]);
        let config = config(Gpus {
            backend: Some(GpuBackend::Cuda),
            machine: Some(&one),
        });
        let (layers, memory, threads) = planned(&config);
        assert!(layers > 0 && memory > 0);
        assert_eq!(threads, None);
    }

    #[test]
    fn without_room_for_a_layer_on_the_gpu_a_model_is_planned_for_the_cpus() {
        let mut full = h100();
        full.memory_free = 0;
        let full = machine(vec![full]);
        let mut config = config(Gpus {
            backend: Some(GpuBackend::Cuda),
            machine: Some(&full),
        });
        config.models[0].gguf_mut().settings.n_gpu_layers = GpuLayers::Auto;
        let threads = config.models[0].gguf().settings.n_threads;
        assert_eq!(planned(&config), (0, 0, Some(threads)));
    }

    #[test]
    fn a_model_runs_on_a_gpu_if_build_machine_and_settings_allow_it() {
        let (none, one) = (machine(Vec::new()), machine(vec![h100()]));
        let (all, no_layer) = (GpuLayers::Auto, GpuLayers::Count(0));
        let compute = |backend, machine, layers| Gpus { backend, machine }.compute(layers);
        let cuda = Some(GpuBackend::Cuda);
        assert!(compute(cuda, Some(&one), all));
        assert!(!compute(cuda, Some(&one), no_layer));
        assert!(!compute(cuda, Some(&none), all));
        assert!(!compute(None, Some(&one), all));
    }

    #[test]
    fn a_gpu_build_on_an_unknown_machine_assumes_a_gpu() {
        let gpus = |backend| Gpus {
            backend,
            machine: None,
        };
        assert!(gpus(Some(GpuBackend::Metal)).compute(GpuLayers::Auto));
        assert!(!gpus(None).compute(GpuLayers::Auto));
    }
}
