//! Checks of the machine and the build: CPU, kernels, GPUs, memory.

use std::time::Duration;
use std::{env, thread};

use super::{Finding, Verdict};
use crate::config::units::{SpinCount, human};
use crate::config::{LoadSettings, Surroundings};
use crate::gpu;
use crate::memory::{CgroupLimit, Memory};
use crate::process::cpu_time::CpuClock;
use crate::process::{CpuLimits, Cpus};
use crate::worker::machine::{self, DetectError, Machine};
use crate::worker::spin_count::{Spin, Waits};

/// Names of graphics drivers that compute on the CPU.
const SOFTWARE: [&str; 2] = ["llvmpipe", "SwiftShader"];

/// Free memory in bytes below which no useful model can be loaded.
const LITTLE_MEMORY: u64 = 512 << 20;

/// Time for which the use of the CPUs is observed. The system counts CPU time in hundredths of a second.
const OBSERVATION: Duration = Duration::from_millis(250);

/// Returns pairs of a CPU feature that the kernels of llama.cpp use, and whether this CPU has it.
macro_rules! detected {
    ($detected:ident: $($name:tt),*) => {
        [$(($name, std::arch::$detected!($name))),*]
    };
}

/// Returns the findings on the machine and the build.
pub(super) fn inspect(around: &Surroundings) -> Vec<Finding> {
    let mut findings = vec![Finding::ok(
        "build",
        format!(
            "llama-mcp-server {}, {} {}, GPU backends: {}",
            env!("CARGO_PKG_VERSION"),
            env::consts::OS,
            env::consts::ARCH,
            gpu::BACKEND.map_or("none".into(), |backend| backend.to_string())
        ),
    )];
    findings.push(cpus(around));
    findings.push(threads(around.cpus, CpuLimits::now()));
    let program = around.program.as_deref();
    match program
        .ok_or(DetectError::NoProgram)
        .and_then(machine::detect)
    {
        Ok(machine) => findings.extend(devices(&machine)),
        Err(error) => findings.push(Finding::new(
            Verdict::Problem,
            "llama.cpp",
            format!(
                "{error}\nhint: use a build for this machine; the GPU driver may need an update"
            ),
        )),
    }
    findings.push(memory(&Memory::now()));
    findings
}

fn cpus(around: &Surroundings) -> Finding {
    let cpus = around.cpus;
    let available: Vec<&str> = features()
        .into_iter()
        .filter_map(|(name, is_available)| is_available.then_some(name))
        .collect();
    Finding::ok(
        "cpu",
        format!(
            "{} available ({} cores), with {}",
            cpus.all,
            cpus.cores,
            available.join(" ")
        ),
    )
}

/// Describes how models compute on the CPUs: the number of threads, and how long they spin.
fn threads(cpus: Cpus, limits: CpuLimits) -> Finding {
    let default = LoadSettings::default_threads(cpus);
    let allowed = limits.affinity.all;
    let quota = limits.quota.map_or("no cgroup quota".into(), |quota| {
        format!("a cgroup quota of {quota} CPUs")
    });
    let waits = Waits {
        n_threads: default,
        is_on_gpu: false,
        quota: limits.quota,
    };
    let spin = Spin::choose(SpinCount::Auto, waits);
    let free = free_cpus().map_or("unknown".into(), |cpus| format!("{cpus:.1}"));
    Finding::ok(
        "threads",
        format!(
            "{default} for a model with the default `n_threads`; {spin}\nCPUs: {allowed} allowed by the affinity, {quota}; free right now: {free}"
        ),
    )
}

/// Returns the number of CPUs that are free right now; `None` if the system does not report it. Blocks for [`OBSERVATION`].
fn free_cpus() -> Option<f64> {
    let clock = CpuClock::new(&[])?;
    let start = clock.now()?;
    thread::sleep(OBSERVATION);
    let usage = clock.usage(start, clock.now()?)?;
    Some(usage.free())
}

#[cfg(target_arch = "x86_64")]
fn features() -> impl IntoIterator<Item = (&'static str, bool)> {
    detected!(is_x86_feature_detected: "sse4.2", "avx", "f16c", "avx2", "fma", "bmi2", "avxvnni", "avx512f", "avx512bw", "avx512vl", "avx512vbmi", "avx512vnni", "avx512bf16", "avx512fp16")
}

