//! The log file. It rotates by time and by size, old files are deleted, and a file that another program moved is reopened.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use tracing_appender::rolling::{RollingFileAppender, Rotation};

use crate::error_code::ErrorCode;

/// The path of a log file and the rules for its rotation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogFile {
    /// Path of the file. If it rotates by time, the name of each file contains its date: `STEM.DATE.EXTENSION`.
    pub path: PathBuf,
    /// Interval at which a new file begins.
    pub rotation: Rotation,
    /// Size in bytes after which a new file begins. The full file gets a number: `STEM.DATE.NUMBER.EXTENSION`.
    pub max_size: u64,
    /// Number of files to keep.
    pub keep: usize,
}

/// Interval at which the writer checks that the file still exists and how large it is.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes after which the writer checks the file earlier.
const CHECK_AFTER: u64 = 1 << 18;

/// Writer of a log file. After another program moves the file, lines go to the moved file for up to [`CHECK_INTERVAL`].
#[derive(Debug)]
pub(super) struct LogWriter {
    file: LogFile,
    appender: RollingFileAppender,
    path: PathBuf,
    id: Option<FileId>,
    checked: Instant,
    /// Bytes written since the last check.
    written: u64,
}

impl LogWriter {
    /// Opens `file`, and deletes old ones.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn open(file: LogFile) -> anyhow::Result<Self> {
        let appender = appender(&file).with_context(|| {
            let path = file.path.display();
            ErrorCode::LogUnwritable.says(format!("could not write the log file `{path}`"))
        })?;
        let mut writer = Self {
            path: file.path_at(Timestamp::now()),
            file,
            appender,
            id: None,
            checked: Instant::now(),
            written: 0,
        };
        writer.record_current();
        Ok(writer)
    }

    /// Records which file is current, and deletes old ones.
    fn record_current(&mut self) {
        self.path = self.file.path_at(Timestamp::now());
        self.id = fs::metadata(&self.path).ok().map(|found| id_of(&found));
        if let Err(error) = self.file.delete_old(&self.path) {
            tracing::warn!(%error, "could not delete old log files");
        }
    }

    /// Begins a new file if the current one is full or gone.
    fn check(&mut self) -> io::Result<()> {
        self.checked = Instant::now();
        self.written = 0;
        let path = self.file.path_at(Timestamp::now());
        let found = fs::metadata(&path).ok();
        let exists = found
            .as_ref()
            .is_some_and(|found| path != self.path || self.id == Some(id_of(found)));
        let is_full = found.is_some_and(|found| found.len() >= self.file.max_size);
        if exists && is_full {
            fs::rename(&path, self.file.full_name(&path)?)?;
        }
        if !exists || is_full {
            self.appender = appender(&self.file).map_err(io::Error::other)?;
        } else if path == self.path {
            return Ok(());
        }
        self.record_current();
        Ok(())
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = self.appender.write(line)?;
        self.written += written as u64;
        if self.written >= CHECK_AFTER || self.checked.elapsed() >= CHECK_INTERVAL {
            // This line was written. If the check fails, the next one tries again.
            drop(self.check());
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.appender.flush()
    }
}

fn appender(file: &LogFile) -> Result<RollingFileAppender, tracing_appender::rolling::InitError> {
    let builder = RollingFileAppender::builder()
        .rotation(file.rotation.clone())
        .filename_prefix(text(file.path.file_stem()));
    let builder = match file.path.extension() {
        Some(extension) => builder.filename_suffix(text(Some(extension))),
        None => builder,
    };
    builder.build(file.path.parent().unwrap_or(Path::new("")))
}

/// The age of a log file: its date, and its number if it is full. Log files are ordered by age.
type Age = (String, u32);

/// The number of the current file. Full files have lower numbers.
const CURRENT: u32 = u32::MAX;

impl LogFile {
    /// Returns the path of the current log file.
    pub(crate) fn current(&self) -> PathBuf {
        self.path_at(Timestamp::now())
    }

