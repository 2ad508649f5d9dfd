//! Log of refused requests, with one line for each cause and name, whatever the number of requests.
//!
//! The response contains the reason, but most hosts do not show it, so the operator needs it in the log. An attacker can invent any
//! number of names, so the number of lines and their memory are bounded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time before the same line may be logged again.
const PAUSE: Duration = Duration::from_mins(10);

/// Most names that are logged within a [`PAUSE`].
const MAX_NAMES: usize = 64;

/// Longest part of a name that is logged, in characters.
const MAX_CHARS: usize = 100;

/// The cause of a refusal that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// `Host` is not allowed.
    Host,
    /// `Host` is missing.
    NoHost,
    /// `Origin` is not allowed.
    Origin,
    /// The bearer token is missing.
    NoToken,
    /// The bearer token is invalid.
    InvalidToken,
}

/// The log of refused requests.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog(Mutex<Recent>);

impl RefusalLog {
    /// Logs that a request was refused for `cause`, unless the same line was logged a short time ago. `name` is the host or origin of the
    /// request, or the address of its sender.
    pub(crate) fn report(&self, cause: Cause, name: &str) {
        let name: String = name.chars().take(MAX_CHARS).collect();
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match recent.classify(cause, &name, Instant::now()) {
            Logged::Line => tracing::warn!("{}", line(cause, &name)),
            Logged::LastLine => tracing::warn!(
                "{}; further names are not logged for {} minutes",
                line(cause, &name),
                PAUSE.as_secs() / 60
            ),
            Logged::No => {}
        }
    }
}

fn line(cause: Cause, name: &str) -> String {
    match cause {
        Cause::Host => format!(
            "refused: Host {name:?} is not allowed; if clients reach the server by this name, add it to `allowed_hosts`"
        ),
        Cause::NoHost => format!("refused: {name} sent a request without `Host`"),
        Cause::Origin => format!(
            "refused: Origin {name:?} is not allowed; if its pages may use the server, add it to `allowed_origins`"
        ),
        Cause::NoToken => format!(
            "refused: {name} sent no bearer token; set `Authorization: Bearer <token>` in the client"
        ),
        Cause::InvalidToken => format!(
            "refused: {name} sent an invalid bearer token; set a token of this server in the client"
        ),
    }
}

/// How a refusal is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Logged {
    Line,
    /// As a line that says that further names are not logged.
    LastLine,
    No,
}

/// The lines of the last [`PAUSE`], and when they were logged.
#[derive(Debug, Default)]
struct Recent(HashMap<(Cause, String), Instant>);

impl Recent {
    /// Decides how a refusal at `now` is logged.
    fn classify(&mut self, cause: Cause, name: &str, now: Instant) -> Logged {
        let lines = &mut self.0;
        let key = (cause, name.to_owned());
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < PAUSE;
        if lines.get(&key).is_some_and(is_recent) {
            return Logged::No;
        }
        if lines.len() >= MAX_NAMES {
            lines.retain(|_, at| is_recent(at));
        }
        if lines.len() >= MAX_NAMES {
            return Logged::No;
        }
        lines.insert(key, now);
        if lines.len() == MAX_NAMES {
            Logged::LastLine
        } else {
            Logged::Line
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_and_name_is_logged_once_until_the_pause_is_over() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let mut entry = |cause, name: &str, after| recent.classify(cause, name, start + after);
        assert_eq!(entry(Cause::Host, "a", Duration::ZERO), Logged::Line);
        assert_eq!(entry(Cause::Host, "a", PAUSE / 2), Logged::No);
        assert_eq!(entry(Cause::Host, "b", PAUSE / 2), Logged::Line);
        assert_eq!(entry(Cause::Origin, "a", PAUSE / 2), Logged::Line);
        assert_eq!(entry(Cause::Host, "a", PAUSE), Logged::Line);
        assert_eq!(entry(Cause::Host, "b", PAUSE), Logged::No);
    }

    #[test]
    fn names_beyond_the_limit_take_neither_memory_nor_lines() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let mut lines = |after| -> Vec<Logged> {
            let names = 0..10_000;
            let entries =
                names.map(|name| recent.classify(Cause::Host, &name.to_string(), start + after));
            let entries: Vec<Logged> = entries.filter(|entry| *entry != Logged::No).collect();
            assert!(recent.0.len() <= MAX_NAMES);
            entries
        };
        let first = lines(Duration::ZERO);
        assert_eq!(
            (first.len(), first.last()),
            (MAX_NAMES, Some(&Logged::LastLine))
        );
        assert_eq!(lines(PAUSE / 2), []);
        assert_eq!(lines(PAUSE).len(), MAX_NAMES);
    }
}
