//! Reads lines of bounded length from a worker's pipe.

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// Capacity of the buffer that is kept between lines, in bytes. Ordinary messages fit.
const KEPT_CAPACITY: usize = 64 * 1024;

/// A line of a pipe, without the whitespace at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The text, with invalid UTF-8 replaced: llama.cpp or a driver may print arbitrary bytes.
    pub(super) text: String,
    /// Whether `text` is only the beginning of a line that was longer than allowed.
    pub(super) is_truncated: bool,
}

/// Reads lines of bounded length.
#[derive(Debug)]
pub(super) struct Lines<R> {
    inner: R,
    /// Maximum size of a line in bytes, without its line ending.
    max: usize,
    line: Vec<u8>,
    /// Whether the rest of a truncated line is being skipped.
    is_skipping: bool,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// Reads lines of at most `max` bytes from `inner`.
    pub(super) fn new(inner: R, max: usize) -> Self {
        Self {
            inner,
            max,
            line: Vec::new(),
            is_skipping: false,
        }
    }

    /// Returns the next line, or `None` at the end. Truncates a line that is too long as soon as that is known, and skips the rest of it.
    /// Cancel safe: a partly read line is kept.
    pub(super) async fn next(&mut self) -> Option<Line> {
        loop {
            let room = (self.max + 1).saturating_sub(self.line.len()) as u64;
            let mut part = (&mut self.inner).take(room);
            let read = part.read_until(b'\n', &mut self.line).await;
            if self.line.is_empty() || read.is_err() {
                return None;
            }
            let has_end = self.line.ends_with(b"\n");
            let is_truncated = !has_end && self.line.len() > self.max;
            let was_skipping = std::mem::replace(&mut self.is_skipping, is_truncated);
            if !was_skipping {
                let kept = &self.line[..self.line.len().min(self.max)];
                let text = String::from_utf8_lossy(kept.trim_ascii_end()).into_owned();
                self.clear();
                return Some(Line { text, is_truncated });
            }
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.line.clear();
        self.line.shrink_to(KEPT_CAPACITY);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncWriteExt, BufReader, duplex, repeat};

    use super::*;

    fn line(text: &str, is_truncated: bool) -> Line {
        let text = text.to_owned();
        Line { text, is_truncated }
    }

    async fn all(bytes: &[u8], max: usize) -> Vec<(String, bool)> {
        // A small buffer, so that lines arrive in parts.
        let mut lines = Lines::new(BufReader::with_capacity(3, bytes), max);
        let mut all = Vec::new();
        while let Some(Line { text, is_truncated }) = lines.next().await {
            all.push((text, is_truncated));
        }
        all
    }

    #[tokio::test]
    async fn lines_up_to_the_limit_are_whole() {
        let whole = |text: &str| (text.to_owned(), false);
        let expected = ["12345", "", "a", "12345"].map(whole);
        assert_eq!(all(b"12345\n\r\na \r\n12345", 5).await, expected);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_truncated_and_its_rest_is_skipped() {
        let expected = [("12345", true), ("next", false), ("12345", true)]
            .map(|(text, is_truncated)| (text.to_owned(), is_truncated));
        assert_eq!(all(b"1234567890123\nnext\n123456", 5).await, expected);
    }

    #[tokio::test]
    async fn a_line_without_end_is_known_to_be_too_long_while_it_is_written() {
        let mut lines = Lines::new(BufReader::new(repeat(b'x')), 5);
        assert_eq!(lines.next().await, Some(line("xxxxx", true)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_read_loses_nothing() {
        let (mut writer, reader) = duplex(64);
        let mut lines = Lines::new(BufReader::new(reader), 5);
        for part in ["1", "23", "4"] {
            writer.write_all(part.as_bytes()).await.unwrap();
            let next = tokio::time::timeout(Duration::from_secs(1), lines.next()).await;
            assert!(next.is_err());
        }
        writer.write_all(b"5\n").await.unwrap();
        assert_eq!(lines.next().await, Some(line("12345", false)));
    }
}
