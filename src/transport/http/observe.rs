//! Endpoints for monitoring: `/health/live`, `/health/ready`, `/metrics` and `/status`.
//!
//! Requests to them neither load a model nor delay its unloading. The health endpoints require no token, since they reveal nothing else
//! about the server. A server with no model loaded is still ready. Metrics and status name tools and models, so they require a token as
//! `/mcp` does.

use axum::Extension;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use tokio::task::spawn_blocking;

use super::super::guard::Principal;
use super::{Ending, exposition};
use crate::config::token::TokenConfig;
use crate::status::Board;
use crate::telemetry::metrics;

/// Body of `/health/ready` if the server accepts calls.
pub(crate) const READY: &str = "ready";

/// Responds that the server is alive. A server that does not respond should be restarted.
pub(crate) async fn live() -> &'static str {
    "live\n"
}

/// Responds whether the server accepts calls: with 503 while it shuts down.
pub(crate) async fn ready(State(ending): State<Ending>) -> (StatusCode, &'static str) {
    if ending.drain.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "ending\n")
    } else {
        (StatusCode::OK, READY)
    }
}

/// Responds with the metrics that the token may see, in the format that the client prefers.
///
/// # Errors
/// 500 if the metrics could not be rendered.
pub(crate) async fn metrics(
    State(board): State<Option<Board>>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, StatusCode> {
    let mut tools = Vec::new();
    if let Some(board) = board {
        board.read().await;
        tools = board.tools();
    }
    let format = exposition::negotiate_format(&headers);
    // It reads `/proc`, and there may be thousands of series.
    let render =
        move || exposition::restrict(metrics::render(format), principal.0.as_deref(), &tools);
    let rendered = spawn_blocking(render).await;
    let text = rendered.map_err(|_panic| StatusCode::INTERNAL_SERVER_ERROR)?;
    let headers = [(CONTENT_TYPE, format.content_type()), (VARY, "Accept")];
    Ok((headers, text))
}

/// Responds with the server's status as JSON. A token for some tools does not get the errors of files and reloads, since these errors
/// quote the configuration.
///
/// # Errors
/// 404 if the service has no status, and 500 if it could not be formatted.
pub(crate) async fn status(
    State(board): State<Option<Board>>,
    Extension(principal): Extension<Principal>,
) -> Result<impl IntoResponse, StatusCode> {
    let board = board.ok_or(StatusCode::NOT_FOUND)?;
    let mut status = board.read().await;
    let token = principal.0.as_deref();
    if let Some(tools) = token.and_then(TokenConfig::visible_tools) {
        status.restrict_to(tools);
    }
    let status = serde_json::to_string(&status).map_err(|error| {
        tracing::error!("could not format the status: {error}");
        StatusCode::INTERNAL_SERVER_ERROR
    })?;
    Ok(([(CONTENT_TYPE, "application/json")], status))
}
