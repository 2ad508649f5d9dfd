//! Detects the CPU backend and the devices that llama.cpp finds on this machine. The detection runs in a process of its own,
//! because a GPU driver, or a build for another CPU, may abort it.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DESCRIBE, WORKER};
use crate::config::GpuMemory;
use crate::engine::EngineError;
use crate::engine::device::Device;
use crate::engine::llama::{Model, cpu_backend, devices};
use crate::threads::{self, SystemLimit};

/// Longest time to look for devices. A driver that has to start takes seconds.
const LIMIT: Duration = Duration::from_mins(1);

/// CPU backend and devices that llama.cpp finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Name of the CPU backend; `Err` if none supports this CPU.
    pub cpu_backend: Result<String, EngineError>,
    /// Devices to compute on.
    pub devices: Vec<Device>,
}

impl Machine {
    /// Returns whether there is a GPU.
    pub(crate) fn has_gpu(&self) -> bool {
        self.devices.iter().any(|device| device.is_gpu)
    }

    /// Returns the memory of each GPU that has its own.
    pub(crate) fn gpu_memory(&self) -> Vec<GpuMemory> {
        let own = self.devices.iter().filter(|device| device.has_memory);
        own.map(|device| GpuMemory {
            total: device.memory_total,
            free: device.memory_free,
        })
        .collect()
    }
}

/// Reason why llama.cpp's view of the machine is unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DetectError {
    /// The file of this program is unknown.
    #[error("could not determine the path of this program")]
    NoProgram,
    /// The process could not be started.
    #[error("could not start a process for llama.cpp: {0}")]
    NotStarted(io::Error),
    /// The system cannot start another thread.
    #[error(transparent)]
    SystemLimit(#[from] SystemLimit),
    /// The process did not finish in time.
    #[error("llama.cpp did not find its devices within {} s", LIMIT.as_secs())]
    TimedOut,
    /// The exit status of the process is unknown.
    #[error("could not wait for llama.cpp's process: {0}")]
    NoStatus(io::Error),
    /// The process ended without a valid result.
    #[error("llama.cpp did not start ({status}) {last_line}: {error}")]
    NoResult {
        /// Exit status of the process.
        status: ExitStatus,
        /// Last line of the process's log.
        last_line: String,
        /// Error from parsing its output.
        error: serde_json::Error,
    },
}

/// Detects the CPU backend and the devices in a process of `program`, which is this program.
///
/// # Errors
/// See [`DetectError`].
pub(crate) fn detect(program: &Path) -> Result<Machine, DetectError> {
    let mut child = Command::new(program)
        .args([WORKER, DESCRIBE])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(DetectError::NotStarted)?;
    let output = read_on_thread(child.stdout.take())?;
    let log = read_on_thread(child.stderr.take())?;
    // The output ends with the process, which may hang in a driver.
    let Ok(output) = output.recv_timeout(LIMIT) else {
        drop(child.kill());
        // A process that is blocked in the kernel ends later, or never.
        drop(threads::start("reaper", move || drop(child.wait())));
        return Err(DetectError::TimedOut);
    };
    let status = child.wait().map_err(DetectError::NoStatus)?;
    let log = log.recv().unwrap_or_default();
    serde_json::from_str(output.trim()).map_err(|error| DetectError::NoResult {
        status,
        last_line: log.lines().last().unwrap_or_default().to_owned(),
        error,
    })
}

/// Reads all of `source` on another thread, which sends it once `source` has ended.
fn read_on_thread(
    source: Option<impl Read + Send + 'static>,
) -> Result<mpsc::Receiver<String>, SystemLimit> {
    let (tx, rx) = mpsc::channel();
    threads::start("output", move || {
        let mut bytes = Vec::new();
        // The output before a failed read is still sent.
        drop(source.map(|mut source| source.read_to_end(&mut bytes)));
        drop(tx.send(String::from_utf8_lossy(&bytes).into_owned()));
    })?;
    Ok(rx)
}

/// Looks for the CPU backend and devices, and writes a [`Machine`] as one line of JSON.
///
/// # Errors
/// `output` is closed.
pub(crate) fn describe(output: &mut dyn Write) -> io::Result<()> {
    Model::capture_logs();
    let cpu_backend = cpu_backend().map(|backend| backend.to_string());
    let machine = Machine {
        // Without a CPU backend llama.cpp cannot look for devices.
        devices: if cpu_backend.is_ok() {
            devices()
        } else {
            Vec::new()
        },
        cpu_backend,
    };
    let line = serde_json::to_string(&machine).expect("a machine has only string keys");
    writeln!(output, "{line}")?;
    output.flush()
}
