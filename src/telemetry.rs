//! Logs: tracing to standard error, and the way of a worker's log lines into the server's.

pub(crate) mod call;
pub(crate) mod log_file;
pub(crate) mod metrics;
mod outcome;

use std::collections::VecDeque;
use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use log_file::{LogFile, LogWriter};

/// llama.cpp tells a hundred lines about every load, and warns of what is no fault here (a cache for several calls is
/// larger than the trained context), so it is quiet where nobody asks. The watcher of files tells what becomes of its own
/// handles.
const QUIET_LLAMA: &str = "llama-cpp-2=error,notify=error";

/// What a worker of the server that logs at `level` is told by `RUST_LOG`; none where that says it already.
pub(crate) fn worker_level(level: &str) -> Option<(&'static str, String)> {
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
pub(crate) struct LogOutput {
    /// A level, or levels by module; `RUST_LOG` goes before.
    pub level: String,
    /// An object a line instead of text.
    pub is_json: bool,
    /// Instead of standard error.
    pub file: Option<LogFile>,
}

/// Whether `text` says what to log.
pub(crate) fn is_filter(text: &str) -> bool {
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

/// Logs of a worker: `LEVEL target: message` a line, which [`relay`] reads in the server. llama.cpp's errors are kept
/// whatever the filter is.
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

/// Logs a line that a worker wrote to its standard error, with the level and the kind of target that it was written with.
///
/// What is not a log line was printed by llama.cpp itself.
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
pub(crate) fn may_explain_crash(line: &str) -> bool {
    let level = line.split_whitespace().next().map(str::parse);
    level.is_some_and(|level| matches!(level, Ok(Level::ERROR) | Err(_)))
}

/// How many of llama.cpp's last error lines are kept: a failed load logs two or three.
const KEPT_ERRORS: usize = 4;

static ERRORS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Returns the last error lines of llama.cpp in this process, oldest first. llama.cpp gives its reasons nowhere else.
#[cfg_attr(
    not(feature = "llama"),
    expect(dead_code, reason = "only llama.cpp writes them")
)]
pub(crate) fn last_llama_errors() -> Vec<String> {
    ERRORS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .cloned()
        .collect()
}

/// Warnings of llama.cpp that the system does not lock memory, on Unix and on Windows.
const LOCK_REFUSALS: [&str; 3] = [
    "failed to mlock",
    "failed to VirtualLock",
    "mlock not supported",
];

static LOCK_REFUSED: AtomicBool = AtomicBool::new(false);

/// Returns whether llama.cpp has warned that the system does not lock this process's memory.
pub(crate) fn is_lock_refused() -> bool {
    LOCK_REFUSED.load(Ordering::Relaxed)
}

/// Keeps the parts of llama.cpp's log that the worker needs.
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
    fn a_misspelled_level_is_no_filter() {
        assert!(is_filter("info,llama_mcp_server=debug") && is_filter("off"));
        assert!(!is_filter("foo") && !is_filter("") && !is_filter("info,bar"));
    }
}
