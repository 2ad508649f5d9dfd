//! One connection: its socket options, its timeouts and its end.
//!
//! hyper has a single timeout for idle connections and slow heads. The server needs two, since a proxy keeps connections open for longer
//! than a head may take. So this module measures the time: [`TimedStream`] notices when bytes arrive, and [`tracked`] notices when a request
//! begins and when its response ends.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::config::http::HttpLimits;
use crate::transport::guard::LiveConfig;
use crate::transport::guard::admission::ConnectionPermit;

/// Longest head of a request. A few hundred bytes are usual.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Idle time after which TCP keepalive probes start. They detect machines that went to sleep or lost their network without closing the
/// connection.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

/// Time between two keepalive probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`): long enough for a wireless network to reconnect.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a rejected client may take to read the response.
const REJECT_TIME: Duration = Duration::from_secs(1);

/// How long a request may continue after its client has half-closed the connection. Some clients half-close it after the request and read
/// the response (`nc -N`). A client that disconnects looks the same until something is sent to it, and its call must be cancelled.
const HALF_CLOSED: Duration = Duration::from_millis(500);

/// The client of a connection, and the connection's permit.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionInfo {
    /// Address of the client.
    pub address: SocketAddr,
    /// Permit of the connection; `None` if connections are not limited.
    pub permit: Option<Arc<ConnectionPermit>>,
}

/// The service that handles the requests of all connections.
pub(crate) type Service = TowerToHyperService<Router>;

/// Phase of a connection, which has a timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionPhase {
    /// Waits for the first byte of a request.
    Idle,
    /// Receives the head of a request.
    Head,
    /// Reads the body of a request and sends the response.
    Request,
}

impl ConnectionPhase {
    /// Returns the timeout of the phase; `None` if it has none.
    fn timeout(self, limits: &HttpLimits) -> Option<Duration> {
        match self {
            Self::Idle => Some(limits.idle_time),
            Self::Head => Some(limits.header_time),
            // The body has a timeout of its own, and an answer may take hours.
            Self::Request => None,
        }
    }
}

/// The phase of a connection and its start. Clones share it.
#[derive(Debug, Clone)]
struct PhaseTimer(Arc<watch::Sender<(ConnectionPhase, Instant)>>);

impl PhaseTimer {
    fn enter(&self, phase: ConnectionPhase) {
        self.0.send_replace((phase, Instant::now()));
    }

    fn begin_head(&self) {
        self.0.send_if_modified(|(phase, since)| {
            let begins = *phase == ConnectionPhase::Idle;
            if begins {
                (*phase, *since) = (ConnectionPhase::Head, Instant::now());
            }
            begins
        });
    }

    fn is_in_request(&self) -> bool {
        self.0.borrow().0 == ConnectionPhase::Request
    }

    /// Restarts the idle time after a write: the client may still read a response whose body has ended.
    fn restart_idle(&self) {
        self.0.send_if_modified(|(phase, since)| {
            let is_idle = *phase == ConnectionPhase::Idle;
            if is_idle {
                *since = Instant::now();
            }
            is_idle
        });
    }

    /// Waits until a phase exceeds its timeout in `live`, and returns the phase.
    async fn timed_out(&self, live: &LiveConfig) -> ConnectionPhase {
        let mut phases = self.0.subscribe();
        loop {
            let (phase, since) = *phases.borrow_and_update();
            let timeout = phase.timeout(&live.borrow().limits);
            let expired = async {
                match timeout {
                    Some(timeout) => tokio::time::sleep_until(since + timeout).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = expired => return phase,
                // Never fails: `self` has the sender.
                _ = phases.changed() => {}
            }
        }
    }
}

/// A stream that updates the phase of its connection. While a request is in flight, the end of the stream is delayed by [`HALF_CLOSED`].
struct TimedStream<S> {
    stream: S,
    timer: PhaseTimer,
    /// Delay of the end; `None` if the stream has not ended during the request.
    grace: Option<Pin<Box<Sleep>>>,
}

impl<S> TimedStream<S> {
    fn new(stream: S, timer: PhaseTimer) -> Self {
        Self {
            stream,
            timer,
            grace: None,
        }
    }

