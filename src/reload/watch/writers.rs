//! Which files a program is still writing. Pure.
//!
//! Only Linux reports the close of a file. The report may never come: `truncate` changes a file without opening it, and a report may be
//! lost. So a file that nobody has changed for [`ABANDONED`] counts as complete, and so does one that a program changes for [`ENDLESS`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::EventKind;
use notify::event::{AccessKind, AccessMode, ModifyKind};
use tokio::time::Instant;

/// A file that is open for writing for longer than this is reported in the log.
pub(super) const WRITING: Duration = Duration::from_secs(10);

/// A file that is open for writing, but was not changed for this long, counts as complete. Programs write a configuration in one go, so
/// this is long enough for a slow one. It is also the longest time that a close that was not reported delays a revocation.
pub(super) const ABANDONED: Duration = Duration::from_secs(30);

/// A file that a program changes for this long without closing it counts as complete: nobody may delay a revocation for ever.
const ENDLESS: Duration = Duration::from_mins(1);

/// A file that a program has changed and not closed yet.
struct Writer {
    path: PathBuf,
    begun: Instant,
    /// When the file was last changed.
    changed: Instant,
    is_reported: bool,
    /// Whether the file counts as complete until it is closed, or was not changed for [`ABANDONED`].
    is_given_up: bool,
}

/// A message about a file for the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The file has been open for writing for [`WRITING`].
    Open(PathBuf),
    /// The file counts as complete from now on, see [`ABANDONED`].
    Abandoned(PathBuf),
}

/// State of the files of the configuration.
#[derive(Default)]
pub(super) struct Writers {
    /// The file that each path names, by its number. A file has several paths if it is reached through a link.
    files: BTreeMap<PathBuf, usize>,
    /// Rights depend on the files with lower numbers.
    guarding: usize,
    writers: BTreeMap<usize, Writer>,
}

impl Writers {
    /// Sets the paths of the files. Rights depend on the first `guarding` files.
    pub(super) fn observe(&mut self, files: BTreeMap<PathBuf, usize>, guarding: usize) {
        self.files = files;
        self.guarding = guarding;
        self.writers.clear();
    }

