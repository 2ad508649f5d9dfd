//! Arguments of `llama-mcp-server install`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser};

use super::Cli;
use crate::config::Overrides;
use crate::mcp_clients::names;

/// Arguments of `llama-mcp-server install`.
#[derive(Debug, Args)]
#[command(
    override_usage = "llama-mcp-server install <CLIENT> --model <PATH> [OPTIONS] [-- <FLAGS>]\n       llama-mcp-server install <CLIENT> --config <FILE> [OPTIONS] [-- <FLAGS>]\n       llama-mcp-server install <CLIENT> --remove [OPTIONS]"
)]
pub(crate) struct InstallArgs {
    /// MCP client; `print` prints the entry that most other clients read
    #[arg(value_parser = PossibleValuesParser::new(names()))]
    pub client: String,

    #[command(flatten)]
    pub action: InstallAction,

    /// Name of the server in the client
    #[arg(long, default_value = "llama", value_parser = server_name)]
    pub name: String,

    /// Print the edited file of the client, but do not write it
    #[arg(long)]
    pub dry_run: bool,

    /// Further flags of the server
    #[arg(last = true)]
    pub flags: Vec<String>,
}

/// The model or configuration to install, or `--remove`. Exactly one is given.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct InstallAction {
    /// GGUF model file to serve
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,

    /// Same as --model
    #[arg(value_name = "PATH", hide = true)]
    path: Option<PathBuf>,

    /// Configuration file to serve, instead of a model
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Remove the server from the file of the client
    #[arg(long)]
    pub remove: bool,
}

impl InstallAction {
    /// Returns the GGUF model file to serve.
    pub(crate) fn model(&self) -> Option<&PathBuf> {
        self.model.as_ref().or(self.path.as_ref())
    }
}

/// Parses the name of the server, which clients make a part of the names of its tools.
fn server_name(name: &str) -> Result<String, &'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if (1..=64).contains(&name.len()) && name.chars().all(is_plain) {
        Ok(name.to_owned())
    } else {
        Err("must be 1 to 64 letters, digits, `_` or `-`")
    }
}

/// Parses the `arguments` of the server that a client is to start.
///
/// # Errors
/// The error message of the command line.
pub(crate) fn overrides(arguments: &[String]) -> Result<Overrides, String> {
    let line = ["llama-mcp-server"].into_iter();
    let line = line.chain(arguments.iter().map(String::as_str));
    match Cli::try_parse_from(line) {
        Ok(cli) if cli.command.is_none() => Ok(cli.serve.into_overrides(cli.models)),
        Ok(_) => Err(
            "error: expected flags of the server after `--`, found a command; remove the command"
                .to_owned(),
        ),
        Err(error) => Err(error.to_string()),
    }
}
