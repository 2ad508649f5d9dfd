//! Worker processes, and the wire protocol between them and the server: [`Command`]s on the worker's stdin and [`Event`]s on its stdout,
//! one JSON object per line.
//!
//! The server chooses the ids of calls, and never uses one twice. A command for an unknown id is ignored. The first event is `hello`. The
//! worker writes its log to stderr ([`crate::telemetry`]).

pub(crate) mod cpu_lock;
pub(crate) mod driver_cache;
pub(crate) mod environment;
mod launch;
pub(crate) mod machine;
mod sandbox;
pub(crate) mod serve;
pub(crate) mod spin_count;
pub(crate) mod trials;

use serde::{Deserialize, Serialize};

use crate::engine::shared_prefix::PromptSamples;
use crate::engine::{
    Answer, CallId, CancelReason, EngineError, FinishReason, MAX_ANSWER_BYTES, Request, Stats,
    Update,
};
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

/// Version of the wire protocol. It lets a server and a worker detect that they come from different builds.
pub(crate) const WIRE_VERSION: u32 = 6;

/// Command of the server to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Command {
    /// Loads the model to serve. This is the first command, and is sent once.
    Load(Box<Launch>),
    /// Replaces the shared prefixes of tools that the worker keeps in its cache. No event follows, even if a prefix cannot be prepared.
    Warm(Vec<PromptSamples>),
    /// Starts a call.
    Call {
        /// Id of the call.
        id: CallId,
        /// Client that makes the call.
        client: String,
        /// Request of the client.
        request: Request,
    },
    /// Ends a call.
    Cancel {
        /// Id of the call.
        id: CallId,
        /// Reason for ending the call.
        reason: CancelReason,
    },
    /// Asks for an [`Event::Stats`].
    Stats,
    /// Shuts the worker down at once.
    Shutdown,
}

/// Maximum size of an event, in bytes, without its line ending. The longest events are answers, and JSON escapes one byte of text with at
/// most six.
pub(crate) const MAX_EVENT: usize = 6 * MAX_ANSWER_BYTES + (1 << 20);

/// Returns `update`, whose answer is truncated if it is longer than [`MAX_ANSWER_BYTES`].
fn bounded(mut update: Update) -> Update {
    if let Update::Done(Answer::Generated(generation)) = &mut update
        && generation.text.len() > MAX_ANSWER_BYTES
    {
        let end = generation.text.floor_char_boundary(MAX_ANSWER_BYTES);
        generation.text.truncate(end);
        generation.finish_reason = FinishReason::Length;
    }
    update
}

/// Longest error text that is accepted from another process, in characters.
pub(crate) const MAX_ERROR_CHARS: usize = 1024;

/// Returns `error` with short and printable texts, since a process that foreign code can control wrote it.
pub(crate) fn cleaned(error: EngineError) -> EngineError {
    EngineError {
        kind: error.kind,
        text: printable(&error.text, MAX_ERROR_CHARS),
        hint: error.hint.map(|hint| printable(&hint, MAX_ERROR_CHARS)),
    }
}

/// Event of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// Announces the wire protocol of the worker. This is the first event.
    Hello {
        /// [`WIRE_VERSION`] of the worker.
        version: u32,
    },
    /// The percentage of the load that is done.
    Loading(u8),
    /// The model is loaded, and calls are served.
    Ready(Ready),
    /// Update of a call.
    Call {
        /// Id of the call.
        id: CallId,
        /// Update for the call's client.
        update: Update,
    },
    /// The model could not be loaded; the worker ends.
    LoadFailed(EngineError),
    /// The loaded model cannot be served any longer; the worker ends.
    Failed(EngineError),
    /// The answer to [`Command::Stats`]. The thread that decodes sends it between two steps.
    Stats(Stats),
    /// A sign of life of the thread that decodes while it waits for a turn at the CPUs.
    Alive,
    /// The worker received SIGTERM. The server decides whether the worker ends.
    Terminated,
}

/// Properties of a loaded model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Context of one call in tokens, capped at the trained context.
    pub n_ctx: u32,
    /// Cells of the KV cache, which all calls share.
    pub kv_cells: u32,
    /// Time from the command `load` to this event, in milliseconds.
    pub load_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Generation, Phase, Usage};

    #[test]
    fn the_longest_answer_fits_into_an_event_and_a_longer_one_is_truncated() {
        let answer = |text: String| {
            let update = Update::Done(Answer::Generated(Generation {
                text,
                finish_reason: FinishReason::Stop,
                phase: Phase::Generate,
                still_thinking: false,
                seed: u32::MAX,
                usage: Usage::default(),
            }));
            let id = CallId(u64::MAX);
            let event = Event::Call {
                id,
                update: bounded(update),
            };
            let line = serde_json::to_string(&event).unwrap();
            let Event::Call {
                update: Update::Done(Answer::Generated(generation)),
                ..
            } = event
            else {
                panic!("not an answer")
            };
            (line.len(), generation)
        };
        let (bytes, whole) = answer("\u{1}".repeat(MAX_ANSWER_BYTES));
        assert!(
            bytes > 6 * MAX_ANSWER_BYTES && bytes <= MAX_EVENT,
            "{bytes}"
        );
        assert_eq!(whole.text.len(), MAX_ANSWER_BYTES);
        assert_eq!(whole.finish_reason, FinishReason::Stop);
        let (_, truncated) = answer(format!("x{}", "é".repeat(MAX_ANSWER_BYTES / 2)));
        assert_eq!(truncated.text.len(), MAX_ANSWER_BYTES - 1);
        assert_eq!(truncated.finish_reason, FinishReason::Length);
    }
}
