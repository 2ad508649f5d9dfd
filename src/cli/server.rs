//! The flags of the commands that ask a running server.

use std::path::PathBuf;

use clap::Args;

use super::Format;
use crate::config::Overrides;

/// Which server is asked.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The file that the server was started with
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its host [default: as configured]
    #[arg(long)]
    host: Option<String>,
    /// Its port [default: as configured]
    #[arg(long)]
    port: Option<String>,
}

impl ServerArgs {
    /// What was typed, for [`crate::config::load::Layers::read`].
    pub(crate) fn into_overrides(self) -> Overrides {
        Overrides {
            config: self.config,
            ..said([("host", self.host), ("port", self.port)])
        }
    }
}

/// The server to ask, and the token to ask it with.
#[derive(Debug, Args)]
pub(crate) struct RemoteArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Another server, for example `http://10.0.0.5:8080`
    #[arg(long, conflicts_with_all = ["config", "host", "port"])]
    url: Option<String>,
    /// Bearer token [default: as configured, or `LLAMA_MCP_AUTH`]
    #[arg(long, value_name = "TOKEN")]
    auth: Option<String>,
    /// File that holds the bearer token
    #[arg(
        long = "auth_file",
        alias = "auth-file",
        value_name = "FILE",
        conflicts_with = "auth"
    )]
    auth_file: Option<PathBuf>,
}

impl RemoteArgs {
    /// Returns the URL that was typed, and the other flags for [`crate::config::load::Layers::read`].
    pub(crate) fn into_server(self) -> (Option<String>, Overrides) {
        let ServerArgs { config, host, port } = self.server;
        let auth_file = self.auth_file;
        let auth_file = auth_file.map(|file| file.to_string_lossy().into_owned());
        let typed = Overrides {
            config,
            ..said([
                ("host", host),
                ("port", port),
                ("auth", self.auth),
                ("auth_file", auth_file),
            ])
        };
        (self.url, typed)
    }
}

/// `llama-mcp-server status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Which server
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// Print it again every two seconds
    #[arg(long)]
    pub watch: bool,
    /// How it is written: text or json
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true
    )]
    pub format: Format,
}

/// `llama-mcp-server unload` and `restart`.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// The model's name or alias in the configuration; with --model, the name is `default`
    pub model: String,
    /// Which server
    #[command(flatten)]
    pub remote: RemoteArgs,
}

fn said<const N: usize>(flags: [(&str, Option<String>); N]) -> Overrides {
    let flags = flags.into_iter();
    Overrides {
        flags: flags
            .filter_map(|(key, value)| Some((key.to_owned(), value?.into())))
            .collect(),
        ..Overrides::default()
    }
}
