//! What a worker may do, once it knows its model: a GGUF is untrusted input, and llama.cpp reads it in C++. So the worker counts as
//! hostile from then on, whatever code runs in it.
//!
//! On Linux by Landlock ([`files`]), as far as the kernel has it: the worker may read the model's files and what the system's
//! libraries are made of, use the GPU where the build has a backend for one, and no other file, write only by descriptors that are
//! open already, start no program, make no TCP connection, send no signal to a process that is not its own. Other processes'
//! memory and environment are shut by that, and in builds for the CPU all that `/proc` tells of them. GPU drivers read all over
//! `/proc`: with them the worker can read other processes' command lines. Of the rights of root, which would open more, it keeps
//! those by which a model that is another user's can be read, and locked into memory. What Landlock does not know (`stat`; before
//! ABI 4 TCP, before ABI 6 signals) stays as it was, but for the system calls that seccomp refuses ([`system_calls`]): among them
//! attributes of files, other processes, keys, namespaces, and in builds for the CPU sockets, priorities and shared memory.
//!
//! Everywhere on Unix it leaves no core dump: that would hold the prompts.

#[cfg(target_os = "linux")]
mod files;
#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod system_calls;

use crate::config::LoadSettings;
use crate::config::file::SandboxMode;
use crate::engine::{EngineError, EngineErrorKind};

/// Restricts this thread and those that it starts from now on to what the model of `load` needs. What the system cannot restrict is
/// a line of the log.
///
/// # Errors
/// What the system cannot restrict, if the configuration requires that it does.
pub(super) fn enter(load: &LoadSettings) -> Result<(), EngineError> {
    if load.sandbox == SandboxMode::Off {
        return Ok(());
    }
    #[cfg(unix)]
    forbid_core_dumps();
    let Err(gap) = restrict(load) else {
        return Ok(());
    };
    if load.sandbox == SandboxMode::Required {
        let hint =
            "run it on Linux with Landlock enabled, or set `sandbox = \"auto\"` under `[registry]`";
        return Err(EngineError::new(EngineErrorKind::Load, gap).hint(hint));
    }
    tracing::warn!("{gap}; `sandbox = \"off\"` under `[registry]` keeps this line away");
    Ok(())
}

/// Restricts by all that there is; gives what is missing, in words.
#[cfg(target_os = "linux")]
fn restrict(load: &LoadSettings) -> Result<(), String> {
    if files::driver_starts_a_program() {
        return Err(
            "the model's process is not restricted this time: NVIDIA's driver has yet to make `/dev/nvidia-uvm`, by a program"
                .into(),
        );
    }
    let files = files::restrict(load);
    // It is worth having without the other, too.
    let calls = refuse_system_calls();
    let status = files?;
    tracing::debug!(?status, "the model's process is restricted");
    calls
}

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
fn refuse_system_calls() -> Result<(), String> {
    let refused = system_calls::refuse();
    refused.map_err(|error| format!("the model's process may make every system call: {error}"))
}

#[cfg(all(
    target_os = "linux",
    not(any(target_arch = "x86_64", target_arch = "aarch64"))
))]
fn refuse_system_calls() -> Result<(), String> {
    Err("the model's process may make every system call: there is no filter for this CPU".into())
}

/// Elsewhere there is nothing more, and no line of the log about it.
#[cfg(not(target_os = "linux"))]
fn restrict(load: &LoadSettings) -> Result<(), String> {
    match load.sandbox {
        SandboxMode::Required => Err("this system cannot restrict the model's process".into()),
        _ => Ok(()),
    }
}

/// The most bytes that a core dump may have. Linux heeds 0 only where it dumps into files; 1, which is too little for any
/// dump, also keeps it from handing one to a program, as systemd's. Only root can raise a limit that is 0 already.
#[cfg(unix)]
const CORE_LIMIT: u64 = if cfg!(target_os = "linux") { 1 } else { 0 };

#[cfg(unix)]
fn forbid_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit {
        current: Some(CORE_LIMIT),
        maximum: Some(CORE_LIMIT),
    };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::debug!(%error, "core dumps stay possible");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
