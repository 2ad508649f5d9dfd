//! Logs: tracing to standard error, and the way of a worker's log lines into the server's.

pub mod call;
pub mod metrics;

use std::collections::VecDeque;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::error_code::ErrorCode;
use crate::threads;

/// llama.cpp tells a hundred lines about every load, and warns of what is no fault here (a cache for several calls is
/// larger than the trained context), so it is quiet where nobody asks. The watcher of files tells what becomes of its own
/// handles.
const QUIET_LLAMA: &str = "llama-cpp-2=error,notify=error";

/// What a worker of the server that logs at `level` is told by `RUST_LOG`; none where that says it already.
pub fn worker_level(level: &str) -> Option<(&'static str, String)> {
    let is_said = env::var_os(EnvFilter::DEFAULT_ENV).is_some_and(|level| !level.is_empty());
    (!is_said).then(|| (EnvFilter::DEFAULT_ENV, format!("{QUIET_LLAMA},{level}")))
}

/// Lines that wait to be written, at most. Each has its place from the start, 32 bytes: the crate's 128,000 would be most of
/// what an idle server has of its own.
const MAX_UNWRITTEN: usize = 8192;

/// What a worker logs that is started by hand, where `RUST_LOG` does not say.
const DEFAULT_LEVEL: &str = "info";

/// Where the server logs to, and what.
#[derive(Debug, Clone, PartialEq)]
pub struct LogOutput {
    /// A level, or levels by module; `RUST_LOG` goes before.
    pub level: String,
    /// An object a line instead of text.
    pub is_json: bool,
    /// Instead of standard error.
    pub file: Option<LogFile>,
}

/// A log file.
#[derive(Debug, Clone, PartialEq)]
pub struct LogFile {
    /// Its path; where it rotates, its time is put into the name.
    pub path: PathBuf,
    /// When a new one begins.
    pub rotation: Rotation,
    /// How many are kept.
    pub keep: usize,
}

/// Whether `text` says what to log.
pub fn is_filter(text: &str) -> bool {
    // A bare word is a module to the filter, and a slip to people.
    let is_sound = |part: &str| {
        !part.trim().is_empty()
            && (part.contains('=') || part.trim().parse::<LevelFilter>().is_ok())
    };
    text.split(',').all(is_sound) && EnvFilter::try_new(text).is_ok()
}

/// The filter, and what is wrong with `RUST_LOG`, which then does not count.
fn filter(level: &str) -> (EnvFilter, Option<String>) {
    let configured = || EnvFilter::new(format!("{QUIET_LLAMA},{level}"));
    match env::var(EnvFilter::DEFAULT_ENV)
        .ok()
        .filter(|text| !text.is_empty())
    {
        None => (configured(), None),
        Some(text) => match EnvFilter::try_new(&text) {
            // Each line of a log beside the configuration would be an event that is logged.
            Ok(filter) if !text.contains("notify") => (
                filter.add_directive("notify=error".parse().expect("it is a directive")),
                None,
            ),
            Ok(filter) => (filter, None),
            Err(error) => (configured(), Some(format!("RUST_LOG=`{text}`: {error}"))),
        },
    }
}

/// Logs of the server: people read them. Written by a thread, and dropped where nobody reads: a full pipe must not stop
/// the server. What was logged is written when the guard is dropped.
///
/// # Errors
/// A file that cannot be written.
pub fn init_server(output: &LogOutput) -> anyhow::Result<WorkerGuard> {
    let builder = NonBlockingBuilder::default().buffered_lines_limit(MAX_UNWRITTEN);
    let (writer, guard) = match &output.file {
        Some(file) => {
            let appender = appender(file)?;
            delete_old_files(file.clone());
            builder.finish(appender)
        }
        None => builder.finish(std::io::stderr()),
    };
    let is_terminal = output.file.is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = fmt::layer().with_writer(writer).with_ansi(is_terminal);
    let lines = if output.is_json {
        lines.json().boxed()
    } else {
        lines.boxed()
    };
    let (filter, problem) = filter(&output.level);
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .init();
    if let Some(problem) = problem {
        tracing::warn!("{problem}");
    }
    Ok(guard)
}

