//! The machine and the build: CPU and its code, GPUs, memory.

use std::env;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};

use super::{Finding, Verdict};
use crate::config::Surroundings;
use crate::config::units::human;
use crate::memory::{CgroupLimit, Memory};
use crate::process;
use crate::threads::{self, SystemLimit};
use crate::worker::machine::Machine;
use crate::worker::{DESCRIBE, WORKER};

/// How long llama.cpp may look for devices: a driver that wakes up takes seconds.
const LIMIT: Duration = Duration::from_mins(1);

/// Less than this lets no useful model in.
const LITTLE_MEMORY: u64 = 512 << 20;

/// What the kernels of llama.cpp make use of, by the names of `/proc/cpuinfo` and Rust.
macro_rules! detected {
    ($detected:ident: $($name:tt),*) => {
        [$(($name, std::arch::$detected!($name))),*]
    };
}

pub(super) fn look(around: &Surroundings) -> Vec<Finding> {
    let mut findings = vec![Finding::ok(
        "build",
        format!(
            "llama-mcp-server {}, {} {}, GPU backends: {}",
            env!("CARGO_PKG_VERSION"),
            env::consts::OS,
            env::consts::ARCH,
            gpu_backends()
        ),
    )];
    findings.push(cpus(around));
    match machine() {
        Ok(machine) => findings.extend(computing(&machine)),
        Err(error) => findings.push(Finding::new(
            Verdict::Problem,
            "llama.cpp",
            format!(
                "{error:#}\nhint: take a build for this machine; a GPU's driver may need an update"
            ),
        )),
    }
    findings.push(memory(&Memory::now()));
    findings
}

fn gpu_backends() -> &'static str {
    match () {
        () if cfg!(feature = "cuda") => "CUDA",
        () if cfg!(feature = "vulkan") => "Vulkan",
        () if cfg!(feature = "metal") => "Metal",
        () => "none",
    }
}

fn cpus(around: &Surroundings) -> Finding {
    let cpus = around.cpus;
    let there: Vec<&str> = features()
        .into_iter()
        .filter_map(|(name, is_there)| is_there.then_some(name))
        .collect();
    Finding::ok(
        "cpu",
        format!(
            "{} may be used ({} cores), with {}",
            cpus.all,
            cpus.cores,
            there.join(" ")
        ),
    )
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

/// What llama.cpp finds, in a process of its own.
fn machine() -> anyhow::Result<Machine> {
    let program = process::this_program().context("could not find this program's file")?;
    let mut child = Command::new(program)
        .args([WORKER, DESCRIBE])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("could not start a process for llama.cpp")?;
    let said = read_aside(child.stdout.take())?;
    let log = read_aside(child.stderr.take())?;
    // The end of its output is the end of the process, which hangs in a driver at times.
    let Ok(said) = said.recv_timeout(LIMIT) else {
        child.kill().context("could not end llama.cpp's process")?;
        bail!(
            "llama.cpp did not find its devices within {} s",
            LIMIT.as_secs()
        );
    };
    let status = child
        .wait()
        .context("could not wait for llama.cpp's process")?;
    let log = log.recv().unwrap_or_default();
    let last = log.lines().last().unwrap_or_default();
    serde_json::from_str(said.trim())
        .with_context(|| format!("llama.cpp did not start ({status}) {last}"))
}

/// All of `source`, as soon as it has ended.
fn read_aside(
    source: Option<impl Read + Send + 'static>,
) -> Result<mpsc::Receiver<String>, SystemLimit> {
    let (tx, rx) = mpsc::channel();
    threads::start("output", move || {
        let mut bytes = Vec::new();
        // What was read before a failure is told.
        drop(source.map(|mut source| source.read_to_end(&mut bytes)));
        drop(tx.send(String::from_utf8_lossy(&bytes).into_owned()));
    })?;
    Ok(rx)
}

fn computing(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![match &machine.cpu_backend {
        Ok(backend) => Finding::ok("kernel", format!("llama.cpp's code for the CPU: {backend}")),
        Err(error) => Finding::new(Verdict::Problem, "kernel", error),
    }];
    let gpus = machine.devices.iter().filter(|device| device.is_gpu);
    findings.extend(gpus.map(|gpu| {
        Finding::ok(
            "gpu",
            format!(
                "{} ({}), {} free of {}",
                gpu.name,
                gpu.description,
                human(gpu.memory_free),
                human(gpu.memory_total)
            ),
        )
    }));
    if !machine.devices.iter().any(|device| device.is_gpu) {
        findings.push(match gpu_backends() {
            "none" => Finding::ok("gpu", "this build computes on the CPU alone"),
            backend => Finding::new(
                Verdict::Warning,
                "gpu",
                format!(
                    "{backend} finds none: models run on the CPU\nhint: look at the driver; in a container the GPU must be passed in (`--gpus all`)"
                ),
            ),
        });
    }
    findings
}

fn memory(memory: &Memory) -> Finding {
    let free = memory.free();
    let told = free.map_or("unknown".into(), human);
    let machine = memory.machine.map(|machine| human(machine.total));
    let machine = machine.unwrap_or("unknown".into());
    let (limit, hint) = match memory.cgroup {
        CgroupLimit::None => ("no cgroup limit".into(), "stop programs that use it"),
        CgroupLimit::Hidden => (
            "the files of this process's cgroup are not mounted, so a limit of a container or service is not known\nhint: set `memory_budget` below that limit".into(),
            "stop programs that use it",
        ),
        CgroupLimit::Bytes(limit) => (
            format!("the cgroup limit of the container or service is {}", human(limit.total)),
            "raise the limit (`docker run --memory`, `resources.limits.memory`, `MemoryMax=`), or stop programs that use it",
        ),
    };
    let text = format!("{told} free of {machine}; {limit}");
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
    use crate::engine::llama::Device;
    use crate::memory::Capacity;

    #[test]
    fn a_gpu_that_is_there_is_told() {
        let machine = Machine {
            cpu_backend: Ok("libggml-cpu-zen4.so".into()),
            devices: vec![Device {
                name: "CUDA0".into(),
                description: "NVIDIA H100".into(),
                is_gpu: true,
                memory_total: 80 << 30,
                memory_free: 79 << 30,
            }],
        };
        let told: Vec<String> = computing(&machine)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "ok       kernel: llama.cpp's code for the CPU: libggml-cpu-zen4.so",
                "ok       gpu: CUDA0 (NVIDIA H100), 79.0 GiB free of 80.0 GiB",
            ]
        );
    }

    #[test]
    fn little_memory_is_a_warning_whose_hint_names_what_limits_it() {
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
