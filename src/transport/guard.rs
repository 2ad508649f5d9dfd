//! Every refusal before a body is read: Host, Origin, bearer token, size and type of the body.
//!
//! A local server is reached by every page that its user has open. A page of another site names its own origin, and after
//! DNS rebinding its own host: both are checked on all requests (2025-11-25 `basic/transports`, Security Warning). The
//! demand for `Content-Type: application/json` stops the POSTs that browsers send without asking.

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

/// Who sent a request: whose token it brought; none where none is demanded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Principal(pub Option<Arc<TokenConfig>>);

impl Principal {
    /// The name of the token.
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.as_ref().map(|token| token.name.as_str())
    }
}

/// The rules of a configuration: beside loopback names the host that is bound, and the configured ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard<'config>(pub &'config HttpConfig);

impl Guard<'_> {
    /// Whether a request may come from where it comes.
    ///
    /// # Errors
    /// 403.
    pub(crate) fn check_source(self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let given = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
        let authority = uri
            .authority()
            .map(|authority| authority.as_str().as_bytes());
        let mut named = given.chain(authority).peekable();
        if named.peek().is_none() {
            let refusal = Refusal::forbidden("the request names no host");
            return Err(refusal.because(Cause::NoHost, None));
        }
        for named in named {
            let authority = Authority::try_from(named).ok();
            let host = authority.as_ref().and_then(host_of);
            if !host.is_some_and(|host| self.allows_host(&host)) {
                let refusal = Refusal::forbidden(
                    "the server is not reached by this `Host`; `--allowed_hosts` adds names",
                );
                // What is no host at all is logged as it came.
                let named = String::from_utf8_lossy(named);
                let name = authority.as_ref().map_or(&*named, Authority::host);
                return Err(refusal.because(Cause::Host, Some(&name.to_ascii_lowercase())));
            }
        }
        // Clients that are no browsers send no Origin.
        for origin in headers.get_all(ORIGIN) {
            let origin = String::from_utf8_lossy(origin.as_bytes());
            if !self.allows_origin(&origin) {
                let refusal = Refusal::forbidden(
                    "pages of this `Origin` may not use the server; `--allowed_origins` adds some",
                );
                return Err(refusal.because(Cause::Origin, Some(&origin)));
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

    /// Whose token a request carries, where one is demanded.
    ///
    /// # Errors
    /// 401.
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
            return Err(refusal.because(Cause::NoToken, None));
        };
        let given = bearer(value).filter(|_| more.is_none());
        // All are compared, so that the time tells nothing of which it is.
        let found = self.0.tokens.iter().fold(None, |found, known| {
            let is_it = given.is_some_and(|given| known.matches(given));
            if is_it { Some(known) } else { found }
        });
        if let Some(token) = found {
            return Ok(Principal(Some(Arc::clone(token))));
        }
        let refusal = Refusal::unauthorized(
            "invalid bearer token; send a token of this server",
            "Bearer error=\"invalid_token\"",
        );
        Err(refusal.because(Cause::WrongToken, None))
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

/// Checks `Transfer-Encoding`. hyper treats each refused value as `chunked`, and a proxy may treat it differently, which would allow
/// request smuggling.
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

/// Whether the body of a POST may be read.
///
/// # Errors
/// 415 where it is no JSON, 413 where it says that it is too large.
pub(crate) fn check_body(headers: &HeaderMap, max_body: usize) -> Result<(), Refusal> {
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

/// When a token that has too many connections may try again.
const WAIT_FOR_CONNECTION: Duration = Duration::from_secs(1);

/// The active rules, which an edit of the configuration may change.
pub(crate) type Live = watch::Receiver<Arc<HttpConfig>>;

/// The state of the guard: the rules, which edits may change, the refusals that were logged, and the wrong tokens.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    live: Live,
    log: Arc<RefusalLog>,
    backoff: Arc<Backoff>,
}

impl Gate {
    /// Makes a gate with the rules that are `live`.
    pub(crate) fn new(live: Live) -> Self {
        Self {
            live,
            log: Arc::default(),
            backoff: Arc::default(),
        }
    }

    /// Returns the rules, which edits may change.
    pub(crate) fn live(&self) -> Live {
        self.live.clone()
    }

    /// Returns whose token `request` brings, and counts its connection towards the share of that token.
    ///
    /// # Errors
    /// 401 without a valid token, 429 if the token has too many connections.
    fn authenticate(&self, request: &Request) -> Result<Principal, Refusal> {
        let rules = self.live.borrow();
        let principal = Guard(&rules).authenticate(request.headers())?;
        let permit = request.extensions().get::<Arc<ConnectionPermit>>();
        let has_room = match (permit, principal.name()) {
            (Some(permit), Some(token)) => permit.authenticated(token, rules.tokens.len()),
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
        if let Some(blame) = &refusal.blame {
            let sender = || address.map_or("somebody".into(), |address| address.ip().to_string());
            let name = blame.name.clone().unwrap_or_else(sender);
            self.log.report(blame.cause, &name);
        }
        refusal.into_response()
    }
}

/// Checks where a request comes from.
pub(crate) async fn check_source(
    State(gate): State<Gate>,
    request: Request,
    next: Next,
) -> Response {
    let checked = check_framing(request.headers())
        .and_then(|()| Guard(&gate.live.borrow()).check_source(request.uri(), request.headers()));
    match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => gate.refuse(refusal, request.extensions().get()),
    }
}

/// Finds out whose token a request brings: the [`Principal`] is among its extensions then. The refusal of a wrong token is delayed
/// if its sender has sent several.
pub(crate) async fn authenticate(
    State(gate): State<Gate>,
    mut request: Request,
    next: Next,
) -> Response {
    let found = gate.authenticate(&request);
    match found {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(refusal) => {
            let address = request.extensions().get::<SocketAddr>();
            let delay = match (address, refusal.cause()) {
                (Some(address), Some(Cause::WrongToken)) => gate.backoff.wrong_token(address.ip()),
                _ => Duration::ZERO,
            };
            // It is logged and counted whether or not its sender waits for the answer.
            let response = gate.refuse(refusal, address);
            tokio::time::sleep(delay).await;
            response
        }
    }
}

/// Comes back when the token of `principal` is not valid any more; never for a server that demanded none.
pub(crate) async fn revoked(mut live: Live, principal: Principal) {
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
