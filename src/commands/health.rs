//! `llama-mcp-server health`: checks a server on this machine over HTTP, for `HEALTHCHECK` of Docker and similar probes.

use std::process::ExitCode;

use super::report_error;
use super::server::{RunningServer, no_server};
use crate::config::{Overrides, Surroundings};
use crate::transport::http::observe::READY;

/// Checks that the server accepts calls. The exit code is 2 if the configuration gives no valid address.
///
/// # Errors
/// The server does not answer, or accepts no calls.
pub(crate) fn run(typed: &Overrides, around: &Surroundings) -> anyhow::Result<ExitCode> {
    let server = match RunningServer::from_config(typed, around) {
        Ok(server) => server,
        Err(error) => return report_error(&error),
    };
    let url = &server.url;
    let (status, body) = server.get("/health/ready")?;
    let problem = match (status, body.trim()) {
        (200, READY) => return Ok(ExitCode::SUCCESS),
        (200, _) => {
            format!("another program answers at {url}; set `--port` to the port of the server")
        }
        (503, _) => {
            format!("the server at {url} accepts no calls: it is shutting down or overloaded")
        }
        (status, _) => format!(
            "another program answers at {url}, with status {status}; set `--port` to the port of the server"
        ),
    };
    Err(no_server(problem).into())
}
