//! The log of refused requests: one line for each cause and name, however many requests there are.
//!
//! The body of a refusal contains the reason, but most hosts do not show it, so the operator needs it in the log. An attacker can
//! invent any number of names, so the number of lines and their memory are bounded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The pause before the same line is logged again.
const PAUSE: Duration = Duration::from_mins(10);

/// Most names that are logged within one pause.
const MAX_NAMES: usize = 64;

/// Most characters of a name that are logged.
const MAX_CHARS: usize = 100;

/// The reason why a request is refused before anything else in it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// The `Host` is not allowed.
    Host,
    /// The request names no host.
    NoHost,
    /// The `Origin` is not allowed.
    Origin,
    /// The bearer token is missing.
    NoToken,
    /// The bearer token is wrong.
    WrongToken,
}

/// The lines of the last pause.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog(Mutex<Recent>);

impl RefusalLog {
    /// Logs that a request was refused for `cause`. `name` is the host or origin of the request, or the address of its sender.
    pub(crate) fn report(&self, cause: Cause, name: &str) {
        let name: String = name.chars().take(MAX_CHARS).collect();
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match recent.entry(cause, &name, Instant::now()) {
            Entry::Line => tracing::warn!("{}", line(cause, &name)),
            Entry::LastLine => tracing::warn!(
                "{}; further names are not logged for {} minutes",
                line(cause, &name),
                PAUSE.as_secs() / 60
            ),
            Entry::None => {}
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
        Cause::WrongToken => format!(
            "refused: {name} sent an invalid bearer token; set a token of this server in the client"
        ),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Line,
    /// A line for the last name within the limit.
    LastLine,
    None,
}

/// When each line was logged.
#[derive(Debug, Default)]
struct Recent(HashMap<(Cause, String), Instant>);

impl Recent {
    fn entry(&mut self, cause: Cause, name: &str, now: Instant) -> Entry {
        let lines = &mut self.0;
        let key = (cause, name.to_owned());
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < PAUSE;
        if lines.get(&key).is_some_and(is_recent) {
            return Entry::None;
        }
        if lines.len() >= MAX_NAMES {
            lines.retain(|_, at| is_recent(at));
        }
        if lines.len() >= MAX_NAMES {
            return Entry::None;
        }
        lines.insert(key, now);
        if lines.len() == MAX_NAMES {
            Entry::LastLine
        } else {
            Entry::Line
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_and_name_has_one_line_until_the_pause_is_over() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let mut entry = |cause, name: &str, after| recent.entry(cause, name, start + after);
        assert_eq!(entry(Cause::Host, "a", Duration::ZERO), Entry::Line);
        assert_eq!(entry(Cause::Host, "a", PAUSE / 2), Entry::None);
        assert_eq!(entry(Cause::Host, "b", PAUSE / 2), Entry::Line);
        assert_eq!(entry(Cause::Origin, "a", PAUSE / 2), Entry::Line);
        assert_eq!(entry(Cause::Host, "a", PAUSE), Entry::Line);
        assert_eq!(entry(Cause::Host, "b", PAUSE), Entry::None);
    }

    #[test]
    fn any_number_of_names_takes_bounded_memory_and_a_bounded_log() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let mut lines = |after| -> Vec<Entry> {
            let names = 0..10_000;
            let entries =
                names.map(|name| recent.entry(Cause::Host, &name.to_string(), start + after));
            let entries: Vec<Entry> = entries.filter(|entry| *entry != Entry::None).collect();
            assert!(recent.0.len() <= MAX_NAMES);
            entries
        };
        let first = lines(Duration::ZERO);
        assert_eq!(
            (first.len(), first.last()),
            (MAX_NAMES, Some(&Entry::LastLine))
        );
        assert_eq!(lines(PAUSE / 2), []);
        assert_eq!(lines(PAUSE).len(), MAX_NAMES);
    }
}
