//! MCP over Streamable HTTP, for the revisions with sessions: 2025-11-25 `basic/transports` and its predecessors.
//!
//! Here are the connections and their end; [`endpoint`] serves a request, [`exchange`] answers one, [`sessions`] is the
//! table, and [`super::guard`] refuses. A request lives in the task of its connection, so a client that goes away drops
//! it, which cancels the call.
//!
//! At the end no connection is accepted, those without a request are closed, running calls get
//! [`HttpConfig::drain_time`], and what then still runs is cancelled with an answer.

pub mod endpoint;
pub mod exchange;
pub mod sessions;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::any;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::guard::{self, Guard, Refusal};
use crate::config::http::HttpConfig;
use crate::mcp::dispatcher::Dispatcher;
use endpoint::Endpoint;

/// How long the head of a request may take, and a connection may wait for the next request.
const HEADER_TIME: Duration = Duration::from_secs(30);

/// The longest head; a few hundred bytes are usual.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Connections at once, two for every session: its stream and a call. Further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 2 * sessions::MAX_SESSIONS;

/// A machine that fell asleep or off the network sends no end: after this long without a sign it is asked for one, every
/// [`KEEPALIVE_INTERVAL`], until the system gives it up.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

/// See [`KEEPALIVE_AFTER`].
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long the answers to cancelled calls may take to be written at the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

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
    TcpListener::bind(&config.addresses[..]).await
}

/// Serves what comes to `listener` until `ending`.
///
/// # Errors
/// Where the listener has no address.
pub async fn serve(
    dispatcher: Arc<Dispatcher>,
    config: &HttpConfig,
    listener: TcpListener,
    ending: Ending,
) -> io::Result<()> {
    tracing::info!(
        authentication = config.auth.is_some(),
        "listening on http://{}/mcp",
        listener.local_addr()?
    );
    let endpoint = Endpoint::new(dispatcher, ending.clone());
    let service = TowerToHyperService::new(router(endpoint, Guard::new(config)));
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let Some(Ok(place)) = ending.drain.run_until_cancelled(place).await else {
            break;
        };
        let Some((stream, client)) = ending.drain.run_until_cancelled(accept(&listener)).await
        else {
            break;
        };
        let (service, drain) = (service.clone(), ending.drain.clone());
        connections.spawn(async move {
            converse(stream, client, service, drain).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    let drained = async {
        tokio::time::timeout(config.drain_time, connections.wait())
            .await
            .is_ok()
    };
    if ending.stop.run_until_cancelled(drained).await != Some(true) {
        tracing::warn!(
            connections = connections.len(),
            "the calls that still run are cancelled"
        );
        ending.stop.cancel();
        // A client that does not read does not hold up the end.
        drop(tokio::time::timeout(LAST_WORDS, connections.wait()).await);
    }
    Ok(())
}

fn router(endpoint: Endpoint, guard: Guard) -> Router {
    let guard = Arc::new(guard);
    Router::new()
        .route("/mcp", any(endpoint::serve))
        .with_state(endpoint)
        .route_layer(from_fn_with_state(Arc::clone(&guard), guard::authenticate))
        // Also for the pages under /.well-known: a client that got 401 there would look for a login for ever.
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "the endpoint is `/mcp`"))
        .layer(from_fn_with_state(guard, guard::check_source))
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
    service: TowerToHyperService<Router>,
    drain: CancellationToken,
) {
    // Without them progress comes late, and a client that is gone stays unnoticed: no reason to refuse it.
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL);
    let options = stream
        .set_nodelay(true)
        .and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&keepalive));
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
