//! Refused requests and their responses.

use std::time::Duration;

use axum::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::config::units::human;
use crate::mcp::jsonrpc::{ErrorObject, INVALID_REQUEST, Outgoing, RequestId};
use crate::telemetry::metrics;
use crate::transport::refusal_log::Cause;

/// Refusal of a request: the status of the response, and a JSON-RPC error as its body.
#[derive(Debug, PartialEq)]
pub(crate) struct Refusal {
    /// Status of the response.
    pub status: StatusCode,
    message: String,
    header: Option<Box<(HeaderName, HeaderValue)>>,
    closes: bool,
    /// Id of the request, if its body was read.
    id: Option<RequestId>,
    /// Entry for the log; `None` if the refusal is not logged.
    pub(super) log_entry: Option<Box<LogEntry>>,
}

/// Cause and name of a line in the log.
#[derive(Debug, PartialEq)]
pub(super) struct LogEntry {
    pub(super) cause: Cause,
    /// The host or origin that the request named; `None` if only its sender is known.
    pub(super) name: Option<String>,
}

impl Refusal {
    /// Creates a refusal with `status` and a message.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            header: None,
            closes: false,
            id: None,
            log_entry: None,
        }
    }

    /// Sets the entry for the log.
    pub(super) fn logged_as(mut self, cause: Cause, name: Option<&str>) -> Self {
        let name = name.map(str::to_owned);
        self.log_entry = Some(Box::new(LogEntry { cause, name }));
        self
    }

    /// Returns the logged cause; `None` if the refusal is not logged.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.log_entry.as_deref().map(|entry| entry.cause)
    }

    /// Closes the connection after the response.
    pub(super) fn and_close(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Adds a header to the response.
    fn with_header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.header = Some(Box::new((name, value.into())));
        self
    }

    /// Sets the id of the request in the body.
    #[must_use]
    pub(crate) fn with_id(mut self, id: RequestId) -> Self {
        self.id = Some(id);
        self
    }

    pub(super) fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(super) fn unauthorized(message: &str, challenge: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
            .with_header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// Creates a refusal with status 413: the body is longer than `max_body`.
    pub(crate) fn too_large(max_body: usize) -> Self {
        let max = human(max_body as u64);
        let message =
            format!("the message is longer than {max}; send a shorter one, or raise `max_body`");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// Creates a refusal with status 405: the method is not one of `allowed`.
    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        let message = format!("unsupported method; the endpoint supports {allowed}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message)
            .with_header(ALLOW, HeaderValue::from_static(allowed))
    }

    /// Creates a refusal with status 503: the client may retry.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).with_header(RETRY_AFTER, 10)
    }

    /// Creates a refusal with status 429: the client may retry after `wait`, in whole seconds.
    pub(crate) fn too_many(message: impl Into<String>, wait: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, message).with_header(RETRY_AFTER, wait.as_secs())
    }

    /// Returns the JSON-RPC code. There is none for a temporary refusal, so the HTTP status is used, which is outside the reserved range.
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

    /// Returns the bytes of the response, for a connection whose requests are not read.
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
