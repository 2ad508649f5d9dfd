//! `llama-mcp-server install …`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser};

use super::Cli;
use crate::config::Overrides;
use crate::mcp_clients::names;

/// Which client is told of which server.
#[derive(Debug, Args)]
#[command(
    override_usage = "llama-mcp-server install <CLIENT> --model <PATH> [OPTIONS] [-- <FLAGS>]\n       llama-mcp-server install <CLIENT> --config <FILE> [OPTIONS] [-- <FLAGS>]\n       llama-mcp-server install <CLIENT> --remove [OPTIONS]"
)]
pub(crate) struct InstallArgs {
    /// The client; `print` writes what most others read to standard output
    #[arg(value_parser = PossibleValuesParser::new(names()))]
    pub client: String,

    /// What is to be done
    #[command(flatten)]
    pub wanted: Wanted,

    /// The server's name in the client
    #[arg(long, default_value = "llama", value_parser = server_name)]
    pub name: String,

    /// Print the client's file as it would be, and write nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Flags that the server is started with, besides
    #[arg(last = true)]
    pub flags: Vec<String>,
}

/// One of the three.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Wanted {
    /// The GGUF model file that is served
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,

    /// The same without `--model`, as the server takes it, too
    #[arg(value_name = "PATH", hide = true)]
    path: Option<PathBuf>,

    /// The configuration that is served, instead of a model
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Take the server out of the client's file
    #[arg(long)]
    pub remove: bool,
}

impl Wanted {
    /// Returns the GGUF model file that is served.
    pub(crate) fn model(&self) -> Option<&PathBuf> {
        self.model.as_ref().or(self.path.as_ref())
    }
}

/// Clients make the names of tools of it.
fn server_name(name: &str) -> Result<String, &'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if (1..=64).contains(&name.len()) && name.chars().all(is_plain) {
        Ok(name.to_owned())
    } else {
        Err("a name is letters, digits, `_` and `-`, at most 64")
    }
}

/// What a server is told by `arguments`.
///
/// # Errors
/// The text to show, where they are none of its flags.
pub(crate) fn overrides(arguments: &[String]) -> Result<Overrides, String> {
    let line = ["llama-mcp-server"].into_iter();
    let line = line.chain(arguments.iter().map(String::as_str));
    match Cli::try_parse_from(line) {
        Ok(cli) if cli.command.is_none() => Ok(cli.source.into_overrides(cli.models)),
        Ok(_) => Err("error: flags of the server stand behind `--`, not a command".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
