//! Responses to unknown paths and unsupported methods.
//!
//! A client whose token was refused looks for a login: it requests `/.well-known/…`, then `/register`. It shows its user an error from
//! there if the error has the form of OAuth (RFC 6749, 5.2). So the body has that form and says what to do.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::telemetry::metrics;
use crate::transport::guard::Refusal;

#[derive(Debug, Serialize)]
struct OAuthError {
    error: &'static str,
    error_description: &'static str,
}

/// Returns a response with status 404. If the server `requires_token`, the body says how to send it.
pub(super) fn not_found(requires_token: bool) -> Response {
    let status = StatusCode::NOT_FOUND;
    metrics::http_refused(status.as_u16());
    let error = OAuthError {
        error: "not_found",
        error_description: if requires_token {
            "unknown path; the endpoint is `/mcp`, which has no login: send the server's token as `Authorization: Bearer <token>`"
        } else {
            "unknown path; the endpoint is `/mcp`, which has no login and requires no token"
        },
    };
    let body = serde_json::to_string(&error).expect("the names are strings");
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

/// Refuses a method that a path other than `/mcp` does not support. axum adds `Allow`.
pub(super) async fn unsupported_method() -> Refusal {
    let message = "unsupported method; the header `Allow` lists the supported ones";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message)
}
