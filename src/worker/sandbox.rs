//! What a worker may do, once it knows its model: a GGUF is untrusted input, and llama.cpp reads it in C++.
//!
//! On Linux by Landlock, as far as the kernel has it: the worker may read the model's files and what the system's libraries
//! are made of, use the GPU where the build has a backend for one, and no other file, write only by descriptors that are open
//! already, start no program, make no TCP connection, send no signal to a process that is not its own. Other processes'
//! memory and environment are shut by that, and in builds for the CPU all that `/proc` tells of them. GPU drivers read all
//! over `/proc`: with them the worker can read other processes' command lines. Of the rights of root, which would open more,
//! it keeps those by which a model that is another user's can be read, and locked into memory. What Landlock does not know
//! (before ABI 4 TCP, before ABI 6 signals; `stat`) stays as it was.
//!
//! Builds for the CPU make no sockets at all, by seccomp: Landlock keeps nobody from one that has a path, behind which a
//! container engine, D-Bus or an agent of keys may listen, nor from UDP. Builds with a GPU backend leave that open, since
//! drivers may talk to a daemon, as CUDA's to MPS; so do the CPUs that `seccompiler` does not know.
//!
//! Everywhere on Unix it leaves no core dump: that would hold the prompts.

use crate::config::LoadSettings;
use crate::config::file::SandboxMode;

/// Restricts this thread and those that it starts from now on to what the model of `load` needs. What the system cannot
/// restrict is told in one line of the log, and no reason to fail.
#[cfg_attr(
    not(unix),
    expect(clippy::needless_return, reason = "what follows is for Unix")
)]
pub(super) fn enter(load: &LoadSettings) {
    if load.sandbox == SandboxMode::Off {
        return;
    }
    #[cfg(unix)]
    forbid_core_dumps();
    #[cfg(target_os = "linux")]
    linux::enter(load);
    #[cfg(all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64"),
        not(any(feature = "cuda", feature = "vulkan"))
    ))]
    sockets::forbid();
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

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(any(feature = "cuda", feature = "vulkan"))
))]
mod sockets;

#[cfg(target_os = "linux")]
mod linux {
    use std::path::{Path, PathBuf};
    use std::sync::LazyLock;
    use std::{env, fs, iter};

    use landlock::{
        ABI, Access, AccessFs, AccessNet, BitFlags, PathFd, RestrictionStatus, Ruleset,
        RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
        path_beneath_rules,
    };
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

    use super::LoadSettings;
    use crate::gguf;

    /// The newest one that was tried: files, TCP, signals and abstract sockets. An older kernel enforces what it knows.
    const TRIED: ABI = ABI::V6;

    /// Where libraries, their settings and time zones are, and what tells of CPUs and cgroups. llama.cpp, OpenMP and
    /// drivers read some of it late.
    const SYSTEM: &[&str] = &[
        "/usr",
        "/lib",
        "/lib32",
        "/lib64",
        "/nix/store",
        "/gnu/store",
        "/etc/ld.so.cache",
        "/etc/localtime",
        "/sys",
        "/dev/null",
        "/dev/urandom",
        "/dev/zero",
    ];

    /// What of `/proc` tells of the machine and of this process. Not of others: their command lines, which may hold secrets, are
    /// open to everybody. Drivers of GPUs read all over it.
    const PROC: &[&str] = if HAS_GPU {
        &["/proc"]
    } else {
        &[
            "/proc/self",
            "/proc/cpuinfo",
            "/proc/meminfo",
            "/proc/stat",
            "/proc/sys",
        ]
    };

    /// Open for as long as the process lives: the kernel makes nodes of `/proc` anew where it has forgotten them, and a rule holds
    /// for a node, not for its name.
    static KNOWN_PROC: LazyLock<Vec<PathFd>> = LazyLock::new(|| {
        let nodes = PROC.iter().map(PathFd::new);
        nodes.filter_map(Result::ok).collect()
    });

    /// What GPU drivers read beside that: where some distributions keep them, the loaders' lists of drivers, settings.
    const DRIVERS: &[&str] = &[
        "/opt/cuda",
        "/opt/rocm",
        "/run/opengl-driver",
        "/etc/vulkan",
        "/etc/glvnd",
        "/etc/drirc",
        "/etc/nvidia",
        "/etc/alternatives",
    ];

