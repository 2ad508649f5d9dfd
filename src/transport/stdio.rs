//! MCP over stdin and stdout, with one JSON message per line.
//!
//! One thread reads lines into a bounded channel, and one thread writes lines. They are not the runtime's threads, since a blocked read of
//! stdin cannot be cancelled. Every request runs as a task, and responses are sent in the order in which they are ready.
//!
//! When stdin ends, the server finishes the requests that it has read. When stdout is closed, it cancels all requests.

use std::future::poll_fn;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::task::Poll;
use std::thread;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fair::MessagePermits;
use crate::json::without_byte_order_mark;
use crate::mcp::caller::{Access, Caller, ConnectionId, Peer};
use crate::mcp::dispatcher::Dispatcher;
use crate::mcp::era::Era;
use crate::mcp::jsonrpc::{
    ErrorObject, INVALID_REQUEST, IdFinder, Invalid, Message, Outgoing, Request, RequestId,
};
use crate::process::ProtocolOutput;
use crate::threads::{self, SystemLimit};

/// Longest line, as in other MCP servers: enough for a prompt of millions of words.
const MAX_LINE_BYTES: u64 = 16 * 1024 * 1024;

/// Most lines that are buffered. They are few because each may have the maximum length.
const MAX_BUFFERED_LINES: usize = 4;

/// Most requests in flight. Beyond it reading stops, which is backpressure on a client that does not read its responses. The queues of the
/// models refuse calls long before.
const MAX_REQUESTS: usize = 1024;

/// Most messages that are buffered for a slow client. Beyond it notifications are dropped and responses wait.
const MAX_BUFFERED_MESSAGES: usize = 1024;

/// Stdin and stdout, with the threads that read and write them.
#[derive(Debug)]
pub(crate) struct Stdio {
    lines: mpsc::Receiver<Line>,
    outgoing: mpsc::Sender<Outgoing>,
    writer: thread::JoinHandle<()>,
    /// Cancelled when stdout is closed or the server shuts down.
    stop: CancellationToken,
}

