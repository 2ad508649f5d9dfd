//! The engine's interface: requests to a model, and its updates and answers.
//!
//! The types here cross the pipe between server and worker, so they are plain and serialisable. The modules below decode, and run only in
//! workers, with few exceptions: the server uses the limit of the queue ([`queue::limits`]), and checks templates, schemas and memory in
//! advance ([`template`], [`grammar`], [`limits`]).

pub(crate) mod bias_key;
pub(crate) mod chunk_size;
pub(crate) mod compaction;
pub(crate) mod decoder;
pub(crate) mod device;
mod error;
#[cfg_attr(
    not(any(test, feature = "llama")),
    expect(dead_code, reason = "only llama.cpp's sampler uses grammars")
)]
pub(crate) mod grammar;
pub(crate) mod limits;
#[cfg_attr(not(feature = "llama"), path = "engine/no_llama.rs")]
pub(crate) mod llama;
pub(crate) mod lookup;
pub(crate) mod prefix;
pub(crate) mod prompt;
pub(crate) mod queue;
pub(crate) mod scheduler;
pub(crate) mod shared_prefix;
pub(crate) mod template;
pub(crate) mod text;
pub(crate) mod thinking;
pub(crate) mod threaded;
pub(crate) mod timing;
pub(crate) mod token;
pub(crate) mod vocabulary;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use crate::config::SamplingParams;
pub(crate) use crate::config::file::ThinkingOutput;
pub use error::EngineError;
pub(crate) use error::EngineErrorKind;

/// The author of a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The operator, who gives instructions for the whole conversation.
    System,
    /// The user, who asks.
    User,
    /// The model, which answered in an earlier turn.
    Assistant,
}

impl Role {
    /// Returns the name of the role in calls and templates.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Author of the message.
    pub role: Role,
    /// Text of the message. Control tokens in it are plain text.
    pub content: String,
}

impl Message {
    /// Creates a message of `role`.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
        }
    }
}

/// The content of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Conversation {
    /// Messages in order, at least one.
    pub messages: Vec<Message>,
    /// Handling of the model's reasoning.
    #[serde(default)]
    pub thinking: ThinkingOutput,
    /// JSON Schema that the answer follows, as enforced by [`crate::schema`]. Reasoning may come before the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<Value>,
    /// Maximum number of tokens of reasoning. `None` means the default limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking_budget: Option<u32>,
    /// Additional variables for the chat template.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub template_arguments: Map<String, Value>,
}

impl Conversation {
    /// Returns whether the model may reason before it answers.
    pub(crate) fn may_think(&self) -> bool {
        self.thinking != ThinkingOutput::Off && self.thinking_budget != Some(0)
    }

    /// Returns the size of the conversation, in bytes of text and JSON: an estimate of the work that its prompt takes.
    pub(crate) fn bytes(&self) -> usize {
        let messages = self.messages.iter().map(|message| message.content.len());
        let schema = self.json_schema.as_ref().map_or(0, bytes_of);
        let arguments = self.template_arguments.iter();
        let arguments = arguments.map(|(name, value)| name.len() + bytes_of(value));
        messages.chain([schema]).chain(arguments).sum()
    }
}

/// Returns the approximate length of `value` as JSON, in bytes.
fn bytes_of(value: &Value) -> usize {
    const OTHER: usize = 4;
    match value {
        Value::String(text) => OTHER + text.len(),
        Value::Array(items) => OTHER + items.iter().map(bytes_of).sum::<usize>(),
        Value::Object(members) => {
            let members = members.iter();
            OTHER
                + members
                    .map(|(name, value)| name.len() + bytes_of(value))
                    .sum::<usize>()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => OTHER,
    }
}

/// A request for a generated text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GenerateRequest {
    /// Conversation to continue.
    #[serde(flatten)]
    pub conversation: Conversation,
    /// Maximum number of tokens of the answer, at least 1. The context may allow fewer.
    pub max_tokens: u32,
    /// Sampling parameters.
    pub sampling: SamplingParams,
    /// Stop strings: texts that end the answer and are not part of it. No text is empty.
    pub stop: Vec<String>,
}

/// Id of a call of a worker. The server chooses it, and never uses one twice for the same worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct CallId(pub u64);

/// A request to a model. Embedding and reranking will be further kinds, each with a kind of [`Answer`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Generates a text.
    Generate(Arc<GenerateRequest>),
}

/// The result of a [`Request`] of the same kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// A generated text.
    Generated(Generation),
}

/// The reason why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FinishReason {
    /// The model ended its answer, or wrote a stop string.
    Stop,
    /// The answer reached `max_tokens` or the end of the context.
    Length,
    /// The deadline of the call passed.
    Deadline,
    /// The call was cancelled.
    Cancelled,
}

