//! HTTP client for a running server, which is usually on this machine.
//!
//! Reads only the address and the token from the configuration. Errors elsewhere in the file do not matter, since a running server
//! has rejected them.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use ureq::http::{Response, Uri};
use ureq::{Agent, Body, RequestBuilder};

use super::{INVALID, report_error};
use crate::cli::RemoteArgs;
use crate::config::address::Address;
use crate::config::file::{ServerSettings, TransportMode};
use crate::config::load::Layers;
use crate::config::problem::{Origin, Problem};
use crate::config::token::{self, BearerToken};
use crate::config::{ConfigError, Overrides, Surroundings, find_file};
use crate::error_code::{Coded, ErrorCode};

/// Time limit of a request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Address of a running server, and the token for requests to it.
pub(super) struct RunningServer {
    /// `http://HOST:PORT`.
    pub(super) url: String,
    token: Option<BearerToken>,
    agent: Agent,
    /// Likely reason why no server answers; `None` if the configuration shows none.
    hint: Option<&'static str>,
}

impl RunningServer {
    /// Returns the server that `args` name. If they are invalid, prints the error and returns the exit code.
    pub(super) fn from_args(
        args: RemoteArgs,
        around: &Surroundings,
    ) -> anyhow::Result<Result<Self, ExitCode>> {
        let (url, typed) = args.into_server();
        let server = match url {
            None => Self::from_config(&typed, around),
            Some(url) => match authority_of(&url) {
                Ok(authority) => Self::at_authority(&authority, &typed, around),
                Err(error) => {
                    let written = writeln!(io::stderr(), "error[{}]: {error}", error.code);
                    written.context("could not write to standard error")?;
                    return Ok(Err(ExitCode::from(INVALID)));
                }
            },
        };
        match server {
            Ok(server) => Ok(Ok(server)),
            Err(error) => report_error(&error).map(Err),
        }
    }

    /// Returns the server of the configuration. If `--host` names another host, the tokens in the file are not sent to it.
    pub(super) fn from_config(
        typed: &Overrides,
        around: &Surroundings,
    ) -> Result<Self, ConfigError> {
        let file = find_file(typed, around)?;
        let mut layers = Layers::read(typed, &around.variables, file.as_deref());
        let server = layers.merged().server;
        let url = format!("http://{}", request_address(&server.host, server.port));
        let is_elsewhere = typed.flags.iter().any(|(key, _)| key == "host");
        let token = if is_elsewhere {
            token::for_request(&mut Layers::read(typed, &around.variables, None))
        } else {
            token::for_request(&mut layers)
        };
        layers.problems.retain(concerns_request);
        if layers.problems.is_empty() {
            let hint = hint(&server, typed);
            Ok(Self {
                hint,
                ..Self::at(url, token)
            })
        } else {
            Err(ConfigError::from_problems(layers.problems))
        }
    }

    /// Returns the server at `authority`, `HOST:PORT`. Ignores the configuration file, whose tokens are for another server.
    fn at_authority(
        authority: &str,
        typed: &Overrides,
        around: &Surroundings,
    ) -> Result<Self, ConfigError> {
        let mut layers = Layers::read(typed, &around.variables, None);
        let token = token::for_request(&mut layers);
        layers.problems.retain(concerns_request);
        if layers.problems.is_empty() {
            Ok(Self::at(format!("http://{authority}"), token))
        } else {
            Err(ConfigError::from_problems(layers.problems))
        }
    }

