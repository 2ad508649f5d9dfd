//! MCP over Streamable HTTP, for the revisions with sessions: 2025-11-25 `basic/transports` and its predecessors.
//!
//! Here are the connections and their end; [`endpoint`] serves a request, [`exchange`] answers one, [`sessions`] is the
//! table, and [`super::guard`] refuses. A request lives in the task of its connection, so a client that goes away drops
//! it, which cancels the call. One that sends bytes behind its request, and then goes, is only noticed when an event is
//! written to it: hyper does not read on before it has answered.
//!
//! At the end no connection is accepted, running requests get [`HttpConfig::drain_time`], what then still runs is cancelled
//! with an answer, and what asks for nothing, or has not finished asking, is closed.

pub mod endpoint;
pub mod exchange;
pub mod sessions;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::any;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::guard::{self, Live, Refusal};
use crate::config::http::HttpConfig;
use crate::mcp::dispatcher::Dispatcher;
use crate::process;
use endpoint::Endpoint;

/// How long the head of a request may take, and a connection may wait for the next request.
const HEADER_TIME: Duration = Duration::from_secs(30);

/// The longest head; a few hundred bytes are usual.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Connections at once, two for every session: its stream and a call. Further ones wait in the system's queue.
fn max_connections(config: &HttpConfig) -> usize {
    2 * config.max_sessions
}

/// A machine that fell asleep or off the network sends no end: after this long without a sign it is asked for one, every
/// [`KEEPALIVE_INTERVAL`], until the system gives it up.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

/// See [`KEEPALIVE_AFTER`].
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long a client's machine may leave what was sent without a sign: as long as a wireless network may take to come back.
#[cfg(target_os = "linux")]
const UNANSWERED: Duration = Duration::from_mins(1);

/// How long the answers to cancelled calls may take to be written at the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long what was answered may take from here to the system's buffers.
const LAST_BYTES: Duration = Duration::from_millis(200);

/// When the server ends.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// No more requests; running calls may end.
    pub drain: CancellationToken,
    /// Running calls are cancelled.
    pub stop: CancellationToken,
}

/// Listens where `config` says.
///
/// # Errors
/// Where none of the addresses can be bound: that one is in use, for example.
pub async fn listen(config: &HttpConfig) -> io::Result<TcpListener> {
    let mut missing = io::ErrorKind::AddrNotAvailable.into();
    for address in &config.addresses {
        match TcpListener::bind(address).await {
            // A name stands for addresses that this machine may lack; one that is in use is not evaded: clients would
            // send their token to whoever uses it.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => missing = error,
            result => return result,
        }
    }
    Err(missing)
}

/// Serves what comes to `listener` until `ending`, by the rules that are `live`; those of address and sessions are read once.
///
/// # Errors
/// Where the listener has no address.
pub async fn serve(
    dispatcher: Arc<Dispatcher>,
    live: Live,
    listener: TcpListener,
    ending: Ending,
) -> io::Result<()> {
    let config = Arc::clone(&live.borrow());
    tracing::info!(
        authentication = config.auth.is_some(),
        "listening on http://{}/mcp",
        listener.local_addr()?
    );
    process::raise_file_limit();
    let endpoint = Endpoint::new(dispatcher, live.clone(), ending.clone());
    let service = TowerToHyperService::new(router(endpoint, live.clone()));
    let connections = TaskTracker::new();
    let requests = TaskTracker::new();
    let places = Arc::new(Semaphore::new(max_connections(&config)));
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let Some(Ok(place)) = ending.drain.run_until_cancelled(place).await else {
            break;
        };
        let Some((stream, client)) = ending.drain.run_until_cancelled(accept(&listener)).await
        else {
            break;
        };
        let service = counted(service.clone(), requests.clone());
        let drain = ending.drain.clone();
        connections.spawn(async move {
            converse(stream, client, service, drain).await;
            drop(place);
        });
    }
    drop(listener);
    requests.close();
    // Not the connections: one that never finishes its head asks for nothing.
    let drained = async {
        let drain_time = live.borrow().drain_time;
        let done = tokio::time::timeout(drain_time, requests.wait());
        done.await.is_ok()
    };
    if ending.stop.run_until_cancelled(drained).await != Some(true) {
        tracing::warn!(
            requests = requests.len(),
            "the requests that still run are cancelled"
        );
        ending.stop.cancel();
        // A client that does not read does not hold up the end.
        drop(tokio::time::timeout(LAST_WORDS, requests.wait()).await);
    }
    connections.close();
    drop(tokio::time::timeout(LAST_BYTES, connections.wait()).await);
    Ok(())
}

fn router(endpoint: Endpoint, live: Live) -> Router {
    Router::new()
        .route("/mcp", any(endpoint::serve))
        .with_state(endpoint)
        .route_layer(from_fn_with_state(live.clone(), guard::authenticate))
        // Also for the pages under /.well-known: a client that got 401 there would look for a login for ever.
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "the endpoint is `/mcp`"))
        .layer(from_fn_with_state(live, guard::check_source))
}

type Service = TowerToHyperService<Router>;

/// `service`, each request counted until its response is written.
fn counted(
    service: Service,
    requests: TaskTracker,
) -> impl hyper::service::Service<
    hyper::Request<Incoming>,
    Response = hyper::Response<Counted>,
    Error = Infallible,
    Future: Send,
> {
    service_fn(move |request| {
        let (token, answer) = (requests.token(), service.call(request));
        async move {
            Ok(answer.await?.map(|body| Counted {
                body,
                _token: token,
            }))
        }
    })
}

/// A response that is being written.
struct Counted {
    body: axum::body::Body,
    _token: TaskTrackerToken,
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

/// The next connection. A failure, the lack of descriptors for example, passes.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves the requests of one connection, one after the other.
async fn converse(
    stream: TcpStream,
    client: SocketAddr,
    service: impl hyper::service::Service<
        hyper::Request<Incoming>,
        Response = hyper::Response<Counted>,
        Error = Infallible,
        Future: Send,
    >,
    drain: CancellationToken,
) {
    // Without them progress comes late, and a client that is gone stays unnoticed: no reason to refuse it.
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL);
    let socket = SockRef::from(&stream);
    let options = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive));
    // While an answer is on its way no such question is asked, and it would be sent again for a quarter of an hour.
    #[cfg(target_os = "linux")]
    let options = options.and_then(|()| socket.set_tcp_user_timeout(Some(UNANSWERED)));
    if let Err(error) = options {
        tracing::debug!(%client, %error, "a connection has no options");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%client, %error, "a connection broke");
    }
}
