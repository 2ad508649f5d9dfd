//! The response to a request that is refused.

use std::time::Duration;

use axum::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::mcp::jsonrpc::{ErrorObject, INVALID_REQUEST, Outgoing, RequestId};
use crate::telemetry::metrics;
use crate::transport::refusal_log::Cause;

/// A refused request, answered with a JSON-RPC error.
#[derive(Debug, PartialEq)]
pub(crate) struct Refusal {
    /// The status of the response.
    pub status: StatusCode,
    message: String,
    header: Option<Box<(HeaderName, HeaderValue)>>,
    closes: bool,
    /// The id of the request, if its body was read.
    id: Option<RequestId>,
    /// The line for the log; `None` if the refusal is not logged.
    pub(super) blame: Option<Box<Blame>>,
}

/// The cause and the name of a line in the log.
#[derive(Debug, PartialEq)]
pub(super) struct Blame {
    pub(super) cause: Cause,
    /// The host or origin that the request named; `None` if only its sender is known.
    pub(super) name: Option<String>,
}

impl Refusal {
    /// Makes a refusal with `status` and a message.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            header: None,
            closes: false,
            id: None,
            blame: None,
        }
    }

    /// Adds a line for the log.
    pub(super) fn because(mut self, cause: Cause, name: Option<&str>) -> Self {
        let name = name.map(str::to_owned);
        self.blame = Some(Box::new(Blame { cause, name }));
        self
    }

    /// Returns why the request was refused, if that is logged.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.blame.as_deref().map(|blame| blame.cause)
    }

    /// Closes the connection behind the response.
    pub(super) fn and_close(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Adds a header to the response.
    fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.header = Some(Box::new((name, value.into())));
        self
    }

    /// Adds the id of the request to the response.
    #[must_use]
    pub(crate) fn of(mut self, id: RequestId) -> Self {
        self.id = Some(id);
        self
    }

    pub(super) fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(super) fn unauthorized(message: &str, challenge: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
            .with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// Status 413: the body is too long.
    pub(crate) fn too_large(max_body: usize) -> Self {
        let message = format!("the message is longer than {max_body} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// Status 405: the method is not allowed.
    pub(crate) fn method(allowed: &'static str) -> Self {
        let message = format!("the endpoint takes {allowed}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message)
            .with(ALLOW, HeaderValue::from_static(allowed))
    }

    /// Status 503: the client may retry.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).with(RETRY_AFTER, 10)
    }

    /// Status 429: the client may retry after `wait`, which `Retry-After` has in whole seconds.
    pub(crate) fn too_many(message: impl Into<String>, wait: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, message).with(RETRY_AFTER, wait.as_secs())
    }

    /// JSON-RPC has no code for a temporary refusal; the HTTP status is outside the range that it reserves.
    fn code(&self) -> i64 {
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                self.status.as_u16().into()
            }
            _ => INVALID_REQUEST,
        }
    }

    fn body(&self) -> String {
        let error = ErrorObject::new(self.code(), self.message.clone());
        Outgoing::Error(self.id.clone(), error).to_json()
    }

    /// Returns the response for a connection on which no request was read, and none will be.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        metrics::http_refused(self.status.as_u16());
        let body = self.body();
        let header = self
            .header
            .as_deref()
            .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
        format!(
            "HTTP/1.1 {}\r\ncontent-type: application/json\r\n{}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.status,
            header.unwrap_or_default(),
            body.len(),
        )
        .into_bytes()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        tracing::debug!(status = self.status.as_u16(), "refused: {}", self.message);
        metrics::http_refused(self.status.as_u16());
        let content_type = [(CONTENT_TYPE, "application/json")];
        let mut response = (self.status, content_type, self.body()).into_response();
        let headers = response.headers_mut();
        headers.extend(self.header.map(|header| *header));
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
