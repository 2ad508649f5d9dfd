//! How the server is reached over HTTP: address, who may come, and how much of it.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use super::address::Address;
use super::file::{ConfigFile, ServerSettings};
use super::load::Layers;
use super::ranges::{self, Range};
use super::token::{self, AUTH_VARIABLE, SessionSecret, TokenConfig};
use super::units::{Time, human};
use crate::memory;

/// Where and for whom the server listens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HttpConfig {
    /// As it was given.
    pub host: String,
    /// What that stands for; the first that can be bound is.
    pub addresses: Vec<SocketAddr>,
    /// Without any, everybody who reaches the server may use it.
    pub tokens: Vec<Arc<TokenConfig>>,
    /// Secret that signs session ids. `None`: the token that opened a session signs its id.
    pub session_secret: Option<SessionSecret>,
    /// Names in `Host` beside loopback and `host`.
    pub allowed_hosts: Vec<Host>,
    /// Origins of pages beside those on loopback, in the one spelling that [`origin`] gives.
    pub allowed_origins: Vec<String>,
    /// Whether pages of those origins are told that they may read the answers.
    pub cors: bool,
    /// How long running calls may take to end after SIGTERM.
    pub drain_time: Duration,
    /// How much may come.
    pub limits: HttpLimits,
}

/// Bytes: the shortest that anybody can work with.
const LEAST_BODY: u64 = 1024;

/// How many of the longest bodies `max_held` must hold at least: a client has half of it, and each byte counts twice.
const LEAST_HELD: u64 = 4;

/// The default of `max_held`, in bytes, if it must be at least `least`.
fn default_held(least: u64) -> u64 {
    (memory::total() / 8).clamp(64 << 20, 512 << 20).max(least)
}

/// How much may come over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpLimits {
    /// Connections at once.
    pub max_connections: usize,
    /// Sessions at once.
    pub max_sessions: usize,
    /// Messages that are read or answered at once.
    pub max_calls: usize,
    /// Bytes of a request's body.
    pub max_body: usize,
    /// Bytes of memory that messages may take together.
    pub max_held: usize,
    /// For the head of a request, from its first byte.
    pub header_time: Duration,
    /// For its body.
    pub body_time: Duration,
    /// Between two requests of a connection.
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
    /// Of the `[server]` of `settings`. None where something is wrong, which is told to `layers`.
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
                "give a token by {AUTH_VARIABLE} or `auth_file`, stay on host `127.0.0.1`, or set `allow_unauthenticated` where \
                 everybody may use it"
            );
            let message = format!("`{host}` is reached from other machines, and no token is set");
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
}

impl HttpConfig {
    /// Returns this configuration with the keys of `new` that apply without a restart: all that is checked with each request. If `new` has
    /// no token, the tokens end but stay in the list, so that the server refuses every request: only a restart opens it to everybody.
    #[must_use]
    pub(crate) fn with_live_keys_of(&self, new: &Self) -> Self {
        Self {
            host: self.host.clone(),
            addresses: self.addresses.clone(),
            cors: self.cors,
            tokens: if self.would_open(new) {
                let tokens = self.tokens.iter();
                let ended = tokens.map(|token| Arc::new(token.ended(REMOVED)));
                ended.collect()
            } else {
                new.tokens.clone()
            },
            limits: HttpLimits {
                max_connections: self.limits.max_connections,
                max_sessions: self.limits.max_sessions,
                ..new.limits.clone()
            },
            ..new.clone()
        }
    }

    /// Returns whether a server with this configuration requires a token and would require none after a restart with `new`.
    pub(crate) fn would_open(&self, new: &Self) -> bool {
        !self.tokens.is_empty() && new.tokens.is_empty()
    }
}

/// What `parse` makes of the items of `key`; those that it refuses are told.
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

/// A host as URLs name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// By its address.
    Address(IpAddr),
    /// By its name, in lower case and without the root's dot.
    Name(String),
}

impl Host {
    /// `text` without scheme and port; IPv6 with or without brackets.
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

    /// Whether it is this machine, seen from itself.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.to_canonical().is_loopback(),
            Self::Name(name) => name == "localhost",
        }
    }
}

/// An origin in its one spelling (RFC 6454): lower case, no path, no port that its scheme implies.
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

/// `time`, which stands at `key`, in seconds of `range`.
fn time(time: Time, key: &str, range: Range<f64>, layers: &mut Layers) -> Duration {
    if let Some(message) = time.fault(range) {
        layers.range_problem_at(&at(key), message, None);
    }
    time.0
}

fn at(key: &str) -> Address {
    Address::of(["server", key])
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
