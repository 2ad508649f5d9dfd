//! MCP over Streamable HTTP: with sessions in the legacy era (2025-11-25 `basic/transports` and its predecessors), without sessions in
//! the modern era (2026-07-28 `basic/transports/streamable-http`).
//!
//! ```text
//! POST /mcp  Content-Type: application/json  {"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}
//! 200        Mcp-Session-Id: AQAAAABrD…      {"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2024-11-05",…}}
//!
//! POST /mcp  Mcp-Session-Id: AQAAAABrD…      {"jsonrpc":"2.0","id":2,"method":"tools/list"}
//! 200                                        {"jsonrpc":"2.0","id":2,"result":{"tools":[…]}}
//! ```
//!
//! This module has the listener, the routes and the graceful shutdown. The path of a request:
//!
//! | module | does |
//! | --- | --- |
//! | [`connection`] | serves one connection, with its timeouts |
//! | [`super::guard`] | checks `Host`, `Origin` and token |
//! | [`endpoint`] | handles `/mcp`: [`headers`] and [`receive`] read the request, [`response`] writes the response |
//! | [`permits`] | grants the permits that a request holds, by the [`limits`] |
//! | [`sessions`] | tracks sessions, whose ids [`session_id`] signs with the keys of [`session_keys`] |
//! | [`observe`], [`exposition`] | handle `/health`, `/status` and `/metrics` |
//! | [`admin`] | unloads and restarts models |
//!
//! A request runs in the task of its connection, so a disconnect drops it, which cancels the call. If the client has sent further bytes
//! after the request, the disconnect is noticed only when an event is written: hyper reads nothing more before the response has ended.
//!
//! On shutdown the server accepts no further connections and drains running requests for at most [`HttpConfig::drain_time`]. Then it
//! cancels the remaining requests with a response, and closes all connections.

pub(crate) mod admin;
pub(crate) mod connection;
pub(crate) mod endpoint;
pub(crate) mod exposition;
pub(crate) mod headers;
pub(crate) mod limits;
mod not_found;
pub(crate) mod observe;
pub(crate) mod permits;
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
use super::guard::{self, GuardState, LiveConfig, Refusal};
use crate::config::http::HttpConfig;
use crate::mcp::dispatcher::Dispatcher;
use crate::process;
use crate::status::Board;
use connection::ConnectionInfo;
use endpoint::Endpoint;
use not_found::{not_found, unsupported_method};

/// Most rejected connections that get a response at once. Further ones are closed without one.
const MAX_REJECTIONS: usize = 64;

/// Time on shutdown to write the responses to cancelled requests.
const CANCEL_TIME: Duration = Duration::from_secs(1);

/// Time on shutdown to flush written responses to the system's buffers.
const FLUSH_TIME: Duration = Duration::from_millis(200);

/// Shortest time between two log lines about connections that could not be accepted.
const WARNING_PERIOD: Duration = Duration::from_secs(10);

/// The two phases of a graceful shutdown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending {
    /// Cancelled when the server accepts no further requests; running calls may finish.
    pub drain: CancellationToken,
    /// Cancelled when running calls are cancelled.
    pub stop: CancellationToken,
}

/// Binds the first address of `config` that this machine has.
///
/// # Errors
/// Fails if the machine has none of the addresses, or if the address cannot be bound, for example because it is in use.
pub(crate) async fn listen(config: &HttpConfig) -> io::Result<TcpListener> {
    let mut missing = io::ErrorKind::AddrNotAvailable.into();
    for address in &config.addresses {
        match TcpListener::bind(address).await {
            // A name may resolve to addresses that this machine lacks. An address in use is an error: if the server used the next
            // one, clients would send their token to the program that has this one.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => missing = error,
            result => return result,
        }
    }
    Err(missing)
}

