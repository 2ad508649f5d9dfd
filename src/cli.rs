//! The command line: flags exactly as typed, no defaults, no I/O.
//!
//! Flags are spelled as documented, with underscores; the spelling with hyphens is an alias.

pub(crate) mod foreign;
pub(crate) mod install;
pub(crate) mod manual;
mod server;

use std::path::PathBuf;

use clap::{Arg, Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use crate::config::{Overrides, built_in_value};
use install::InstallArgs;
pub(crate) use server::{ModelArgs, RemoteArgs, ServerArgs, StatusArgs};

const MODEL: &str = "Model";
const TRANSPORT: &str = "Transport; all but the mode count for http alone";
const TOOL: &str = "Tool, and defaults that a call may override";

/// Local GGUF models as MCP tools, by llama.cpp.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    long_about = None,
    override_usage = "llama-mcp-server --model <PATH> [OPTIONS]\n       llama-mcp-server --config <FILE> [OPTIONS]\n       llama-mcp-server <COMMAND>",
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 ended in order, 1 failed while running, 2 usage or configuration. LLAMA_MCP_CONFIG names the file where no flag does; LLAMA_MCP_<KEY> sets a key, LLAMA_MCP_MODELS__<NAME>__<KEY> one of a model; LLAMA_MCP_AUTH is the bearer token. RUST_LOG sets what is logged, to stderr."
)]
pub(crate) struct Cli {
    /// What is to be done instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// What to serve.
    #[command(flatten)]
    pub source: Source,

    /// The same as --model
    #[arg(value_name = "MODEL", hide = true)]
    pub models: Vec<PathBuf>,
}

/// What the program does beside serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check, show and explain the configuration
    #[command(subcommand)]
    Config(Box<ConfigCommand>),
    /// Ask a server on this machine, over HTTP, whether it takes calls: exit code 0 or 1
    Health(ServerArgs),
    /// Look at this machine, this build and a configuration, and tell what does not work
    Doctor(Box<DoctorArgs>),
    /// Show a server's models at work, over HTTP, and how the last edit of its file went
    Status(StatusArgs),
    /// Unload a server's model, over HTTP, once its running calls are answered
    Unload(ModelArgs),
    /// Restart a server's model, over HTTP; its running calls are still answered
    Restart(ModelArgs),
    /// Tell a client of this server, in the client's own file
    Install(InstallArgs),
    /// Print a script by which a shell completes commands and flags
    Completions {
        /// The shell
        shell: manual::Shell,
    },
    /// Print the manual, a page for man
    Man,
}

/// `llama-mcp-server config …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Find everything that is wrong with a configuration, and tell the memory that its models need
    Check {
        /// What to check
        #[command(flatten)]
        source: ConfigSource,
        /// How the result is written: text or json
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
    /// Print the effective configuration as TOML, secrets left out
    Show {
        /// What to show
        #[command(flatten)]
        source: ConfigSource,
        /// Say of every value where it comes from
        #[arg(long)]
        origin: bool,
    },
    /// Print what an edit would change while the server runs, and what would start anew
    Diff {
        /// The active file
        old: PathBuf,
        /// The edited one
        new: PathBuf,
    },
    /// Print the JSON Schema of the file
    Schema,
    /// Print an annotated file with every key
    Init,
    /// Print every key as a page of Markdown
    Reference,
}

/// What a command looks at: the same that would be served.
#[derive(Debug, Args)]
pub(crate) struct ConfigSource {
    /// The file, as by --config; `-` is standard input
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,

    #[command(flatten)]
    source: Source,
}

impl ConfigSource {
    /// What was typed, for [`crate::config::Config::load`].
    pub(crate) fn into_overrides(self) -> Overrides {
        let typed = self.source.into_overrides(Vec::new());
        Overrides {
            config: typed.config.or(self.file),
            ..typed
        }
    }
}

/// `llama-mcp-server doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// What to look at; without any, the machine alone
    #[command(flatten)]
    pub source: ConfigSource,
    /// Write a report to pass on, without secrets and prompts [default: llama-mcp-server-report.txt]
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "llama-mcp-server-report.txt")]
    pub bundle: Option<PathBuf>,
}

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// `llama-mcp-server worker`: serves one model over pipes. The server starts it, so it is no part of the help.
#[derive(Debug, Parser)]
#[command(name = "llama-mcp-server worker")]
pub(crate) struct WorkerCli {
    /// The server's process; without it a worker finishes what it read when stdin ends
    #[arg(long)]
    pub parent: Option<u32>,
    /// The model's name, for `ps`; it has no other use
    #[arg(long)]
    pub name: Option<String>,
    /// Print what llama.cpp finds on this machine, then exit
    #[arg(long)]
    pub describe: bool,
    /// Check the chat templates on stdin, then exit
    #[arg(long)]
    pub try_templates: bool,
}

