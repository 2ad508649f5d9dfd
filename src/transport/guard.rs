//! The checks before a body is read: `Host`, `Origin`, bearer token, and the size and type of the body.
//!
//! Every page that is open in a browser on this machine can send requests to a local server. Such a page sends its own origin, and after
//! DNS rebinding its own host, so both are checked on all requests (2025-11-25 `basic/transports`, Security Warning). Since the body must
//! be `application/json`, a browser sends a preflight request before a POST of another origin.

pub(crate) mod admin;
pub(crate) mod admission;
pub(crate) mod backoff;
pub(crate) mod network;
mod refusal;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, TRANSFER_ENCODING,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use crate::config::http::{self, Host, HttpConfig};
use crate::config::token::TokenConfig;
use crate::transport::refusal_log::{Cause, RefusalLog};
use admission::ConnectionPermit;
use backoff::Backoff;
pub(crate) use refusal::Refusal;

/// The token that a request was authenticated with; `None` if the server requires no token.
#[derive(Debug, Clone, Default)]
pub(crate) struct Principal(pub Option<Arc<TokenConfig>>);

impl Principal {
    /// Returns the name of the token.
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.as_ref().map(|token| token.name.as_str())
    }
}

/// The checks by the rules of a configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard<'config>(pub &'config HttpConfig);

impl Guard<'_> {
    /// Checks `Host` and `Origin`. Allowed are loopback hosts, the host that the server listens on, and those in the configuration.
    ///
    /// # Errors
    /// 403 if one of them is not allowed.
    pub(crate) fn check_source(self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let given = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
        let authority = uri
            .authority()
            .map(|authority| authority.as_str().as_bytes());
        let mut named = given.chain(authority).peekable();
        if named.peek().is_none() {
            let refusal =
                Refusal::forbidden("missing `Host`; send the host name or address of the server");
            return Err(refusal.logged_as(Cause::NoHost, None));
        }
        for named in named {
            let authority = Authority::try_from(named).ok();
            let host = authority.as_ref().and_then(host_of);
            if !host.is_some_and(|host| self.allows_host(&host)) {
                let refusal =
                    Refusal::forbidden("this `Host` is not allowed; add it to `allowed_hosts`");
                // An invalid host is logged unchanged.
                let named = String::from_utf8_lossy(named);
                let name = authority.as_ref().map_or(&*named, Authority::host);
                return Err(refusal.logged_as(Cause::Host, Some(&name.to_ascii_lowercase())));
            }
        }
        // Only browsers send `Origin`.
        for origin in headers.get_all(ORIGIN) {
            let origin = String::from_utf8_lossy(origin.as_bytes());
            if !self.allows_origin(&origin) {
                let refusal =
                    Refusal::forbidden("this `Origin` is not allowed; add it to `allowed_origins`");
                return Err(refusal.logged_as(Cause::Origin, Some(&origin)));
            }
        }
        Ok(())
    }

    fn allows_host(self, host: &Host) -> bool {
        let Self(config) = self;
        // A server on the unspecified address may be called by any address. DNS rebinding needs a name.
        let is_bound = |address: &SocketAddr| {
            let is_any = address.ip().is_unspecified() && matches!(host, Host::Address(_));
            is_any || *host == Host::Address(address.ip())
        };
        host.is_loopback()
            || host.is_host_of_container()
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

    /// Returns the principal whose token the request has.
    ///
    /// # Errors
    /// 401 if the server requires a token and the request has no valid one.
    pub(crate) fn authenticate(self, headers: &HeaderMap) -> Result<Principal, Refusal> {
        if self.0.tokens.is_empty() {
            return Ok(Principal(None));
        }
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), more) = (given.next(), given.next()) else {
            let refusal = Refusal::unauthorized(
                "missing bearer token; send `Authorization: Bearer <token>`",
                "Bearer",
            );
            return Err(refusal.logged_as(Cause::NoToken, None));
        };
        let given = bearer(value).filter(|_| more.is_none());
        // All tokens are compared, so that the time does not reveal which one matches.
        let found = self.0.tokens.iter().fold(None, |found, known| {
            let is_match = given.is_some_and(|given| known.matches(given));
            if is_match { Some(known) } else { found }
        });
        if let Some(token) = found {
            return Ok(Principal(Some(Arc::clone(token))));
        }
        let refusal = Refusal::unauthorized(
            "invalid bearer token; send a token of this server",
            "Bearer error=\"invalid_token\"",
        );
        Err(refusal.logged_as(Cause::InvalidToken, None))
    }
}

/// Returns the credentials of the scheme `Bearer`, whose name is case-insensitive (RFC 9110, 11.1).
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, credentials) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| credentials.trim_ascii())
}

/// Returns the host of `HOST` or `HOST:PORT`. Returns `None` for any other form, such as one with a user name.
fn host_of(authority: &Authority) -> Option<Host> {
    let (text, host) = (authority.as_str(), authority.host());
    let port = text.strip_prefix(host)?;
    let is_port = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| port.parse::<u16>().is_ok());
    is_port.then(|| Host::parse(host)).flatten()
}

