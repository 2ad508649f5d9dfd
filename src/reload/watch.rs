//! Waits for a reason to read the files again: a change that the file system reports, the polling interval, SIGHUP.
//!
//! A file that a program is still writing is not read: on Linux the file system reports the first change and the close ([`writers`]). It
//! does not report the close if another machine writes the file; then the file is read once two looks at it see the same content.

mod folders;
mod writers;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::config::file::WatchMode;
pub(super) use folders::Watched;
use writers::{ABANDONED, Notice, WRITING, Writers};

/// Debounce time: an edit makes many changes, and is over once there was none for this long.
const QUIET: Duration = Duration::from_millis(100);

/// After this long the files are read even if changes of closed files go on.
const LONGEST_EDIT: Duration = Duration::from_secs(2);

/// Polling interval if the file system does not report changes.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// If the file system does not report changes, an edit is over once two looks this far apart see the same content. While a program writes a
/// file, this is how often it is checked whether the file counts as complete.
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
    /// A file may have changed while a program writes another one, on which no rights depend. Only rights can be read.
    RightsOnly,
}

/// Waits for the next cause to read the files again.
pub(super) struct Causes {
    mode: WatchMode,
    watch_state: Arc<WatchState>,
    hangup: Hangup,
}

/// State that the watcher's thread updates.
#[derive(Default)]
pub(super) struct WatchState {
    changed: Notify,
    writers: Mutex<Writers>,
}

impl WatchState {
    fn handle(&self, event: notify::Result<notify::Event>) {
        let is_reason = match event {
            Ok(event) if !event.need_rescan() => {
                let (mut writers, now) = (self.writers(), Instant::now());
                let handle =
                    |is_reason, path: &PathBuf| writers.handle(event.kind, path, now) || is_reason;
                event.paths.iter().fold(false, handle)
            }
            // An error may hide a change, and a lost event may be a close.
            _ => {
                self.clear();
                true
            }
        };
        if is_reason {
            self.changed.notify_one();
        }
    }

    /// See [`Writers::observe`].
    fn observe(&self, files: BTreeMap<PathBuf, usize>, guarding: usize) {
        self.writers().observe(files, guarding);
    }

    /// Treats all files as complete.
    pub(super) fn clear(&self) {
        self.writers().clear();
    }

    /// Checks the programs that write files, and returns whether one is still writing. Logs which file stays open for long, and which one counts
    /// as complete from now on.
    pub(super) fn check_writers(&self) -> bool {
        let (notices, is_written) = {
            let mut writers = self.writers();
            (writers.settle(Instant::now()), writers.is_written())
        };
        // The watcher's thread does not wait for the log.
        for notice in notices {
            match notice {
                Notice::Open(file) => tracing::warn!(
                    "`{}` is still open for writing; it will be read when the program that writes it closes it, {} s after its last change, or on SIGHUP",
                    file.display(),
                    ABANDONED.as_secs()
                ),
                Notice::Abandoned(file) => tracing::warn!(
                    "`{}` is not closed by the program that writes it, or its close was not reported; it is read now",
                    file.display()
                ),
            }
        }
        is_written
    }

    /// Returns whether a program is writing a file that rights depend on.
    pub(super) fn is_guard_written(&self) -> bool {
        self.check_writers() && self.writers().is_guard_written()
    }

    fn writers(&self) -> MutexGuard<'_, Writers> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Causes {
    /// Returns the causes, and what is to be watched for them.
    ///
    /// # Errors
    /// The system does not deliver signals.
    pub(super) fn new(mode: WatchMode) -> io::Result<(Self, Watched)> {
        let watch_state = Arc::new(WatchState::default());
        let watched = Watched::new(mode, Arc::clone(&watch_state));
        let hangup = Hangup::new()?;
        let causes = Self {
            mode,
            watch_state,
            hangup,
        };
        Ok((causes, watched))
    }