    fn at(url: String, token: Option<BearerToken>) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .build()
            .into();
        Self {
            url,
            token,
            agent,
            hint: None,
        }
    }

    /// Sends a GET request without the token, for paths that require none: another program may be listening. Returns the status and the body.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let url = self.url_of(path);
        self.read(&url, self.agent.get(&url).call())
    }

    /// Sends a GET request with the token, if there is one. Returns the status and the body.
    pub(super) fn get_with_token(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let url = self.url_of(path);
        self.read(&url, self.with_token(self.agent.get(&url)).call())
    }

    /// Sends an empty POST request with the token, if there is one. Returns the status and the body.
    pub(super) fn post_with_token(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let url = self.url_of(path);
        self.read(&url, self.with_token(self.agent.post(&url)).send_empty())
    }

    /// Returns the error message for a server that rejects the token.
    pub(super) fn token_rejected(&self) -> String {
        format!(
            "the server at {} requires a valid bearer token; set it with `--auth_file`, `--auth` or `LLAMA_MCP_AUTH`",
            self.url
        )
    }

    /// Returns the error for a server that does not answer as expected, with the likely reason.
    pub(super) fn unexpected(&self, problem: String) -> Coded {
        no_server(match self.hint {
            Some(hint) => format!("{problem}; {hint}"),
            None => problem,
        })
    }

    /// Reads a response of `url`. Returns the status and the body.
    fn read(
        &self,
        url: &str,
        response: Result<Response<Body>, ureq::Error>,
    ) -> anyhow::Result<(u16, String)> {
        let mut response =
            response.with_context(|| self.unexpected(format!("no server answers at {url}")))?;
        let body = response.body_mut().read_to_string();
        let body =
            body.with_context(|| no_server(format!("could not read the response of {url}")))?;
        Ok((response.status().as_u16(), body))
    }

    fn url_of(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn with_token<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", token.to_header()),
            None => request,
        }
    }
}

/// Returns the `HOST:PORT` of `url`.
fn authority_of(url: &str) -> Result<String, Coded> {
    let uri: Option<Uri> = url.parse().ok();
    let scheme = uri.as_ref().and_then(Uri::scheme_str);
    match (scheme, uri.as_ref().and_then(Uri::authority)) {
        (Some("http"), Some(authority)) => Ok(authority.to_string()),
        (Some("https"), _) => Err(ErrorCode::CommandLine.says(format!(
            "`{url}`: TLS is not supported; give the `http://` URL of the server behind the proxy"
        ))),
        _ => Err(ErrorCode::CommandLine.says(format!(
            "`{url}`: invalid URL; write it like http://10.0.0.5:8080"
        ))),
    }
}

/// Returns the likely reason why no server answers at the configured address. Returns `None` if the address was `typed`.
fn hint(server: &ServerSettings, typed: &Overrides) -> Option<&'static str> {
    if typed
        .flags
        .iter()
        .any(|(key, _)| key == "host" || key == "port")
    {
        None
    } else if server.transport == TransportMode::Stdio {
        Some(
            "this configuration uses stdio, which only its client can reach; name a server over HTTP with `--port` or `--url`",
        )
    } else if server.port == 0 {
        Some(
            "the configured port is 0, so each start takes a different port; find it in the log of the server, and pass it with `--port` or `--url`",
        )
    } else {
        None
    }
}

/// Returns the error for a request that failed.
pub(super) fn no_server(text: String) -> Coded {
    ErrorCode::NoServer.says(text)
}

/// Returns whether `problem` affects the request: it is about the address of the server, the file as a whole, or a flag or variable of the
/// server.
fn concerns_request(problem: &Problem) -> bool {
    let is_typed = matches!(problem.origin, Origin::Flag(_) | Origin::Variable(_))
        && problem.address.as_ref().is_none_or(is_of_server);
    let is_file = problem.address.is_none() && problem.origin == Origin::BuiltIn;
    let values = ["host", "port"].map(|key| Address::new(["server", key]));
    is_typed
        || is_file
        || problem
            .address
            .as_ref()
            .is_some_and(|at| values.contains(at))
}

fn is_of_server(address: &Address) -> bool {
    address
        .parts()
        .first()
        .is_some_and(|table| table == "server")
}

/// Returns the address for requests to a server that listens on `host` and `port`. An unspecified host becomes loopback.
fn request_address(host: &str, port: u16) -> String {
    let address = match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(any)) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        Ok(IpAddr::V6(any)) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        Ok(address) => address,
        Err(_) => return format!("{host}:{port}"),
    };
    SocketAddr::new(address, port).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_everywhere_is_reached_over_loopback() {
        let hosts = [
            "127.0.0.1",
            "0.0.0.0",
            "::",
            "[::1]",
            "localhost",
            "10.1.2.3",
        ];
        let expected = [
            "127.0.0.1:80",
            "127.0.0.1:80",
            "[::1]:80",
            "[::1]:80",
            "localhost:80",
            "10.1.2.3:80",
        ];
        assert_eq!(hosts.map(|host| request_address(host, 80)), expected);
    }
}
