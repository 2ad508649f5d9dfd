//! Functions of the operating system for the server and its workers: exclusive use of standard output, the end of a child with its
//! parent, limits, and the number of usable CPUs.

pub(crate) mod activity;
pub(crate) mod cpu_time;
mod cpus;
pub(crate) mod memory_lock;
pub(crate) mod mounted;
pub(crate) mod usage;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub(crate) use cpus::{CpuLimits, CpuQuota, Cpus, available_cpus, cpu_quota};

/// Reserves standard output for the protocol, and redirects everything else that this process prints there to standard error.
///
/// llama.cpp prints to file descriptor 1 in places, and an abort flushes C's buffers into it. So descriptor 1 itself is redirected, and
/// the real output is kept as another descriptor, which children do not inherit. Call this once, before anything is printed.
///
/// # Errors
/// A descriptor cannot be duplicated.
#[cfg(unix)]
pub(crate) fn reserve_stdout() -> io::Result<Box<dyn ProtocolOutput>> {
    use std::os::fd::AsFd;

    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(Box::new(std::fs::File::from(stdout)))
}

/// Returns standard output as it is: this system has no safe way to redirect the descriptor.
///
/// # Errors
/// Never fails on this system.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "on Unix it can fail")]
pub(crate) fn reserve_stdout() -> io::Result<Box<dyn ProtocolOutput>> {
    Ok(Box::new(io::stdout()))
}

/// Output for protocol messages.
pub(crate) trait ProtocolOutput: Write + Send {
    /// Returns another handle of the same output, with which to detect that its reader is gone.
    ///
    /// # Errors
    /// The handle cannot be duplicated.
    #[cfg(unix)]
    fn watch(&self) -> io::Result<std::os::fd::OwnedFd>;
}

#[cfg(unix)]
impl ProtocolOutput for std::fs::File {
    fn watch(&self) -> io::Result<std::os::fd::OwnedFd> {
        Ok(self.try_clone()?.into())
    }
}

#[cfg(not(unix))]
impl ProtocolOutput for io::Stdout {}

/// Blocks until `output` has no reader. For a file or a terminal, that is forever.
#[cfg(unix)]
pub(crate) fn wait_until_unread(output: &std::os::fd::OwnedFd) {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        let mut watched = [PollFd::new(output, PollFlags::empty())];
        match poll(&mut watched, None) {
            Ok(_)
                if watched[0]
                    .revents()
                    .intersects(PollFlags::ERR | PollFlags::HUP) =>
            {
                return;
            }
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            // The output cannot be polled, for example a device on macOS. A failing write will show that it has no reader.
            Ok(_) | Err(_) => std::thread::park(),
        }
    }
}

/// Returns the path of this program's file. On Linux, it stays valid even if an upgrade replaces the file.
///
/// # Errors
/// The path is unknown.
pub(crate) fn this_program() -> io::Result<PathBuf> {
    let link = Path::new("/proc/self/exe");
    if !cfg!(target_os = "linux") {
        std::env::current_exe()
    } else if link.symlink_metadata().is_ok() {
        Ok(link.into())
    } else {
        program_as_typed()
    }
}

/// Returns the file that the first argument names, for a system without `/proc`.
///
/// # Errors
/// The argument names no file.
fn program_as_typed() -> io::Result<PathBuf> {
    let typed = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    let found = if typed.components().count() > 1 {
        typed.canonicalize().ok()
    } else {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let files = std::env::split_paths(&folders).map(|folder| folder.join(&typed));
        files
            .filter_map(|file| file.canonicalize().ok())
            .find(|file| file.is_file())
    };
    found.ok_or_else(|| {
        let text = format!(
            "`/proc` is not mounted, and the program's file `{}` cannot be found; mount `/proc` (`mount -t proc proc /proc`, `bwrap --proc /proc`), or start the program by its full path",
            typed.display()
        );
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

/// Makes the kernel kill this process when the thread that started it ends. Returns whether `parent` still runs.
///
/// A parent that ended before the call is detected by its id.
#[cfg(target_os = "linux")]
pub(crate) fn die_with_parent(parent: u32) -> bool {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        // The end of stdin still ends the worker.
        tracing::warn!(%error, "could not request a signal for the end of the server");
    }
    getppid().is_some_and(|now| now.as_raw_nonzero().get().unsigned_abs() == parent)
}

/// Returns whether the child `id` of this process runs. Does not reap a child that has ended.
#[cfg(unix)]
pub(crate) fn is_running(id: u32) -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    pid(id).is_some_and(|pid| matches!(waitid(WaitId::Pid(pid), options), Ok(None)))
}

/// Kills every process of the group that the process `id` leads.
#[cfg(unix)]
pub(crate) fn kill_group(id: u32) {
    use rustix::process::{Signal, kill_process_group};
    if let Some(pid) = pid(id)
        && let Err(error) = kill_process_group(pid, Signal::KILL)
    {
        tracing::debug!(%error, "could not kill a process group");
    }
}

/// Does nothing: this system has no process groups.
#[cfg(not(unix))]
pub(crate) fn kill_group(_: u32) {}

#[cfg(unix)]
fn pid(id: u32) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(id.try_into().ok()?)
}

