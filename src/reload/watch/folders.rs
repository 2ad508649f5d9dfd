//! Which folders and files are watched. All calls may block on a drive that hangs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::{POLL_EVERY, WatchState};
use crate::config::file::WatchMode;

/// The watched paths. Folders are watched, since editors and Kubernetes put a new file in place of the old one, and the files, too: if a
/// file is mounted individually, its folder does not report changes that are made outside of the mount.
pub(in crate::reload) struct Watched {
    mode: WatchMode,
    watcher: Option<RecommendedWatcher>,
    paths: BTreeSet<PathBuf>,
    /// Whether the last attempt to watch the paths failed, for example since a folder was missing.
    has_failed: bool,
    watch_state: Arc<WatchState>,
}

impl Watched {
    pub(super) fn new(mode: WatchMode, watch_state: Arc<WatchState>) -> Self {
        let watcher = match mode {
            WatchMode::Auto | WatchMode::Poll => watcher(mode, Arc::clone(&watch_state)),
            WatchMode::Off => None,
        };
        Self {
            mode,
            watcher,
            paths: BTreeSet::new(),
            has_failed: false,
            watch_state,
        }
    }

    /// Returns whether the file system reports changes.
    pub(in crate::reload) fn has_reports(&self) -> bool {
        self.watcher.is_some() && !self.has_failed
    }

    /// Watches `files`, their folders, and the folders of what they are links to. Rights depend on the first `guarding` files. Returns whether
    /// it did so: not while a program writes a file, since the report of its close would be lost between two watches. A change may be
    /// lost, so the files must be read again.
    pub(in crate::reload) fn observe(&mut self, files: &[PathBuf], guarding: usize) -> bool {
        if self.watcher.is_none() || self.watch_state.check_writers() {
            return false;
        }
        let mut paths = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            let aliases = [std::path::absolute(file).ok(), file.canonicalize().ok()];
            for path in aliases.into_iter().flatten() {
                paths.entry(path).or_insert(number);
            }
        }
        let folders = paths.keys().map(|path| folder_of(path)).collect();
        // Also the known paths: each may now be another folder or file of the same name.
        if let Some(watcher) = &mut self.watcher {
            for path in std::mem::take(&mut self.paths) {
                drop(watcher.unwatch(&path));
            }
        }
        self.watch_state.observe(paths, guarding);
        let watched = self.watch(&folders, files);
        let had_failed = std::mem::replace(&mut self.has_failed, watched.is_err());
        if let Err(error) = watched {
            // The next check tries again: the folder may return.
            if !had_failed {
                warn_of_polling(self.mode, &error);
            }
            self.watch_state.clear();
        }
        true
    }

    /// Watches `folders`, and those of `files` that exist.
    ///
    /// # Errors
    /// A folder cannot be watched.
    fn watch(&mut self, folders: &BTreeSet<PathBuf>, files: &[PathBuf]) -> notify::Result<()> {
        let Some(watcher) = &mut self.watcher else {
            return Ok(());
        };
        for folder in folders {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
            self.paths.insert(folder.clone());
        }
        // On other systems the folder reports all changes.
        for file in files.iter().filter(|_| cfg!(target_os = "linux")) {
            if watcher.watch(file, RecursiveMode::NonRecursive).is_ok() {
                self.paths.insert(file.clone());
            }
        }
        Ok(())
    }
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => ".".into(),
    }
}

fn watcher(mode: WatchMode, watch_state: Arc<WatchState>) -> Option<RecommendedWatcher> {
    notify::recommended_watcher(move |event| watch_state.handle(event))
        .inspect_err(|error| warn_of_polling(mode, error))
        .ok()
}

/// Logs that the file system does not report changes, unless the configuration chose polling.
fn warn_of_polling(mode: WatchMode, error: &notify::Error) {
    if mode == WatchMode::Auto {
        tracing::warn!(
            %error,
            "the file system does not report changes; the configuration is polled every {} s",
            POLL_EVERY.as_secs()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_vanishes_and_returns_is_watched_again() {
        let name = format!("llama-mcp-server-watch-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let files = [folder.join("x.toml")];
        let mut watched = Watched::new(WatchMode::Auto, Arc::default());
        std::fs::create_dir_all(&folder).unwrap();
        watched.observe(&files, 1);
        assert!(watched.has_reports());
        std::fs::remove_dir(&folder).unwrap();
        watched.observe(&files, 1);
        assert!(!watched.has_reports());
        std::fs::create_dir(&folder).unwrap();
        watched.observe(&files, 1);
        assert!(watched.has_reports());
        std::fs::remove_dir(&folder).unwrap();
    }
}
