//! `llama-mcp-server health`: asks a server over HTTP on this machine, for `HEALTHCHECK` and the like.
//!
//! Of the configuration the address alone is read, and what is wrong elsewhere does not matter: a broken edit leaves the server as it
//! was.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use ureq::Agent;

use crate::config::load::Layers;
use crate::config::{Overrides, Surroundings, find_file};

/// A server that takes longer is not well.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks; success is the exit code 0.
///
/// # Errors
/// Where the server does not answer, or takes no calls.
pub fn run(typed: &Overrides, around: &Surroundings) -> anyhow::Result<ExitCode> {
    let file = find_file(typed, around)?;
    let server = Layers::read(typed, &around.variables, file.as_deref())
        .merged()
        .server;
    let url = format!(
        "http://{}/health/ready",
        reached_at(&server.host, server.port)
    );
    let agent: Agent = Agent::config_builder()
        .timeout_global(Some(LIMIT))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into();
    let response = agent.get(&url).call();
    let status = response
        .with_context(|| format!("no server answers at {url}"))?
        .status();
    if !status.is_success() {
        bail!("the server at {url} takes no calls: {status}");
    }
    Ok(ExitCode::SUCCESS)
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
