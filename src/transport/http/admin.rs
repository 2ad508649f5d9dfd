//! Endpoints for administration: `POST /admin/models/NAME/unload` and `POST /admin/models/NAME/restart`.

use std::net::SocketAddr;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::super::guard::{self, Principal, Refusal};
use crate::printable::printable;
use crate::status::{Action, Board};

/// Longest unknown name that an error repeats, in characters.
const MAX_NAME: usize = 64;

/// Unloads a model.
///
/// # Errors
/// 403 if the sender may not unload models, 404 for an unknown model.
pub(crate) async fn unload(
    State(board): State<Option<Board>>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    request: Request,
) -> Result<impl IntoResponse, Refusal> {
    check(&principal, &request)?;
    act(board, &name, Action::Unload).await
}

/// Restarts a model.
///
/// # Errors
/// The same as [`unload`].
pub(crate) async fn restart(
    State(board): State<Option<Board>>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    request: Request,
) -> Result<impl IntoResponse, Refusal> {
    check(&principal, &request)?;
    act(board, &name, Action::Restart).await
}

fn check(principal: &Principal, request: &Request) -> Result<(), Refusal> {
    let address = request.extensions().get::<SocketAddr>();
    guard::admin::check(principal, address, request.headers())
}

async fn act(
    board: Option<Board>,
    name: &str,
    action: Action,
) -> Result<impl IntoResponse + use<>, Refusal> {
    let done = match board {
        Some(board) => board.perform(name, action).await,
        None => None,
    };
    let done = done.ok_or_else(|| {
        let name = printable(name, MAX_NAME);
        let message = format!("unknown model `{name}`; `status` lists the models");
        Refusal::new(StatusCode::NOT_FOUND, message)
    })?;
    let body = serde_json::to_string(&done).expect("the keys are strings");
    Ok(([(CONTENT_TYPE, "application/json")], body))
}
