//! Every refusal before a body is read: Host, Origin, bearer token, size and type of the body.
//!
//! A local server is reached by every page that its user has open. A page of another site names its own origin, and after
//! DNS rebinding its own host: both are checked on all requests (2025-11-25 `basic/transports`, Security Warning). The
//! demand for `Content-Type: application/json` stops the POSTs that browsers send without asking.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{
    ALLOW, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use crate::config::http::{self, Host, HttpConfig};
use crate::config::token::TokenConfig;
use crate::mcp::jsonrpc::{ErrorObject, INVALID_REQUEST, Outgoing, RequestId};

/// Who sent a request: whose token it brought; none where none is demanded.
#[derive(Debug, Clone, Default)]
pub struct Principal(pub Option<Arc<TokenConfig>>);

impl Principal {
    /// The name of the token.
    pub fn name(&self) -> Option<&str> {
        self.0.as_ref().map(|token| token.name.as_str())
    }
}

/// The rules of a configuration: beside loopback names the host that is bound, and the configured ones.
#[derive(Debug, Clone, Copy)]
pub struct Guard<'config>(pub &'config HttpConfig);

impl Guard<'_> {
    /// Whether a request may come from where it comes.
    ///
    /// # Errors
    /// 403.
    pub fn check_source(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut named = headers
            .get_all(HOST)
            .iter()
            .map(|host| host.to_str().ok().and_then(|host| host.parse().ok()))
            .chain(uri.authority().map(|authority| Some(authority.clone())))
            .peekable();
        if named.peek().is_none() {
            return Err(Refusal::forbidden("the request names no host"));
        }
        for authority in named {
            let host = authority.as_ref().and_then(host_of);
            if !host.is_some_and(|host| self.allows_host(&host)) {
                return Err(Refusal::forbidden(
                    "the server is not reached by this `Host`; `--allowed_hosts` adds names",
                ));
            }
        }
        // Clients that are no browsers send no Origin.
        for origin in headers.get_all(ORIGIN) {
            if !origin
                .to_str()
                .is_ok_and(|origin| self.allows_origin(origin))
            {
                return Err(Refusal::forbidden(
                    "pages of this `Origin` may not use the server; `--allowed_origins` adds some",
                ));
            }
        }
        Ok(())
    }

    fn allows_host(self, host: &Host) -> bool {
        let Self(config) = self;
        // A server that is bound to all addresses is reached by any of them. Rebinding takes a name.
        let is_bound = |address: &SocketAddr| {
            let is_any = address.ip().is_unspecified() && matches!(host, Host::Address(_));
            is_any || *host == Host::Address(address.ip())
        };
        host.is_loopback()
            || config.allowed_hosts.contains(host)
            || Host::parse(&config.host).as_ref() == Some(host)
            || config.addresses.iter().any(is_bound)
    }

    fn allows_origin(self, given: &str) -> bool {
        let Some(given) = http::origin(given) else {
            return false;
        };
        if self.0.allowed_origins.contains(&given) {
            return true;
        }
        let Ok(uri) = given.parse::<Uri>() else {
            return false;
        };
        let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
        is_web
            && uri
                .authority()
                .and_then(host_of)
                .is_some_and(|host| host.is_loopback())
    }

    /// Whose token a request carries, where one is demanded.
    ///
    /// # Errors
    /// 401.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Refusal> {
        if self.0.tokens.is_empty() {
            return Ok(Principal(None));
        }
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), more) = (given.next(), given.next()) else {
            return Err(Refusal::unauthorized(
                "a bearer token is needed: `Authorization: Bearer <token>`",
                "Bearer",
            ));
        };
        let given = bearer(value).filter(|_| more.is_none());
        // All are compared, so that the time tells nothing of which it is.
        let found = self.0.tokens.iter().fold(None, |found, known| {
            let is_it = given.is_some_and(|given| known.token.matches(given));
            if is_it { Some(known) } else { found }
        });
        match found {
            Some(token) => Ok(Principal(Some(Arc::clone(token)))),
            None => Err(Refusal::unauthorized(
                "the bearer token is none of the server's",
                "Bearer error=\"invalid_token\"",
            )),
        }
    }
}

/// The credentials of the scheme `Bearer`, whose name has no case (RFC 9110, 11.1).
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, credentials) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| credentials.trim_ascii())
}

