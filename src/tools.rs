//! The tools of a configuration: name → tool.
//!
//! A tool turns arguments into a request to a model, and the model's answer into a [`ToolOutput`]. [`crate::mcp`] defines how both
//! look on the wire.

pub(crate) mod answering;
pub(crate) mod arguments;
pub(crate) mod chat;
mod conversation;
pub(crate) mod instructions;
pub(crate) mod shared_prefix;
pub(crate) mod structured;
mod token_limit;
pub(crate) mod typed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::watch;

pub(crate) use crate::backend::Progress;
use crate::config::Config;
use crate::config::tool::{ToolBody, ToolConfig};
use crate::engine::FinishReason;
use crate::error_code::{Coded, ErrorCode};
use crate::fair::MessagePermits;
use crate::registry::residency::Refusal;
use crate::registry::{Edition, Registry};
use crate::telemetry::call::{self, CallEnd, CallMeter, Outcome};
use answering::{Answering, GenerationMeta};
use chat::ChatTool;
use typed::TypedTool;

/// The description of a tool for clients.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolDescription {
    /// Name, which matches `^[a-zA-Z0-9_-]{1,64}$`.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// Text for the model that chooses a tool.
    pub description: String,
    /// JSON Schema of the arguments, an object.
    pub input_schema: Value,
    /// JSON Schema of the answer; `None` if the answer is free text.
    pub output_schema: Option<Value>,
    /// Longest answer, in characters.
    pub max_chars: u32,
}

/// The result of a call: an answer or an error.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ToolOutput {
    /// The model answered, if only in part.
    Answer {
        /// The answer as text.
        text: String,
        /// The answer as an object; `None` if neither the tool nor the call has a schema for it.
        structured: Option<Value>,
        /// Metadata of the answer.
        generation: GenerationMeta,
    },
    /// The call failed, with a message on which the caller can act.
    Error {
        /// The code and the message.
        error: Coded,
        /// Metadata of the unusable answer; `None` if there is no answer.
        generation: Option<GenerationMeta>,
    },
}

impl From<Coded> for ToolOutput {
    /// Makes the output of a call that failed without an answer.
    fn from(error: Coded) -> Self {
        Self::Error {
            error,
            generation: None,
        }
    }
}

impl ToolOutput {
    /// Returns the end of the call for metrics and logs.
    fn end(&self) -> CallEnd {
        let (end, generation) = match self {
            Self::Answer { generation, .. } => {
                let outcome = match generation.finish_reason {
                    FinishReason::Stop => Outcome::Stop,
                    FinishReason::Length => Outcome::Length,
                    FinishReason::Deadline => Outcome::Deadline,
                    FinishReason::Cancelled => Outcome::Cancelled,
                };
                (CallEnd::answered(outcome), Some(generation))
            }
            Self::Error { error, generation } => (CallEnd::failed(error.code), generation.as_ref()),
        };
        match generation.map(|generation| &generation.usage) {
            Some(usage) => end.with_tokens(usage.prompt_tokens, usage.completion_tokens),
            None => end,
        }
    }
}

/// The caller of a tool, and the channel for progress.
#[derive(Debug, Clone)]
pub(crate) struct ToolCall {
    /// Name of the client, for fair queues.
    pub client: String,
    /// Name of the client's bearer token.
    pub token: Option<String>,
    /// Time at which the call arrived.
    pub received: tokio::time::Instant,
    /// Channel for the progress of the call.
    pub progress: watch::Sender<Progress>,
    /// Permits that the message holds until its arguments are read.
    pub permits: MessagePermits,
}

/// A callable tool of one configuration.
#[derive(Debug)]
pub(crate) enum Tool {
    /// A tool that continues a conversation: a model's own, or a profile.
    Chat(Box<ChatTool>),
    /// A tool that fills the template of a prompt with its arguments.
    Typed(Arc<TypedTool>),
}

impl Tool {
    /// Makes a tool from its configuration. Returns `None` if its template does not compile; the check of the configuration reports that.
    fn new(config: &ToolConfig, answering: Answering) -> Option<Self> {
        match &config.body {
            ToolBody::Chat => Some(Self::Chat(Box::new(ChatTool::new(config, answering)))),
            ToolBody::Prompt(prepared) => {
                let tool = TypedTool::new(config, prepared, answering);
                tool.inspect_err(|faults| tracing::error!(tool = config.name, "{faults}"))
                    .ok()
                    .map(|tool| Self::Typed(Arc::new(tool)))
            }
        }
    }