    /// Waits until a file may have changed. `has_reports`: the file system reports all changes, as far as known.
    pub(super) async fn next(&mut self, has_reports: bool) -> Cause {
        let pause = match self.mode {
            WatchMode::Off => None,
            WatchMode::Auto if has_reports => Some(LOOK_EVERY),
            _ => Some(POLL_EVERY),
        };
        let is_auto = self.mode == WatchMode::Auto;
        let is_open = is_auto && self.watch_state.check_writers();
        tokio::select! {
            biased;
            () = self.hangup.next() => Cause::Asked,
            () = self.watch_state.changed.notified(), if is_auto => self.quiet(true).await,
            () = std::future::ready(()), if is_open => self.quiet(false).await,
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => Cause::Time,
        }
    }

    /// Returns what the file system has reported.
    pub(super) fn watch_state(&self) -> Arc<WatchState> {
        Arc::clone(&self.watch_state)
    }

    /// Waits until an edit seems to be over, or until SIGHUP. `is_new`: there was a change since the last cause.
    async fn quiet(&mut self, mut is_new: bool) -> Cause {
        let begun = Instant::now();
        loop {
            let is_open = self.watch_state.check_writers();
            let limit = if is_open && !is_new { STEADY } else { QUIET };
            let is_quiet = tokio::select! {
                () = self.hangup.next() => return Cause::Asked,
                changed = timeout(limit, self.watch_state.changed.notified()) => changed.is_err(),
            };
            is_new |= !is_quiet;
            let is_over = is_quiet || begun.elapsed() >= LONGEST_EDIT;
            if is_over && !self.watch_state.check_writers() {
                return Cause::Reported;
            }
            if is_over && is_new && !self.watch_state.is_guard_written() {
                return Cause::RightsOnly;
            }
            // The file that rights depend on reports its close.
            is_new &= !is_over;
        }
    }

    /// Calls `read` until it returns the same content twice while no program writes a file, or until SIGHUP, and returns the content. A read
    /// before this call returned `seen`.
    pub(super) async fn steady<C: PartialEq, L: Future<Output = C>>(
        &mut self,
        seen: C,
        read: impl Fn() -> L,
    ) -> (C, Cause) {
        let watch_state = &self.watch_state;
        tokio::select! {
            () = self.hangup.next() => (read().await, Cause::Asked),
            steady = steady(seen, &read, watch_state) => steady,
        }
    }
}

/// See [`Causes::steady`].
async fn steady<C: PartialEq, L: Future<Output = C>>(
    mut seen: C,
    read: impl Fn() -> L,
    watch_state: &WatchState,
) -> (C, Cause) {
    let begun = Instant::now();
    loop {
        tokio::time::sleep(STEADY).await;
        let again = read().await;
        let is_over = again == seen || begun.elapsed() >= WRITING;
        if is_over && !watch_state.check_writers() {
            return (again, Cause::Time);
        }
        if is_over && !watch_state.is_guard_written() {
            return (again, Cause::RightsOnly);
        }
        seen = again;
    }
}

