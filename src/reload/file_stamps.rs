//! A snapshot of the files of the configuration, taken on a blocking thread, since a drive may hang.

use std::collections::BTreeSet;
use std::future::pending;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::resume_unwind;
use std::path::PathBuf;

use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use super::LOAD_LIMIT;
use super::watch::Watched;
use crate::check::{self, Checked};
use crate::config::interpolate::read_text;
use crate::config::problem::Problem;
use crate::config::units::human_time;
use crate::process::mounted::Mounted;

/// Hash of the content of the configuration's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentHash(u64);

/// Files whose content is part of the configuration.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// The configuration file.
    pub(super) main: PathBuf,
    /// All files: the configuration file, those that its `[server]` names, and the others.
    pub(super) paths: Vec<PathBuf>,
    /// Rights over HTTP depend on so many of them, from the first.
    guarding: usize,
}

impl Files {
    /// Returns the files of the `checked` configuration in the file `main`.
    pub(super) fn of(main: PathBuf, checked: &Checked) -> Self {
        let mut paths = vec![main.clone()];
        let mut seen = BTreeSet::from([main.clone()]);
        let mut add = |files: &[PathBuf]| {
            let new = files.iter().filter(|file| seen.insert((*file).clone()));
            paths.extend(new.cloned());
            paths.len()
        };
        let guarding = add(&checked.layers.server_files);
        add(&checked.layers.files);
        Self {
            main,
            paths,
            guarding,
        }
    }

    /// Returns the hash of the files' content, which also says which files are missing. May block.
    pub(super) fn content(&self) -> ContentHash {
        let mut hasher = DefaultHasher::new();
        for file in &self.paths {
            read_text(file).ok().hash(&mut hasher);
        }
        ContentHash(hasher.finish())
    }

    /// Returns [`Self::content`].
    pub(super) fn read(&self) -> impl Future<Output = ContentHash> + use<> {
        let files = self.clone();
        on_thread(move || files.content())
    }
}

/// State of the files at one moment.
pub(super) struct Snapshot {
    pub(super) watched: Watched,
    /// See [`Watched::observe`].
    pub(super) is_watch_new: bool,
    /// Whether the file system reports changes of all files: not every file that is mounted individually reports them.
    pub(super) has_reports: bool,
    /// Files that were replaced outside of their mount.
    pub(super) stale: Vec<(PathBuf, Problem)>,
    pub(super) content: ContentHash,
}

impl Snapshot {
    /// Watches `files`, then reads them. May block.
    pub(super) fn read(files: &Files, mut watched: Watched) -> Self {
        let paths = &files.paths;
        let is_watch_new = watched.observe(paths, files.guarding);
        let has_mounted = paths.iter().any(|file| Mounted::check(file).is_single);
        let stale = |file: &PathBuf| Some((file.clone(), check::stale_mount(file)?));
        Self {
            is_watch_new,
            has_reports: watched.has_reports() && !has_mounted,
            watched,
            stale: paths.iter().filter_map(stale).collect(),
            content: files.content(),
        }
    }
}

/// Runs `read` on a blocking thread, since a drive may hang. Logs a warning if it takes longer than [`LOAD_LIMIT`].
pub(super) async fn on_thread<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    let mut task = spawn_blocking(read);
    let done = match timeout(LOAD_LIMIT, &mut task).await {
        Ok(done) => done,
        Err(_elapsed) => {
            tracing::warn!(
                "reading the files of the configuration takes more than {}; a drive with one of them may hang; edits wait until it answers",
                human_time(LOAD_LIMIT)
            );
            task.await
        }
    };
    match done.map_err(JoinError::try_into_panic) {
        Ok(found) => found,
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime ends.
        Err(Err(_)) => pending().await,
    }
}
