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

/// The reason why the flags of a server are invalid, as the command line reports it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FlagsError {
    /// A flag is unknown or has an invalid value.
    #[error(transparent)]
    Invalid(#[from] clap::Error),
    /// A subcommand was given.
    #[error("error: expected flags of the server after `--`, found a command; remove the command")]
    Subcommand,
    /// `--transport` was given.
    #[error(
        "error: `--transport` cannot be combined with `install`: clients start the server over stdio; remove the flag"
    )]
    Transport,
}

/// Parses the `arguments` of the server that a client is to start over stdio.
///
/// # Errors
/// The arguments are invalid, or contain a subcommand or `--transport`.
pub(crate) fn overrides(arguments: &[String]) -> Result<Overrides, FlagsError> {
    let line = ["llama-mcp-server"].into_iter();
    let line = line.chain(arguments.iter().map(String::as_str));
    let cli = Cli::try_parse_from(line)?;
    if cli.command.is_some() {
        return Err(FlagsError::Subcommand);
    }
    let overrides = cli.serve.into_overrides(cli.models);
    if overrides.flags.iter().any(|(key, _)| key == "transport") {
        return Err(FlagsError::Transport);
    }
    Ok(overrides)
}