/// Deletes log files beyond those that are kept, now and every hour. The appender's own way takes every file of a like name
/// for a log.
fn delete_old_files(file: LogFile) {
    if file.rotation == Rotation::NEVER {
        return;
    }
    // The appender never goes back to an earlier file, so where the clock is set back while it runs its file stays the latest.
    let mut current = String::new();
    let started = threads::start("log-cleaner", move || {
        loop {
            current = current.max(period(&file.rotation, Timestamp::now()));
            if let Err(error) = delete_beyond(&file, &current) {
                tracing::warn!(%error, "old log files stay");
            }
            std::thread::sleep(Duration::from_hours(1));
        }
    });
    if let Err(limit) = started {
        tracing::warn!("old log files stay: {limit}");
    }
}

/// What the appender puts into the name of a file that it begins at `now`.
fn period(rotation: &Rotation, now: Timestamp) -> String {
    let format = if *rotation == Rotation::HOURLY {
        "%Y-%m-%d-%H"
    } else {
        "%Y-%m-%d"
    };
    now.strftime(format).to_string()
}

/// `current` is the time in the name of the file that is written.
fn delete_beyond(file: &LogFile, current: &str) -> std::io::Result<()> {
    let folder = file
        .path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let logs = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| Some((date_of(&path, &file.path)?, path)));
    beyond(logs.collect(), current, file.keep)
        .iter()
        .try_for_each(std::fs::remove_file)
}

/// Which of the log files with these dates go: the oldest, and never the current one, though the clock was set back and others
/// are from times to come.
fn beyond(mut logs: Vec<(String, PathBuf)>, current: &str, keep: usize) -> Vec<PathBuf> {
    logs.sort();
    let beyond = logs.len().saturating_sub(keep);
    let others = logs.into_iter().filter(|(date, _)| date != current);
    others.take(beyond).map(|(_, path)| path).collect()
}