/// The reason why the server ends a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CancelReason {
    /// No client waits for the answer.
    Cancelled,
    /// The deadline of the call passed. The text so far is still returned.
    Deadline,
}

impl From<CancelReason> for FinishReason {
    fn from(reason: CancelReason) -> Self {
        match reason {
            CancelReason::Cancelled => Self::Cancelled,
            CancelReason::Deadline => Self::Deadline,
        }
    }
}

/// The phase in which a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// The model was loading.
    Load,
    /// The call waited for a sequence or for cells.
    Queue,
    /// The prompt was being decoded.
    Prefill,
    /// The answer was being generated.
    Generate,
}

/// Tokens and times of one call. Times are wall-clock times, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the prompt that came from the prefix cache.
    pub cached_tokens: u32,
    /// Tokens of the answer and its reasoning, without the end token.
    pub completion_tokens: u32,
    /// Tokens of reasoning, which `completion_tokens` includes.
    pub thinking_tokens: u32,
    /// Tokens that were forced by the schema of the answer or by a marker of reasoning, not sampled. `completion_tokens` includes them.
    pub forced_tokens: u32,
    /// Draft tokens, taken from the prompt and the answer.
    pub drafted_tokens: u32,
    /// Draft tokens that the model accepted. `completion_tokens` includes them.
    pub accepted_tokens: u32,
    /// Time in queues: for memory that other models took, and for a sequence and its cells.
    pub queue_ms: u64,
    /// Time until the model was loaded.
    pub load_ms: u64,
    /// Time from admission to the first sampled token.
    pub prefill_ms: u64,
    /// Time from the first sampled token to the end.
    pub decode_ms: u64,
}

impl Usage {
    /// Returns the speed of prefill, in tokens a second without the cached ones. Returns `None` if prefill did not finish or took no
    /// measurable time.
    pub(crate) fn prompt_speed(&self) -> Option<f64> {
        let decoded = self.prompt_tokens.saturating_sub(self.cached_tokens);
        per_second(decoded, self.prefill_ms).filter(|_| self.completion_tokens > 0)
    }

    /// Returns the speed of generation, in tokens a second. Returns `None` if the answer is too short to measure.
    pub(crate) fn generation_speed(&self) -> Option<f64> {
        // The time begins when the first token is sampled.
        per_second(self.completion_tokens.saturating_sub(1), self.decode_ms)
    }
}

fn per_second(tokens: u32, millis: u64) -> Option<f64> {
    let seconds = Duration::from_millis(millis).as_secs_f64();
    (tokens > 0 && millis > 0).then(|| f64::from(tokens) / seconds)
}

/// Maximum size of the text of an answer, in bytes. A million tokens of ordinary text fit.
pub(crate) const MAX_ANSWER_BYTES: usize = 4 << 20;

/// A generated answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Generation {
    /// Text of the answer, without reasoning, stop string and control tokens.
    pub text: String,
    /// Reason why the generation ended.
    pub finish_reason: FinishReason,
    /// Phase in which the generation ended.
    pub phase: Phase,
    /// Whether the generation ended inside a block of reasoning.
    pub still_thinking: bool,
    /// Seed of the sampler.
    pub seed: u32,
    /// Tokens and times.
    pub usage: Usage,
}

impl Generation {
    /// Returns whether the text has the maximum size, so that it was truncated there.
    pub(crate) fn has_maximum_size(&self) -> bool {
        // Truncation keeps whole characters, of at most four bytes.
        self.text.len() + 3 >= MAX_ANSWER_BYTES
    }
}

/// An event of one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Update {
    /// The position in the queue has changed. The next call to be admitted has position 1.
    Queued(usize),
    /// The preparation of the prompt has begun (`true`) or ended. It runs foreign code, which may crash the worker.
    Preparing(bool),
    /// The call has a sequence. If the worker dies later, the call is not retried.
    Admitted,
    /// `done` of the prompt's `total` tokens are decoded.
    Prefill {
        /// Decoded tokens, those from the cache included.
        done: u32,
        /// Tokens of the prompt.
        total: u32,
    },
    /// Number of tokens of reasoning so far.
    Thinking(u32),
    /// Text to append to the answer.
    Delta(String),
    /// The call has ended with an answer. No update follows.
    Done(Answer),
    /// The call has failed. No update follows.
    Failed(EngineError),
}

/// Statistics of a worker, for metrics and the status only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// Number of calls that have a sequence.
    pub active: usize,
    /// Number of queued calls.
    pub waiting: usize,
    /// Number of KV cache cells that are reserved for active calls.
    pub reserved_cells: u32,
    /// Number of all KV cache cells.
    pub kv_cells: u32,
    /// Number of shared prefixes of tools in the cache.
    #[serde(default)]
    pub warm: usize,
    /// Number of threads that decode, at most the configured number.
    #[serde(default)]
    pub n_threads: usize,
}