/// Checks `Transfer-Encoding` to prevent request smuggling: hyper treats each refused value as `chunked`, and a proxy may treat it
/// differently.
///
/// # Errors
/// 400 if `chunked` occurs more than once, 501 for other codings. The connection is closed.
pub(crate) fn check_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let given: Vec<&[u8]> = headers
        .get_all(TRANSFER_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .collect();
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let (status, message) = match given.as_slice() {
        [] => return Ok(()),
        [coding] if is_chunked(coding) => return Ok(()),
        codings if codings.iter().all(|coding| is_chunked(coding)) => (
            StatusCode::BAD_REQUEST,
            "`Transfer-Encoding` has `chunked` more than once; send it once",
        ),
        _ => (
            StatusCode::NOT_IMPLEMENTED,
            "unsupported `Transfer-Encoding`; send `chunked`, or `Content-Length` instead",
        ),
    };
    Err(Refusal::new(status, message).and_close())
}

/// Checks the headers that describe the body of a POST.
///
/// # Errors
/// 415 if the body is not uncompressed JSON, 413 if `Content-Length` exceeds `max_body`.
pub(crate) fn check_body(headers: &HeaderMap, max_body: usize) -> Result<(), Refusal> {
    let is_json = |value: &HeaderValue| {
        let media_type = value.to_str().unwrap_or_default().split(';').next();
        media_type.is_some_and(|text| text.trim().eq_ignore_ascii_case("application/json"))
    };
    // Duplicate headers may contradict each other.
    let mut media_types = headers.get_all(CONTENT_TYPE).iter();
    if !media_types.next().is_some_and(is_json) || media_types.next().is_some() {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported `Content-Type`; send `application/json`",
        ));
    }
    if !headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported `Content-Encoding`; send the message uncompressed",
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

/// `Retry-After` for a token with too many connections.
const WAIT_FOR_CONNECTION: Duration = Duration::from_secs(1);

/// The current HTTP configuration, which a reload may replace.
pub(crate) type LiveConfig = watch::Receiver<Arc<HttpConfig>>;

/// The state of the guard: the configuration, the logged refusals and the invalid tokens of each sender.
#[derive(Debug, Clone)]
pub(crate) struct GuardState {
    live: LiveConfig,
    log: Arc<RefusalLog>,
    backoff: Arc<Backoff>,
}

impl GuardState {
    /// Creates the state for the configuration `live`.
    pub(crate) fn new(live: LiveConfig) -> Self {
        Self {
            live,
            log: Arc::default(),
            backoff: Arc::default(),
        }
    }

    /// Returns the current configuration.
    pub(crate) fn live(&self) -> LiveConfig {
        self.live.clone()
    }

    /// Returns the principal of `request`, and counts its connection towards the share of the token.
    ///
    /// # Errors
    /// 401 without a valid token, 429 if the token has too many connections.
    fn authenticate(&self, request: &Request) -> Result<Principal, Refusal> {
        let rules = self.live.borrow();
        let principal = Guard(&rules).authenticate(request.headers())?;
        let permit = request.extensions().get::<Arc<ConnectionPermit>>();
        let has_room = match (permit, principal.name()) {
            (Some(permit), Some(token)) => permit.assign_to_token(token, rules.tokens.len()),
            _ => true,
        };
        if has_room {
            return Ok(principal);
        }
        let message = "this token has too many connections; close some, or raise `max_connections`";
        Err(Refusal::too_many(message, WAIT_FOR_CONNECTION).and_close())
    }

    /// Logs the refusal of a request from `address` and returns the response.
    fn refuse(&self, refusal: Refusal, address: Option<&SocketAddr>) -> Response {
        if let Some(entry) = &refusal.log_entry {
            let sender = || address.map_or("somebody".into(), |address| address.ip().to_string());
            let name = entry.name.clone().unwrap_or_else(sender);
            self.log.report(entry.cause, &name);
        }
        refusal.into_response()
    }
}

/// Middleware that checks the framing of a request, its `Host` and its `Origin`.
pub(crate) async fn check_source(
    State(guard_state): State<GuardState>,
    request: Request,
    next: Next,
) -> Response {
    let checked = check_framing(request.headers()).and_then(|()| {
        Guard(&guard_state.live.borrow()).check_source(request.uri(), request.headers())
    });
    match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => guard_state.refuse(refusal, request.extensions().get()),
    }
}

/// Middleware that authenticates a request and adds its [`Principal`] to the extensions. The response to an invalid token is delayed if
/// its sender has sent several ([`backoff`]).
pub(crate) async fn authenticate(
    State(guard_state): State<GuardState>,
    mut request: Request,
    next: Next,
) -> Response {
    let found = guard_state.authenticate(&request);
    match found {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(refusal) => {
            let address = request.extensions().get::<SocketAddr>();
            let delay = match (address, refusal.cause()) {
                (Some(address), Some(Cause::InvalidToken)) => {
                    guard_state.backoff.invalid_token(address.ip())
                }
                _ => Duration::ZERO,
            };
            // Before the delay, so that the refusal is logged and counted even if the sender disconnects.
            let response = guard_state.refuse(refusal, address);
            tokio::time::sleep(delay).await;
            response
        }
    }
}

/// Waits until a reload revokes the token of `principal`. Never returns if there is no token.
pub(crate) async fn revoked(mut live: LiveConfig, principal: Principal) {
    let Some(own) = principal.0 else {
        return std::future::pending().await;
    };
    let is_valid = |rules: &Arc<HttpConfig>| {
        let mut tokens = rules.tokens.iter();
        tokens.any(|known| known.name == own.name && known.secret == own.secret)
    };
    if live.wait_for(|rules| !is_valid(rules)).await.is_err() {
        // The sender of the configuration is gone: the server shuts down.
        std::future::pending::<()>().await;
    }
}
