//! The pipe of a worker's commands, and whether the worker reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

/// Bytes of commands that a worker may leave unread for [`IGNORED_AFTER`], including those of cancelled calls.
const MAX_UNREAD: u64 = 256 * 1024 * 1024;

/// Time in which a worker with more than [`MAX_UNREAD`] unread bytes must read [`MIN_READ`] of them. One of its threads only reads commands.
const IGNORED_AFTER: Duration = Duration::from_secs(10);

/// Bytes that count as progress.
const MIN_READ: u64 = 1024 * 1024;

/// Sends commands to a worker without waiting for it.
#[derive(Debug)]
pub(super) struct CommandPipe {
    lines: UnboundedSender<Vec<u8>>,
    written: Arc<AtomicU64>,
    backlog: Backlog,
}

impl CommandPipe {
    /// Writes to the worker's `stdin`. Must be called within a Tokio runtime.
    pub(super) fn new(stdin: impl AsyncWrite + Unpin + Send + 'static) -> Self {
        let (lines, receiver) = unbounded_channel();
        let written = Arc::new(AtomicU64::new(0));
        tokio::spawn(feed(stdin, receiver, Arc::clone(&written)));
        Self {
            lines,
            written,
            backlog: Backlog::default(),
        }
    }

    /// Sends `line`, with its line ending. If the worker has ended, the line is lost.
    pub(super) fn send(&mut self, line: Vec<u8>) {
        self.backlog.sent = self.backlog.sent.saturating_add(line.len() as u64);
        drop(self.lines.send(line));
    }

    /// Returns whether the worker does not read its commands.
    pub(super) fn is_ignored(&mut self) -> bool {
        let written = self.written.load(Ordering::Relaxed);
        self.backlog.is_ignored(written, Instant::now())
    }
}

/// Detects that a worker does not read its commands. A backlog of any size is fine while the worker makes progress: a single command can be
/// larger than the limit.
#[derive(Debug, Default)]
struct Backlog {
    /// Bytes of all commands so far.
    sent: u64,
    /// Written bytes when progress was last seen, and that time; `None` if the backlog is within [`MAX_UNREAD`].
    progress: Option<(u64, Instant)>,
}

impl Backlog {
    /// Returns whether the worker, to which `written` bytes are written, has read next to nothing of a large backlog for [`IGNORED_AFTER`].
    fn is_ignored(&mut self, written: u64, now: Instant) -> bool {
        if self.sent.saturating_sub(written) <= MAX_UNREAD {
            self.progress = None;
            return false;
        }
        match self.progress {
            Some((before, since)) if written - before < MIN_READ => now - since >= IGNORED_AFTER,
            _ => {
                self.progress = Some((written, now));
                false
            }
        }
    }
}

/// Writes commands to the worker in order, as fast as the worker reads them. Adds the bytes to `written`.
async fn feed(
    mut stdin: impl AsyncWrite + Unpin,
    mut lines: UnboundedReceiver<Vec<u8>>,
    written: Arc<AtomicU64>,
) {
    while let Some(line) = lines.recv().await {
        let mut rest = &line[..];
        while !rest.is_empty() {
            match stdin.write(rest).await {
                // The worker has ended, which the end of its output shows.
                Ok(0) | Err(_) => return,
                Ok(bytes) => {
                    written.fetch_add(bytes as u64, Ordering::Relaxed);
                    rest = &rest[bytes..];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    #[test]
    fn a_command_of_any_size_is_fine_while_the_worker_reads_it() {
        let mut now = Instant::now();
        let mut backlog = Backlog {
            sent: 3 * MAX_UNREAD,
            ..Backlog::default()
        };
        for step in 0..100 {
            assert!(!backlog.is_ignored(step * MIN_READ, now));
            now += IGNORED_AFTER;
        }
        assert!(backlog.is_ignored(100 * MIN_READ - 1, now));
        assert!(!backlog.is_ignored(2 * MAX_UNREAD, now));
        now += IGNORED_AFTER;
        backlog.sent += MAX_UNREAD;
        assert!(!backlog.is_ignored(2 * MAX_UNREAD, now));
    }

    #[test]
    fn a_worker_that_reads_nothing_of_a_large_backlog_ignores_its_commands() {
        let now = Instant::now();
        let mut backlog = Backlog {
            sent: MAX_UNREAD,
            ..Backlog::default()
        };
        assert!(!backlog.is_ignored(0, now));
        let now = now + 2 * IGNORED_AFTER;
        assert!(!backlog.is_ignored(0, now));
        backlog.sent += 1;
        assert!(!backlog.is_ignored(0, now), "it had no time to read yet");
        assert!(backlog.is_ignored(0, now + IGNORED_AFTER));
    }

    #[tokio::test]
    async fn a_part_of_a_command_counts_as_written() {
        let (stdin, mut worker) = duplex(4);
        let mut pipe = CommandPipe::new(stdin);
        pipe.send(b"1234567\n".to_vec());
        let mut part = [0; 3];
        worker.read_exact(&mut part).await.unwrap();
        let written = async {
            while pipe.written.load(Ordering::Relaxed) < 7 {
                tokio::task::yield_now().await;
            }
        };
        let written = tokio::time::timeout(IGNORED_AFTER, written).await;
        assert_eq!(written, Ok(()));
        assert_eq!(&part, b"123");
    }
}