    /// Records that the file system has reported a change of `path` at the time `now`. Returns whether the files must be read again.
    pub(super) fn handle(&mut self, kind: EventKind, path: &Path, now: Instant) -> bool {
        let file = self.files.get(path).copied();
        // Elsewhere a folder may report a change of its files as its own.
        let is_ours = file.is_some() || cfg!(not(target_os = "linux"));
        match kind {
            EventKind::Modify(ModifyKind::Data(_)) => {
                if let Some(file) = file.filter(|_| cfg!(target_os = "linux")) {
                    let writer = self.writers.entry(file).or_insert_with(|| Writer {
                        path: path.to_owned(),
                        begun: now,
                        changed: now,
                        is_reported: false,
                        is_given_up: false,
                    });
                    writer.changed = now;
                }
                is_ours
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                self.close(file);
                is_ours
            }
            EventKind::Create(_)
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_)) => {
                // The path names a new file.
                self.close(file);
                true
            }
            // Our own reading is reported, too.
            kind => !kind.is_access(),
        }
    }

    fn close(&mut self, file: Option<usize>) {
        if let Some(file) = file {
            self.writers.remove(&file);
        }
    }

    /// Treats all files as complete.
    pub(super) fn clear(&mut self) {
        self.writers.clear();
    }

    /// Returns whether a file is being written.
    pub(super) fn is_written(&self) -> bool {
        self.writers.values().any(|writer| !writer.is_given_up)
    }

    /// Returns whether a file that rights depend on is being written.
    pub(super) fn is_guard_written(&self) -> bool {
        let mut guards = self.writers.range(..self.guarding);
        guards.any(|(_, writer)| !writer.is_given_up)
    }

    /// Treats files as complete that were not changed for [`ABANDONED`], or are changed for [`ENDLESS`]. Returns what the log should say about
    /// files, each notice once.
    pub(super) fn settle(&mut self, now: Instant) -> Vec<Notice> {
        let mut notices = Vec::new();
        self.writers.retain(|_, writer| {
            let path = || writer.path.clone();
            let is_abandoned = now >= writer.changed + ABANDONED;
            if writer.is_given_up {
                return !is_abandoned;
            }
            if is_abandoned || now >= writer.begun + ENDLESS {
                notices.push(Notice::Abandoned(path()));
                writer.is_given_up = true;
                return !is_abandoned;
            }
            if !writer.is_reported && now >= writer.begun + WRITING {
                notices.push(Notice::Open(path()));
                writer.is_reported = true;
            }
            true
        });
        notices
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use notify::event::{CreateKind, DataChange, MetadataKind, RemoveKind, RenameMode};

    use super::*;

    const CHANGE: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSE: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));

    /// A configuration `/a/x.toml`, which is a link to `/b/x.toml`, and a prompt.
    fn writers() -> Writers {
        let mut writers = Writers::default();
        let files = [("/a/x.toml", 0), ("/b/x.toml", 0), ("/a/prompt.txt", 1)];
        let files = files.map(|(path, file)| (path.into(), file));
        writers.observe(files.into(), 1);
        writers
    }

    #[test]
    fn a_file_that_is_written_without_end_counts_as_complete_until_it_is_closed() {
        let (mut writers, begun) = (writers(), Instant::now());
        let path = Path::new("/a/x.toml");
        for seconds in 0..65 {
            let now = begun + Duration::from_secs(seconds);
            writers.handle(CHANGE, path, now);
            writers.settle(now);
            assert_eq!(writers.is_guard_written(), seconds < 60, "{seconds}");
        }
        writers.handle(CLOSE, path, begun);
        writers.handle(CHANGE, path, begun);
        assert!(writers.is_guard_written());
    }

    #[test]
    fn a_file_is_being_written_from_its_first_change_to_its_close() {
        let (mut writers, now) = (writers(), Instant::now());
        assert!(writers.handle(CHANGE, Path::new("/a/x.toml"), now));
        assert!(writers.is_written());
        // A change of its permissions does not end that.
        let permissions = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
        assert!(writers.handle(permissions, Path::new("/a/x.toml"), now));
        assert!(writers.is_written());
        assert!(writers.handle(CLOSE, Path::new("/a/x.toml"), now));
        assert!(!writers.is_written());
    }

    #[test]
    fn the_close_of_any_path_of_a_file_counts() {
        let (mut writers, now) = (writers(), Instant::now());
        writers.handle(CHANGE, Path::new("/a/x.toml"), now);
        writers.handle(CHANGE, Path::new("/b/./x.toml"), now);
        writers.handle(CLOSE, Path::new("/b/x.toml"), now);
        assert!(!writers.is_written());
    }

    #[test]
    fn a_new_file_under_any_path_ends_the_writing_of_the_old_one() {
        for kind in [
            EventKind::Create(CreateKind::File),
            EventKind::Remove(RemoveKind::File),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)),
        ] {
            let (mut writers, now) = (writers(), Instant::now());
            writers.handle(CHANGE, Path::new("/a/x.toml"), now);
            assert!(writers.handle(kind, Path::new("/b/x.toml"), now));
            assert!(!writers.is_written(), "{kind:?}");
        }
    }

    #[test]
    fn changes_of_other_files_are_no_reason_to_read_even_if_they_have_the_same_name() {
        let (mut writers, now) = (writers(), Instant::now());
        for path in ["/c/x.toml", "/a/notes.txt", "/a"] {
            assert!(!writers.handle(CHANGE, Path::new(path), now), "{path}");
            assert!(!writers.handle(CLOSE, Path::new(path), now), "{path}");
        }
        assert!(!writers.is_written());
        // A link that files are reached through may be replaced.
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        assert!(writers.handle(renamed, Path::new("/a/..data"), now));
    }

    #[test]
    fn a_file_that_is_never_closed_counts_as_complete_some_time_after_its_last_change() {
        let (mut writers, now) = (writers(), Instant::now());
        writers.handle(CHANGE, Path::new("/a/x.toml"), now);
        assert_eq!(writers.settle(now), []);
        let later = now + WRITING;
        let open = Notice::Open("/a/x.toml".into());
        assert_eq!(writers.settle(later), [open]);
        writers.handle(CHANGE, Path::new("/a/x.toml"), later);
        assert_eq!(writers.settle(now + ABANDONED), []);
        assert!(writers.is_written());
        let abandoned = Notice::Abandoned("/a/x.toml".into());
        assert_eq!(writers.settle(later + ABANDONED), [abandoned]);
        assert!(!writers.is_written());
    }

    #[test]
    fn rights_depend_on_the_first_files_only() {
        let (mut writers, now) = (writers(), Instant::now());
        writers.handle(CHANGE, Path::new("/a/prompt.txt"), now);
        assert!(writers.is_written() && !writers.is_guard_written());
        writers.handle(CHANGE, Path::new("/a/x.toml"), now);
        assert!(writers.is_guard_written());
        writers.clear();
        assert!(!writers.is_written());
    }
}
