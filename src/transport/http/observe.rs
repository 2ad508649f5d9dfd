//! How the server is, for those that look after it: `/health/live`, `/health/ready`, `/metrics` and `/status`.
//!
//! Nothing here loads a model, or keeps one from being let go. Health tells nothing of the server but that, so it needs no token;
//! that no model is loaded yet is no lack of it. Metrics and status name tools and models, and need one as `/mcp` does.

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

/// What a server says that takes calls.
pub(crate) const READY: &str = "ready";

/// It answers: a server that does not wants to be started again.
pub(crate) async fn live() -> &'static str {
    "live\n"
}

/// Whether calls may come: not when it is about to end.
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
    let format = exposition::format_of(&headers);
    // It reads `/proc`, and there may be thousands of series.
    let render =
        move || exposition::restrict(metrics::render(format), principal.0.as_deref(), &tools);
    let rendered = spawn_blocking(render).await;
    let text = rendered.map_err(|_panic| StatusCode::INTERNAL_SERVER_ERROR)?;
    let headers = [(CONTENT_TYPE, format.content_type()), (VARY, "Accept")];
    Ok((headers, text))
}

/// Responds with the server's status as JSON. Only tokens that may see all get the errors of files and edits, since these errors show
/// what was written.
///
/// # Errors
/// 404 where there is none to tell of.
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
    let status =
        serde_json::to_string(&status).map_err(|_never| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(CONTENT_TYPE, "application/json")], status))
}