/// The host of `HOST` or `HOST:PORT`, and of nothing else.
fn host_of(authority: &Authority) -> Option<Host> {
    let (text, host) = (authority.as_str(), authority.host());
    let port = text.strip_prefix(host)?;
    let is_port = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| port.parse::<u16>().is_ok());
    is_port.then(|| Host::parse(host)).flatten()
}

/// Whether the body of a POST may be read.
///
/// # Errors
/// 415 where it is no JSON, 413 where it says that it is too large.
pub fn check_body(headers: &HeaderMap, max_body: usize) -> Result<(), Refusal> {
    let is_json = |value: &HeaderValue| {
        let media_type = value.to_str().unwrap_or_default().split(';').next();
        media_type.is_some_and(|text| text.trim().eq_ignore_ascii_case("application/json"))
    };
    // One that stands there twice says two things.
    let mut media_types = headers.get_all(CONTENT_TYPE).iter();
    if !media_types.next().is_some_and(is_json) || media_types.next().is_some() {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a message is sent with `Content-Type: application/json`",
        ));
    }
    if !headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "compressed messages are not read: leave `Content-Encoding` out",
        ));
    }
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if length.is_some_and(|length| length > max_body as u64) {
        return Err(Refusal::too_large(max_body));
    }
    Ok(())
}

/// The rules in force, which an edit of the configuration may change.
pub type Live = watch::Receiver<Arc<HttpConfig>>;

/// Checks where a request comes from.
pub async fn check_source(State(live): State<Live>, request: Request, next: Next) -> Response {
    let checked = Guard(&live.borrow()).check_source(request.uri(), request.headers());
    match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Finds out whose token a request brings; the [`Principal`] is among its extensions then.
pub async fn authenticate(State(live): State<Live>, mut request: Request, next: Next) -> Response {
    let found = Guard(&live.borrow()).authenticate(request.headers());
    match found {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Comes back when the token of `principal` is not valid any more; never for a server that demanded none.
pub async fn revoked(mut live: Live, principal: Principal) {
    let Some(mine) = principal.0 else {
        return std::future::pending().await;
    };
    let is_valid = |rules: &Arc<HttpConfig>| {
        let mut tokens = rules.tokens.iter();
        tokens.any(|known| known.name == mine.name && known.token == mine.token)
    };
    if live.wait_for(|rules| !is_valid(rules)).await.is_err() {
        // The rules have no owner any more: the server ends.
        std::future::pending::<()>().await;
    }
}

/// A request that is not served, told as a JSON-RPC error.
#[derive(Debug, PartialEq)]
pub struct Refusal {
    /// Of the response.
    pub status: StatusCode,
    message: String,
    header: Option<Box<(HeaderName, HeaderValue)>>,
    /// Of the request, where its body was read.
    id: Option<RequestId>,
}

impl Refusal {
    /// A refusal with `status` and a sentence.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            header: None,
            id: None,
        }
    }

    /// The same with a header.
    fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.header = Some(Box::new((name, value.into())));
        self
    }

    /// The same of the request called `id`.
    #[must_use]
    pub fn of(mut self, id: RequestId) -> Self {
        self.id = Some(id);
        self
    }

    fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    fn unauthorized(message: &str, challenge: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
            .with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// 413.
    pub fn too_large(max_body: usize) -> Self {
        let message = format!("the message is longer than {max_body} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// 405.
    pub fn method(allowed: &'static str) -> Self {
        let message = format!("the endpoint takes {allowed}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message)
            .with(ALLOW, HeaderValue::from_static(allowed))
    }

    /// 503, to be tried again.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).with(RETRY_AFTER, 10)
    }

    /// 429, to be tried again after `wait`, of which the whole seconds are told.
    pub fn too_many(message: impl Into<String>, wait: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, message).with(RETRY_AFTER, wait.as_secs())
    }

    /// JSON-RPC has no code for what is refused for the moment: that of HTTP is outside of what it reserves.
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

    /// The response where no request was read, and none will be.
    pub fn to_bytes(&self) -> Vec<u8> {
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
        let content_type = [(CONTENT_TYPE, "application/json")];
        let mut response = (self.status, content_type, self.body()).into_response();
        response
            .headers_mut()
            .extend(self.header.map(|header| *header));
        response
    }
}
