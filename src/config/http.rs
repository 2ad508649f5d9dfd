//! Settings of HTTP: addresses, access and limits.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use super::address::Address;
use super::file::{ConfigFile, ServerSettings};
use super::load::Layers;
use super::ranges::{self, Range};
use super::session_secret::SessionSecret;
use super::token::{self, AUTH_VARIABLE, TokenConfig};
use super::units::{Time, human};
use crate::memory;

/// Settings of a server over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HttpConfig {
    /// Host to listen on, as written in the configuration.
    pub host: String,
    /// Addresses of `host`, with the port. The server listens on the first that can be bound.
    pub addresses: Vec<SocketAddr>,
    /// Tokens that requests may bring. If there is none, everybody who reaches the server may use it.
    pub tokens: Vec<Arc<TokenConfig>>,
    /// Secret that signs session ids. `None`: the token that opened a session signs its id.
    pub session_secret: Option<SessionSecret>,
    /// Accepted values of the `Host` header, in addition to those of loopback and `host`.
    pub allowed_hosts: Vec<Host>,
    /// Accepted origins of pages, in addition to those on loopback, as [`origin`] spells them.
    pub allowed_origins: Vec<String>,
    /// Whether responses permit pages of those origins to read them (CORS).
    pub cors: bool,
    /// How long running calls may take to end after SIGTERM.
    pub drain_time: Duration,
    /// Limits of requests.
    pub limits: HttpLimits,
}

/// Least value of `max_body`, in bytes. A shorter body has no room for a call.
const LEAST_BODY: u64 = 1024;

/// Least ratio of `max_held` to `max_body`: one client may take half of `max_held`, and each byte counts twice.
const LEAST_HELD: u64 = 4;

/// Returns the default of `max_held`, in bytes, which must be at least `least`.
fn default_held(least: u64) -> u64 {
    (memory::total() / 8).clamp(64 << 20, 512 << 20).max(least)
}

/// Limits of requests over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpLimits {
    /// Most connections at once.
    pub max_connections: usize,
    /// Most sessions in memory.
    pub max_sessions: usize,
    /// Most messages that are read or answered at once.
    pub max_calls: usize,
    /// Longest request body, in bytes.
    pub max_body: usize,
    /// Memory that all messages may take together, in bytes.
    pub max_held: usize,
    /// Time limit for the head of a request, from its first byte.
    pub header_time: Duration,
    /// Time limit for the body of a request.
    pub body_time: Duration,
    /// Longest idle time of a connection between two requests.
    pub idle_time: Duration,
}

impl HttpLimits {
    fn resolve(server: &ServerSettings, layers: &mut Layers) -> Self {
        if server.max_body.0 < LEAST_BODY {
            let message = format!("must be at least {LEAST_BODY} bytes, which a call takes");
            layers.range_problem_at(&at("max_body"), message, None);
        }
        let least = server.max_body.0.saturating_mul(LEAST_HELD);
        let max_held = server
            .max_held
            .map_or_else(|| default_held(least), |size| size.0);
        if max_held < least {
            let (least, found) = (human(least), human(max_held));
            let message =
                format!("must be at least {least} (four times `max_body`), found {found}");
            layers.problem_at(&at("max_held"), message, None);
        }
        Self {
            max_held: usize::try_from(max_held).unwrap_or(usize::MAX),
            max_connections: server.max_connections,
            max_sessions: server.max_sessions,
            max_calls: server.max_calls,
            max_body: usize::try_from(server.max_body.0).unwrap_or(usize::MAX),
            header_time: time(server.header_time, "header_time", ranges::HTTP_TIME, layers),
            body_time: time(server.body_time, "body_time", ranges::HTTP_TIME, layers),
            idle_time: time(server.idle_time, "idle_time", ranges::HTTP_TIME, layers),
        }
    }
}

/// Fault of a token that was removed and is remembered only to refuse requests.
const REMOVED: &str = "it was removed; the server serves without tokens after a restart only";

