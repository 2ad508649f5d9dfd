//! MCP with one client over any reader and writer, with one JSON message per line.
//!
//! [`read()`] and [`write()`] block, so each requires a thread of its own. [`Client`] runs every request as a task, and sends responses in the
//! order in which they are ready.

use std::future::poll_fn;
use std::io::{self, BufRead, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::units::human;
use crate::json::without_byte_order_mark;
use crate::mcp::caller::{Caller, Peer};
use crate::mcp::dispatcher::Dispatcher;
use crate::mcp::era::Era;
use crate::mcp::jsonrpc::{
    ErrorObject, INVALID_REQUEST, IdFinder, Invalid, Message, Outgoing, RequestId,
};
use crate::mcp::method::McpMethod;

/// Longest line, as in other MCP servers: enough for a prompt of millions of words.
const MAX_LINE_BYTES: u64 = 16 * 1024 * 1024;

/// Most lines that are buffered. They are few because each may have the maximum length.
pub(super) const MAX_BUFFERED_LINES: usize = 4;

/// Most requests in flight. Beyond it reading stops, which is backpressure on a client that does not read its responses. The queues of the
/// models refuse calls long before.
const MAX_REQUESTS: usize = 1024;

/// Most messages that are buffered for a slow client. Beyond it notifications are dropped and responses wait.
pub(super) const MAX_BUFFERED_MESSAGES: usize = 1024;

/// A client that is served over lines.
pub(super) struct Client {
    caller: Caller,
    dispatcher: Arc<Dispatcher>,
    outgoing: mpsc::Sender<Outgoing>,
    /// Cancelled when nobody reads the responses any longer or the server shuts down.
    stop: CancellationToken,
    requests: TaskTracker,
    permits: Arc<Semaphore>,
    is_initialized: bool,
}

impl Client {
    /// Creates a client whose responses are sent to `outgoing` until `stop` is cancelled.
    pub(super) fn new(
        caller: Caller,
        dispatcher: Arc<Dispatcher>,
        outgoing: mpsc::Sender<Outgoing>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            caller,
            dispatcher,
            outgoing,
            stop,
            requests: TaskTracker::new(),
            permits: Arc::new(Semaphore::new(MAX_REQUESTS)),
            is_initialized: false,
        }
    }

    /// Handles `lines` until they end or the client is stopped. Then some requests may still be in flight: see [`Self::drain`].
    pub(super) async fn serve(&mut self, mut lines: mpsc::Receiver<Line>) {
        let mut changes = self.dispatcher.changes();
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                Ok(()) = changes.changed() => {
                    self.announce_tools();
                    continue;
                }
                () = self.stop.cancelled() => None,
            };
            let Some(line) = line else { return };
            let Some(message) = line.parse() else {
                continue;
            };
            if self.handle(message).await.is_none() {
                return;
            }
        }
    }

    /// Waits until all requests are answered. Cancels them if the client is stopped.
    pub(super) async fn drain(self) {
        self.requests.close();
        tokio::select! {
            () = self.requests.wait() => {}
            () = self.stop.cancelled() => {
                self.dispatcher.cancel_all(&self.caller.connection);
                self.requests.wait().await;
            }
        }
    }

    /// Notifies an initialized client that the list of tools has changed.
    fn announce_tools(&self) {
        if self.is_initialized {
            let (outgoing, stop) = (self.outgoing.clone(), self.stop.clone());
            self.requests.spawn(async move {
                let sent = outgoing.send(Outgoing::tools_changed(None));
                drop(stop.run_until_cancelled(sent).await);
            });
        }
    }

    /// Dispatches a message, and starts a task for a request. Returns `None` if the client was stopped meanwhile.
    async fn handle(&mut self, message: Result<(Message, Era), Invalid>) -> Option<()> {
        self.is_initialized |= message.as_ref().is_ok_and(shows_initialized);
        let is_notification = matches!(message, Ok((Message::Notification(_), _)));
        let needs_permit = !is_notification && !message.as_ref().is_ok_and(is_subscription);
        let peer = Arc::new(LinePeer(self.outgoing.clone()));
        let answer = message
            .map(|(message, era)| self.dispatcher.dispatch(&self.caller, era, message, peer));
        let answer = Box::pin(async {
            match answer {
                Ok(answer) => answer.await,
                Err(invalid) => Some(invalid.into()),
            }
        });
        if is_notification {
            self.stop.run_until_cancelled(answer).await?;
            return Some(());
        }
        let permit = async {
            if needs_permit {
                Some(Arc::clone(&self.permits).acquire_owned().await)
            } else {
                None
            }
        };
        let permit = self.stop.run_until_cancelled(permit).await?;
        self.start(answer, permit).await;
        Some(())
    }

    /// Starts a task that sends the `answer` of a request and then drops `permit`.
    async fn start(
        &self,
        mut answer: Pin<Box<impl Future<Output = Option<Outgoing>> + Send + 'static>>,
        permit: impl Send + 'static,
    ) {
        // Polled here once, so that calls are queued in the order of their arrival, whichever task runs first.
        let first_poll = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
        let (outgoing, stop) = (self.outgoing.clone(), self.stop.clone());
        self.requests.spawn(async move {
            let message = match first_poll {
                Poll::Ready(message) => message,
                Poll::Pending => answer.await,
            };
            if let Some(message) = message {
                // A client that does not read must not delay the shutdown.
                drop(stop.run_until_cancelled(outgoing.send(message)).await);
            }
            drop(permit);
        });
    }
}

