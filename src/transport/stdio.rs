//! MCP over stdin and stdout, with one JSON message per line.
//!
//! One thread reads lines into a bounded channel, and one thread writes lines. They are not the runtime's threads, since a blocked read of
//! stdin cannot be cancelled. [`lines`] serves the client.
//!
//! When stdin ends, the server finishes the requests that it has read. When stdout is closed, it cancels all requests.

use std::io::{self, BufReader};
use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::lines::{self, Client, Line, MAX_BUFFERED_LINES, MAX_BUFFERED_MESSAGES};
use crate::fair::MessagePermits;
use crate::mcp::caller::{Access, Caller, ConnectionId};
use crate::mcp::dispatcher::Dispatcher;
use crate::mcp::jsonrpc::Outgoing;
use crate::process::ProtocolOutput;
use crate::threads::{self, SystemLimit};

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
        let (outgoing, messages) = mpsc::channel(MAX_BUFFERED_MESSAGES);
        let closed = stop.clone();
        let writer = threads::start("writer", move || {
            if let Err(error) = lines::write(output, messages) {
                tracing::info!(%error, "could not write to stdout");
                closed.cancel();
            }
        })?;
        let (lines_tx, lines) = mpsc::channel(MAX_BUFFERED_LINES);
        threads::start("reader", move || {
            if let Err(error) = lines::read(BufReader::new(io::stdin()), &lines_tx) {
                tracing::error!(%error, "could not read stdin");
            }
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
        lines,
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
    let mut client = Client::new(caller, Arc::clone(&dispatcher), outgoing, stop.clone());
    client.serve(lines).await;
    // The server has no other client, and subscriptions do not end by themselves.
    dispatcher.close();
    client.drain().await;
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
