//! Logs and metrics. Workers log to standard error, and the server relays their lines to its own log.

pub(crate) mod call;
pub(crate) mod log_file;
pub(crate) mod metrics;
mod outcome;

use std::collections::VecDeque;
use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use log_file::{LogFile, LogWriter};

/// Directives that silence libraries by default. llama.cpp logs a hundred lines per load, and warns about a cache for several calls because
/// it is longer than the trained context. The file watcher logs its own events.
const QUIET_LLAMA: &str = "llama-cpp-2=error,notify=error";

/// Returns `RUST_LOG` for the workers of a server that logs at `level`; `None` if the server's own environment sets it.
pub(crate) fn worker_level(level: &str) -> Option<(&'static str, String)> {
    let is_set = env::var_os(EnvFilter::DEFAULT_ENV).is_some_and(|level| !level.is_empty());
    (!is_set).then(|| (EnvFilter::DEFAULT_ENV, format!("{QUIET_LLAMA},{level}")))
}

/// Returns `time` in whole milliseconds, for logs and answers.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Most lines in the queue of the log writer. The queue allocates 32 bytes per line up front; the crate's default of 128,000 lines would be
/// most of an idle server's memory.
const MAX_UNWRITTEN: usize = 8192;

/// Log level of a worker that is started by hand, without `RUST_LOG`.
const DEFAULT_LEVEL: &str = "info";

/// The level, the format and the target of the server's log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogOutput {
    /// A level, or levels by module. `RUST_LOG` takes precedence.
    pub level: String,
    /// Whether each line is a JSON object instead of text.
    pub is_json: bool,
    /// The log file; `None` for standard error.
    pub file: Option<LogFile>,
}

/// Returns whether `text` is a valid level, or a list of levels by module.
pub(crate) fn is_filter(text: &str) -> bool {
    // `EnvFilter` takes an unknown word for a module, but it is probably a misspelled level.
    let is_valid = |part: &str| {
        !part.trim().is_empty()
            && (part.contains('=') || part.trim().parse::<LevelFilter>().is_ok())
    };
    text.split(',').all(is_valid) && EnvFilter::try_new(text).is_ok()
}

/// Returns the filter of the log, and a warning if `RUST_LOG` is invalid and therefore ignored.
fn filter(level: &str) -> (EnvFilter, Option<String>) {
    let configured = || EnvFilter::new(format!("{QUIET_LLAMA},{level}"));
    match env::var(EnvFilter::DEFAULT_ENV)
        .ok()
        .filter(|text| !text.is_empty())
    {
        None => (configured(), None),
        Some(text) => match EnvFilter::try_new(&text) {
            // If the log is next to the configuration, the file watcher would log every line that is written to it.
            Ok(filter) if !text.contains("notify") => (
                filter.add_directive("notify=error".parse().expect("the directive is valid")),
                None,
            ),
            Ok(filter) => (filter, None),
            Err(error) => (configured(), Some(format!("RUST_LOG=`{text}`: {error}"))),
        },
    }
}

/// Initialises the log of the server.
///
/// A thread writes the lines. If nobody reads them, lines are dropped, since a full pipe must not block the server. Dropping the guard
/// writes the lines that are still queued.
///
/// # Errors
/// The log file cannot be written.
pub(crate) fn init_server(output: &LogOutput) -> anyhow::Result<WorkerGuard> {
    let builder = NonBlockingBuilder::default().buffered_lines_limit(MAX_UNWRITTEN);
    let (writer, guard) = match &output.file {
        Some(file) => builder.finish(LogWriter::open(file.clone())?),
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

/// Initialises the log of a worker: lines of `LEVEL target: message`, which the server reads with [`relay`]. The errors of llama.cpp are
/// recorded whatever the filter is.
pub(crate) fn init_worker() {
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time();
    tracing_subscriber::registry()
        .with(lines.with_filter(filter(DEFAULT_LEVEL).0))
        .with(LastErrors.with_filter(LevelFilter::WARN))
        .init();
}

/// Logs a line that a worker wrote to its standard error, with the line's own level and kind of target.
///
/// Lines in another format were printed by llama.cpp itself, and are logged as warnings.
pub(crate) fn relay(model: &str, line: &str) {
    let line = line.trim();
    if line.is_empty() {
        return;
    }
    let (level, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (target, message) = rest.trim_start().split_once(": ").unwrap_or(("", rest));
    let Ok(level) = level.parse::<Level>() else {
        return tracing::warn!(target: "llama-cpp-2", model, "{line}");
    };
    // The macros of tracing require a constant target and level.
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
pub(crate) fn may_explain_crash(line: &str) -> bool {
    let level = line.split_whitespace().next().map(str::parse);
    level.is_some_and(|level| matches!(level, Ok(Level::ERROR) | Err(_)))
}

/// Number of llama.cpp's error lines to keep. A failed load logs two or three.
const KEPT_ERRORS: usize = 4;

static ERRORS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Returns the last error lines of llama.cpp in this process, oldest first. llama.cpp reports the reasons of failures only in its log.
#[cfg_attr(
    not(feature = "llama"),
    expect(dead_code, reason = "only a build with llama.cpp reads them")
)]
pub(crate) fn last_llama_errors() -> Vec<String> {
    ERRORS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .cloned()
        .collect()
}

/// Parts of llama.cpp's warnings that the system refused to lock memory, on Unix and on Windows.
const LOCK_REFUSALS: [&str; 3] = [
    "failed to mlock",
    "failed to VirtualLock",
    "mlock not supported",
];

static LOCK_REFUSED: AtomicBool = AtomicBool::new(false);

/// Returns whether llama.cpp warned that the system refused to lock this process's memory.
pub(crate) fn is_lock_refused() -> bool {
    LOCK_REFUSED.load(Ordering::Relaxed)
}

/// Records the lines of llama.cpp's log that the worker needs.
struct LastErrors;

impl<S: Subscriber> Layer<S> for LastErrors {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "llama-cpp-2" {
            return;
        }
        let mut line = Message(String::new());
        event.record(&mut line);
        if *event.metadata().level() != Level::ERROR {
            if LOCK_REFUSALS.iter().any(|refusal| line.0.contains(refusal)) {
                LOCK_REFUSED.store(true, Ordering::Relaxed);
            }
            return;
        }
        let mut errors = ERRORS.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() == KEPT_ERRORS {
            errors.pop_front();
        }
        errors.push_back(line.0.trim().to_owned());
    }
}

/// The message of an event.
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
    fn a_misspelled_level_is_not_a_filter() {
        assert!(is_filter("info,llama_mcp_server=debug") && is_filter("off"));
        assert!(!is_filter("foo") && !is_filter("") && !is_filter("info,bar"));
    }
}