/// Receives SIGHUP on Unix, and never completes elsewhere.
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
    #[expect(clippy::unnecessary_wraps, reason = "the Unix version can fail")]
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
    use std::future::ready;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_still_written_is_looked_at_again() {
        let reads = Cell::new(1);
        let read = || {
            reads.set(reads.get() + 1);
            ready(reads.get().min(4))
        };
        let watch_state = WatchState::default();
        assert_eq!(steady(1, read, &watch_state).await, (4, Cause::Time));
        assert_eq!(reads.get(), 5);
        // A file that changes forever delays the reading only for a while.
        let read = || {
            reads.set(reads.get() + 1);
            ready(reads.get())
        };
        let begun = Instant::now();
        steady(0, read, &watch_state).await;
        assert_eq!(begun.elapsed(), WRITING);
    }

    #[cfg(target_os = "linux")]
    mod linux {
        use notify::event::{AccessKind, AccessMode, DataChange, Flag, ModifyKind};
        use notify::{Event, EventKind};

        use super::*;

        const CHANGE: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        const CLOSE: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));

        /// A configuration `/a/x.toml` and a prompt `/a/prompt.txt`.
        fn watch_state() -> Arc<WatchState> {
            let watch_state = Arc::new(WatchState::default());
            let files = [("/a/x.toml".into(), 0), ("/a/prompt.txt".into(), 1)];
            watch_state.observe(files.into(), 1);
            watch_state
        }

        fn report(watch_state: &WatchState, kind: EventKind, path: &str) {
            watch_state.handle(Ok(Event::new(kind).add_path(path.into())));
        }

        #[tokio::test(start_paused = true)]
        async fn a_file_that_a_program_writes_is_not_read_before_its_close() {
            let watch_state = watch_state();
            report(&watch_state, CHANGE, "/a/x.toml");
            let read = timeout(WRITING, steady(1, || ready(1), &watch_state)).await;
            assert!(read.is_err());
            report(&watch_state, CLOSE, "/a/x.toml");
            assert_eq!(steady(1, || ready(1), &watch_state).await, (1, Cause::Time));
        }

        #[tokio::test(start_paused = true)]
        async fn a_file_whose_close_is_never_reported_is_read_after_a_while() {
            let (watch_state, begun) = (watch_state(), Instant::now());
            report(&watch_state, CHANGE, "/a/x.toml");
            assert_eq!(steady(1, || ready(1), &watch_state).await, (1, Cause::Time));
            assert_eq!(begun.elapsed(), ABANDONED);
            let mut causes = causes(Arc::clone(&watch_state));
            let begun = Instant::now();
            report(&watch_state, CHANGE, "/a/x.toml");
            assert_eq!(causes.next(true).await, Cause::Reported);
            assert!(begun.elapsed() >= ABANDONED && begun.elapsed() <= ABANDONED + STEADY);
        }

        #[tokio::test(start_paused = true)]
        async fn a_prompt_that_stays_open_does_not_hold_up_the_rights() {
            let watch_state = watch_state();
            let mut causes = causes(Arc::clone(&watch_state));
            report(&watch_state, CHANGE, "/a/prompt.txt");
            report(&watch_state, CLOSE, "/a/x.toml");
            let begun = Instant::now();
            assert_eq!(causes.next(true).await, Cause::RightsOnly);
            assert_eq!(begun.elapsed(), QUIET);
            // Once for each change.
            assert!(timeout(WRITING, causes.next(true)).await.is_err());
            report(&watch_state, CLOSE, "/a/x.toml");
            assert_eq!(causes.next(true).await, Cause::RightsOnly);
            report(&watch_state, CLOSE, "/a/prompt.txt");
            assert_eq!(causes.next(true).await, Cause::Reported);
            // A poll sees the same.
            report(&watch_state, CHANGE, "/a/prompt.txt");
            assert_eq!(
                steady(1, || ready(1), &watch_state).await,
                (1, Cause::RightsOnly)
            );
        }

        #[tokio::test(start_paused = true)]
        async fn a_configuration_that_stays_open_holds_up_the_rights() {
            let watch_state = watch_state();
            let mut causes = causes(Arc::clone(&watch_state));
            report(&watch_state, CHANGE, "/a/x.toml");
            assert!(timeout(WRITING, causes.next(true)).await.is_err());
        }

        #[tokio::test(start_paused = true)]
        async fn a_writer_whose_close_may_be_lost_does_not_block_reloads() {
            let watch_state = watch_state();
            report(&watch_state, CHANGE, "/a/x.toml");
            assert!(watch_state.check_writers());
            watch_state.handle(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
            assert!(!watch_state.check_writers());
        }

        fn causes(watch_state: Arc<WatchState>) -> Causes {
            Causes {
                mode: WatchMode::Auto,
                watch_state,
                hangup: Hangup::new().unwrap(),
            }
        }
    }
}
