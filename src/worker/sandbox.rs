//! The sandbox of a worker, which the worker enters once it knows its model. A GGUF is untrusted input, and llama.cpp reads it in C++, so
//! from then on the worker counts as hostile.
//!
//! On Linux, Landlock ([`files`]) limits the worker, as far as the kernel supports it:
//!
//! - It may read the model's files and system libraries, use the GPU in builds with a GPU backend, write to open descriptors, and create
//!   files in the model's shader cache ([`super::driver_cache`]), if it has one.
//! - It cannot open other files, start programs, open TCP connections (ABI 4) or signal other processes (ABI 6).
//! - Other processes' memory and environment are out of reach and, in builds for the CPU, their entries in `/proc`. GPU drivers read all
//!   over `/proc`: with them the worker can read other processes' command lines.
//!
//! The worker drops all capabilities of root but those required to read a model of another user and to lock it into memory. seccomp
//! ([`system_calls`]) refuses what Landlock does not restrict: among other things attributes of files, other processes, keys, namespaces,
//! and in builds for the CPU sockets, priorities and shared memory. `stat` stays allowed.
//!
//! Everywhere on Unix it leaves no core dump: that would hold the prompts.

#[cfg(target_os = "linux")]
mod files;
#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod system_calls;

use crate::config::file::SandboxMode;
use crate::engine::{EngineError, EngineErrorKind};
use crate::worker::Launch;

/// Restricts this thread and the threads that it starts later to what the model of `launch` needs. Logs a warning about what the system
/// cannot restrict.
///
/// # Errors
/// `Load` if the configuration requires the sandbox, and Landlock or seccomp is not available.
pub(super) fn enter(launch: &Launch) -> Result<(), EngineError> {
    if launch.settings.sandbox == SandboxMode::Off {
        return Ok(());
    }
    #[cfg(unix)]
    forbid_core_dumps();
    let Err(gap) = restrict(launch) else {
        return Ok(());
    };
    if launch.settings.sandbox == SandboxMode::Required {
        let text = format!("`sandbox = \"required\"`: {gap}");
        let hint = "run the server on a kernel with Landlock and seccomp, or set `sandbox = \"auto\"` under `[registry]`";
        return Err(EngineError::new(EngineErrorKind::Load, text).hint(hint));
    }
    tracing::warn!(
        "{gap}; set `sandbox = \"required\"` under `[registry]` to refuse to load models in this case"
    );
    Ok(())
}

/// Applies every restriction that the system supports. Returns in words what is missing.
#[cfg(target_os = "linux")]
fn restrict(launch: &Launch) -> Result<(), String> {
    if files::driver_starts_a_program() {
        return Err(
            "the model's process cannot be restricted: NVIDIA's driver has not created `/dev/nvidia-uvm` yet and must start a program to do so"
                .into(),
        );
    }
    let files = files::restrict(launch);
    // Also if Landlock failed: each restriction is useful without the other.
    // Landlock limits it to the cache. Without Landlock no file is created at all.
    let may_create = launch.grant.driver_cache.is_some() && files.is_ok();
    let calls = refuse_system_calls(may_create);
    let status = files?;
    tracing::debug!(?status, "the model's process is restricted");
    calls
}

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
fn refuse_system_calls(may_create: bool) -> Result<(), String> {
    let refused = system_calls::refuse(may_create);
    refused.map_err(|error| {
        format!("system calls of the model's process cannot be restricted (seccomp): {error}")
    })
}

#[cfg(all(
    target_os = "linux",
    not(any(target_arch = "x86_64", target_arch = "aarch64"))
))]
fn refuse_system_calls(_may_create: bool) -> Result<(), String> {
    Err("system calls of the model's process cannot be restricted (seccomp): seccomp filters are not supported on this CPU".into())
}

/// Returns an error if the sandbox is required: this system has none.
#[cfg(not(target_os = "linux"))]
fn restrict(launch: &Launch) -> Result<(), String> {
    match launch.settings.sandbox {
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