#[cfg(target_arch = "aarch64")]
fn features() -> impl IntoIterator<Item = (&'static str, bool)> {
    detected!(is_aarch64_feature_detected: "neon", "dotprod", "fp16", "i8mm", "bf16", "sve", "sve2", "sme")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> impl IntoIterator<Item = (&'static str, bool)> {
    []
}

fn devices(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![match &machine.cpu_backend {
        Ok(backend) => Finding::ok("kernel", format!("llama.cpp CPU backend: {backend}")),
        Err(error) => Finding::new(Verdict::Problem, "kernel", error.to_string()),
    }];
    let gpus = machine.devices.iter().filter(|device| device.is_gpu);
    findings.extend(gpus.map(|gpu| {
        let memory = if gpu.has_memory {
            "memory of its own"
        } else {
            "the machine's memory"
        };
        let text = format!(
            "{} ({}), {memory}: {} free of {}",
            gpu.name,
            gpu.description,
            human(gpu.memory_free),
            human(gpu.memory_total)
        );
        if SOFTWARE.iter().any(|name| gpu.description.contains(name)) {
            let text = format!("{text}\nhint: this driver computes on the CPU, more slowly than a build without GPU backend; install the driver of the GPU, or set `n_gpu_layers = 0`");
            return Finding::new(Verdict::Warning, "gpu", text);
        }
        Finding::ok("gpu", text)
    }));
    if !machine.has_gpu() {
        findings.push(match gpu::BACKEND {
            None => Finding::ok("gpu", "none: this build computes on the CPU"),
            Some(backend) => Finding::new(
                Verdict::Warning,
                "gpu",
                format!(
                    "{backend} finds no GPU: models run on the CPU\nhint: check the driver; in a container, pass the GPU in (`--gpus all`)"
                ),
            ),
        });
    }
    findings
}

fn memory(memory: &Memory) -> Finding {
    let free = memory.free();
    let shown = free.map_or("unknown".into(), human);
    let machine = memory.machine.map(|machine| human(machine.total));
    let machine = machine.unwrap_or("unknown".into());
    let (limit, hint) = match memory.cgroup {
        CgroupLimit::None => ("no cgroup limit".into(), "stop programs that use it"),
        CgroupLimit::Hidden => (
            "the files of this process's cgroup are not mounted, so the limit of the container or service is unknown\nhint: set `memory_budget` below that limit".into(),
            "stop programs that use it",
        ),
        CgroupLimit::Bytes(limit) => (
            format!("the cgroup limit of the container or service is {}", human(limit.total)),
            "raise the limit (`docker run --memory`, `resources.limits.memory`, `MemoryMax=`), or stop programs that use it",
        ),
    };
    let text = format!("{shown} free of {machine}; {limit}");
    match free {
        Some(free) if free < LITTLE_MEMORY => {
            let text = format!("{text}\nhint: {hint}");
            Finding::new(Verdict::Warning, "memory", text)
        }
        None => {
            let text = format!("{text}\nhint: mount `/proc`, or set `memory_budget` to a size");
            Finding::new(Verdict::Warning, "memory", text)
        }
        _ if memory.cgroup == CgroupLimit::Hidden => Finding::new(Verdict::Warning, "memory", text),
        _ => Finding::ok("memory", text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::device::Device;
    use crate::memory::Capacity;
    use crate::process::CpuQuota;

    #[test]
    fn the_threads_of_a_model_are_explained_by_affinity_and_quota() {
        let limits = CpuLimits {
            affinity: Cpus::single(8),
            quota: Some(CpuQuota(1500)),
        };
        let found = threads(limits.cpus(), limits).to_string();
        assert!(
            found.starts_with("ok       threads: 2 for a model"),
            "{found}"
        );
        let cause = "CPUs: 8 allowed by the affinity, a cgroup quota of 1.5 CPUs; free right now: ";
        assert!(found.contains(cause), "{found}");
    }

    #[test]
    fn a_gpu_is_listed_with_its_memory() {
        let machine = Machine {
            cpu_backend: Ok("libggml-cpu-zen4.so".into()),
            devices: vec![Device {
                name: "CUDA0".into(),
                description: "NVIDIA H100".into(),
                is_gpu: true,
                has_memory: true,
                memory_total: 80 << 30,
                memory_free: 79 << 30,
            }],
        };
        let lines: Vec<String> = devices(&machine).iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "ok       kernel: llama.cpp CPU backend: libggml-cpu-zen4.so",
                "ok       gpu: CUDA0 (NVIDIA H100), memory of its own: 79.0 GiB free of 80.0 GiB",
            ]
        );
    }

    #[test]
    fn little_free_memory_is_a_warning_whose_hint_names_the_limit() {
        let machine = Some(Capacity {
            total: 8 << 30,
            free: 300 << 20,
        });
        let found = |cgroup| memory(&Memory { machine, cgroup }).to_string();
        assert_eq!(
            found(CgroupLimit::None),
            "warning  memory: 300.0 MiB free of 8.0 GiB; no cgroup limit\n         hint: stop programs that use it"
        );
        let limit = Capacity {
            total: 1 << 30,
            free: 1 << 28,
        };
        assert_eq!(
            found(CgroupLimit::Bytes(limit)),
            "warning  memory: 256.0 MiB free of 8.0 GiB; the cgroup limit of the container or service is 1.0 GiB\n         hint: raise the limit (`docker run --memory`, `resources.limits.memory`, `MemoryMax=`), or stop programs that use it"
        );
        assert!(found(CgroupLimit::Hidden).contains("set `memory_budget`"));
    }
}
