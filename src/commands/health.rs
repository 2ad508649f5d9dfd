//! `llama-mcp-server health`: asks a server over HTTP on this machine, for `HEALTHCHECK` and the like.

use std::process::ExitCode;

use super::refused;
use super::server::{Server, no_server};
use crate::config::{Overrides, Surroundings};
use crate::transport::http::observe::READY;

/// Asks; success is the exit code 0, and 2 an address that cannot be told.
///
/// # Errors
/// Where the server does not answer, or takes no calls.
pub(crate) fn run(typed: &Overrides, around: &Surroundings) -> anyhow::Result<ExitCode> {
    let server = match Server::configured(typed, around) {
        Ok(server) => server,
        Err(error) => return refused(&error),
    };
    let url = &server.url;
    let (status, said) = server.get("/health/ready")?;
    let problem = match (status, said.trim()) {
        (200, READY) => return Ok(ExitCode::SUCCESS),
        (200, _) => {
            format!("what answers at {url} is another program; `--port` names the server's")
        }
        (503, _) => format!("the server at {url} takes no calls: it is ending, or has too many"),
        (status, _) => format!("what answers at {url} is no such server: it says {status}"),
    };
    Err(no_server(problem).into())
}
