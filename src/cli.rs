//! The command line: flags exactly as typed, no defaults, no I/O.
//!
//! Flags are spelled as documented, with underscores; the spelling with hyphens is an alias.

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};

use crate::config::Overrides;

const MODEL: &str = "Model";
const TRANSPORT: &str = "Transport; all but the mode count for http alone";
const TOOL: &str = "Tool, and defaults that a call may override";

/// Local GGUF models as MCP tools, by llama.cpp.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    long_about = None,
    override_usage = "llama-mcp-server --model <PATH> [OPTIONS]",
    after_help = "Exit codes: 0 ended in order, 1 failed while running, 2 usage or configuration. RUST_LOG sets what is logged, to stderr. LLAMA_MCP_AUTH is the bearer token where no flag gives one."
)]
pub struct Cli {
    /// How to serve.
    #[command(flatten)]
    pub serve: Serve,
}

/// `llama-mcp-server worker`: serves one model over pipes. The server starts it, so it is no part of the help.
#[derive(Debug, Parser)]
#[command(name = "llama-mcp-server worker")]
pub struct WorkerCli {
    /// The server's process; without it a worker finishes what it read when stdin ends
    #[arg(long)]
    pub parent: Option<u32>,
}

/// The first argument of a worker.
pub const WORKER: &str = "worker";

/// How clients connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// By standard input and output.
    Stdio,
    /// By Streamable HTTP.
    Http,
}

/// The flags of the server.
#[derive(Debug, Args)]
pub struct Serve {
    /// Path to the GGUF model file (required)
    #[arg(long, value_name = "PATH", help_heading = MODEL)]
    model: Vec<PathBuf>,

    /// The same as --model
    #[arg(value_name = "MODEL", hide = true)]
    positional_model: Vec<PathBuf>,

    /// GPU layers to offload (0 = CPU, 99 = all) [default: 99]
    #[arg(long = "n_gpu_layers", alias = "n-gpu-layers", value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    n_gpu_layers: Option<i64>,

    /// Context window of one call in tokens (0 = what the model was trained for) [default: 4096]
    #[arg(long = "n_ctx", alias = "n-ctx", value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    n_ctx: Option<i64>,

    /// Batch size for prompt processing [default: 2048]
    #[arg(long = "n_batch", alias = "n-batch", value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    n_batch: Option<i64>,

    /// CPU threads, at most those this process may use (0 = all of them) [default: 4]
    #[arg(long = "n_threads", alias = "n-threads", value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    n_threads: Option<i64>,

    /// Calls that are answered at once [default: 4]
    #[arg(long, value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    parallel: Option<i64>,

    /// Calls that may wait beyond those before the model says it is busy [default: 64]
    #[arg(long = "max_queue", alias = "max-queue", value_name = "N", help_heading = MODEL, allow_negative_numbers = true)]
    max_queue: Option<i64>,

    /// MCP tool name [default: chat]
    #[arg(long = "tool_name", alias = "tool-name", value_name = "NAME", help_heading = TOOL)]
    tool_name: Option<String>,

    /// Tokens of an answer at most [default: 2048]
    #[arg(long = "max_tokens", alias = "max-tokens", value_name = "N", help_heading = TOOL, allow_negative_numbers = true)]
    max_tokens: Option<i64>,

    /// Temperature (0.0 = greedy) [default: 0.7]
    #[arg(long, value_name = "F", help_heading = TOOL, allow_negative_numbers = true)]
    temperature: Option<f64>,

    /// Top-p (nucleus sampling) [default: 0.9]
    #[arg(long = "top_p", alias = "top-p", value_name = "F", help_heading = TOOL, allow_negative_numbers = true)]
    top_p: Option<f64>,

    /// Top-k sampling (0 = off) [default: 40]
    #[arg(long = "top_k", alias = "top-k", value_name = "N", help_heading = TOOL, allow_negative_numbers = true)]
    top_k: Option<i64>,

    /// Min-p sampling (0 = off) [default: 0]
    #[arg(long = "min_p", alias = "min-p", value_name = "F", help_heading = TOOL, allow_negative_numbers = true)]
    min_p: Option<f64>,

    /// Repeat penalty (1.0 = off) [default: 1.1]
    #[arg(long = "repeat_penalty", alias = "repeat-penalty", value_name = "F", help_heading = TOOL, allow_negative_numbers = true)]
    repeat_penalty: Option<f64>,

    /// Random seed (-1 = draw one for every call) [default: 42]
    #[arg(long, value_name = "N", help_heading = TOOL, allow_negative_numbers = true)]
    seed: Option<i64>,

    /// Suffix appended to the system prompt (e.g. "/think")
    #[arg(long = "prompt_suffix", alias = "prompt-suffix", value_name = "TEXT", help_heading = TOOL, allow_hyphen_values = true)]
    prompt_suffix: Option<String>,

    /// Seconds after which a call ends with what it has [default: none]
    #[arg(long, value_name = "SECONDS", help_heading = TOOL, allow_negative_numbers = true)]
    deadline: Option<f64>,

    /// Transport mode: stdio or http [default: stdio]
    #[arg(
        long,
        value_name = "MODE",
        help_heading = TRANSPORT,
        hide_possible_values = true
    )]
    transport: Option<Transport>,

    /// Host to bind HTTP server [default: 127.0.0.1]
    #[arg(long, value_name = "HOST", help_heading = TRANSPORT)]
    host: Option<String>,

    /// Port for HTTP server (0 = a free one) [default: 8080]
    #[arg(long, value_name = "PORT", help_heading = TRANSPORT)]
    port: Option<u16>,

    /// Bearer token for HTTP authentication; a file or the environment hides it better
    #[arg(long, value_name = "TOKEN", help_heading = TRANSPORT, allow_hyphen_values = true)]
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

    /// Seconds that running calls get to end after SIGTERM [default: 10]
    #[arg(long = "drain_time", alias = "drain-time", value_name = "SECONDS", help_heading = TRANSPORT, allow_negative_numbers = true)]
    drain_time: Option<f64>,
}

impl Serve {
    /// What was typed, for [`crate::config::Config::resolve`].
    pub fn into_overrides(self) -> Overrides {
        Overrides {
            models: [self.model, self.positional_model].concat(),
            n_gpu_layers: self.n_gpu_layers,
            n_ctx: self.n_ctx,
            n_batch: self.n_batch,
            n_threads: self.n_threads,
            parallel: self.parallel,
            max_queue: self.max_queue,
            tool_name: self.tool_name,
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            seed: self.seed,
            prompt_suffix: self.prompt_suffix,
            deadline: self.deadline,
            is_http: self.transport == Some(Transport::Http),
            host: self.host,
            port: self.port,
            auth: self.auth,
            auth_file: self.auth_file,
            allow_unauthenticated: self.allow_unauthenticated,
            allowed_hosts: self.allowed_hosts,
            allowed_origins: self.allowed_origins,
            drain_time: self.drain_time,
        }
    }
}
