//! The command line, parsed into flags as typed. Pure: defaults and files belong to [`crate::config`].
//!
//! Flags are spelled with underscores, like the keys of the file. The spelling with hyphens is an alias.

pub(crate) mod foreign;
pub(crate) mod install;
pub(crate) mod manual;
mod server;

use std::path::PathBuf;

use clap::{Arg, Args, Parser, Subcommand, ValueEnum, ValueHint};
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::{Overrides, built_in_value};
use install::InstallArgs;
pub(crate) use server::{ModelArgs, RemoteArgs, ServerArgs, StatusArgs};

const MODEL: &str = "Model";
const TRANSPORT: &str = "Transport; all flags but --transport apply to HTTP only";
const TOOL: &str = "Tool, and defaults that calls may override";

/// Serve local GGUF models as MCP tools, with llama.cpp.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    long_about = None,
    override_usage = "llama-mcp-server --model <PATH> [OPTIONS]\n       llama-mcp-server --config <FILE> [OPTIONS]\n       llama-mcp-server <COMMAND>",
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 success, 1 failure at run time, 2 invalid command line or configuration. LLAMA_MCP_CONFIG names the configuration file if no flag does. LLAMA_MCP_<KEY> sets a key, LLAMA_MCP_MODELS__<NAME>__<KEY> a key of one model, and LLAMA_MCP_AUTH the bearer token. RUST_LOG sets the log level; the log goes to stderr."
)]
pub(crate) struct Cli {
    /// The subcommand; `None` starts the server.
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub serve: ServeArgs,

    /// Same as --model
    #[arg(value_name = "MODEL", hide = true)]
    pub models: Vec<PathBuf>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check, show and explain the configuration
    #[command(subcommand)]
    Config(Box<ConfigCommand>),
    /// Check over HTTP whether a server on this machine accepts calls (exit code 0 or 1)
    Health(ServerArgs),
    /// Diagnose this machine, this build and a configuration
    Doctor(Box<DoctorArgs>),
    /// Show the models of a running server, and the result of its last configuration reload
    Status(StatusArgs),
    /// Unload a model of a running server once its running calls have finished
    Unload(ModelArgs),
    /// Restart a model of a running server; its running calls still finish
    Restart(ModelArgs),
    /// Add this server to the configuration file of an MCP client
    Install(InstallArgs),
    /// Print a script with which a shell completes commands and flags
    Completions {
        /// Shell to complete for
        shell: manual::Shell,
    },
    /// Print the manual page
    Man,
}

/// Subcommands of `llama-mcp-server config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Report all errors of a configuration, and the memory that its models need
    Check {
        #[command(flatten)]
        source: ConfigArgs,
        /// Output format: text or json
        #[arg(
            long,
            value_name = "FORMAT",
            default_value = "text",
            hide_possible_values = true
        )]
        format: Format,
        /// Treat warnings as errors
        #[arg(long)]
        strict: bool,
    },
    /// Print the effective configuration as TOML, without secrets
    Show {
        #[command(flatten)]
        source: ConfigArgs,
        /// Print where each value comes from
        #[arg(long)]
        origin: bool,
    },
    /// Print what an edit would change in a running server, and what would restart
    Diff {
        /// Active configuration file
        old: PathBuf,
        /// Edited configuration file
        new: PathBuf,
    },
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Print an annotated configuration file with every key
    Init,
    /// Print a reference of all keys, in Markdown
    Reference,
}

/// The configuration that a subcommand reads: the file, and the flags of the server.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file, like --config; `-` is standard input
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,

    #[command(flatten)]
    serve: ServeArgs,
}

impl ConfigArgs {
    /// Returns the flags as overrides of the configuration.
    pub(crate) fn into_overrides(self) -> Overrides {
        let typed = self.serve.into_overrides(Vec::new());
        Overrides {
            config: typed.config.or(self.file),
            ..typed
        }
    }
}

/// Arguments of `llama-mcp-server doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub source: ConfigArgs,
    /// Also write a report to share, without secrets and prompts [default: llama-mcp-server-report.txt]
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "llama-mcp-server-report.txt")]
    pub bundle: Option<PathBuf>,
}

/// Output format of a subcommand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for people.
    Text,
    /// JSON for programs.
    Json,
}

/// Arguments of `llama-mcp-server worker`, which serves one model over pipes. Only the server starts it, so the help omits it.
#[derive(Debug, Parser)]
#[command(name = "llama-mcp-server worker")]
pub(crate) struct WorkerCli {
    /// Process id of the server; without it, a worker finishes the commands that it has read when stdin ends
    #[arg(long)]
    pub parent: Option<u32>,
    /// Name of the model, shown by `ps`; not used otherwise
    #[arg(long)]
    pub name: Option<String>,
    /// Print what llama.cpp finds on this machine, then exit
    #[arg(long)]
    pub describe: bool,
    /// Check the chat templates on stdin, then exit
    #[arg(long)]
    pub try_templates: bool,
}

/// Arguments of the server.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// GGUF model file
    #[arg(long, value_name = "PATH", help_heading = MODEL)]
    model: Vec<PathBuf>,

    /// TOML configuration file, instead of --model
    #[arg(long, value_name = "FILE", help_heading = MODEL)]
    config: Option<PathBuf>,

    /// Set any key of the configuration, for example `models.small.n_ctx=8192`; may be repeated
    #[arg(long, value_name = "KEY=VALUE", help_heading = MODEL)]
    set: Vec<String>,

    #[command(flatten)]
    flags: Flags,
}

/// Flags that set the key of the same name. All are strings here, since the schema of the configuration checks them.
#[derive(Debug, Args, Serialize)]
#[command(mut_args(with_default))]
struct Flags {
    /// Layers to offload to the GPU (0 = none, 99 = all, auto = as many as fit)
    #[arg(long = "n_gpu_layers", alias = "n-gpu-layers", value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    n_gpu_layers: Option<String>,

