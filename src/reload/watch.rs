//! What may mean that a file has changed: news of its folder, the time for a look, SIGHUP.
//!
//! Folders are watched, not files: editors and Kubernetes put a new file in the place of the old one, whose news end there.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::config::file::WatchMode;

/// An edit is many changes; it is over when there was none for so long.
const QUIET: Duration = Duration::from_millis(100);

/// And after so long it is looked at in any case, though changes go on.
const PATIENCE: Duration = Duration::from_secs(2);

/// A file that is being written is waited for so long, where the file system tells that it is closed.
const WRITING: Duration = Duration::from_secs(10);

/// Between two looks where the file system tells nothing.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// Where it tells nothing, an edit is over when two looks so far apart see the same.
const STEADY: Duration = Duration::from_millis(500);

/// And where it does: network file systems and folders that are replaced as a whole may not.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Causes {
    mode: WatchMode,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    heard: Arc<Heard>,
    hangup: Hangup,
}

/// What the watcher's thread hears.
#[derive(Default)]
struct Heard {
    changed: Notify,
    /// The names of the files, and whether one of them is being written.
    names: Mutex<BTreeSet<OsString>>,
    is_open: AtomicBool,
}

impl Heard {
    fn hear(&self, event: notify::Result<notify::Event>) {
        // An error may hide a change.
        let Ok(event) = event else {
            return self.changed.notify_one();
        };
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let mut paths = event.paths.iter().filter_map(|path| path.file_name());
        if paths.any(|name| names.contains(name)) {
            match event.kind {
                EventKind::Modify(ModifyKind::Data(_)) => {
                    // Elsewhere the end of it is not told.
                    self.is_open
                        .store(cfg!(target_os = "linux"), Ordering::Relaxed);
                }
                EventKind::Access(_) if event.kind != closed => {}
                _ => self.is_open.store(false, Ordering::Relaxed),
            }
        }
        // Our own reading is told, too.
        if !event.kind.is_access() || event.kind == closed {
            self.changed.notify_one();
        }
    }
}

impl Causes {
    /// # Errors
    /// Where the system gives no signals.
    pub(super) fn new(mode: WatchMode) -> io::Result<Self> {
        let heard = Arc::new(Heard::default());
        let watcher = match mode {
            WatchMode::Auto => watcher(Arc::clone(&heard)),
            WatchMode::Poll | WatchMode::Off => None,
        };
        Ok(Self {
            mode,
            watcher,
            watched: BTreeSet::new(),
            heard,
            hangup: Hangup::new()?,
        })
    }

    /// Watches the folders of `files`, and of what they are links to.
    pub(super) fn observe(&mut self, files: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let name = |file: &PathBuf| file.file_name().map(OsString::from);
        *self
            .heard
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = files.iter().filter_map(name).collect();
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
            () = self.heard.changed.notified() => {
                self.quiet().await;
                false
            }
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => false,
        }
    }

    /// Whether the file system tells of changes.
    pub(super) fn are_told(&self) -> bool {
        self.watcher.is_some()
    }

    /// Waits until an edit seems to be over.
    async fn quiet(&self) {
        let begun = Instant::now();
        loop {
            let is_quiet = timeout(QUIET, self.heard.changed.notified()).await.is_err();
            let is_open = self.heard.is_open.load(Ordering::Relaxed);
            let limit = if is_open { WRITING } else { PATIENCE };
            if (is_quiet && !is_open) || begun.elapsed() >= limit {
                return;
            }
        }
    }
}

/// What `look` sees once it sees the same twice; first it saw `seen`.
pub(super) async fn steady(mut seen: u64, look: impl Fn() -> u64) -> u64 {
    let begun = Instant::now();
    loop {
        tokio::time::sleep(STEADY).await;
        let again = look();
        if again == seen || begun.elapsed() >= WRITING {
            return again;
        }
        seen = again;
    }
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => ".".into(),
    }
}

fn watcher(heard: Arc<Heard>) -> Option<RecommendedWatcher> {
    notify::recommended_watcher(move |event| heard.hear(event))
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
    #[expect(clippy::unnecessary_wraps, reason = "Unix may refuse")]
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_still_written_is_looked_at_again() {
        let looks = Cell::new(1);
        let look = || {
            looks.set(looks.get() + 1);
            looks.get().min(4)
        };
        assert_eq!(steady(1, look).await, 4);
        assert_eq!(looks.get(), 5);
        // One that changes for ever does not hold everything up.
        let look = || {
            looks.set(looks.get() + 1);
            looks.get()
        };
        let begun = Instant::now();
        steady(0, look).await;
        assert_eq!(begun.elapsed(), WRITING);
    }
}