struct LinePeer(mpsc::Sender<Outgoing>);

impl Peer for LinePeer {
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

/// Returns whether only an initialized client sends the message.
fn shows_initialized((message, era): &(Message, Era)) -> bool {
    match message {
        Message::Notification(sent) => sent.method == "notifications/initialized",
        // Some legacy clients omit the notification. Modern clients use a subscription instead.
        Message::Request(request) => *era == Era::Legacy && request.method != "initialize",
        Message::Response => false,
    }
}

/// Returns whether a message opens a subscription. A subscription may stay open for days and needs no permit: if subscriptions held all
/// permits, their cancellations would never be read.
fn is_subscription((message, era): &(Message, Era)) -> bool {
    match message {
        Message::Request(request) => {
            McpMethod::parse(*era, &request.method) == Some(McpMethod::Listen)
        }
        Message::Notification(_) | Message::Response => false,
    }
}

/// A line that was read.
pub(super) enum Line {
    Message(Vec<u8>),
    /// A line over the limit, with the id of its message if it has one.
    TooLong(Option<RequestId>),
}

impl Line {
    /// Parses the line into a message and its era. Returns `None` for a blank line.
    fn parse(self) -> Option<Result<(Message, Era), Invalid>> {
        Some(match self {
            Self::Message(bytes) if is_blank(&bytes) => return None,
            Self::Message(bytes) => Message::parse(&bytes).and_then(with_era),
            Self::TooLong(id) => Err(too_long(id)),
        })
    }
}

fn is_blank(line: &[u8]) -> bool {
    without_byte_order_mark(line).trim_ascii().is_empty()
}

fn too_long(id: Option<RequestId>) -> Invalid {
    let max = human(MAX_LINE_BYTES);
    let text = format!("the message is longer than {max}; send a shorter one");
    Invalid {
        id,
        error: ErrorObject::new(INVALID_REQUEST, text),
    }
}

/// Sends the lines of `input` until it ends or the receiver is dropped. Skips a line over the limit without buffering it.
///
/// # Errors
/// `input` cannot be read.
pub(super) fn read(mut input: impl BufRead, lines: &mpsc::Sender<Line>) -> io::Result<()> {
    loop {
        let mut line = Vec::new();
        let read = input
            .by_ref()
            .take(MAX_LINE_BYTES + 1)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        let is_whole = line.ends_with(b"\n") || line.len() as u64 <= MAX_LINE_BYTES;
        let line = if is_whole {
            Line::Message(line)
        } else {
            let mut id = IdFinder::default();
            id.read(&line);
            drop(line);
            skip_line(&mut input, &mut id)?;
            Line::TooLong(id.finish())
        };
        if lines.blocking_send(line).is_err() {
            return Ok(());
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

/// Writes messages as lines until all senders are dropped.
///
/// # Errors
/// `output` cannot be written.
pub(super) fn write(
    mut output: impl Write,
    mut messages: mpsc::Receiver<Outgoing>,
) -> io::Result<()> {
    while let Some(message) = messages.blocking_recv() {
        let mut line = message.to_json();
        line.push('\n');
        output.write_all(line.as_bytes())?;
        output.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn lines_of(input: &[u8], capacity: usize) -> Vec<Line> {
        let (tx, mut rx) = mpsc::channel(100);
        read(BufReader::with_capacity(capacity, input), &tx).unwrap();
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
