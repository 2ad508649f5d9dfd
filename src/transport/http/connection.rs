//! One connection: its socket, the time that its client may take, and its end.
//!
//! hyper has one limit for an idle connection and for a head that comes slowly; here they are two, since a proxy keeps
//! connections longer than any head takes. So the times are kept here: `Watched` sees when bytes come, `counted` when a
//! request begins and when its response has ended.

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
use crate::transport::guard::Live;
use crate::transport::guard::admission::ConnectionPermit;

/// The longest head; a few hundred bytes are usual.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// A machine that fell asleep or off the network sends no end: after this long without a sign it is asked for one, every
/// [`KEEPALIVE_INTERVAL`], until the system gives it up.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

/// See [`KEEPALIVE_AFTER`].
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long a client's machine may leave what was sent without a sign: as long as a wireless network may take to come back.
#[cfg(target_os = "linux")]
const UNANSWERED: Duration = Duration::from_mins(1);

/// How long a client that is turned away may take to read that.
const TURN_AWAY_WITHIN: Duration = Duration::from_secs(1);

/// How long a request may still be answered after its client has ended its side of the connection. Some clients do that behind their
/// request and read on (`nc -N`); but a client that goes away looks the same until something is sent to it, and its call must end.
const HALF_CLOSED: Duration = Duration::from_millis(500);

/// Where the requests of a connection are from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// The client.
    pub address: SocketAddr,
    /// The permit of the connection; `None` if there is no limit.
    pub permit: Option<Arc<ConnectionPermit>>,
}

/// What serves the requests of all connections.
pub(crate) type Service = TowerToHyperService<Router>;

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It waits for the first byte of another request.
    Idle,
    /// A head is on its way.
    Head,
    /// A request is being answered, its body read among it.
    Request,
}

impl Phase {
    fn limit(self, limits: &HttpLimits) -> Option<Duration> {
        match self {
            Self::Idle => Some(limits.idle_time),
            Self::Head => Some(limits.header_time),
            // The body has its own limit, and an answer may take hours.
            Self::Request => None,
        }
    }
}

/// The phase of a connection, and since when. Clones share it.
#[derive(Debug, Clone)]
struct Timing(Arc<watch::Sender<(Phase, Instant)>>);

impl Timing {
    fn enter(&self, phase: Phase) {
        self.0.send_replace((phase, Instant::now()));
    }

    fn begin_head(&self) {
        self.0.send_if_modified(|(phase, since)| {
            let begins = *phase == Phase::Idle;
            if begins {
                (*phase, *since) = (Phase::Head, Instant::now());
            }
            begins
        });
    }

    fn is_in_request(&self) -> bool {
        self.0.borrow().0 == Phase::Request
    }

    /// A response may still be on its way when its body is at its end: a client that reads it does not idle.
    fn wrote(&self) {
        self.0.send_if_modified(|(phase, since)| {
            let is_idle = *phase == Phase::Idle;
            if is_idle {
                *since = Instant::now();
            }
            is_idle
        });
    }

    /// Comes back when a phase took longer than `live` lets it.
    async fn overdue(&self, live: &Live) -> Phase {
        let mut phases = self.0.subscribe();
        loop {
            let (phase, since) = *phases.borrow_and_update();
            let limit = phase.limit(&live.borrow().limits);
            let expired = async {
                match limit {
                    Some(limit) => tokio::time::sleep_until(since + limit).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = expired => return phase,
                // The sender is this very value.
                _ = phases.changed() => {}
            }
        }
    }
}

/// A stream whose reads are noticed. While a request is answered, its end is passed on after [`HALF_CLOSED`].
struct Watched<S> {
    stream: S,
    timing: Timing,
    /// Since the stream ended under the request that is answered.
    grace: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    fn new(stream: S, timing: Timing) -> Self {
        Self {
            stream,
            timing,
            grace: None,
        }
    }

    /// Whether the end of the stream is passed on.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.timing.is_in_request() {
            self.grace = None;
            return Poll::Ready(());
        }
        let grace = self
            .grace
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(HALF_CLOSED)));
        grace.as_mut().poll(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let has_room = buffer.remaining() > 0;
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.timing.begin_head();
        } else if has_room && matches!(polled, Poll::Ready(Ok(()))) {
            return self.poll_end(context).map(Ok);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(polled, Poll::Ready(Ok(written)) if written > 0) {
            self.timing.wrote();
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
            self.timing.wrote();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Serves the requests of one connection, one after the other, each among `requests` until its response is written.
pub(crate) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    from: Origin,
    service: Service,
    requests: TaskTracker,
    live: Live,
    drain: CancellationToken,
) {
    let client = from.address;
    // Who connects is about to ask.
    let progress = Timing(Arc::new(watch::Sender::new((Phase::Head, Instant::now()))));
    let connection = http1::Builder::new()
        // The time is kept here.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEADER_BYTES)
        // The buffer's size alone lets one through that comes at once.
        .max_header_size(MAX_HEADER_BYTES)
        .serve_connection(
            TokioIo::new(Watched::new(stream, progress.clone())),
            counted(service, from, requests, progress.clone()),
        );
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        phase = progress.overdue(&live) => {
            tracing::debug!(%client, ?phase, "a connection was closed: its time was over");
            return;
        }
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%client, %error, "a connection broke");
    }
}

/// Sets what a client's socket needs: news without delay, and a sign where its machine is gone.
///
/// # Errors
/// Those of the system; progress comes late then, and a client that is gone stays unnoticed.
pub(super) fn set_options(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL);
    let socket = SockRef::from(stream);
    stream.set_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    // While an answer is on its way no such question is asked, and it would be sent again for a quarter of an hour.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNANSWERED))?;
    Ok(())
}

/// `service`, told where a request is `from`, each request counted until its response is written.
fn counted(
    service: Service,
    from: Origin,
    requests: TaskTracker,
    progress: Timing,
) -> impl hyper::service::Service<
    hyper::Request<Incoming>,
    Response = hyper::Response<Counted>,
    Error = Infallible,
    Future: Send,
> {
    service_fn(move |mut request| {
        let extensions = request.extensions_mut();
        extensions.insert(from.address);
        if let Some(permit) = &from.permit {
            extensions.insert(Arc::clone(permit));
        }
        progress.enter(Phase::Request);
        let request_guard = Request {
            progress: progress.clone(),
            _token: requests.token(),
        };
        let answer = service.call(request);
        async move {
            Ok(answer.await?.map(|body| Counted {
                body,
                _request: request_guard,
            }))
        }
    })
}

/// A request that is being answered.
struct Request {
    progress: Timing,
    _token: TaskTrackerToken,
}

impl Drop for Request {
    fn drop(&mut self) {
        self.progress.enter(Phase::Idle);
    }
}

/// A response that is being written.
struct Counted {
    body: axum::body::Body,
    _request: Request,
}

impl hyper::body::Body for Counted {
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

/// Tells a client that there are as many connections as may be, and closes.
pub(super) async fn turn_away(mut stream: TcpStream, response: &[u8]) {
    let told = async {
        stream.write_all(response).await?;
        stream.shutdown().await?;
        // What the client sends meanwhile is taken: a socket that is closed over unread bytes takes the response back.
        let mut unread = [0; 1024];
        while stream.read(&mut unread).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    drop(tokio::time::timeout(TURN_AWAY_WITHIN, told).await);
}