    /// Context of one call, in tokens (0 = the context that the model was trained for)
    #[arg(long = "n_ctx", alias = "n-ctx", value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    n_ctx: Option<String>,

    /// Largest batch, in tokens
    #[arg(long = "n_batch", alias = "n-batch", value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    n_batch: Option<String>,

    /// CPU threads (0 = one per core)
    #[arg(long = "n_threads", alias = "n-threads", value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    n_threads: Option<String>,

    /// Calls that run at once
    #[arg(long, value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    parallel: Option<String>,

    /// Further calls of one client that may be queued; beyond them, calls fail with `busy`
    #[arg(long = "max_queue", alias = "max-queue", value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    max_queue: Option<String>,

    /// Name of the MCP tool [default: chat]
    #[arg(long = "tool_name", alias = "tool-name", value_name = "NAME", help_heading = TOOL)]
    tool_name: Option<String>,

    /// Longest answer, in tokens
    #[arg(long = "max_tokens", alias = "max-tokens", value_name = "N", help_heading = TOOL, allow_negative_numbers = true)]
    max_tokens: Option<String>,

    /// Temperature (0.0 = greedy)
    #[arg(long, value_name = "F", help_heading = TOOL, allow_negative_numbers = true)]
    temperature: Option<String>,

    /// Top-p (nucleus sampling)
    #[arg(long = "top_p", alias = "top-p", value_name = "F", help_heading = TOOL, allow_negative_numbers = true)]
    top_p: Option<String>,

    /// Top-k sampling (0 = off)
    #[arg(long = "top_k", alias = "top-k", value_name = "N", help_heading = TOOL, allow_negative_numbers = true)]
    top_k: Option<String>,

    /// Min-p sampling (0 = off)
    #[arg(long = "min_p", alias = "min-p", value_name = "F", help_heading = TOOL, allow_negative_numbers = true)]
    min_p: Option<String>,

    /// Repeat penalty (1.0 = off)
    #[arg(long = "repeat_penalty", alias = "repeat-penalty", value_name = "F", help_heading = TOOL, allow_negative_numbers = true)]
    repeat_penalty: Option<String>,

    /// Random seed (-1 = draw one for every call)
    #[arg(long, value_name = "N", help_heading = TOOL, allow_negative_numbers = true)]
    seed: Option<String>,

    /// Text appended to the system prompt, such as "/think"
    #[arg(long = "prompt_suffix", alias = "prompt-suffix", value_name = "TEXT", help_heading = TOOL, allow_hyphen_values = true)]
    prompt_suffix: Option<String>,

    /// Seconds after which a call returns a partial answer [default: none]
    #[arg(long, value_name = "SECONDS", help_heading = TOOL, allow_negative_numbers = true)]
    deadline: Option<String>,

    /// Transport: stdio or http
    #[arg(
        long,
        value_name = "MODE",
        help_heading = TRANSPORT,
        hide_possible_values = true
    )]
    transport: Option<String>,

    /// Address to listen on
    #[arg(long, value_name = "HOST", help_heading = TRANSPORT)]
    host: Option<String>,

    /// Port to listen on (0 = any free port)
    #[arg(long, value_name = "PORT", help_heading = TRANSPORT)]
    port: Option<String>,

    /// Bearer token, which the process list shows; a file or an environment variable does not
    #[arg(long, value_name = "TOKEN", help_heading = TRANSPORT)]
    auth: Option<String>,

    /// File that contains the bearer token
    #[arg(long = "auth_file", alias = "auth-file", value_name = "FILE", value_hint = ValueHint::AnyPath, help_heading = TRANSPORT, conflicts_with = "auth")]
    auth_file: Option<String>,

    /// Serve other machines without a token
    #[arg(long = "allow_unauthenticated", alias = "allow-unauthenticated", help_heading = TRANSPORT)]
    allow_unauthenticated: bool,

    /// Host names by which clients may reach the server, in addition to loopback and --host
    #[arg(long = "allowed_hosts", alias = "allowed-hosts", value_name = "HOST,…", help_heading = TRANSPORT, value_delimiter = ',')]
    allowed_hosts: Vec<String>,

    /// Origins whose pages may use the server, in addition to those on loopback
    #[arg(long = "allowed_origins", alias = "allowed-origins", value_name = "ORIGIN,…", help_heading = TRANSPORT, value_delimiter = ',')]
    allowed_origins: Vec<String>,

    /// Seconds for running calls to finish after SIGTERM
    #[arg(long = "drain_time", alias = "drain-time", value_name = "SECONDS", help_heading = TRANSPORT, allow_negative_numbers = true)]
    drain_time: Option<String>,
}

/// Appends the built-in value of the key for which `flag` stands, if the key has one.
fn with_default(flag: Arg) -> Arg {
    let (Some(default), Some(help)) = (built_in_value(flag.get_id().as_str()), flag.get_help())
    else {
        return flag;
    };
    let help = format!("{help} [default: {default}]");
    flag.help(help)
}

impl ServeArgs {
    /// Returns the flags as overrides of the configuration. `bare_models` are the paths that were typed without `--model`.
    pub(crate) fn into_overrides(self, bare_models: Vec<PathBuf>) -> Overrides {
        let flags = json!(self.flags);
        let is_set = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(items) => !items.is_empty(),
            _ => true,
        };
        Overrides {
            config: self.config,
            config_text: None,
            models: [self.model, bare_models].concat(),
            flags: flags
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, value)| is_set(value))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            set: self.set,
        }
    }
}

#[cfg(test)]
mod tests;