/// What the server is run by.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// Path to the GGUF model file
    #[arg(long, value_name = "PATH", help_heading = MODEL)]
    model: Vec<PathBuf>,

    /// TOML file that declares models and all else, instead of --model
    #[arg(long, value_name = "FILE", help_heading = MODEL)]
    config: Option<PathBuf>,

    /// Any key of the file, for example `models.small.n_ctx=8192`; may be repeated
    #[arg(long, value_name = "KEY=VALUE", help_heading = MODEL)]
    set: Vec<String>,

    #[command(flatten)]
    flags: Flags,
}

/// The documented flags: each stands for the key of its name. What they may be is checked with the rest of the
/// configuration, so here all are texts.
#[derive(Debug, Args, Serialize)]
#[command(mut_args(with_default))]
struct Flags {
    /// GPU layers to offload (0 = CPU, 99 = all, auto = what fits)
    #[arg(long = "n_gpu_layers", alias = "n-gpu-layers", value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    n_gpu_layers: Option<String>,

    /// Context window of one call in tokens (0 = what the model was trained for)
    #[arg(long = "n_ctx", alias = "n-ctx", value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    n_ctx: Option<String>,

    /// Batch size for prompt processing
    #[arg(long = "n_batch", alias = "n-batch", value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    n_batch: Option<String>,

    /// CPU threads, at most those this process may use (0 = all of them)
    #[arg(long = "n_threads", alias = "n-threads", value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    n_threads: Option<String>,

    /// Calls that are answered at once
    #[arg(long, value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    parallel: Option<String>,

    /// Calls of one client that may wait beyond those before the model says it is busy
    #[arg(long = "max_queue", alias = "max-queue", value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    max_queue: Option<String>,

    /// MCP tool name [default: chat]
    #[arg(long = "tool_name", alias = "tool-name", value_name = "NAME", help_heading = TOOL)]
    tool_name: Option<String>,

    /// Tokens of an answer at most
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

    /// Repeat penalty (1.0 = off) [default: 1.1; 1.0 with a schema]
    #[arg(long = "repeat_penalty", alias = "repeat-penalty", value_name = "F", help_heading = TOOL, allow_negative_numbers = true)]
    repeat_penalty: Option<String>,

    /// Random seed (-1 = draw one for every call)
    #[arg(long, value_name = "N", help_heading = TOOL, allow_negative_numbers = true)]
    seed: Option<String>,

    /// Suffix appended to the system prompt (e.g. "/think")
    #[arg(long = "prompt_suffix", alias = "prompt-suffix", value_name = "TEXT", help_heading = TOOL, allow_hyphen_values = true)]
    prompt_suffix: Option<String>,

    /// Seconds after which a call ends with what it has [default: none]
    #[arg(long, value_name = "SECONDS", help_heading = TOOL, allow_negative_numbers = true)]
    deadline: Option<String>,

    /// Transport mode: stdio or http
    #[arg(
        long,
        value_name = "MODE",
        help_heading = TRANSPORT,
        hide_possible_values = true
    )]
    transport: Option<String>,

    /// Host to bind HTTP server
    #[arg(long, value_name = "HOST", help_heading = TRANSPORT)]
    host: Option<String>,

    /// Port for HTTP server (0 = a free one)
    #[arg(long, value_name = "PORT", help_heading = TRANSPORT)]
    port: Option<String>,

    /// Bearer token for HTTP authentication; a file or the environment hides it better
    #[arg(long, value_name = "TOKEN", help_heading = TRANSPORT)]
    auth: Option<String>,

    /// File that holds the bearer token
    #[arg(long = "auth_file", alias = "auth-file", value_name = "FILE", help_heading = TRANSPORT, conflicts_with = "auth")]
    auth_file: Option<PathBuf>,

    /// Serve other machines without a token
    #[arg(long = "allow_unauthenticated", alias = "allow-unauthenticated", help_heading = TRANSPORT)]
    allow_unauthenticated: bool,

    /// Names by which clients may reach the server, beside loopback and --host
    #[arg(long = "allowed_hosts", alias = "allowed-hosts", value_name = "HOST,…", help_heading = TRANSPORT, value_delimiter = ',')]
    allowed_hosts: Vec<String>,

    /// Origins whose pages may use the server, beside those on loopback
    #[arg(long = "allowed_origins", alias = "allowed-origins", value_name = "ORIGIN,…", help_heading = TRANSPORT, value_delimiter = ',')]
    allowed_origins: Vec<String>,

    /// Seconds that running calls get to end after SIGTERM
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

impl Source {
    /// What was typed, for [`crate::config::Config::load`].
    pub(crate) fn into_overrides(self, bare_models: Vec<PathBuf>) -> Overrides {
        let flags = serde_json::to_value(self.flags).expect("flags are texts");
        let is_said = |value: &Value| match value {
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
                .filter(|(_, value)| is_said(value))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            set: self.set,
        }
    }
}
