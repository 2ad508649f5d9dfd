//! A server that is asked over HTTP, on this machine as a rule.
//!
//! Of the configuration address and token alone are read, and what is wrong elsewhere does not matter: a broken edit leaves the server
//! as it was.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use ureq::http::{Response, Uri};
use ureq::{Agent, Body, RequestBuilder};

use super::{WRONG, refused};
use crate::cli::RemoteArgs;
use crate::config::address::Address;
use crate::config::file::{ServerSettings, TransportMode};
use crate::config::load::Layers;
use crate::config::problem::{Origin, Problem};
use crate::config::token::{self, BearerToken};
use crate::config::{ConfigError, Overrides, Surroundings, find_file};
use crate::error_code::{Coded, ErrorCode};

/// A server that takes longer is not well.
const LIMIT: Duration = Duration::from_secs(5);

/// Where a server is, and what it wants to see.
pub(super) struct Server {
    /// `http://HOST:PORT`.
    pub(super) url: String,
    token: Option<BearerToken>,
    agent: Agent,
    /// The likely cause if no server is there; `None` if the configuration shows none.
    hint: Option<&'static str>,
}

impl Server {
    /// Returns the server that `asked` names. If it is invalid, prints the error and returns the exit code.
    pub(super) fn asked(
        asked: RemoteArgs,
        around: &Surroundings,
    ) -> anyhow::Result<Result<Self, ExitCode>> {
        let (url, typed) = asked.into_server();
        let server = match url {
            None => Self::configured(&typed, around),
            Some(url) => match authority_of(&url) {
                Ok(authority) => Self::named(&authority, &typed, around),
                Err(wrong) => {
                    let written = writeln!(io::stderr(), "error[{}]: {wrong}", wrong.code);
                    written.context("could not write to standard error")?;
                    return Ok(Err(ExitCode::from(WRONG)));
                }
            },
        };
        match server {
            Ok(server) => Ok(Ok(server)),
            Err(error) => refused(&error).map(Err),
        }
    }

    /// The one that is configured. Another host that was typed is told no token that the file holds.
    pub(super) fn configured(
        typed: &Overrides,
        around: &Surroundings,
    ) -> Result<Self, ConfigError> {
        let file = find_file(typed, around)?;
        let mut layers = Layers::read(typed, &around.variables, file.as_deref());
        let server = layers.merged().server;
        let url = format!("http://{}", reached_at(&server.host, server.port));
        let is_elsewhere = typed.flags.iter().any(|(key, _)| key == "host");
        let token = if is_elsewhere {
            token::for_asking(&mut Layers::read(typed, &around.variables, None))
        } else {
            token::for_asking(&mut layers)
        };
        layers.problems.retain(hides_the_server);
        if layers.problems.is_empty() {
            let hint = hint(&server, typed);
            Ok(Self {
                hint,
                ..Self::at(url, token)
            })
        } else {
            Err(ConfigError::of(layers.problems))
        }
    }

    /// The one at `authority`, `HOST:PORT`. It is told no token that a file holds for another one.
    fn named(
        authority: &str,
        typed: &Overrides,
        around: &Surroundings,
    ) -> Result<Self, ConfigError> {
        let mut layers = Layers::read(typed, &around.variables, None);
        let token = token::for_asking(&mut layers);
        layers.problems.retain(hides_the_server);
        if layers.problems.is_empty() {
            Ok(Self::at(format!("http://{authority}"), token))
        } else {
            Err(ConfigError::of(layers.problems))
        }
    }

    fn at(url: String, token: Option<BearerToken>) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(LIMIT))
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

    /// The status and the body of `path`, which wants no token: who listens there may be another program.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let url = self.url_of(path);
        self.said(&url, self.agent.get(&url).call())
    }

    /// The same with the token, where there is one.
    pub(super) fn get_with_token(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let url = self.url_of(path);
        self.said(&url, self.with_token(self.agent.get(&url)).call())
    }

    /// Returns the status and the body of an empty POST to `path`, with the token if there is one.
    pub(super) fn post_with_token(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let url = self.url_of(path);
        self.said(&url, self.with_token(self.agent.post(&url)).send_empty())
    }

    /// Returns the error message for a server that refuses the token.
    pub(super) fn wants_token(&self) -> String {
        format!(
            "the server at {} requires a valid bearer token; set it with `--auth_file`, `--auth` or LLAMA_MCP_AUTH",
            self.url
        )
    }

    /// Returns the error for a server that does not answer as expected, with the likely cause.
    pub(super) fn missing(&self, problem: String) -> Coded {
        no_server(match self.hint {
            Some(hint) => format!("{problem}; {hint}"),
            None => problem,
        })
    }

    /// Returns the status and the body that came from `url`.
    fn said(
        &self,
        url: &str,
        response: Result<Response<Body>, ureq::Error>,
    ) -> anyhow::Result<(u16, String)> {
        let mut response =
            response.with_context(|| self.missing(format!("no server answers at {url}")))?;
        let said = response.body_mut().read_to_string();
        let said = said.with_context(|| no_server(format!("no answer could be read at {url}")))?;
        Ok((response.status().as_u16(), said))
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

/// `HOST:PORT` of an address that was typed.
fn authority_of(url: &str) -> Result<String, Coded> {
    let uri: Option<Uri> = url.parse().ok();
    let scheme = uri.as_ref().and_then(Uri::scheme_str);
    match (scheme, uri.as_ref().and_then(Uri::authority)) {
        (Some("http"), Some(authority)) => Ok(authority.to_string()),
        (Some("https"), _) => Err(ErrorCode::CommandLine.says(format!(
            "`{url}`: this command speaks no TLS; name the server behind the proxy"
        ))),
        _ => Err(ErrorCode::CommandLine
            .says(format!("`{url}` is no address, as http://10.0.0.5:8080 is"))),
    }
}

/// Returns the likely cause if no server answers at the configured address; `None` if the address was `typed`.
fn hint(server: &ServerSettings, typed: &Overrides) -> Option<&'static str> {
    if typed
        .flags
        .iter()
        .any(|(key, _)| key == "host" || key == "port")
    {
        None
    } else if server.transport == TransportMode::Stdio {
        Some(
            "this configuration serves stdio, which only its client can ask; `--port` or `--url` names a server over HTTP",
        )
    } else if server.port == 0 {
        Some(
            "the configured port is 0, so each start takes another one; the server's log has its address, and `--port` or `--url` names it",
        )
    } else {
        None
    }
}

/// A failure of asking.
pub(super) fn no_server(text: String) -> Coded {
    ErrorCode::NoServer.says(text)
}

/// Whether `problem` is one of where the server is, or of what was typed: of the file as a whole, or of these values.
fn hides_the_server(problem: &Problem) -> bool {
    let is_typed = matches!(problem.origin, Origin::Flag(_) | Origin::Variable(_))
        && problem.address.as_ref().is_none_or(is_of_server);
    let is_file = problem.address.is_none() && problem.origin == Origin::BuiltIn;
    let values = ["host", "port"].map(|key| Address::of(["server", key]));
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

/// Where a server is reached that is bound to `host`: one that listens everywhere, over loopback.
fn reached_at(host: &str, port: u16) -> String {
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
        assert_eq!(hosts.map(|host| reached_at(host, 80)), expected);
    }
}