/// Reason why stdin and stdout cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// A thread could not be started.
    #[error(transparent)]
    NoThread(#[from] SystemLimit),
    /// Stdout cannot be watched.
    #[error(transparent)]
    NotWatched(#[from] io::Error),
}

impl Stdio {
    /// Starts the threads that read and write. Call it before models are loaded, since their processes count towards the same limit of the
    /// system.
    ///
    /// # Errors
    /// Fails if a thread cannot be started or stdout cannot be watched.
    pub(crate) fn open(
        output: Box<dyn ProtocolOutput>,
        shutdown: &CancellationToken,
    ) -> Result<Self, OpenError> {
        let stop = shutdown.child_token();
        watch_stdout(output.as_ref(), &stop)?;
        let (outgoing, lines_out) = mpsc::channel(MAX_BUFFERED_MESSAGES);
        let closed = stop.clone();
        let writer = threads::start("writer", move || write_lines(output, lines_out, &closed))?;
        let (lines_tx, lines) = mpsc::channel(MAX_BUFFERED_LINES);
        threads::start("reader", move || {
            read_lines(BufReader::new(io::stdin()), &lines_tx);
        })?;
        Ok(Self {
            lines,
            outgoing,
            writer,
            stop,
        })
    }
}

/// Serves the client until stdin has ended and all requests are answered, stdout is closed, or the server shuts down.
///
/// # Errors
/// Fails if the writer thread panicked.
pub(crate) async fn serve(stdio: Stdio, dispatcher: Arc<Dispatcher>) -> io::Result<()> {
    let Stdio {
        mut lines,
        outgoing,
        writer,
        stop,
    } = stdio;
    let caller = Caller {
        connection: ConnectionId("stdio".into()),
        client: "stdio".into(),
        access: Access::default(),
        permits: MessagePermits::default(),
    };
    let requests = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(MAX_REQUESTS));
    let mut changes = dispatcher.changes();
    let mut is_initialized = false;
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            Ok(()) = changes.changed() => {
                if is_initialized {
                    let (outgoing, stop) = (outgoing.clone(), stop.clone());
                    requests.spawn(async move {
                        let sent = outgoing.send(Outgoing::tools_changed(None));
                        drop(stop.run_until_cancelled(sent).await);
                    });
                }
                continue;
            }
            () = stop.cancelled() => None,
        };
        let Some(line) = line else { break };
        let parsed = match line {
            Line::Message(bytes) if is_blank(&bytes) => continue,
            Line::Message(bytes) => Message::parse(&bytes),
            Line::TooLong(id) => Err(too_long(id)),
        };
        let is_notification = matches!(&parsed, Ok(Message::Notification(_)));
        let parsed = parsed.and_then(with_era);
        is_initialized |= match &parsed {
            Ok((Message::Notification(sent), _)) => sent.method == "notifications/initialized",
            // Some legacy clients omit the notification. Modern clients use a subscription instead.
            Ok((Message::Request(request), Era::Legacy)) => request.method != "initialize",
            _ => false,
        };
        let needs_permit = !is_notification && !parsed.as_ref().is_ok_and(is_subscription);
        let peer = Arc::new(StdioPeer(outgoing.clone()));
        let answer = parsed.map(|(message, era)| dispatcher.dispatch(&caller, era, message, peer));
        let permit = async {
            if needs_permit {
                Some(Arc::clone(&permits).acquire_owned().await)
            } else {
                None
            }
        };
        let (outgoing, stopped) = (outgoing.clone(), stop.clone());
        let Some(permit) = stop.run_until_cancelled(permit).await else {
            break;
        };
        let mut answer = Box::pin(async {
            match answer {
                Ok(answer) => answer.await,
                Err(invalid) => Some(invalid.into()),
            }
        });
        if is_notification {
            stop.run_until_cancelled(answer).await;
            continue;
        }
        // Polled here once, so that calls are queued in the order of their arrival, whichever task runs first.
        let first_poll = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
        requests.spawn(async move {
            let message = match first_poll {
                Poll::Ready(message) => message,
                Poll::Pending => answer.await,
            };
            if let Some(message) = message {
                // A client that does not read must not delay the shutdown.
                drop(stopped.run_until_cancelled(outgoing.send(message)).await);
            }
            drop(permit);
        });
    }
    requests.close();
    // Subscriptions do not end by themselves.
    dispatcher.close();
    tokio::select! {
        () = requests.wait() => {}
        () = stop.cancelled() => {
            dispatcher.cancel_all(&caller.connection);
            requests.wait().await;
        }
    }
    drop(outgoing);
    // The writer ends when it has written the messages in the channel. A client that does not read may block it for ever, so a stop does
    // not wait for it.
    let written = tokio::task::spawn_blocking(move || writer.join());
    match stop.run_until_cancelled(written).await {
        Some(joined) => joined?.map_err(|_panic| io::Error::other("the writer panicked")),
        None => Ok(()),
    }
}

/// Starts a thread that cancels `stop` when stdout is closed.
#[cfg(unix)]
fn watch_stdout(output: &dyn ProtocolOutput, stop: &CancellationToken) -> Result<(), OpenError> {
    let (watched, stop) = (output.watch()?, stop.clone());
    threads::start("watcher", move || {
        crate::process::wait_until_unread(&watched);
        stop.cancel();
        tracing::info!("stdout was closed by the client");
    })?;
    Ok(())
}

/// Does nothing: on this system a failing write shows that stdout is closed.
#[cfg(not(unix))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "on Unix, the thread may fail to start"
)]
fn watch_stdout(_: &dyn ProtocolOutput, _: &CancellationToken) -> Result<(), OpenError> {
    Ok(())
}

struct StdioPeer(mpsc::Sender<Outgoing>);

impl Peer for StdioPeer {
    fn notify(&self, notification: Outgoing) -> bool {
        self.0.try_send(notification).is_ok()
    }
}

/// Returns `message` with its era, which only matters for requests.
fn with_era(message: Message) -> Result<(Message, Era), Invalid> {
    let era = match &message {
        Message::Request(request) => Era::of_request(request, None).map_err(|error| Invalid {
            id: Some(request.id.clone()),
            error,
        })?,
        Message::Notification(_) | Message::Response => Era::Legacy,
    };
    Ok((message, era))
}