/// Serves the connections of `listener` until `ending` drains, then shuts down. Live keys are read from `live` when they are used, and
/// keys that require a restart are read once.
///
/// # Errors
/// Fails if the address of the listener is unknown.
pub(crate) async fn serve(
    dispatcher: Arc<Dispatcher>,
    board: Board,
    live: LiveConfig,
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
    let rejections = Arc::new(Semaphore::new(MAX_REJECTIONS));
    let drained = ending.drain.clone();
    let mut warned = None;
    while let Some((stream, client)) = drained
        .run_until_cancelled(accept(&listener, &mut warned))
        .await
    {
        let has_authentication = !live.borrow().tokens.is_empty();
        if let Some(permit) = admission.admit(client.ip(), has_authentication) {
            let info = ConnectionInfo {
                address: client,
                permit: Some(Arc::new(permit)),
            };
            let (service, requests) = (service.clone(), requests.clone());
            let (live, drain) = (live.clone(), ending.drain.clone());
            connections.spawn(async move {
                if let Err(error) = connection::set_options(&stream) {
                    tracing::debug!(%client, %error, "could not set socket options");
                }
                connection::serve(stream, info, service, requests, live, drain).await;
            });
        } else if let Ok(permit) = Arc::clone(&rejections).try_acquire_owned() {
            tracing::debug!(%client, "connection rejected: a limit on connections is reached");
            connections.spawn(async move {
                let refusal = Refusal::busy(
                    "the server is busy: too many connections (`max_connections`), or too many from this address without a valid token; try again later",
                );
                connection::reject(stream, &refusal.to_bytes()).await;
                drop(permit);
            });
        }
    }
    drop(listener);
    dispatcher.close();
    let drain_time = live.borrow().drain_time;
    drain(&requests, drain_time, &ending.stop).await;
    connections.close();
    drop(tokio::time::timeout(FLUSH_TIME, connections.wait()).await);
    Ok(())
}

/// Waits for `requests` to end. Cancels them after `drain_time`, or when `stop` is cancelled.
async fn drain(requests: &TaskTracker, drain_time: Duration, stop: &CancellationToken) {
    // Waits for requests, not for connections: an idle one or one with an unfinished head would delay the shutdown.
    requests.close();
    let drained = tokio::time::timeout(drain_time, requests.wait());
    if !matches!(stop.run_until_cancelled(drained).await, Some(Ok(()))) {
        tracing::warn!(
            requests = requests.len(),
            "drain time is over: cancelling the remaining requests"
        );
        stop.cancel();
        // Bounded, so that a client that does not read cannot delay the shutdown.
        drop(tokio::time::timeout(CANCEL_TIME, requests.wait()).await);
    }
}

/// Creates the service that handles the requests of all connections. Without a `board` it has no status and no models to unload.
pub(crate) fn service(
    dispatcher: Arc<Dispatcher>,
    board: Option<Board>,
    live: LiveConfig,
    ending: Ending,
) -> connection::Service {
    let endpoint = Endpoint::new(dispatcher, live.clone(), ending.clone());
    let guard_state = GuardState::new(live);
    let health = Router::new()
        .route("/health/live", get(observe::live))
        .route("/health/ready", get(observe::ready))
        .with_state(ending);
    let router = Router::new()
        .route("/mcp", any(endpoint::serve))
        // Not a redirect, since some clients drop their headers on one.
        .route("/mcp/", any(endpoint::serve))
        .with_state(endpoint)
        .route("/metrics", get(observe::metrics))
        .route("/status", get(observe::status))
        .route("/admin/models/{name}/unload", post(admin::unload))
        .route("/admin/models/{name}/restart", post(admin::restart))
        .with_state(board)
        .route_layer(from_fn_with_state(guard_state.clone(), guard::authenticate))
        .merge(health);
    TowerToHyperService::new(guarded(router, guard_state))
}

fn guarded(router: Router, guard_state: GuardState) -> Router {
    let live = guard_state.live();
    let router = router
        // Also for the paths under /.well-known: a client that got 401 there would retry its login for ever.
        .fallback(async move || not_found(!live.borrow().tokens.is_empty()))
        .method_not_allowed_fallback(unsupported_method);
    let router = if guard_state.live().borrow().cors {
        router.layer(cors())
    } else {
        router
    };
    router.layer(from_fn_with_state(guard_state, guard::check_source))
}

/// Creates the CORS layer. It allows all origins, since [`guard::check_source`] has refused the others before.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::mirror_request())
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        // Any header: an allowed page may set all that the server reads, and the server ignores the others.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            HeaderName::from_static(headers::SESSION),
            WWW_AUTHENTICATE,
            RETRY_AFTER,
        ])
        // The longest time for which browsers cache a preflight response.
        .max_age(Duration::from_mins(10))
}

/// Accepts the next connection. Retries after an error, such as a lack of file descriptors; `warned` is the time of its last log line.
async fn accept(listener: &TcpListener, warned: &mut Option<Instant>) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                if warned.is_none_or(|at| at.elapsed() >= WARNING_PERIOD) {
                    *warned = Some(Instant::now());
                    tracing::warn!(%error, "could not accept connections");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
