//! Lock files of the CPU turns, which only this user can open, and which the server removes when it ends.
//!
//! On Linux the files are in memory and have no names. Workers open them through the server's descriptors in `/proc`, before they enter the
//! sandbox: a lock belongs to an open file description, so each worker must open the file itself. On other systems, and without `/proc`,
//! the files are in the directory for temporary files.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::worker::CpuLocks;

/// The lock files of a server, which exist as long as this value.
#[derive(Debug)]
pub(crate) struct TurnFiles {
    turns: CpuLocks,
    /// Open files; those in memory exist as long as they are open.
    _files: Vec<File>,
    /// Whether the files are on disk, with names.
    is_on_disk: bool,
}

impl TurnFiles {
    /// Creates the files for models that compute with at most `n_threads` each, on `cpus`.
    ///
    /// # Errors
    /// The system cannot create the files.
    pub(crate) fn create(n_threads: usize, cpus: usize) -> io::Result<Self> {
        let count = 1 + Self::places(n_threads, cpus);
        #[cfg(target_os = "linux")]
        match memory::create(count) {
            Ok((paths, files)) => return Ok(Self::new(paths, files, false)),
            Err(error) => {
                tracing::debug!(%error, "could not create lock files in memory; using files on disk");
            }
        }
        Self::on_disk(count)
    }

    pub(super) fn on_disk(count: usize) -> io::Result<Self> {
        let (paths, files) = create_on_disk(count)?;
        Ok(Self::new(paths, files, true))
    }

    fn new(mut paths: Vec<PathBuf>, files: Vec<File>, is_on_disk: bool) -> Self {
        let places = paths.split_off(1);
        let queue = paths.remove(0);
        Self {
            turns: CpuLocks { queue, places },
            _files: files,
            is_on_disk,
        }
    }

    /// Returns the number of models with `n_threads` that can compute at once on `cpus`: at least 1, and 4 for 4 threads on 16 CPUs.
    pub(crate) fn places(n_threads: usize, cpus: usize) -> usize {
        (cpus / n_threads.max(1)).max(1)
    }

    /// Returns the paths of the lock files, for a worker that is about to start.
    pub(crate) fn locks(&self) -> CpuLocks {
        if self.is_on_disk {
            self.restore();
        }
        self.turns.clone()
    }

    /// Creates missing lock files again, since systems clean up the directory for temporary files.
    fn restore(&self) {
        for path in self.paths().filter(|path| !path.exists()) {
            if let Err(error) = create(path) {
                tracing::warn!(%error, "could not create a lock file again: busy models will slow each other down");
            }
        }
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.turns.places.iter().chain([&self.turns.queue])
    }
}

impl Drop for TurnFiles {
    fn drop(&mut self) {
        if !self.is_on_disk {
            return;
        }
        for path in self.paths() {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::debug!(%error, "could not remove a lock file");
            }
        }
    }
}

/// Creates files that no other user can open, since every user who can open a file can lock it.
fn create_on_disk(count: usize) -> io::Result<(Vec<PathBuf>, Vec<File>)> {
    let name = format!("llama-mcp-server-{}", uuid::Uuid::new_v4());
    let path = std::env::temp_dir().join(name);
    let create = |n: usize| {
        let path = path.with_added_extension(n.to_string());
        let file = create(&path)?;
        Ok((path, file))
    };
    let made: Vec<_> = (0..count).map(create).collect::<io::Result<_>>()?;
    Ok(made.into_iter().unzip())
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Opens a lock file for a worker.
pub(super) fn open(path: &Path) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    if path.starts_with("/proc") {
        return memory::open(path);
    }
    OpenOptions::new().read(true).write(true).open(path)
}

#[cfg(target_os = "linux")]
mod memory {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::path::{Path, PathBuf};

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

    /// Seals that deny every write, which would use memory.
    const SEALS: SealFlags = SealFlags::SEAL
        .union(SealFlags::GROW)
        .union(SealFlags::SHRINK)
        .union(SealFlags::WRITE);

    /// Creates files without names. Returns them, and the paths with which child processes open them.
    pub(super) fn create(count: usize) -> io::Result<(Vec<PathBuf>, Vec<File>)> {
        let create = |_| {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let file = memfd_create("llama-mcp-server-turns", flags)?;
            fcntl_add_seals(&file, SEALS)?;
            let file = File::from(file);
            let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
            let path = PathBuf::from(path);
            open(&path)?;
            Ok((path, file))
        };
        let made: Vec<_> = (0..count).map(create).collect::<io::Result<_>>()?;
        Ok(made.into_iter().unzip())
    }

    /// Opens a lock file. Checks its seals, since the server may have closed it and reused its number.
    pub(super) fn open(path: &Path) -> io::Result<File> {
        let file = File::open(path)?;
        match fcntl_get_seals(&file) {
            Ok(seals) if seals.contains(SEALS) => Ok(file),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
