//! MCP over standard input and output: one JSON message a line.
//!
//! A thread reads lines into a bounded channel (a blocked read of stdin cannot be cancelled, so it must not be the
//! runtime's), a thread writes them; every request is a task, answered in the order in which answers are ready.
//!
//! When stdin ends, what was read is finished as long as somebody reads stdout; when nobody does, all is cancelled.

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

/// The longest line: as in other MCP servers, room for a prompt of millions of words.
const MAX_LINE_BYTES: u64 = 16 * 1024 * 1024;

/// Lines that are read ahead; each may be as long as allowed, so few.
const LINES_AHEAD: usize = 4;

/// Requests that are handled at once; beyond it reading stops, so a client that does not read its answers is not read
/// either. The models' queues refuse long before.
const MAX_REQUESTS: usize = 1024;

/// Messages that wait for the client to read; progress beyond it is dropped, answers wait.
const OUTGOING_AHEAD: usize = 1024;

/// Standard input and output with their running threads.
#[derive(Debug)]
pub(crate) struct Stdio {
    lines: mpsc::Receiver<Line>,
    outgoing: mpsc::Sender<Outgoing>,
    writer: thread::JoinHandle<()>,
    /// Cancelled once nobody reads stdout.
    stop: CancellationToken,
}

/// Reason why stdin and stdout cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The system starts no thread.
    #[error(transparent)]
    NoThread(#[from] SystemLimit),
    /// Stdout cannot be watched.
    #[error(transparent)]
    NotWatched(#[from] io::Error),
}

impl Stdio {
    /// Starts the threads that read and write until `shutdown` is cancelled. Call this before models are loaded, since their processes
    /// count towards the same limit.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(crate) fn open(
        output: Box<dyn ProtocolOutput>,
        shutdown: &CancellationToken,
    ) -> Result<Self, OpenError> {
        let stop = shutdown.child_token();
        watch_reader(output.as_ref(), &stop)?;
        let (outgoing, lines_out) = mpsc::channel(OUTGOING_AHEAD);
        let unread = stop.clone();
        let writer = threads::start("writer", move || write_lines(output, lines_out, &unread))?;
        let (lines_tx, lines) = mpsc::channel(LINES_AHEAD);
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

/// Serves one client until stdin has ended and all requests are answered, nobody reads stdout, or the server shuts down.
///
/// # Errors
/// The writer of stdout fails in a way of ours.
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
    let places = Arc::new(Semaphore::new(MAX_REQUESTS));
    let mut changes = dispatcher.changes();
    let mut is_initialized = false;
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            Ok(()) = changes.changed() => {
                if is_initialized {
                    let (outgoing, ended) = (outgoing.clone(), stop.clone());
                    requests.spawn(async move {
                        let news = outgoing.send(Outgoing::tools_changed(None));
                        drop(ended.run_until_cancelled(news).await);
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
        let is_news = matches!(&parsed, Ok(Message::Notification(_)));
        let parsed = parsed.and_then(with_era);
        is_initialized |= match &parsed {
            Ok((Message::Notification(news), _)) => news.method == "notifications/initialized",
            // Some clients leave that out. Those of the modern era subscribe.
            Ok((Message::Request(request), Era::Legacy)) => request.method != "initialize",
            _ => false,
        };
        let takes_place = !is_news && !parsed.as_ref().is_ok_and(listens);
        let peer = Arc::new(StdioPeer(outgoing.clone()));
        let answer = parsed.map(|(message, era)| dispatcher.dispatch(&caller, era, message, peer));
        let place = async {
            if takes_place {
                Some(Arc::clone(&places).acquire_owned().await)
            } else {
                None
            }
        };
        let (outgoing, ended) = (outgoing.clone(), stop.clone());
        let Some(place) = stop.run_until_cancelled(place).await else {
            break;
        };
        let mut answer = Box::pin(async {
            match answer {
                Ok(answer) => answer.await,
                Err(invalid) => Some(invalid.into()),
            }
        });
        if is_news {
            stop.run_until_cancelled(answer).await;
            continue;
        }
        // Begun here: calls take their places in the order in which they came, whichever task runs first.
        let begun = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
        requests.spawn(async move {
            let message = match begun {
                Poll::Ready(message) => message,
                Poll::Pending => answer.await,
            };
            if let Some(message) = message {
                // A client that does not read must not hold up the end.
                drop(ended.run_until_cancelled(outgoing.send(message)).await);
            }
            drop(place);
        });
    }
    requests.close();
    // A subscription would wait for ever.
    dispatcher.close();
    tokio::select! {
        () = requests.wait() => {}
        () = stop.cancelled() => {
            dispatcher.cancel_all(&caller.connection);
            requests.wait().await;
        }
    }
    drop(outgoing);
    // All answers are in the channel: the writer ends when they are written. It may be blocked for ever by a client that
    // does not read, so a stop does not wait for it.
    let written = tokio::task::spawn_blocking(move || writer.join());
    match stop.run_until_cancelled(written).await {
        Some(joined) => joined?.map_err(|_panic| io::Error::other("the writer panicked")),
        None => Ok(()),
    }
}

/// Cancels `stop` when nobody reads the output any more.
#[cfg(unix)]
fn watch_reader(output: &dyn ProtocolOutput, stop: &CancellationToken) -> Result<(), OpenError> {
    let (watched, stop) = (output.watch()?, stop.clone());
    threads::start("watcher", move || {
        crate::process::wait_until_unread(&watched);
        stop.cancel();
        tracing::info!("nobody reads the answers any more");
    })?;
    Ok(())
}

/// Does nothing: on this system a failing write shows that nobody reads.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "Unix may refuse")]
fn watch_reader(_: &dyn ProtocolOutput, _: &CancellationToken) -> Result<(), OpenError> {
    Ok(())
}

struct StdioPeer(mpsc::Sender<Outgoing>);

impl Peer for StdioPeer {
    fn notify(&self, notification: Outgoing) -> bool {
        // A client that is slow to read can do without progress.
        self.0.try_send(notification).is_ok()
    }
}

/// A message and its era. Only requests have one that matters.
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

/// Whether a message opens a subscription. That takes no place: it may stay open for days, and with every place taken the
/// cancels that end it were not read.
fn listens((message, era): &(Message, Era)) -> bool {
    let is_listen = |request: &Request| request.method == "subscriptions/listen";
    *era == Era::Modern && matches!(message, Message::Request(request) if is_listen(request))
}

enum Line {
    Message(Vec<u8>),
    /// The error, with the id of the message if it had one.
    TooLong(Option<RequestId>),
}

fn is_blank(line: &[u8]) -> bool {
    without_byte_order_mark(line).trim_ascii().is_empty()
}

fn too_long(id: Option<RequestId>) -> Invalid {
    let text = format!("the message is longer than {MAX_LINE_BYTES} bytes");
    Invalid {
        id,
        error: ErrorObject::new(INVALID_REQUEST, text),
    }
}

/// Sends every line until the input or the receiver ends. A line over the limit is skipped without being held.
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
                tracing::error!(%error, "stdin could not be read");
                return;
            }
        };
        if lines.blocking_send(line).is_err() {
            return;
        }
    }
}

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

/// Writes messages, each a line, until all senders are gone; cancels `unread` when nobody reads them.
fn write_lines(
    mut output: Box<dyn ProtocolOutput>,
    mut messages: mpsc::Receiver<Outgoing>,
    unread: &CancellationToken,
) {
    while let Some(message) = messages.blocking_recv() {
        let mut line = message.to_json();
        line.push('\n');
        if let Err(error) = output
            .write_all(line.as_bytes())
            .and_then(|()| output.flush())
        {
            tracing::info!(%error, "an answer could not be written");
            unread.cancel();
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
    fn a_line_over_the_limit_is_refused_by_its_id_and_the_next_is_read() {
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
    fn a_last_line_without_an_end_is_read() {
        assert!(matches!(&lines_of(b"a\nb", 1)[..], [_, Line::Message(last)] if last == b"b"));
    }
}