impl HttpConfig {
    /// Resolves the `[server]` of `settings`. Adds problems to `layers`, and returns `None` if there are some.
    pub(super) fn resolve(settings: &ConfigFile, layers: &mut Layers) -> Option<Self> {
        let server = &settings.server;
        token::set_aside(layers);
        let known = layers.problems.len();
        let tokens = token::resolve(settings, layers);
        token::warn_of_short(&tokens, layers);
        let session_secret = SessionSecret::resolve(settings, layers);
        let host = server.host.as_str();
        let addresses = addresses_of(host, server.port).unwrap_or_else(|error| {
            let hint = if has_port(host) {
                "write the address or the name alone, and its port as `port`"
            } else {
                "`127.0.0.1` is this machine only, `0.0.0.0` all its addresses"
            };
            let host = layers.quoted(&at("host"), host);
            layers.problem_at(
                &at("host"),
                format!("no address for {host}: {error}"),
                Some(hint.into()),
            );
            Vec::new()
        });
        let is_local = addresses.iter().all(|address| address.ip().is_loopback());
        if !is_local
            && tokens.is_empty()
            && !server.allow_unauthenticated
            && layers.problems.len() == known
        {
            let hint = format!(
                "set a token with `{AUTH_VARIABLE}` or `auth_file`, listen on `127.0.0.1`, or set `allow_unauthenticated` if everybody may use the server"
            );
            let message = format!("`{host}` is reachable from other machines, but no token is set");
            layers.problem_at(&at("host"), message, Some(hint));
        }
        let allowed_hosts = each(
            &server.allowed_hosts,
            "allowed_hosts",
            Host::parse,
            layers,
            "must be names or addresses, without scheme and port",
        );
        let allowed_origins = each(
            &server.allowed_origins,
            "allowed_origins",
            origin,
            layers,
            "must be origins such as `https://app.example`",
        );
        let drain_time = time(server.drain_time, "drain_time", ranges::DRAIN_TIME, layers);
        let limits = HttpLimits::resolve(server, layers);
        (layers.problems.len() == known).then(|| Self {
            host: host.to_owned(),
            addresses,
            tokens,
            session_secret,
            allowed_hosts,
            allowed_origins,
            cors: server.cors,
            drain_time,
            limits,
        })
    }

    /// Returns the tokens of a server that runs with this configuration and reloads `new`. If `new` has no token, the tokens end but stay in
    /// the list, so that the server refuses every request: only a restart opens it to everybody.
    pub(super) fn tokens_after(&self, new: &Self) -> Vec<Arc<TokenConfig>> {
        if !self.would_open(new) {
            return new.tokens.clone();
        }
        let tokens = self.tokens.iter();
        tokens.map(|token| Arc::new(token.ended(REMOVED))).collect()
    }

    /// See [`Config::would_open`](super::Config::would_open).
    pub(super) fn would_open(&self, new: &Self) -> bool {
        !self.tokens.is_empty() && new.tokens.is_empty()
    }
}

/// Parses the `items` of `key`. Adds a problem to `layers` for each item that `parse` rejects.
fn each<T>(
    items: &[String],
    key: &str,
    parse: impl Fn(&str) -> Option<T>,
    layers: &mut Layers,
    wanted: &str,
) -> Vec<T> {
    let item = |item: &String| {
        let parsed = parse(item.trim());
        if parsed.is_none() {
            let found = layers.quoted(&at(key), item);
            layers.problem_at(&at(key), format!("{wanted}, found {found}"), None);
        }
        parsed
    };
    items.iter().filter_map(item).collect()
}

/// Returns whether `host` is a URL, or an address or a name with a port.
fn has_port(host: &str) -> bool {
    let parts = host.rsplit_once(':');
    host.contains("://") || parts.is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

/// A host in a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// An IP address.
    Address(IpAddr),
    /// A name, in lower case and without the dot of the root.
    Name(String),
}

impl Host {
    /// Parses `text`, which has neither scheme nor port. An IPv6 address may have brackets.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some(Self::Address(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        (!name.is_empty() && name.chars().all(is_name))
            .then(|| Self::Name(name.to_ascii_lowercase()))
    }

    /// Returns whether this is the name by which containers reach their host: Docker has the first name, Podman both.
    ///
    /// No page can rebind these names: `.internal` is reserved, and never delegated in the public DNS.
    pub(crate) fn is_host_of_container(&self) -> bool {
        matches!(self, Self::Name(name) if name == "host.docker.internal" || name == "host.containers.internal")
    }

    /// Returns whether the host is this machine, seen from itself.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.to_canonical().is_loopback(),
            Self::Name(name) => name == "localhost",
        }
    }
}

/// Returns the origin `text` in its canonical form (RFC 6454): lower case, without a path or a port that its scheme implies. Returns `None` if
/// it is invalid.
pub(crate) fn origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let implied = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let authority = authority.strip_suffix(implied).unwrap_or(authority);
    let is_origin = !authority.is_empty() && !authority.contains(['/', '@', '*', ' ', '?', '#']);
    is_origin.then(|| format!("{scheme}://{authority}"))
}

/// Returns the value of `key`. Adds a problem to `layers` if it is not in `range`, in seconds.
fn time(time: Time, key: &str, range: Range<f64>, layers: &mut Layers) -> Duration {
    if let Some(message) = time.fault(range) {
        layers.range_problem_at(&at(key), message, None);
    }
    time.0
}

fn at(key: &str) -> Address {
    Address::new(["server", key])
}

fn addresses_of(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    // IPv6 is written in brackets in URLs and without them everywhere else.
    let bare = host.trim_matches(['[', ']']);
    let found: Vec<_> = (bare, port).to_socket_addrs()?.collect();
    if found.is_empty() {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
