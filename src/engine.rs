//! The engine's seam: what is asked of a model and what comes back.
//!
//! Data types only, and all of them cross the pipe between server and worker, so each is plain and serialisable. The
//! code that decodes lies in the modules below and runs in the worker process alone; the server's layers use the
//! types here, how many calls may wait ([`queue::limits`]), and what tells beforehand whether a template, a schema or a memory
//! limit will do ([`template`], [`grammar`], [`limits`]).

pub(crate) mod chunk_size;
pub(crate) mod compaction;
pub(crate) mod decoder;
pub(crate) mod device;
#[cfg_attr(
    not(any(test, feature = "llama")),
    expect(dead_code, reason = "only the sampler of llama.cpp follows grammars")
)]
pub(crate) mod grammar;
pub(crate) mod limits;
#[cfg_attr(not(feature = "llama"), path = "engine/no_llama.rs")]
pub(crate) mod llama;
pub(crate) mod prefix;
pub(crate) mod prompt;
pub(crate) mod queue;
pub(crate) mod scheduler;
pub(crate) mod shared_prefix;
pub(crate) mod template;
pub(crate) mod text;
pub(crate) mod thinking;
pub(crate) mod timing;
pub(crate) mod token;
pub(crate) mod vocabulary;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use limits::ContextSize;

use crate::threads::SystemLimit;

pub(crate) use crate::config::SamplingParams;
pub(crate) use crate::config::file::ThinkingOutput;

/// Who speaks in a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Standing instructions.
    System,
    /// The one who asks.
    User,
    /// The model, in an earlier turn.
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
    /// Who speaks.
    pub role: Role,
    /// What is said; never parsed for control tokens.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
        }
    }
}

/// What a prompt is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Conversation {
    /// Not empty.
    pub messages: Vec<Message>,
    /// What becomes of thinking.
    #[serde(default)]
    pub thinking: ThinkingOutput,
    /// JSON Schema of the answer, checked by [`crate::schema`]. Reasoning may come before the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<Value>,
    /// Most tokens of reasoning; `None` is the default limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking_budget: Option<u32>,
    /// Variables of the chat template.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub template_arguments: Map<String, Value>,
}

impl Conversation {
    /// Whether the model may reason before it answers.
    pub(crate) fn may_think(&self) -> bool {
        self.thinking != ThinkingOutput::Off && self.thinking_budget != Some(0)
    }

    /// Returns the bytes of its texts, its schema and its variables: a measure of the work that they are.
    pub(crate) fn bytes(&self) -> usize {
        let messages = self.messages.iter().map(|message| message.content.len());
        let schema = self.json_schema.as_ref().map_or(0, bytes_of);
        let arguments = self.template_arguments.iter();
        let arguments = arguments.map(|(name, value)| name.len() + bytes_of(value));
        messages.chain([schema]).chain(arguments).sum()
    }
}

/// Returns about as many bytes as `value` has as JSON.
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

/// One call of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GenerateRequest {
    /// What is asked.
    #[serde(flatten)]
    pub conversation: Conversation,
    /// At least 1; cut to what the context leaves.
    pub max_tokens: u32,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Texts that end the answer and are not part of it; none is empty.
    pub stop: Vec<String>,
}

/// Work for a model. Embedding and ranking will be further kinds, each with its kind of [`Answer`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Writes a text.
    Generate(GenerateRequest),
}

/// Result of a [`Request`], of the same kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// A text.
    Generated(Generation),
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FinishReason {
    /// The model ended its answer, or a stop string was met.
    Stop,
    /// `max_tokens`, or the context was full.
    Length,
    /// The call's deadline passed.
    Deadline,
    /// The caller asked for the end.
    Cancelled,
}

/// How a call is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CancelReason {
    /// Nobody waits for the answer any more.
    Cancelled,
    /// The time is up; what there is of the answer is wanted.
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

/// Where a call was when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// The model was being loaded.
    Load,
    /// It waited for a free sequence or for cells.
    Queue,
    /// Its prompt was being read.
    Prefill,
    /// It was writing.
    Generate,
}