/// Raises the limit of open files to the hard limit: each connection is an open file, and the usual soft limit is 1,024. Returns the limit;
/// `None` if there is none.
#[cfg(unix)]
pub(crate) fn raise_file_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "could not raise the limit of open files");
        return limit.current;
    }
    limit.maximum
}

/// Does nothing and returns `None`: this system has no limit of open files.
#[cfg(not(unix))]
pub(crate) fn raise_file_limit() -> Option<u64> {
    None
}

/// Returns a warning if `connections` need more open files than the `limit` that [`raise_file_limit`] returned.
pub(crate) fn too_few_files(connections: usize, limit: Option<u64>) -> Option<String> {
    let limit = limit.filter(|limit| *limit <= connections as u64)?;
    Some(format!(
        "`max_connections` is {connections}, but the system lets this process open {limit} files (RLIMIT_NOFILE); raise this limit with `docker run --ulimit nofile=65536`, `LimitNOFILE=65536` in the systemd unit or `ulimit -n 65536`, or lower `max_connections`"
    ))
}

/// Sets the name of this process for `ps` and `top`. Otherwise it is `exe`, because it was started through `/proc/self/exe`.
#[cfg(target_os = "linux")]
pub(crate) fn name_worker() {
    if let Err(error) = rustix::thread::set_name(c"llama-worker") {
        tracing::debug!(%error, "could not set the name of the worker");
    }
}

/// Does nothing: this system names a process after its program.
#[cfg(not(target_os = "linux"))]
pub(crate) fn name_worker() {}

/// Returns the size of this process's address space, in bytes.
#[cfg(target_os = "linux")]
pub(crate) fn address_space() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmSize:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Lowers the scheduling priority of the calling thread by 10 steps, and that of threads that it starts. Only root can raise it again.
#[cfg(target_os = "linux")]
pub(crate) fn lower_priority() {
    // On Linux each thread has a priority of its own.
    if let Err(error) = rustix::process::nice(10) {
        tracing::debug!(%error, "could not lower a thread's priority");
    }
}

/// Does nothing: a priority applies to the whole process here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn lower_priority() {}

/// Does nothing and returns `true`: on this system the end of stdin ends the worker.
#[cfg(not(target_os = "linux"))]
pub(crate) fn die_with_parent(_: u32) -> bool {
    true
}

/// Returns the free bytes of the file system of `folder` for this user; `None` if they are unknown.
#[cfg(unix)]
pub(crate) fn free_disk(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Free disk space is checked on Unix only.
#[cfg(not(unix))]
pub(crate) fn free_disk(_: &Path) -> Option<u64> {
    None
}

/// Returns the folder that keeps `file` from being written, with the reason; `None` if the file can be written. If the folder of the file
/// does not exist, the nearest existing parent decides.
pub(crate) fn unwritable(file: &Path) -> Option<(PathBuf, io::Error)> {
    let exists = |folder: &&Path| folder.as_os_str().is_empty() || folder.exists();
    let folder = file.ancestors().skip(1).find(exists)?;
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let checked = std::fs::metadata(folder).and_then(|metadata| {
        if !metadata.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        #[cfg(unix)]
        rustix::fs::access(
            folder,
            rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
        )?;
        Ok(())
    });
    checked.err().map(|error| (folder.to_owned(), error))
}