    /// Waits until the end of the stream may be reported.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.timer.is_in_request() {
            self.grace = None;
            return Poll::Ready(());
        }
        let grace = self
            .grace
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(HALF_CLOSED)));
        grace.as_mut().poll(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let has_room = buffer.remaining() > 0;
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.timer.begin_head();
        } else if has_room && matches!(polled, Poll::Ready(Ok(()))) {
            return self.poll_end(context).map(Ok);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(polled, Poll::Ready(Ok(written)) if written > 0) {
            self.timer.restart_idle();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        if matches!(polled, Poll::Ready(Ok(written)) if written > 0) {
            self.timer.restart_idle();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Serves the requests of one connection, one after the other. Each is in `requests` until its response is written.
pub(crate) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    info: ConnectionInfo,
    service: Service,
    requests: TaskTracker,
    live: LiveConfig,
    drain: CancellationToken,
) {
    let client = info.address;
    // A client that connects is expected to send a request at once.
    let timer = PhaseTimer(Arc::new(watch::Sender::new((
        ConnectionPhase::Head,
        Instant::now(),
    ))));
    let connection = http1::Builder::new()
        // Replaced with the timeouts of this module.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEADER_BYTES)
        // The buffer's size does not limit a head that arrives in one piece.
        .max_header_size(MAX_HEADER_BYTES)
        .serve_connection(
            TokioIo::new(TimedStream::new(stream, timer.clone())),
            tracked(service, info, requests, timer.clone()),
        );
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        phase = timer.timed_out(&live) => {
            tracing::debug!(%client, ?phase, "connection timed out");
            return;
        }
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%client, %error, "connection failed");
    }
}

/// Sets the options of a client's socket: no delay for small writes, and detection of dead peers.
///
/// # Errors
/// Returns the error of the system. Without the options the connection works, but progress is delayed and a dead peer stays unnoticed.
pub(super) fn set_options(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL);
    let socket = SockRef::from(stream);
    stream.set_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    // While data is unacknowledged no probes are sent, and retransmission would go on for a quarter of an hour.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

/// Wraps `service`: adds the client to the extensions of each request, and tracks the request until its response is written.
fn tracked(
    service: Service,
    info: ConnectionInfo,
    requests: TaskTracker,
    timer: PhaseTimer,
) -> impl hyper::service::Service<
    hyper::Request<Incoming>,
    Response = hyper::Response<TrackedBody>,
    Error = Infallible,
    Future: Send,
> {
    service_fn(move |mut request| {
        let extensions = request.extensions_mut();
        extensions.insert(info.address);
        if let Some(permit) = &info.permit {
            extensions.insert(Arc::clone(permit));
        }
        timer.enter(ConnectionPhase::Request);
        let request_guard = InFlightRequest {
            timer: timer.clone(),
            _token: requests.token(),
        };
        let answer = service.call(request);
        async move {
            Ok(answer.await?.map(|body| TrackedBody {
                body,
                _request: request_guard,
            }))
        }
    })
}

/// A request whose response is not written yet.
struct InFlightRequest {
    timer: PhaseTimer,
    _token: TaskTrackerToken,
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        self.timer.enter(ConnectionPhase::Idle);
    }
}

/// Body of a response, which ends its request when it is dropped.
struct TrackedBody {
    body: axum::body::Body,
    _request: InFlightRequest,
}

impl hyper::body::Body for TrackedBody {
    type Data = axum::body::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Sends `response` to a client whose connection is not admitted, and closes the connection.
pub(super) async fn reject(mut stream: TcpStream, response: &[u8]) {
    let sent = async {
        stream.write_all(response).await?;
        stream.shutdown().await?;
        // Reads what the client sends: closing a socket with unread bytes resets the connection, and the response is lost.
        let mut unread = [0; 1024];
        while stream.read(&mut unread).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    drop(tokio::time::timeout(REJECT_TIME, sent).await);
}
