//! How the server is reached over HTTP: address, token, and who may come.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use subtle::ConstantTimeEq;

use super::{ConfigError, Overrides};

/// Where and for whom the server listens.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpConfig {
    /// As it was given.
    pub host: String,
    /// What that stands for; the first that can be bound is.
    pub addresses: Vec<SocketAddr>,
    /// Without it everybody who reaches the server may use it.
    pub auth: Option<BearerToken>,
    /// Names in `Host` beside loopback and `host`.
    pub allowed_hosts: Vec<String>,
    /// Origins of pages beside those on loopback.
    pub allowed_origins: Vec<String>,
    /// How long running calls may take to end after SIGTERM.
    pub drain_time: Duration,
}

impl HttpConfig {
    /// `typed` resolved; `auth_variable` is `LLAMA_MCP_AUTH`, which counts where no flag gives a token.
    pub(super) fn resolve(
        typed: &Overrides,
        auth_variable: Option<&str>,
        drain_time: Duration,
    ) -> Result<Self, ConfigError> {
        let auth = match (&typed.auth, &typed.auth_file, auth_variable) {
            (Some(token), _, _) => Some(BearerToken::parse("--auth", token)?),
            (None, Some(file), _) => Some(BearerToken::read(file)?),
            (None, None, Some(token)) => Some(BearerToken::parse(AUTH_VARIABLE, token)?),
            (None, None, None) => None,
        };
        let host = typed.host.as_deref().unwrap_or("127.0.0.1");
        let port = typed.port.unwrap_or(8080);
        let addresses = addresses_of(host, port)?;
        let is_local = addresses.iter().all(|address| address.ip().is_loopback());
        if !is_local && auth.is_none() && !typed.allow_unauthenticated {
            return Err(ConfigError::Exposed(host.to_owned()));
        }
        Ok(Self {
            host: host.to_owned(),
            addresses,
            auth,
            allowed_hosts: typed.allowed_hosts.clone(),
            allowed_origins: typed.allowed_origins.clone(),
            drain_time,
        })
    }
}

/// The environment variable that holds the token.
pub const AUTH_VARIABLE: &str = "LLAMA_MCP_AUTH";

fn addresses_of(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConfigError> {
    let unknown = |source| ConfigError::UnknownHost {
        host: host.to_owned(),
        source,
    };
    // IPv6 is written in brackets in URLs and without them everywhere else.
    let bare = host.trim_matches(['[', ']']);
    let found: Vec<_> = (bare, port).to_socket_addrs().map_err(unknown)?.collect();
    if found.is_empty() {
        return Err(unknown(io::ErrorKind::AddrNotAvailable.into()));
    }
    Ok(found)
}

/// A secret. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(String);

impl BearerToken {
    /// A token from `source`, a flag, a variable or a file.
    fn parse(source: &str, text: &str) -> Result<Self, ConfigError> {
        let problem = if text.is_empty() {
            "must not be empty"
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            "must be letters, digits and signs of ASCII, without spaces"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(ConfigError::Values(vec![format!("`{source}`: {problem}")]))
    }

    fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|source| ConfigError::TokenFile {
            file: PathBuf::from(file),
            source,
        })?;
        Self::parse(&file.display().to_string(), text.trim())
    }

    /// Whether `given` is this token; how long that takes tells the length alone.
    pub fn matches(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(typed: &Overrides, variable: Option<&str>) -> Result<HttpConfig, ConfigError> {
        HttpConfig::resolve(typed, variable, Duration::ZERO)
    }

    #[test]
    fn the_documented_address_is_the_default() {
        let config = resolve(&Overrides::default(), None).unwrap();
        assert_eq!(config.addresses, ["127.0.0.1:8080".parse().unwrap()]);
        assert_eq!(config.auth, None);
    }

    #[test]
    fn a_flag_counts_before_the_variable() {
        let typed = Overrides {
            auth: Some("flag".into()),
            ..Overrides::default()
        };
        for (typed, token) in [(typed, "flag"), (Overrides::default(), "variable")] {
            let auth = resolve(&typed, Some("variable")).unwrap().auth.unwrap();
            assert!(auth.matches(token.as_bytes()) && !auth.matches(b"other"));
            assert_eq!(format!("{auth:?}"), "***");
        }
    }

    #[test]
    fn beyond_loopback_a_token_is_needed_or_the_word_that_it_is_not() {
        let exposed = |host: &str, auth: Option<&str>, allow_unauthenticated| {
            let typed = Overrides {
                host: Some(host.into()),
                auth: auth.map(Into::into),
                allow_unauthenticated,
                ..Overrides::default()
            };
            matches!(resolve(&typed, None), Err(ConfigError::Exposed(_)))
        };
        for host in ["0.0.0.0", "::", "[::]", "192.0.2.1"] {
            assert!(exposed(host, None, false), "{host}");
            assert!(!exposed(host, Some("token"), false), "{host}");
            assert!(!exposed(host, None, true), "{host}");
        }
        for host in ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"] {
            assert!(!exposed(host, None, false), "{host}");
        }
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_refused_without_being_shown() {
        for token in ["", "two words", "schlüssel", "a\nb"] {
            let error = resolve(&Overrides::default(), Some(token)).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("`LLAMA_MCP_AUTH`: must"), "{text}");
            assert!(token.is_empty() || !text.contains(token), "{text}");
        }
    }
}
