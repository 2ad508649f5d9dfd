//! Relays a worker's log to the server's log, limited in line length and rate.

mod rate;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Instant;

use super::lines::Line;
use crate::printable::printable;
use crate::telemetry;
use crate::worker::MAX_ERROR_CHARS;
use rate::{Decision, LINES_PER_SECOND, LogRate};

/// Maximum number of bytes of a line that are logged.
pub(super) const MAX_LINE: usize = 16 * 1024;

/// Maximum number of lines that are kept to explain a crash, such as llama.cpp's abort message.
const KEPT_LINES: usize = 8;

/// Relays the lines of one pipe of a model's process to the server's log.
#[derive(Debug)]
pub(super) struct ModelLog {
    model: String,
    rate: LogRate,
}

impl ModelLog {
    /// Logs under the name `model`.
    pub(super) fn new(model: String) -> Self {
        Self {
            model,
            rate: LogRate::new(Instant::now()),
        }
    }

    /// Logs `line`, unless the rate limit is exceeded.
    pub(super) fn relay(&mut self, line: &Line) {
        match self.rate.admit(Instant::now()) {
            Decision::Logged => {}
            Decision::After(dropped) => self.warn_dropped(dropped),
            Decision::Dropped => return,
        }
        telemetry::relay(&self.model, &printable(&shortened(line), usize::MAX));
    }

    fn warn_dropped(&self, dropped: u64) {
        tracing::warn!(
            model = self.model,
            "dropped {dropped} lines of the model's log: more than {LINES_PER_SECOND} a second"
        );
    }
}

impl Drop for ModelLog {
    fn drop(&mut self) {
        let dropped = self.rate.take_dropped();
        if dropped > 0 {
            self.warn_dropped(dropped);
        }
    }
}

/// Returns the part of `line` that is logged: all of it, or the beginning of a long line.
fn shortened(line: &Line) -> Cow<'_, str> {
    if !line.is_truncated && line.text.len() <= MAX_LINE {
        return Cow::Borrowed(&line.text);
    }
    let beginning = &line.text[..line.text.floor_char_boundary(MAX_LINE)];
    Cow::Owned(format!("{beginning} … (line truncated)"))
}

/// The newest lines that may explain a crash, cleaned and bounded.
#[derive(Debug, Default)]
pub(super) struct CrashLines(VecDeque<String>);

impl CrashLines {
    /// Adds a line if it may explain a crash, and drops the oldest lines if there are too many.
    pub(super) fn push(&mut self, line: &str) {
        if !telemetry::may_explain_crash(line) {
            return;
        }
        self.0.push_back(printable(line, MAX_ERROR_CHARS));
        let length = |lines: &VecDeque<String>| -> usize {
            lines.iter().map(|line| line.chars().count()).sum()
        };
        while self.0.len() > KEPT_LINES || length(&self.0) > MAX_ERROR_CHARS {
            self.0.pop_front();
        }
    }

    /// Returns the lines as one, or `None` if there are none.
    pub(super) fn text(self) -> Option<String> {
        let lines: Vec<String> = self.0.into();
        (!lines.is_empty()).then(|| lines.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(lines: &[&str]) -> Option<String> {
        let mut kept = CrashLines::default();
        for line in lines {
            kept.push(line);
        }
        kept.text()
    }

    #[test]
    fn crash_lines_are_the_newest_lines_without_control_characters() {
        assert_eq!(text_of(&["", "DEBUG llama-cpp-2: loaded"]), None);
        assert_eq!(
            text_of(&["a\u{1b}[31m", "b\u{202e}"]).unwrap(),
            "a [31m | b"
        );
        let lines: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(
            text_of(&lines).unwrap(),
            "12 | 13 | 14 | 15 | 16 | 17 | 18 | 19"
        );
    }

    #[test]
    fn crash_lines_are_short_and_keep_the_end() {
        let long = "x".repeat(MAX_ERROR_CHARS * 2);
        let text = text_of(&[&long, "abort: why"]).unwrap();
        assert_eq!(text, "abort: why");
        assert_eq!(text_of(&[&long]).unwrap().chars().count(), MAX_ERROR_CHARS);
    }

    #[test]
    fn a_long_line_is_truncated_and_says_so() {
        let line = |text: &str, is_truncated| Line {
            text: text.to_owned(),
            is_truncated,
        };
        assert_eq!(shortened(&line("whole", false)), "whole");
        let text = shortened(&line("é", true)).into_owned();
        assert_eq!(text, "é … (line truncated)");
        let long = line(&"é".repeat(MAX_LINE), false);
        assert!(shortened(&long).len() < MAX_LINE + 40);
    }
}
