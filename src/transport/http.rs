//! MCP over Streamable HTTP, of both eras: with sessions (2025-11-25 `basic/transports` and its predecessors), and without
//! (2026-07-28 `basic/transports/streamable-http`).
//!
//! This file holds the listener and its shutdown. [`connection`] serves a connection, [`endpoint`] serves a request, [`response`] answers one,
//! [`admin`] unloads and restarts models, [`sessions`] is the table, [`session_id`] and [`session_keys`] sign session ids, [`rate_limit`] enforces limits,
//! [`headers`] reads headers, [`exposition`] writes metrics, [`permits`] has the permits of requests, and [`super::guard`] checks hosts, origins and tokens.
//! A request lives in the task of its connection, so a client that goes away drops it, which cancels the call. One that sends
//! bytes behind its request, and then goes, is only noticed when an event is written to it: hyper does not read on before it
//! has answered.
//!
//! At the end no connection is accepted, running requests get [`HttpConfig::drain_time`], what then still runs is cancelled
//! with an answer, and what asks for nothing, or has not finished asking, is closed.

pub(crate) mod admin;
pub(crate) mod connection;
pub(crate) mod endpoint;
pub(crate) mod exposition;
pub(crate) mod headers;
mod not_found;
pub(crate) mod observe;
pub(crate) mod permits;
pub(crate) mod rate_limit;
pub(crate) mod receive;
pub(crate) mod response;
pub(crate) mod session_id;
pub(crate) mod session_keys;
pub(crate) mod sessions;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, Method};
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, post};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::guard::admission::Admission;
use super::guard::{self, Gate, Live, Refusal};
use crate::config::http::HttpConfig;
use crate::mcp::dispatcher::Dispatcher;
use crate::process;
use crate::status::Board;
use connection::Origin;
use endpoint::Endpoint;
use not_found::{not_found, wrong_method};

/// Clients at once that are told that there are too many; further ones are not told.
const MAX_TURNED_AWAY: usize = 64;

/// How long the answers to cancelled calls may take to be written at the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long what was answered may take from here to the system's buffers.
const LAST_BYTES: Duration = Duration::from_millis(200);

/// How often the log says that connections cannot be accepted.
const WARNING_PERIOD: Duration = Duration::from_secs(10);

/// When the server ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending {
    /// No more requests; running calls may end.
    pub drain: CancellationToken,
    /// Running calls are cancelled.
    pub stop: CancellationToken,
}

/// Listens where `config` says.
///
/// # Errors
/// Where none of the addresses can be bound: that one is in use, for example.
pub(crate) async fn listen(config: &HttpConfig) -> io::Result<TcpListener> {
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

/// Serves what comes to `listener` until `ending`, by the rules that are `live`; those that wait for a restart are read once.
///
/// # Errors
/// Where the listener has no address.
pub(crate) async fn serve(
    dispatcher: Arc<Dispatcher>,
    board: Board,
    live: Live,
    listener: TcpListener,
    ending: Ending,
) -> io::Result<()> {
    let config = Arc::clone(&live.borrow());
    tracing::info!(
        authentication = !config.tokens.is_empty(),
        "listening on http://{}/mcp",
        listener.local_addr()?
    );
    let limit = process::raise_file_limit();
    if let Some(problem) = process::too_few_files(config.limits.max_connections, limit) {
        tracing::warn!("{problem}");
    }
    let service = service(
        Arc::clone(&dispatcher),
        Some(board),
        live.clone(),
        ending.clone(),
    );
    let connections = TaskTracker::new();
    let requests = TaskTracker::new();
    let admission = Admission::new(config.limits.max_connections);
    let turned_away = Arc::new(Semaphore::new(MAX_TURNED_AWAY));
    let drained = ending.drain.clone();
    let mut warned = None;
    while let Some((stream, client)) = drained
        .run_until_cancelled(accept(&listener, &mut warned))
        .await
    {
        let has_authentication = !live.borrow().tokens.is_empty();
        if let Some(permit) = admission.admit(client.ip(), has_authentication) {
            let from = Origin {
                address: client,
                permit: Some(Arc::new(permit)),
            };
            let (service, requests) = (service.clone(), requests.clone());
            let (live, drain) = (live.clone(), ending.drain.clone());
            connections.spawn(async move {
                if let Err(error) = connection::set_options(&stream) {
                    tracing::debug!(%client, %error, "a connection has no options");
                }
                connection::converse(stream, from, service, requests, live, drain).await;
            });
        } else if let Ok(permit) = Arc::clone(&turned_away).try_acquire_owned() {
            tracing::debug!(%client, "a connection was turned away: the limit of all, or of its sender without a token, is reached");
            connections.spawn(async move {
                let refusal = Refusal::busy(
                    "the server is busy: too many connections (`max_connections`), or too many from this address without a valid token; try again later",
                );
                connection::turn_away(stream, &refusal.to_bytes()).await;
                drop(permit);
            });
        }
    }
    drop(listener);
    dispatcher.close();
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

/// What serves the requests of all connections, by the rules that are `live`; `board` is asked how it is.
pub(crate) fn service(
    dispatcher: Arc<Dispatcher>,
    board: Option<Board>,
    live: Live,
    ending: Ending,
) -> connection::Service {
    let endpoint = Endpoint::new(dispatcher, live.clone(), ending.clone());
    let gate = Gate::new(live);
    let health = Router::new()
        .route("/health/live", get(observe::live))
        .route("/health/ready", get(observe::ready))
        .with_state(ending);
    let router = Router::new()
        .route("/mcp", any(endpoint::serve))
        // Not a redirect: some clients lose their headers on one.
        .route("/mcp/", any(endpoint::serve))
        .with_state(endpoint)
        .route("/metrics", get(observe::metrics))
        .route("/status", get(observe::status))
        .route("/admin/models/{name}/unload", post(admin::unload))
        .route("/admin/models/{name}/restart", post(admin::restart))
        .with_state(board)
        .route_layer(from_fn_with_state(gate.clone(), guard::authenticate))
        .merge(health);
    TowerToHyperService::new(guarded(router, gate))
}

fn guarded(router: Router, gate: Gate) -> Router {
    let live = gate.live();
    let router = router
        // Also for the pages under /.well-known: a client that got 401 there would look for a login for ever.
        .fallback(async move || not_found(!live.borrow().tokens.is_empty()))
        .method_not_allowed_fallback(wrong_method);
    let router = if gate.live().borrow().cors {
        router.layer(cors())
    } else {
        router
    };
    router.layer(from_fn_with_state(gate, guard::check_source))
}

/// For pages of the origins that [`guard::check_source`], around it, let through.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::mirror_request())
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        // Every header that a page asks for: trace headers and a page's own are harmless, and the page is allowed to send the others.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            HeaderName::from_static(headers::SESSION),
            WWW_AUTHENTICATE,
            RETRY_AFTER,
        ])
        // Asked once in ten minutes, the most that browsers take.
        .max_age(Duration::from_mins(10))
}

/// Returns the next connection. A failure such as a lack of file descriptors passes; `warned` is when it was last logged.
async fn accept(listener: &TcpListener, warned: &mut Option<Instant>) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                if warned.is_none_or(|at| at.elapsed() >= WARNING_PERIOD) {
                    *warned = Some(Instant::now());
                    tracing::warn!(%error, "connections could not be accepted");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
