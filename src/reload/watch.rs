//! Waits for a reason to read the files again: a change that the file system reports, the polling interval, SIGHUP.
//!
//! Folders are watched, since editors and Kubernetes put a new file in place of the old one. The files are watched, too: if a file is mounted
//! individually, its folder does not report changes that are made outside of the mount.
//!
//! A file that a program is still writing is not read: on Linux the file system reports the first change and the close. It does not report
//! the close if another machine writes the file; then the file is read once two looks at it see the same content.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::config::file::WatchMode;
use crate::process::mounted::Mounted;

/// Debounce time: an edit makes many changes, and is over once there was none for this long.
const QUIET: Duration = Duration::from_millis(100);

/// After this long the files are read even if changes go on.
const PATIENCE: Duration = Duration::from_secs(2);

/// A file that is open for writing for longer than this is reported in the log.
const WRITING: Duration = Duration::from_secs(10);

/// Polling interval if the file system does not report changes.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// If the file system does not report changes, an edit is over once two looks this far apart see the same content.
const STEADY: Duration = Duration::from_millis(500);

/// Polling interval if the file system reports changes: it may miss those on network file systems and of replaced folders.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The reason to read the files again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// SIGHUP asked for it.
    Asked,
    /// The file system reported a change.
    Reported,
    /// The polling interval has passed.
    Time,
}

/// See the module.
pub(super) struct Causes {
    mode: WatchMode,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// Whether a file is mounted individually: not every such mount reports changes.
    has_mounted: bool,
    heard: Arc<Heard>,
    hangup: Hangup,
}

/// State that the watcher's thread updates.
#[derive(Default)]
pub(super) struct Heard {
    changed: Notify,
    files: Mutex<Files>,
}

#[derive(Default)]
struct Files {
    /// The names of the files.
    names: BTreeSet<OsString>,
    /// Files that a program has changed and not closed yet. Only Linux reports the close.
    written: BTreeSet<PathBuf>,
}

impl Heard {
    fn hear(&self, event: notify::Result<notify::Event>) {
        // An error may hide a change, and a lost event may be a close.
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            _ => {
                self.files().written.clear();
                return self.changed.notify_one();
            }
        };
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let mut files = self.files();
        for path in &event.paths {
            let is_ours = path
                .file_name()
                .is_some_and(|name| files.names.contains(name));
            match event.kind {
                EventKind::Modify(ModifyKind::Data(_)) if cfg!(target_os = "linux") && is_ours => {
                    files.written.insert(path.clone());
                }
                EventKind::Create(_)
                | EventKind::Remove(_)
                | EventKind::Modify(ModifyKind::Name(_)) => {
                    files.written.remove(path);
                }
                kind if kind == closed => {
                    files.written.remove(path);
                }
                _ => {}
            }
        }
        drop(files);
        // Our own reading is told, too.
        if !event.kind.is_access() || event.kind == closed {
            self.changed.notify_one();
        }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a program has changed a file and not closed it yet.
    pub(super) fn is_written(&self) -> bool {
        !self.files().written.is_empty()
    }

    /// Logs which file a program keeps open.
    fn warn_of_writer(&self) {
        if let Some(file) = self.files().written.first() {
            tracing::warn!(
                "`{}` is still open for writing; it will be read when the program that writes it closes it, or on SIGHUP",
                file.display()
            );
        }
    }
}

impl Causes {
    /// # Errors
    /// Where the system gives no signals.
    pub(super) fn new(mode: WatchMode) -> io::Result<Self> {
        let heard = Arc::new(Heard::default());
        let watcher = match mode {
            WatchMode::Auto | WatchMode::Poll => watcher(mode, Arc::clone(&heard)),
            WatchMode::Off => None,
        };
        Ok(Self {
            mode,
            watcher,
            watched: BTreeSet::new(),
            has_mounted: false,
            heard,
            hangup: Hangup::new()?,
        })
    }

    /// Watches `files`, their folders, and the folders of what they are links to.
    pub(super) fn observe(&mut self, files: &[PathBuf]) {
        self.has_mounted = files.iter().any(|file| Mounted::of(file).is_single);
        // Between two watches, the report of a close would be lost.
        if self.watcher.is_none() || self.heard.is_written() {
            return;
        }
        let name = |file: &PathBuf| file.file_name().map(OsString::from);
        self.heard.files().names = files.iter().filter_map(name).collect();
        let folders: BTreeSet<PathBuf> = files
            .iter()
            .flat_map(|file| [Some(file.clone()), file.canonicalize().ok()])
            .flatten()
            .map(|file| folder_of(&file))
            .collect();
        if let Err(error) = self.watch(&folders, files) {
            warn_of_polling(self.mode, &error);
            self.watcher = None;
        }
        self.heard.files().written.clear();
    }