/// Returns whether a message opens a subscription. A subscription may stay open for days and needs no permit: if subscriptions held all
/// permits, their cancellations would never be read.
fn is_subscription((message, era): &(Message, Era)) -> bool {
    let is_listen = |request: &Request| request.method == "subscriptions/listen";
    *era == Era::Modern && matches!(message, Message::Request(request) if is_listen(request))
}

/// A line of stdin.
enum Line {
    Message(Vec<u8>),
    /// A line over the limit, with the id of its message if it has one.
    TooLong(Option<RequestId>),
}

fn is_blank(line: &[u8]) -> bool {
    without_byte_order_mark(line).trim_ascii().is_empty()
}

fn too_long(id: Option<RequestId>) -> Invalid {
    let text = format!("the message is longer than {MAX_LINE_BYTES} bytes; send a shorter one");
    Invalid {
        id,
        error: ErrorObject::new(INVALID_REQUEST, text),
    }
}

/// Sends the lines of `input` until it ends or the receiver is dropped. Skips a line over the limit without buffering it.
fn read_lines(mut input: impl BufRead, lines: &mpsc::Sender<Line>) {
    loop {
        let mut line = Vec::new();
        let read = input
            .by_ref()
            .take(MAX_LINE_BYTES + 1)
            .read_until(b'\n', &mut line);
        let line = match read {
            Ok(0) => return,
            Ok(_) if line.ends_with(b"\n") || line.len() as u64 <= MAX_LINE_BYTES => {
                Line::Message(line)
            }
            Ok(_) => {
                let mut id = IdFinder::default();
                id.read(&line);
                drop(line);
                if skip_line(&mut input, &mut id).is_err() {
                    return;
                }
                Line::TooLong(id.finish())
            }
            Err(error) => {
                tracing::error!(%error, "could not read stdin");
                return;
            }
        };
        if lines.blocking_send(line).is_err() {
            return;
        }
    }
}

/// Skips the rest of a line, and passes it to `id`.
fn skip_line(input: &mut impl BufRead, id: &mut IdFinder) -> io::Result<()> {
    loop {
        let buffered = input.fill_buf()?;
        if buffered.is_empty() {
            return Ok(());
        }
        let end = buffered.iter().position(|byte| *byte == b'\n');
        let skipped = end.map_or(buffered.len(), |end| end + 1);
        id.read(&buffered[..skipped]);
        input.consume(skipped);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// Writes messages as lines until all senders are dropped. Cancels `closed` if a write fails.
fn write_lines(
    mut output: Box<dyn ProtocolOutput>,
    mut messages: mpsc::Receiver<Outgoing>,
    closed: &CancellationToken,
) {
    while let Some(message) = messages.blocking_recv() {
        let mut line = message.to_json();
        line.push('\n');
        if let Err(error) = output
            .write_all(line.as_bytes())
            .and_then(|()| output.flush())
        {
            tracing::info!(%error, "could not write to stdout");
            closed.cancel();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(input: &[u8], capacity: usize) -> Vec<Line> {
        let (tx, mut rx) = mpsc::channel(100);
        read_lines(BufReader::with_capacity(capacity, input), &tx);
        drop(tx);
        std::iter::from_fn(|| rx.blocking_recv()).collect()
    }

    #[test]
    fn a_line_over_the_limit_is_skipped_and_its_id_is_found() {
        let mut input = br#"{"method":"x","params":{"id":1,"text":""#.to_vec();
        input.resize(usize::try_from(MAX_LINE_BYTES).unwrap() + 1, b'x');
        input.extend_from_slice(b"\"},\"jsonrpc\":\"2.0\",\"id\":7}\n{}\n");
        let lines = lines_of(&input, 8192);
        let [Line::TooLong(Some(id)), Line::Message(next)] = &lines[..] else {
            panic!("two lines")
        };
        assert_eq!((&id.to_string()[..], &next[..]), ("7", &b"{}\n"[..]));
    }

    #[test]
    fn a_last_line_without_a_newline_is_read() {
        assert!(matches!(&lines_of(b"a\nb", 1)[..], [_, Line::Message(last)] if last == b"b"));
    }
}