    /// Returns the path of the file that the appender begins at `now`.
    fn path_at(&self, now: Timestamp) -> PathBuf {
        let format = match self.rotation {
            Rotation::NEVER => return self.path.clone(),
            Rotation::HOURLY => "%Y-%m-%d-%H",
            _ => "%Y-%m-%d",
        };
        self.named(&now.strftime(format).to_string())
    }

    /// Returns the path with `part` before the extension.
    fn named(&self, part: &str) -> PathBuf {
        let stem = text(self.path.file_stem());
        self.path
            .with_file_name(format!("{stem}.{part}{}", self.suffix()))
    }

    fn suffix(&self) -> String {
        let extension = self.path.extension();
        extension.map_or_else(String::new, |extension| {
            format!(".{}", extension.to_string_lossy())
        })
    }

    /// Returns the new name of the full file at `path`, with the next number.
    fn full_name(&self, path: &Path) -> io::Result<PathBuf> {
        let (date, _) = self.age_of(path).unwrap_or_default();
        let logs = self.logs()?;
        let full = logs
            .iter()
            .filter(|((of, number), _)| *of == date && *number != CURRENT);
        let last = full.map(|((_, number), _)| *number).max().unwrap_or(0);
        let next = last.saturating_add(1);
        Ok(if date.is_empty() {
            self.named(&next.to_string())
        } else {
            self.named(&format!("{date}.{next}"))
        })
    }

    /// Deletes the oldest files in excess of [`keep`](Self::keep), but never `current`.
    fn delete_old(&self, current: &Path) -> io::Result<()> {
        excess(self.logs()?, current, self.keep)
            .iter()
            .try_for_each(fs::remove_file)
    }

    /// Returns the log files in the folder, with their ages.
    fn logs(&self) -> io::Result<Vec<(Age, PathBuf)>> {
        let folder = self.path.parent();
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
        let entries = fs::read_dir(folder.unwrap_or(Path::new(".")))?;
        let paths =
            entries.filter_map(|entry| Some(self.path.with_file_name(entry.ok()?.file_name())));
        Ok(paths
            .filter_map(|path| Some((self.age_of(&path)?, path)))
            .collect())
    }

    /// Returns the age of the log file at `path`; `None` if the path does not have the name of a log file.
    fn age_of(&self, path: &Path) -> Option<Age> {
        let name = text(path.file_name());
        let rest = name.strip_prefix(&text(self.path.file_stem()))?;
        let rest = rest.strip_suffix(&self.suffix())?;
        let (date, number) = if self.rotation == Rotation::NEVER {
            ("", rest)
        } else {
            let rest = rest.strip_prefix('.')?;
            let end = rest.find('.').unwrap_or(rest.len());
            rest.split_at(end)
        };
        if !date.is_empty() && !is_date(date) {
            return None;
        }
        let number = match number {
            "" => CURRENT,
            number => number
                .strip_prefix('.')
                .filter(|text| is_number(text))?
                .parse()
                .ok()?,
        };
        Some((date.to_owned(), number))
    }
}

/// Returns which of `logs` to delete so that `keep` are left, oldest first. Never the current one, even if others are newer because the clock
/// was set back.
fn excess(mut logs: Vec<(Age, PathBuf)>, current: &Path, keep: usize) -> Vec<PathBuf> {
    logs.sort();
    let excess = logs.len().saturating_sub(keep);
    let others = logs.into_iter().filter(|(_, path)| path != current);
    others.take(excess).map(|(_, path)| path).collect()
}

/// Returns whether `text` is a date, perhaps with an hour, as the appender writes it.
fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let fits = |(part, digits): (&&str, usize)| part.len() == digits && is_number(part);
    matches!(parts.len(), 3 | 4) && parts.iter().zip([4, 2, 2, 2]).all(fits)
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn text(part: Option<&OsStr>) -> String {
    part.unwrap_or_default().to_string_lossy().into_owned()
}