    /// Watches `folders`, and those of `files` that exist, instead of what was watched before.
    ///
    /// # Errors
    /// A folder cannot be watched.
    fn watch(&mut self, folders: &BTreeSet<PathBuf>, files: &[PathBuf]) -> notify::Result<()> {
        let Some(watcher) = &mut self.watcher else {
            return Ok(());
        };
        // Also the known paths: each may now be another folder or file of the same name.
        for path in std::mem::take(&mut self.watched) {
            drop(watcher.unwatch(&path));
        }
        for folder in folders {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
            self.watched.insert(folder.clone());
        }
        // On other systems the folder reports all changes.
        for file in files.iter().filter(|_| cfg!(target_os = "linux")) {
            if watcher.watch(file, RecursiveMode::NonRecursive).is_ok() {
                self.watched.insert(file.clone());
            }
        }
        Ok(())
    }

    /// Waits until a file may have changed.
    pub(super) async fn next(&mut self) -> Cause {
        let pause = match (self.mode, &self.watcher) {
            (WatchMode::Off, _) => None,
            (WatchMode::Auto, Some(_)) if !self.has_mounted => Some(LOOK_EVERY),
            _ => Some(POLL_EVERY),
        };
        tokio::select! {
            () = self.hangup.next() => Cause::Asked,
            () = self.heard.changed.notified(), if self.mode == WatchMode::Auto => self.quiet().await,
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => Cause::Time,
        }
    }

    /// Returns what the file system has reported.
    pub(super) fn heard(&self) -> Arc<Heard> {
        Arc::clone(&self.heard)
    }

    /// Waits until an edit seems to be over, or until SIGHUP.
    async fn quiet(&mut self) -> Cause {
        let begun = Instant::now();
        let mut is_reported = false;
        loop {
            let limit = if !self.heard.is_written() {
                QUIET
            } else if is_reported {
                Duration::MAX
            } else {
                WRITING.saturating_sub(begun.elapsed())
            };
            let is_quiet = tokio::select! {
                () = self.hangup.next() => return Cause::Asked,
                changed = timeout(limit, self.heard.changed.notified()) => changed.is_err(),
            };
            if !self.heard.is_written() {
                if is_quiet || begun.elapsed() >= PATIENCE {
                    return Cause::Reported;
                }
            } else if !is_reported && begun.elapsed() >= WRITING {
                self.heard.warn_of_writer();
                is_reported = true;
            }
        }
    }

    /// Returns the content that `look` sees once it sees the same twice while no program writes a file, or on SIGHUP. The first look saw `seen`.
    pub(super) async fn steady(&mut self, seen: u64, look: impl Fn() -> u64) -> (u64, Cause) {
        let heard = &self.heard;
        tokio::select! {
            () = self.hangup.next() => (look(), Cause::Asked),
            content = steady(seen, &look, heard) => (content, Cause::Time),
        }
    }
}

/// See [`Causes::steady`].
async fn steady(mut seen: u64, look: impl Fn() -> u64, heard: &Heard) -> u64 {
    let begun = Instant::now();
    let mut is_reported = false;
    loop {
        tokio::time::sleep(STEADY).await;
        let again = look();
        let is_late = begun.elapsed() >= WRITING;
        if !heard.is_written() {
            if again == seen || is_late {
                return again;
            }
        } else if is_late && !is_reported {
            heard.warn_of_writer();
            is_reported = true;
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

fn watcher(mode: WatchMode, heard: Arc<Heard>) -> Option<RecommendedWatcher> {
    notify::recommended_watcher(move |event| heard.hear(event))
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
        let heard = Heard::default();
        assert_eq!(steady(1, look, &heard).await, 4);
        assert_eq!(looks.get(), 5);
        // One that changes for ever does not hold everything up.
        let look = || {
            looks.set(looks.get() + 1);
            looks.get()
        };
        let begun = Instant::now();
        steady(0, look, &heard).await;
        assert_eq!(begun.elapsed(), WRITING);
    }

    /// A change of the file `x.toml`.
    fn change(kind: EventKind) -> notify::Event {
        notify::Event::new(kind).add_path("/config/x.toml".into())
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(start_paused = true)]
    async fn a_file_that_stays_open_is_not_read_however_long_that_takes() {
        use notify::event::{DataChange, MetadataKind};

        let heard = Arc::new(Heard::default());
        heard.files().names.insert("x.toml".into());
        heard.hear(Ok(change(EventKind::Modify(ModifyKind::Data(
            DataChange::Any,
        )))));
        // A change of its permissions does not end that.
        let permissions = ModifyKind::Metadata(MetadataKind::Any);
        heard.hear(Ok(change(EventKind::Modify(permissions))));
        let long = Duration::from_hours(1);
        let read = timeout(long, steady(1, || 1, &heard)).await;
        assert!(read.is_err());
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        heard.hear(Ok(change(closed)));
        assert_eq!(steady(1, || 1, &heard).await, 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_writer_whose_close_may_be_lost_does_not_block_reloads() {
        use notify::event::{DataChange, Flag};

        let heard = Heard::default();
        heard.files().names.insert("x.toml".into());
        heard.hear(Ok(change(EventKind::Modify(ModifyKind::Data(
            DataChange::Any,
        )))));
        assert!(heard.is_written());
        heard.hear(Ok(
            notify::Event::new(EventKind::Other).set_flag(Flag::Rescan)
        ));
        assert!(!heard.is_written());
    }
}
