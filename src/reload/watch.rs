//! What may mean that a file has changed: news of its folder, the time for a look, SIGHUP.
//!
//! Folders are watched, not files: editors and Kubernetes put a new file in the place of the old one, whose news end there.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::file::WatchMode;

/// An edit is many changes; it is over when there was none for so long.
const QUIET: Duration = Duration::from_millis(100);

/// And after so long it is looked at in any case.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks where the file system tells nothing.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// And where it does: network file systems and folders that are replaced as a whole may not.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Causes {
    mode: WatchMode,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    changed: Arc<Notify>,
    hangup: Hangup,
}

impl Causes {
    /// # Errors
    /// Where the system gives no signals.
    pub(super) fn new(mode: WatchMode) -> io::Result<Self> {
        let changed = Arc::new(Notify::new());
        let watcher = match mode {
            WatchMode::Auto => watcher(Arc::clone(&changed)),
            WatchMode::Poll | WatchMode::Off => None,
        };
        Ok(Self {
            mode,
            watcher,
            watched: BTreeSet::new(),
            changed,
            hangup: Hangup::new()?,
        })
    }

    /// Watches the folders of `files`, and of what they are links to.
    pub(super) fn observe(&mut self, files: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let folders: BTreeSet<PathBuf> = files
            .iter()
            .flat_map(|file| [Some(file.clone()), file.canonicalize().ok()])
            .flatten()
            .map(|file| folder_of(&file))
            .collect();
        // Also those that are known: a folder may have been replaced by another one of its name.
        for folder in &self.watched {
            drop(watcher.unwatch(folder));
        }
        for folder in &folders {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!(
                    %error,
                    "the folder of the configuration cannot be watched: it is looked at every {} s",
                    POLL_EVERY.as_secs()
                );
                self.watcher = None;
                return;
            }
        }
        self.watched = folders;
    }

    /// Waits until a file may be another; whether that was asked for by a signal. Cancel safe.
    pub(super) async fn next(&mut self) -> bool {
        let pause = match (self.mode, &self.watcher) {
            (WatchMode::Off, _) => None,
            (_, Some(_)) => Some(LOOK_EVERY),
            (_, None) => Some(POLL_EVERY),
        };
        tokio::select! {
            () = self.hangup.next() => true,
            () = self.changed.notified() => {
                self.quiet().await;
                false
            }
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => false,
        }
    }

    /// Waits until an edit seems to be over.
    async fn quiet(&self) {
        let limit = Instant::now() + PATIENCE;
        loop {
            let more = timeout(QUIET, self.changed.notified());
            tokio::select! {
                more = more => if more.is_err() { return },
                () = sleep_until(limit) => return,
            }
        }
    }
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => ".".into(),
    }
}

fn watcher(changed: Arc<Notify>) -> Option<RecommendedWatcher> {
    // What is told does not matter, and an error may hide a change.
    let heard = move |event: notify::Result<notify::Event>| {
        // Our own reading is told, too.
        let is_reading = event.is_ok_and(|event| {
            let closed = AccessKind::Close(AccessMode::Write);
            event.kind.is_access() && event.kind != EventKind::Access(closed)
        });
        if !is_reading {
            changed.notify_one();
        }
    };
    notify::recommended_watcher(heard)
        .inspect_err(|error| {
            tracing::warn!(
                %error,
                "the file system tells nothing: the configuration is looked at every {} s",
                POLL_EVERY.as_secs()
            );
        })
        .ok()
}

/// SIGHUP; elsewhere never.
struct Hangup {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Hangup {
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let signal = signal(SignalKind::hangup())?;
        Ok(Self { signal })
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if self.signal.recv().await.is_some() {
            return;
        }
        std::future::pending::<()>().await;
    }
}