    /// Returns the tool's name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Chat(tool) => tool.name(),
            Self::Typed(tool) => tool.name(),
        }
    }

    fn description(&self) -> ToolDescription {
        match self {
            Self::Chat(tool) => tool.description(),
            Self::Typed(tool) => tool.description(),
        }
    }

    /// Answers a call and counts it. Dropping the future cancels the call.
    ///
    /// # Errors
    /// Returns [`Superseded`] if an edit replaced the model before it accepted the call.
    pub(crate) async fn call(
        &self,
        arguments: Arguments,
        call: ToolCall,
    ) -> Result<ToolOutput, Superseded> {
        let meter = CallMeter::begin(self.name(), self.model(), call.token.as_deref());
        let output = match self {
            Self::Chat(tool) => tool.call(arguments, call).await,
            Self::Typed(tool) => tool.call(arguments, call).await,
        };
        match &output {
            Ok(output) => meter.end(output.end()),
            Err(Superseded) => meter.forget(),
        }
        output
    }

    fn model(&self) -> &str {
        match self {
            Self::Chat(tool) => tool.model(),
            Self::Typed(tool) => tool.model(),
        }
    }
}

/// All tools of one configuration.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    tools: Vec<Arc<Tool>>,
    /// Descriptions of `tools`, created once because every `initialize` and `tools/list` reads them.
    descriptions: Vec<ToolDescription>,
    /// Tool names by alias.
    aliases: BTreeMap<String, String>,
    /// Names of tools that edits of the configuration removed.
    removed: BTreeSet<String>,
    /// Whether results of calls include `_meta`.
    result_meta: bool,
}

/// The error of a call whose tool was edited while the call waited for its model. The call must be retried with the new catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Superseded;

impl Superseded {
    /// Returns the output of a call that is not retried again, and logs it.
    pub(crate) fn refused() -> ToolOutput {
        call::refused(ErrorCode::Busy);
        let error = ErrorCode::Busy.says(Refusal::Superseded.to_string());
        error.into()
    }
}

impl Catalog {
    /// Creates the tools of `config`, which call the models of `registry`. `editions` has the edition of each model, in the same order.
    pub(crate) fn new(config: &Config, editions: &[Edition], registry: &Arc<Registry>) -> Self {
        let models = || config.models.iter().zip(editions.iter().copied());
        let tool = |tool: &ToolConfig| {
            let (model, edition) = models().find(|(model, _)| model.name == tool.model)?;
            let log_prompts = config.log.log_prompts;
            let answering = Answering::new(tool, model, edition, log_prompts, registry);
            Tool::new(tool, answering).map(Arc::new)
        };
        let own: Vec<ToolConfig> = models()
            .filter_map(|(model, _)| ToolConfig::own_of(model))
            .collect();
        let aliases = config.models.iter().flat_map(|model| {
            let name = model.tool_name.iter();
            name.flat_map(|name| {
                model
                    .aliases
                    .iter()
                    .map(|alias| (alias.clone(), name.clone()))
            })
        });
        let tools: Vec<_> = own.iter().chain(&config.tools).filter_map(tool).collect();
        Self {
            descriptions: tools.iter().map(|tool| tool.description()).collect(),
            tools,
            aliases: aliases.collect(),
            removed: BTreeSet::new(),
            result_meta: config.result_meta,
        }
    }

    /// Records the tools of `former`, the catalog before an edit, that are missing here as removed.
    #[must_use]
    pub(crate) fn after(mut self, former: &Self) -> Self {
        let names = former.tools.iter().map(|tool| tool.name().to_owned());
        self.removed = former.removed.iter().cloned().chain(names).collect();
        let present: BTreeSet<&str> = self.tools.iter().map(|tool| tool.name()).collect();
        self.removed.retain(|name| !present.contains(name.as_str()));
        self
    }

    /// Returns whether results of calls include `_meta`.
    pub(crate) fn has_result_meta(&self) -> bool {
        self.result_meta
    }

    /// Returns whether an edit removed the tool `name`.
    pub(crate) fn was_removed(&self, name: &str) -> bool {
        self.removed.contains(name)
    }

    /// Returns the descriptions of the tools for clients, in a fixed order.
    pub(crate) fn descriptions(&self) -> &[ToolDescription] {
        &self.descriptions
    }

    /// Returns the name of each tool with the name of its model.
    pub(crate) fn with_models(&self) -> Vec<(&str, &str)> {
        let tools = self.tools.iter();
        tools.map(|tool| (tool.name(), tool.model())).collect()
    }

    /// Returns the names of the tools.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.tools.iter().map(|tool| tool.name()).collect()
    }

    /// Returns the tool that has `name` as its name or as an alias.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Tool>> {
        let name = self.aliases.get(name).map_or(name, String::as_str);
        self.tools.iter().find(|tool| tool.name() == name).cloned()
    }
}

/// The arguments of a call, not yet checked.
pub(crate) type Arguments = Map<String, Value>;
