//! The lock files of CPU turns that the workers of a server share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::process;
use crate::worker::CpuLocks;
use crate::worker::cpu_lock::TurnFiles;

/// Lock files of a server's workers. Clones share them. All functions block on the file system.
#[derive(Debug, Clone, Default)]
pub(super) struct CpuTurns {
    files: Arc<Mutex<Option<TurnFiles>>>,
}

impl CpuTurns {
    /// Creates lock files for models that compute with at most `n_threads` each, unless there are as many already. A running process keeps
    /// the files with which it was started.
    pub(super) fn share(&self, n_threads: usize) {
        let cpus = process::available_cpus().all;
        let places = TurnFiles::places(n_threads, cpus);
        let mut files = self.files();
        let known = files.as_ref().map(|files| files.locks().places.len());
        if known != Some(places) {
            *files = TurnFiles::create(n_threads, cpus)
                .inspect_err(|error| tracing::warn!(%error, "could not create the lock files of CPU turns: busy models will slow each other down"))
                .ok();
        }
    }

    /// Returns the locks for a worker that is about to start; `None` if no model was known to compute on the CPUs.
    pub(super) fn locks(&self) -> Option<CpuLocks> {
        self.files().as_ref().map(TurnFiles::locks)
    }

    /// Removes the lock files.
    pub(super) fn remove(&self) {
        *self.files() = None;
    }

    fn files(&self) -> MutexGuard<'_, Option<TurnFiles>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_that_leaves_the_number_of_places_keeps_the_lock_files() {
        let turns = CpuTurns::default();
        assert_eq!(turns.locks(), None);
        turns.share(1);
        let first = turns.locks();
        assert!(first.is_some());
        turns.share(1);
        assert_eq!(turns.locks(), first);
        turns.remove();
        assert_eq!(turns.locks(), None);
    }
}
