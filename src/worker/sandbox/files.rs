//! Restricts the files, TCP connections and signals of a model's process with Landlock, as far as the kernel supports it.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::{env, fs};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathFd, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::MissingRestriction;
use crate::gpu::{self, GpuBackend};
use crate::worker::Launch;
pub(super) use landlock::RulesetError as Error;

/// Newest Landlock ABI that was tested: files, TCP, signals and abstract sockets. Older kernels enforce a part of it.
const NEWEST_TESTED_ABI: ABI = ABI::V6;

/// Readable paths of libraries, their settings, time zones, and information about CPUs and cgroups. llama.cpp, OpenMP and drivers read
/// some of them late.
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

/// Readable entries of `/proc`: those of the machine and of this process. Entries of other processes are excluded, since their command
/// lines may contain secrets. GPU drivers require all of `/proc`.
const PROC: &[&str] = if gpu::IN_BUILD {
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

/// Open descriptors of [`PROC`]. A rule applies to an inode, and the kernel recreates inodes of `/proc` that are not open.
static KNOWN_PROC: LazyLock<Vec<PathFd>> = LazyLock::new(|| {
    let nodes = PROC.iter().map(PathFd::new);
    nodes.filter_map(Result::ok).collect()
});

/// Additional readable paths for GPU drivers: the drivers on some distributions, lists of drivers, and settings.
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

/// Variables with lists of further readable paths: directories of libraries, and Vulkan drivers.
const DRIVER_VARIABLES: &[&str] = &[
    "LD_LIBRARY_PATH",
    "VK_DRIVER_FILES",
    "VK_ICD_FILENAMES",
    "VK_ADD_DRIVER_FILES",
];

/// Prefixes of the device nodes of GPUs: NVIDIA on PCs and Tegra, the direct rendering manager, AMD and WSL.
const DEVICES: &[&str] = &["nvidia", "nvhost", "nvmap", "dri", "kfd", "dxg"];

/// Directory in which CUDA names its threads. CUDA fails if it cannot.
const THREAD_NAMES: &str = "/proc/self/task";

/// Restricts this thread, and those that it starts from now on, to the files of `launch`. Returns the restrictions for the log.
///
/// # Errors
/// The kernel does not support Landlock, or refuses the rules.
pub(super) fn restrict(launch: &Launch) -> Result<RestrictionStatus, MissingRestriction> {
    if let Err(error) = drop_rights_of_root() {
        tracing::debug!(%error, "could not drop the capabilities of root");
    }
    let status = enforce(launch)?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(MissingRestriction::NoLandlock);
    }
    Ok(status)
}

/// Returns whether NVIDIA's driver must start a program: at its first use after a boot, a program with the rights of root loads a kernel
/// module and creates the device.
pub(super) fn driver_starts_a_program() -> bool {
    gpu::BACKEND == Some(GpuBackend::Cuda)
        && Path::new("/proc/driver/nvidia").exists()
        && !Path::new("/dev/nvidia-uvm").exists()
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

fn enforce(launch: &Launch) -> Result<RestrictionStatus, Error> {
    LazyLock::force(&KNOWN_PROC);
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let write = make_bitflags!(AccessFs::{WriteFile | Truncate});
    let create = make_bitflags!(AccessFs::{MakeReg | MakeDir | RemoveFile | RemoveDir | Refer});
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST_TESTED_ABI))?
        .handle_access(AccessNet::from_all(NEWEST_TESTED_ABI))?
        .scope(Scope::from_all(NEWEST_TESTED_ABI))?
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, read))?
        .add_rules(path_beneath_rules(PROC, read))?
        .add_rules(path_beneath_rules(["/dev/null"], write))?
        .add_rules(path_beneath_rules(launch.settings.files(), read))?
        .add_rules(path_beneath_rules(
            &launch.grant.driver_cache,
            read | write | create,
        ))?;
    let rules = if gpu::IN_BUILD {
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
