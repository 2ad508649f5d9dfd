//! Arguments of the subcommands that send requests to a running server.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::Format;
use crate::config::Overrides;

/// Address of a server on this machine.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Configuration file of the server
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Host of the server [default: as configured]
    #[arg(long)]
    host: Option<String>,
    /// Port of the server [default: as configured]
    #[arg(long)]
    port: Option<String>,
}

impl ServerArgs {
    /// Returns the flags as overrides of the configuration.
    pub(crate) fn into_overrides(self) -> Overrides {
        Overrides {
            config: self.config,
            ..overrides([("host", self.host), ("port", self.port)])
        }
    }
}

/// Address of a running server, and the token for requests to it.
#[derive(Debug, Args)]
pub(crate) struct RemoteArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// URL of the server, for example `http://10.0.0.5:8080`
    #[arg(long, conflicts_with_all = ["config", "host", "port"])]
    url: Option<String>,
    /// Bearer token [default: as configured, or `LLAMA_MCP_AUTH`]
    #[arg(long, value_name = "TOKEN")]
    auth: Option<String>,
    /// File that contains the bearer token
    #[arg(
        long = "auth_file",
        alias = "auth-file",
        value_name = "FILE",
        value_hint = ValueHint::AnyPath,
        conflicts_with = "auth"
    )]
    auth_file: Option<String>,
}

impl RemoteArgs {
    /// Returns the `--url`, and the other flags as overrides of the configuration.
    pub(crate) fn into_server(self) -> (Option<String>, Overrides) {
        let ServerArgs { config, host, port } = self.server;
        let typed = Overrides {
            config,
            ..overrides([
                ("host", host),
                ("port", port),
                ("auth", self.auth),
                ("auth_file", self.auth_file),
            ])
        };
        (self.url, typed)
    }
}

/// Arguments of `llama-mcp-server status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// Print the status every two seconds
    #[arg(long)]
    pub watch: bool,
    /// Output format: text or json
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true
    )]
    pub format: Format,
}

/// Arguments of `llama-mcp-server unload` and `restart`.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// Name or alias of the model; a server started with --model calls it `default`
    pub model: String,
    #[command(flatten)]
    pub remote: RemoteArgs,
}

fn overrides<const N: usize>(flags: [(&str, Option<String>); N]) -> Overrides {
    let flags = flags.into_iter();
    Overrides {
        flags: flags
            .filter_map(|(key, value)| Some((key.to_owned(), value?.into())))
            .collect(),
        ..Overrides::default()
    }
}
