//! The wire between server and worker: one JSON object a line, [`Command`]s to the worker's stdin, [`Event`]s from its
//! stdout.
//!
//! Ids are the server's, never used twice; a command for an unknown id is ignored. The first event is `hello`. What the
//! worker logs goes to its stderr ([`crate::telemetry`]).

pub(crate) mod cpu_lock;
pub(crate) mod driver_cache;
pub(crate) mod environment;
mod launch;
pub(crate) mod machine;
mod sandbox;
pub(crate) mod serve;
pub(crate) mod trials;

use serde::{Deserialize, Serialize};

use crate::engine::shared_prefix::FixedPrompt;
use crate::engine::{CancelReason, EngineError, Request, Stats, Update};
use crate::printable::printable;
pub(crate) use launch::{ContextPlan, CpuLocks, Grant, Launch};

/// First argument of every process that the server starts from its own program.
pub(crate) const WORKER: &str = "worker";

/// Flag of a process that prints the devices that llama.cpp finds, and exits.
pub(crate) const DESCRIBE: &str = "--describe";

/// Flag of a process that checks chat templates, and exits.
pub(crate) const TRY_TEMPLATES: &str = "--try-templates";

/// Names of a worker's threads that neither load nor decode. Their activity does not count as progress of the model.
pub(crate) const HELPER_THREADS: [&str; 5] =
    [COMMANDS, SIGNALS, SHORT_PROMPTS, LONG_PROMPTS, TURNS];

/// Name of the thread that reads commands.
const COMMANDS: &str = "commands";
/// Name of the thread that waits for signals.
const SIGNALS: &str = "signals";
/// Name of the thread that prepares short prompts.
const SHORT_PROMPTS: &str = "short prompts";
/// Name of the thread that prepares long prompts.
const LONG_PROMPTS: &str = "long prompts";
/// Name of the thread that waits for a turn at the CPUs.
const TURNS: &str = "turns";

/// The wire's version: a server and a worker of different builds notice each other.
pub(crate) const WIRE_VERSION: u32 = 4;

/// What the server asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    /// First and once: the model to serve.
    Load(Box<Launch>),
    /// What all calls of a tool begin with, for every tool that has such: kept ready from here on, in the place of what was
    /// told before. No answer comes, and what of it cannot be done is not.
    Warm(Vec<FixedPrompt>),
    /// A call.
    Call {
        /// The server's number for it.
        id: u64,
        /// Whose call it is.
        client: String,
        /// What the client asks for.
        request: Box<Request>,
    },
    /// Ends a call.
    Cancel {
        /// Which.
        id: u64,
        /// Why.
        reason: CancelReason,
    },
    /// Asks for an [`Event::Stats`].
    Stats,
    /// Ends the worker at once, in order.
    Shutdown,
}

impl Command {
    /// What logs call it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Load(_) => "load",
            Self::Warm(_) => "warm",
            Self::Call { .. } => "call",
            Self::Cancel { .. } => "cancel",
            Self::Stats => "stats",
            Self::Shutdown => "shutdown",
        }
    }
}

/// The longest error text that is accepted from another process, in characters.
pub(crate) const MAX_TOLD: usize = 1024;

/// Returns `error` fit for people and their terminals: a process that foreign code can reach wrote it.
pub(crate) fn cleaned(error: EngineError) -> EngineError {
    EngineError {
        kind: error.kind,
        text: printable(&error.text, MAX_TOLD),
        hint: error.hint.map(|hint| printable(&hint, MAX_TOLD)),
    }
}

/// What the worker tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// The first line.
    Hello {
        /// [`WIRE_VERSION`] of the worker.
        version: u32,
    },
    /// Percent of the load.
    Loading(u8),
    /// The model is loaded; calls are served from here on.
    Ready(Ready),
    /// News of a call.
    Call {
        /// The server's number for it.
        id: u64,
        /// The news.
        update: Update,
    },
    /// The model could not be loaded; the worker ends.
    LoadFailed(EngineError),
    /// The answer to [`Command::Stats`]. The thread that decodes sends it between two steps.
    Stats(Stats),
    /// A sign of life of the thread that decodes while it waits for a turn at the CPUs.
    Alive,
    /// The worker received SIGTERM. The server decides whether the worker ends.
    Terminated,
}

/// What a loaded model came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Tokens of one call, after capping.
    pub n_ctx: u32,
    /// Cells of the cache, shared by all calls.
    pub kv_cells: u32,
    /// Whether the GGUF brings a chat template.
    pub has_chat_template: bool,
    /// From the command to here.
    pub load_ms: u64,
}
