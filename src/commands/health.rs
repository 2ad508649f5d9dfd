//! `llama-mcp-server health`: asks a server over HTTP on this machine, for `HEALTHCHECK` and the like.
//!
//! Of the configuration the address alone is read, and what is wrong elsewhere does not matter: a broken edit leaves the server as it
//! was.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use ureq::Agent;

use crate::config::address::Address;
use crate::config::load::Layers;
use crate::config::problem::{Origin, Problem};
use crate::config::{ConfigError, Overrides, Surroundings, find_file};
use crate::transport::http::observe::READY;

/// A server that takes longer is not well.
const LIMIT: Duration = Duration::from_secs(5);

/// An address that cannot be told.
const WRONG: u8 = 2;

/// Asks; success is the exit code 0.
///
/// # Errors
/// Where the server does not answer, or takes no calls.
pub fn run(typed: &Overrides, around: &Surroundings) -> anyhow::Result<ExitCode> {
    let file = find_file(typed, around)?;
    let mut layers = Layers::read(typed, &around.variables, file.as_deref());
    layers.problems.retain(hides_the_address);
    if !layers.problems.is_empty() {
        ConfigError::of(layers.problems)
            .report(&mut io::stderr().lock())
            .context("could not write to standard error")?;
        return Ok(ExitCode::from(WRONG));
    }
    let server = layers.merged().server;
    let url = format!(
        "http://{}/health/ready",
        reached_at(&server.host, server.port)
    );
    let agent: Agent = Agent::config_builder()
        .timeout_global(Some(LIMIT))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .build()
        .into();
    let response = agent.get(&url).call();
    let mut response = response.with_context(|| format!("no server answers at {url}"))?;
    let said = response.body_mut().read_to_string().unwrap_or_default();
    match (response.status().is_success(), said.trim()) {
        (true, READY) => Ok(ExitCode::SUCCESS),
        (true, _) => bail!("what answers at {url} is another program; `--port` names the server's"),
        (false, _) => bail!("the server at {url} takes no calls: {}", response.status()),
    }
}

/// Whether `problem` is one of where the server is: of the file as a whole, or of these two values.
fn hides_the_address(problem: &Problem) -> bool {
    let is_file = problem.address.is_none() && problem.origin == Origin::BuiltIn;
    let values = ["host", "port"].map(|key| Address::of(["server", key]));
    is_file
        || problem
            .address
            .as_ref()
            .is_some_and(|at| values.contains(at))
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