/// The date in the name of `path` if it is called as the appender calls the files of `log`: `STEM.DATE.EXTENSION`.
fn date_of(path: &Path, log: &Path) -> Option<String> {
    let text = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let name = text(path.file_name());
    let suffix = log
        .extension()
        .map(|extension| format!(".{}", extension.to_string_lossy()))
        .unwrap_or_default();
    let date = name
        .strip_prefix(&text(log.file_stem()))
        .and_then(|rest| rest.strip_prefix('.')?.strip_suffix(&suffix))?;
    let is_date = {
        let parts: Vec<&str> = date.split('-').collect();
        let is_number = |(part, digits): (&&str, usize)| {
            part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        matches!(parts.len(), 3 | 4) && parts.iter().zip([4, 2, 2, 2]).all(is_number)
    };
    is_date.then(|| date.to_owned())
}

fn appender(file: &LogFile) -> anyhow::Result<RollingFileAppender> {
    let folder = file.path.parent().unwrap_or(Path::new("")).to_path_buf();
    let part = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let builder = RollingFileAppender::builder()
        .rotation(file.rotation.clone())
        .filename_prefix(part(file.path.file_stem()));
    let builder = match file.path.extension() {
        Some(extension) => builder.filename_suffix(part(Some(extension))),
        None => builder,
    };
    builder.build(folder).with_context(|| {
        let path = file.path.display();
        ErrorCode::LogUnwritable.says(format!("could not write the log file `{path}`"))
    })
}

/// Logs of a worker: `LEVEL target: message` a line, which [`relay`] reads in the server. llama.cpp's errors are kept
/// whatever the filter is.
pub fn init_worker() {
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time();
    tracing_subscriber::registry()
        .with(lines.with_filter(filter(DEFAULT_LEVEL).0))
        .with(LastErrors.with_filter(LevelFilter::ERROR))
        .init();
}

/// Logs a line that a worker wrote to its standard error, with the level and the kind of target that it was written with.
///
/// What is not a log line was printed by llama.cpp itself.
pub fn relay(model: &str, line: &str) {
    let line = line.trim();
    if line.is_empty() {
        return;
    }
    let (level, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (target, message) = rest.trim_start().split_once(": ").unwrap_or(("", rest));
    let Ok(level) = level.parse::<Level>() else {
        return tracing::warn!(target: "llama-cpp-2", model, "{line}");
    };
    // A target must be a constant, and so must a level.
    macro_rules! log {
        ($target:expr) => {
            match level {
                Level::ERROR => tracing::error!(target: $target, model, "{message}"),
                Level::WARN => tracing::warn!(target: $target, model, "{message}"),
                Level::INFO => tracing::info!(target: $target, model, "{message}"),
                Level::DEBUG => tracing::debug!(target: $target, model, "{message}"),
                Level::TRACE => tracing::trace!(target: $target, model, "{message}"),
            }
        };
    }
    if target.starts_with("llama-cpp-2") {
        log!("llama-cpp-2");
    } else {
        log!("llama_mcp_server::worker");
    }
}

/// Returns whether `line` of a worker's standard error may be the reason of a crash: an error, or what llama.cpp printed itself,
/// for example the message of an abort.
pub fn may_explain_crash(line: &str) -> bool {
    let level = line.split_whitespace().next().map(str::parse);
    level.is_some_and(|level| matches!(level, Ok(Level::ERROR) | Err(_)))
}

/// How many of llama.cpp's last error lines are kept: a failed load logs two or three.
const KEPT_ERRORS: usize = 4;

static ERRORS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// llama.cpp's last error lines in this process, oldest first: it gives its reasons nowhere else.
pub fn last_llama_errors() -> Vec<String> {
    ERRORS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .cloned()
        .collect()
}

struct LastErrors;

impl<S: Subscriber> Layer<S> for LastErrors {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "llama-cpp-2" {
            return;
        }
        let mut line = Message(String::new());
        event.record(&mut line);
        let mut errors = ERRORS.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() == KEPT_ERRORS {
            errors.pop_front();
        }
        errors.push_back(line.0.trim().to_owned());
    }
}

struct Message(String);

impl Visit for Message {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_are_named_by_a_date_are_logs() {
        let is_log = |name: &str| date_of(Path::new(name), Path::new("x/app.log")).is_some();
        for log in ["app.2026-11-24.log", "app.2026-11-24-05.log"] {
            assert!(is_log(log), "{log}");
        }
        for other in [
            "app.log",
            "app.important.log",
            "app.2025.backup.log",
            "app-2026-11-24.log",
            "app.2026-11-24.log.gz",
            "app.20-11-24.log",
        ] {
            assert!(!is_log(other), "{other}");
        }
    }

    #[test]
    fn the_current_log_stays_though_the_clock_was_set_back() {
        let file = |day: u8| (format!("2026-11-0{day}"), PathBuf::from(day.to_string()));
        let days = |days: &[u8]| days.iter().copied().map(file).collect::<Vec<_>>();
        let gone = |logs: &[u8], current: u8, keep| beyond(days(logs), &file(current).0, keep);
        let paths = |logs: &[u8]| days(logs).into_iter().map(|(_, path)| path);
        let check = |found: Vec<PathBuf>, logs: &[u8]| assert!(found.into_iter().eq(paths(logs)));
        check(gone(&[3, 1, 2, 4], 4, 2), &[1, 2]);
        check(gone(&[3, 1, 2, 4], 1, 2), &[2, 3]);
        check(gone(&[3, 1], 1, 1), &[3]);
        check(gone(&[3, 1], 1, 2), &[]);
    }

    #[test]
    fn the_current_log_is_told_by_the_name_that_the_appender_gives() {
        let now: Timestamp = "2026-11-24T05:59:59Z".parse().unwrap();
        assert_eq!(period(&Rotation::DAILY, now), "2026-11-24");
        assert_eq!(period(&Rotation::HOURLY, now), "2026-11-24-05");
    }

    #[test]
    fn a_misspelled_level_is_no_filter() {
        assert!(is_filter("info,llama_mcp_server=debug") && is_filter("off"));
        assert!(!is_filter("foo") && !is_filter("") && !is_filter("info,bar"));
    }
}