/// Counts and times of one call. Times are milliseconds of wall clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// How many of them came from the cache.
    pub cached_tokens: u32,
    /// Tokens of the answer and its reasoning, without the end token.
    pub completion_tokens: u32,
    /// How many of them were spent inside thinking blocks.
    pub thinking_tokens: u32,
    /// Waiting for room beside other models, for a sequence and for cells.
    pub queue_ms: u64,
    /// Waiting for the model to be loaded.
    pub load_ms: u64,
    /// From admission to the first sampled token.
    pub prefill_ms: u64,
    /// From the first sampled token to the end.
    pub decode_ms: u64,
}

impl Usage {
    /// Tokens a second at which what did not come from the cache was read of the prompt; none where it was not read to its end, or
    /// in no time.
    pub(crate) fn prompt_speed(&self) -> Option<f64> {
        let read = self.prompt_tokens.saturating_sub(self.cached_tokens);
        per_second(read, self.prefill_ms).filter(|_| self.completion_tokens > 0)
    }

    /// Tokens a second at which the answer was written; none where it is too short to tell.
    pub(crate) fn generation_speed(&self) -> Option<f64> {
        // The first token is there when the time begins.
        per_second(self.completion_tokens.saturating_sub(1), self.decode_ms)
    }
}

fn per_second(tokens: u32, millis: u64) -> Option<f64> {
    let seconds = Duration::from_millis(millis).as_secs_f64();
    (tokens > 0 && millis > 0).then(|| f64::from(tokens) / seconds)
}

/// The end of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Generation {
    /// The answer, without thinking, stop string and control tokens.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Where it was when it ended.
    pub phase: Phase,
    /// The model was still inside a thinking block.
    pub still_thinking: bool,
    /// The seed that was used.
    pub seed: u32,
    /// Counts and times.
    pub usage: Usage,
}

/// News of one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Update {
    /// It waits; 1 is next.
    Queued(usize),
    /// Whether its prompt is being rendered and tokenised just now: foreign code over foreign text.
    Preparing(bool),
    /// It has a sequence: from here on it is not repeated when the worker dies.
    Admitted,
    /// `done` of the prompt's `total` tokens are decoded.
    Prefill {
        /// Decoded tokens, those from the cache included.
        done: u32,
        /// Tokens of the prompt.
        total: u32,
    },
    /// Tokens that it has spent on thinking, while it thinks.
    Thinking(u32),
    /// New text of the answer.
    Delta(String),
    /// The last update: the answer.
    Done(Answer),
    /// The last update: it failed.
    Failed(EngineError),
}

/// Counts for people; no code decides by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// Calls that have a sequence.
    pub active: usize,
    /// Calls that wait for one.
    pub waiting: usize,
    /// Reserved cells.
    pub reserved_cells: u32,
    /// All cells.
    pub kv_cells: u32,
    /// Fixed prompts that are kept ready.
    #[serde(default)]
    pub warm: usize,
}

/// What kind of thing went wrong in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineErrorKind {
    /// The model could not be loaded.
    Load,
    /// The queue is full.
    Busy,
    /// The chat template refused the messages, or is broken.
    Template,
    /// The prompt does not fit the context.
    ContextOverflow,
    /// A schema cannot be enforced.
    Grammar,
    /// llama.cpp failed in the middle of the work.
    Decode,
    /// The system refuses to start threads.
    SystemLimit,
}

impl From<SystemLimit> for EngineError {
    fn from(limit: SystemLimit) -> Self {
        Self::new(EngineErrorKind::SystemLimit, limit.to_string())
    }
}

/// An error of the engine as people read it; it crosses the pipe as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct EngineError {
    /// For code that must tell errors apart.
    pub kind: EngineErrorKind,
    /// The thing and the cause.
    pub text: String,
    /// The way out, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl EngineError {
    /// An error of `kind` without a hint.
    pub fn new(kind: EngineErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            hint: None,
        }
    }

    /// Returns the error of a prompt that does not fit `context`; `tokens` is its length in words.
    pub fn overflow(tokens: &str, context: ContextSize) -> Self {
        let text = format!(
            "the prompt has {tokens} tokens, the model's context holds {}, the answer included",
            context.n_ctx
        );
        Self::new(EngineErrorKind::ContextOverflow, text)
            .hint(format!("shorten the text, or {}", context.way_out()))
    }

    /// The same with the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