/// Identity of a file independent of its name: device and inode. Only Unix can move open files, so other systems need none.
#[cfg(unix)]
type FileId = (u64, u64);

#[cfg(unix)]
fn id_of(file: &Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt;
    (file.dev(), file.ino())
}

/// This system has no numbers of files: all are equal.
#[cfg(not(unix))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId;

#[cfg(not(unix))]
fn id_of(_: &Metadata) -> FileId {
    FileId
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daily() -> LogFile {
        LogFile {
            path: "x/app.log".into(),
            rotation: Rotation::DAILY,
            max_size: 1 << 20,
            keep: 2,
        }
    }

    fn never() -> LogFile {
        LogFile {
            rotation: Rotation::NEVER,
            ..daily()
        }
    }

    #[test]
    fn only_names_with_a_date_are_logs_of_a_daily_rotation() {
        let is_log = |name: &str| daily().age_of(&Path::new("x").join(name)).is_some();
        for log in [
            "app.2026-11-24.log",
            "app.2026-11-24-05.log",
            "app.2026-11-24.3.log",
        ] {
            assert!(is_log(log), "{log}");
        }
        for other in [
            "app.log",
            "app.1.log",
            "app.important.log",
            "app.2025.backup.log",
            "app-2026-11-24.log",
            "app.2026-11-24.log.gz",
            "app.2026-11-24.x.log",
            "app.2026-11-24..log",
            "app.20-11-24.log",
        ] {
            assert!(!is_log(other), "{other}");
        }
    }

    #[test]
    fn without_rotation_by_time_full_logs_have_numbers() {
        let age_of = |name: &str| never().age_of(&Path::new("x").join(name));
        assert_eq!(age_of("app.log"), Some((String::new(), CURRENT)));
        assert_eq!(age_of("app.12.log"), Some((String::new(), 12)));
        assert_eq!(age_of("app.2026-11-24.log"), None);
        assert_eq!(age_of("app.old.log"), None);
    }

    #[test]
    fn the_oldest_logs_are_deleted_and_never_the_current_one() {
        let names = |logs: &[&str], current: &str| {
            let age = |name: &&str| {
                let path = PathBuf::from(format!("x/{name}"));
                (daily().age_of(&path).unwrap(), path)
            };
            let current = PathBuf::from(format!("x/{current}"));
            let gone = excess(logs.iter().map(age).collect(), &current, 2);
            let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
            gone.into_iter().map(name).collect::<Vec<_>>()
        };
        let [first, full, second, third] = [
            "app.2026-11-01.log",
            "app.2026-11-02.9.log",
            "app.2026-11-02.log",
            "app.2026-11-03.log",
        ];
        assert_eq!(names(&[third, first, second, full], third), [first, full]);
        // The clock was set back.
        assert_eq!(names(&[third, first, second], first), [second]);
        assert_eq!(names(&[third, first], first), [""; 0]);
    }

    #[test]
    fn a_full_log_gets_a_number_and_the_oldest_are_deleted() {
        let folder = std::env::temp_dir().join(format!("llama-mcp-log-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut writer = LogWriter::open(LogFile {
            path: folder.join("app.log"),
            ..never()
        })
        .unwrap();
        let line = vec![b'x'; 1 << 18];
        for _ in 0..20 {
            writer.write_all(&line).unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let length = fs::metadata(folder.join("app.5.log")).unwrap().len();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(names, ["app.5.log", "app.log"]);
        assert_eq!(length, 1 << 20);
    }

    #[test]
    fn the_current_log_has_the_name_that_the_appender_gives() {
        let now: Timestamp = "2026-11-24T05:59:59Z".parse().unwrap();
        let hourly = LogFile {
            rotation: Rotation::HOURLY,
            ..daily()
        };
        assert_eq!(daily().path_at(now), Path::new("x/app.2026-11-24.log"));
        assert_eq!(hourly.path_at(now), Path::new("x/app.2026-11-24-05.log"));
        assert_eq!(never().path_at(now), Path::new("x/app.log"));
    }
}
