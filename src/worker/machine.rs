//! What llama.cpp finds on this machine, told by a process of its own: a driver or a build for another CPU may end it.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::engine::llama::{Device, Model, cpu_backend, devices};

/// What llama.cpp finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its code for the CPU, in words; or why there is none.
    pub cpu_backend: Result<String, String>,
    /// What it can compute on.
    pub devices: Vec<Device>,
}

/// Looks, and writes a [`Machine`] as one line of JSON.
///
/// # Errors
/// Where nobody reads.
pub fn describe(output: &mut dyn Write) -> io::Result<()> {
    Model::capture_logs();
    let cpu_backend = cpu_backend()
        .map(|backend| backend.to_string())
        .map_err(|error| error.to_string());
    let machine = Machine {
        // Without it llama.cpp has nothing to look with.
        devices: if cpu_backend.is_ok() {
            devices()
        } else {
            Vec::new()
        },
        cpu_backend,
    };
    let line = serde_json::to_string(&machine).expect("it has only string keys");
    writeln!(output, "{line}")?;
    output.flush()
}