    /// Lists of paths in which users name more of it: folders of libraries, Vulkan's drivers.
    const DRIVER_VARIABLES: &[&str] = &[
        "LD_LIBRARY_PATH",
        "VK_DRIVER_FILES",
        "VK_ICD_FILENAMES",
        "VK_ADD_DRIVER_FILES",
    ];

    /// How the device nodes of GPUs begin: NVIDIA's on PCs and on Tegra, the direct rendering manager, AMD's, WSL's.
    const DEVICES: &[&str] = &["nvidia", "nvhost", "nvmap", "dri", "kfd", "dxg"];

    /// CUDA names its threads there, and fails where it cannot.
    const THREAD_NAMES: &str = "/proc/self/task";

    /// Metal is not for Linux.
    const HAS_GPU: bool = cfg!(any(feature = "cuda", feature = "vulkan"));

    pub(super) fn enter(load: &LoadSettings) {
        if cfg!(feature = "cuda") && cuda_starts_a_program() {
            tracing::warn!(
                "the model's process is not restricted this time: NVIDIA's driver has yet to make `/dev/nvidia-uvm`, by a program"
            );
            return;
        }
        if let Err(error) = drop_rights_of_root() {
            tracing::debug!(%error, "the rights of root stay");
        }
        match restrict(load) {
            Ok(status) => tell(&status),
            Err(error) => tracing::warn!(%error, "the model's process is not restricted"),
        }
    }

    /// At the first use after a boot, a program with the rights of root loads a module of the kernel and makes the device.
    fn cuda_starts_a_program() -> bool {
        Path::new("/proc/driver/nvidia").exists() && !Path::new("/dev/nvidia-uvm").exists()
    }

    fn drop_rights_of_root() -> rustix::io::Result<()> {
        let kept =
            CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH | CapabilitySet::IPC_LOCK;
        let all = capabilities(None)?;
        let some = CapabilitySets {
            effective: all.effective & kept,
            permitted: all.permitted & kept,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, some)
    }

    fn restrict(load: &LoadSettings) -> Result<RestrictionStatus, RulesetError> {
        LazyLock::force(&KNOWN_PROC);
        let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
        let write = make_bitflags!(AccessFs::{WriteFile | Truncate});
        let rules = Ruleset::default()
            .handle_access(AccessFs::from_all(TRIED))?
            .handle_access(AccessNet::from_all(TRIED))?
            .scope(Scope::from_all(TRIED))?
            .create()?
            .add_rules(path_beneath_rules(SYSTEM, read))?
            .add_rules(path_beneath_rules(PROC, read))?
            .add_rules(path_beneath_rules(["/dev/null"], write))?
            .add_rules(path_beneath_rules(files_of(load), read))?;
        let rules = if HAS_GPU {
            let device: BitFlags<AccessFs> = read | write | AccessFs::IoctlDev;
            rules
                .add_rules(path_beneath_rules(DRIVERS, read))?
                .add_rules(path_beneath_rules(named_by_variables(), read))?
                .add_rules(path_beneath_rules(devices(), device))?
                .add_rules(path_beneath_rules([THREAD_NAMES], write))?
        } else {
            rules
        };
        rules.restrict_self()
    }

    /// All parts of the model, and its adapter. A header that cannot be read, or a missing part, is told by the load.
    fn files_of(load: &LoadSettings) -> impl Iterator<Item = PathBuf> {
        let header = gguf::read_header(&load.path);
        let parts = header.map(|header| header.other_parts).unwrap_or_default();
        let adapter = load.lora.iter().map(|lora| lora.path.clone());
        iter::once(load.path.clone()).chain(parts).chain(adapter)
    }

    fn named_by_variables() -> impl Iterator<Item = PathBuf> {
        let lists = DRIVER_VARIABLES.iter().filter_map(env::var_os);
        let paths = lists.flat_map(|list| env::split_paths(&list).collect::<Vec<_>>());
        paths.filter(|path| path.is_absolute())
    }

    fn devices() -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir("/dev").into_iter().flatten();
        let is_gpu = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            DEVICES.iter().any(|device| name.starts_with(device))
        };
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(is_gpu)
    }

    fn tell(status: &RestrictionStatus) {
        if status.ruleset == RulesetStatus::NotEnforced {
            tracing::warn!(
                "the model's process is not restricted: the kernel has no Landlock, or does not enable it; `sandbox = \"off\"` under `[registry]` keeps this line away"
            );
        } else {
            tracing::debug!(?status, "the model's process is restricted");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
