//! The sandbox that a worker enters once it knows its model. A GGUF is untrusted input that llama.cpp parses in C++, so from then on the
//! worker is considered hostile.
//!
//! On Linux, Landlock ([`files`]) restricts the worker, as far as the kernel supports it:
//!
//! - It can read the model's files and system libraries, use the GPU in builds with a GPU backend, write to open descriptors, and create
//!   files in the model's shader cache ([`super::driver_cache`]), if it has one.
//! - It cannot open other files, start programs, open TCP connections (ABI 4) or signal other processes (ABI 6).
//! - It cannot read the memory and environment of other processes or, in builds for the CPU, their entries in `/proc`. GPU drivers read
//!   many parts of `/proc`, so with a GPU backend the worker can read the command lines of other processes.
//!
//! The worker drops all capabilities of root except those for reading another user's model and locking it into memory. seccomp
//! ([`system_calls`]) denies what Landlock does not restrict, such as attributes of files, other processes, keys, namespaces, and in builds
//! for the CPU sockets, priorities and shared memory. `stat` stays allowed.
//!
//! On Unix, the worker writes no core dump, which would contain prompts.

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

/// A restriction that this system does not support.
#[derive(Debug, thiserror::Error)]
enum MissingRestriction {
    #[cfg(target_os = "linux")]
    #[error(
        "the model's process cannot be restricted: NVIDIA's driver has not created `/dev/nvidia-uvm` yet and must start a program to do so"
    )]
    DriverNotReady,
    #[cfg(target_os = "linux")]
    #[error(
        "the model's process is not restricted: the kernel has no Landlock, or Landlock is disabled"
    )]
    NoLandlock,
    #[cfg(target_os = "linux")]
    #[error("the model's process is not restricted: {0}")]
    Landlock(#[from] files::Error),
    #[cfg(all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64")
    ))]
    #[error("system calls of the model's process cannot be restricted (seccomp): {0}")]
    Seccomp(#[from] system_calls::Error),
    #[cfg(all(
        target_os = "linux",
        not(any(target_arch = "x86_64", target_arch = "aarch64"))
    ))]
    #[error(
        "system calls of the model's process cannot be restricted (seccomp): seccomp filters are not supported on this CPU"
    )]
    NoSeccomp,
    #[cfg(not(target_os = "linux"))]
    #[error("this system cannot restrict the model's process")]
    NoSandbox,
}

/// Restricts this thread, and the threads that it starts later, to what the model of `launch` needs. Warns in the log about restrictions that
/// the system does not support.
///
/// # Errors
/// `Load` if the configuration requires the sandbox, and Landlock or seccomp is not available.
pub(super) fn enter(launch: &Launch) -> Result<(), EngineError> {
    if launch.settings.sandbox == SandboxMode::Off {
        return Ok(());
    }
    #[cfg(unix)]
    forbid_core_dumps();
    let Err(missing) = restrict(launch) else {
        return Ok(());
    };
    if launch.settings.sandbox == SandboxMode::Required {
        let text = format!("`sandbox = \"required\"`: {missing}");
        #[cfg(target_os = "linux")]
        let lacks_driver = matches!(missing, MissingRestriction::DriverNotReady);
        #[cfg(not(target_os = "linux"))]
        let lacks_driver = false;
        let hint = if lacks_driver {
            "run `nvidia-modprobe -u -c=0` before the server starts, or set `sandbox = \"auto\"` under `[registry]`"
        } else {
            "run the server on a kernel with Landlock and seccomp, or set `sandbox = \"auto\"` under `[registry]`"
        };
        return Err(EngineError::new(EngineErrorKind::Load, text).hint(hint));
    }
    tracing::warn!(
        "{missing}; set `sandbox = \"required\"` under `[registry]` to refuse to load models in this case"
    );
    Ok(())
}

/// Applies every restriction that the system supports.
///
/// # Errors
/// The first restriction that is missing.
#[cfg(target_os = "linux")]
fn restrict(launch: &Launch) -> Result<(), MissingRestriction> {
    if files::driver_starts_a_program() {
        return Err(MissingRestriction::DriverNotReady);
    }
    let files = files::restrict(launch);
    // Landlock limits the creation of files to the cache. Without Landlock, seccomp denies it.
    let may_create = launch.grant.driver_cache.is_some() && files.is_ok();
    // Applied even if Landlock failed, since each restriction is useful without the other.
    let calls = deny_system_calls(may_create);
    let status = files?;
    tracing::debug!(?status, "the model's process is restricted");
    calls
}

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
fn deny_system_calls(may_create: bool) -> Result<(), MissingRestriction> {
    Ok(system_calls::deny(may_create)?)
}

#[cfg(all(
    target_os = "linux",
    not(any(target_arch = "x86_64", target_arch = "aarch64"))
))]
fn deny_system_calls(_may_create: bool) -> Result<(), MissingRestriction> {
    Err(MissingRestriction::NoSeccomp)
}

/// Returns an error if the sandbox is required, since this system has none.
#[cfg(not(target_os = "linux"))]
fn restrict(launch: &Launch) -> Result<(), MissingRestriction> {
    match launch.settings.sandbox {
        SandboxMode::Required => Err(MissingRestriction::NoSandbox),
        _ => Ok(()),
    }
}

/// Maximum size of a core dump, in bytes. On Linux, a limit of 0 only applies to dumps to files. A limit of 1, which is too small for any
/// dump, also keeps the kernel from piping a dump to a program such as systemd's. Only root can raise a limit that is already 0.
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
        tracing::debug!(%error, "could not disable core dumps");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
