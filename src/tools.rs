//! The tools of a configuration: name → tool.
//!
//! A tool turns arguments into a call of a model and its result into a [`ToolOutput`]; how these look on the wire is the
//! business of [`crate::mcp`].

pub(crate) mod answering;
pub(crate) mod arguments;
pub(crate) mod chat;
mod conversation;
pub(crate) mod instructions;
pub(crate) mod shared_prefix;
pub(crate) mod structured;
pub(crate) mod typed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::watch;

pub(crate) use crate::backend::Progress;
use crate::config::Config;
use crate::config::tool::{ToolBody, ToolConfig};
use crate::error_code::ErrorCode;
use crate::fair::MessagePermits;
use crate::registry::residency::Refusal;
use crate::registry::{Edition, Registry};
use crate::telemetry::call::{self, CallEnd, CallMeter, Outcome};
use answering::{Answering, GenerationMeta};
use chat::ChatTool;
use typed::TypedTool;

/// What a client is told of a tool.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolDescription {
    /// `^[a-zA-Z0-9_-]{1,64}$`.
    pub name: String,
    /// For people.
    pub title: String,
    /// For the model that chooses among tools.
    pub description: String,
    /// A JSON Schema of type object.
    pub input_schema: Value,
    /// Of the structured answer, where there is one.
    pub output_schema: Option<Value>,
    /// Characters that an answer may have.
    pub max_chars: u32,
}

/// What a tool gives back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolOutput {
    /// The answer, or what went wrong and the way out.
    pub text: String,
    /// The same as an object, where the tool has an output schema, or the call one.
    pub structured: Option<Value>,
    /// What kind of error the text is; none where it is an answer.
    pub error: Option<ErrorCode>,
    /// How it came about, where the model was asked.
    pub generation: Option<GenerationMeta>,
    /// How the call ended, for the counts.
    pub outcome: Outcome,
}

impl ToolOutput {
    /// Something that the caller can read and act on.
    pub(crate) fn error(code: ErrorCode, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            structured: None,
            error: Some(code),
            generation: None,
            outcome: match code {
                ErrorCode::Busy => Outcome::Busy,
                _ => Outcome::Error,
            },
        }
    }

    /// How the call ended, for counts and logs.
    fn end(&self) -> CallEnd {
        let generation = self.generation.as_ref();
        CallEnd {
            outcome: self.outcome,
            error: self.error,
            prompt_tokens: generation.map(|generation| generation.usage.prompt_tokens),
            completion_tokens: generation.map(|generation| generation.usage.completion_tokens),
        }
    }
}

/// Where a call comes from and where its progress goes.
#[derive(Debug, Clone)]
pub(crate) struct ToolCall {
    /// Whose call it is.
    pub client: String,
    /// Name of the caller's token.
    pub token: Option<String>,
    /// When it arrived.
    pub received: tokio::time::Instant,
    /// Its progress.
    pub progress: watch::Sender<Progress>,
    /// Permits that its message holds until its arguments have been read.
    pub permits: MessagePermits,
}

/// A tool.
#[derive(Debug)]
pub(crate) enum Tool {
    /// A tool that continues a conversation: a model's own, or a profile.
    Chat(Box<ChatTool>),
    /// One that is made of a prompt.
    Typed(Arc<TypedTool>),
}

impl Tool {
    /// Makes a tool from its configuration. Returns `None` if its template does not compile; the check of the configuration reports that.
    fn new(config: &ToolConfig, answering: Answering) -> Option<Self> {
        match &config.body {
            ToolBody::Chat => Some(Self::Chat(Box::new(ChatTool::new(config, answering)))),
            ToolBody::Prompt(prepared) => {
                let made = TypedTool::new(config, prepared, answering);
                made.inspect_err(|cause| tracing::error!(tool = config.name, "{cause}"))
                    .ok()
                    .map(|made| Self::Typed(Arc::new(made)))
            }
        }
    }

    /// The tool's name.
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

    /// Answers a call, and counts it. Dropping the future cancels it.
    ///
    /// # Errors
    /// The tool is another one now.
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
    /// The descriptions of `tools`, made once: each request for the list copies them.
    descriptions: Vec<ToolDescription>,
    /// Names of the tools by their aliases.
    aliases: BTreeMap<String, String>,
    /// Names of tools that were there before an edit.
    removed: BTreeSet<String>,
    /// Whether results of calls include `_meta`.
    result_meta: bool,
}

/// An edit of the configuration changed the tool while a call waited for its model: another catalog is active, by which the
/// call is to be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Superseded;

impl Superseded {
    /// Returns the answer of a call that is not made again.
    pub(crate) fn refused() -> ToolOutput {
        call::refused(ErrorCode::Busy);
        ToolOutput::error(ErrorCode::Busy, Refusal::Superseded.to_string())
    }
}

impl Catalog {
    /// The tools of `config` over the models of `registry`, whose `editions` are in the order of the models.
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

    /// The same in the place of `former`: it remembers what was removed.
    #[must_use]
    pub(crate) fn after(mut self, former: &Self) -> Self {
        let names = former.tools.iter().map(|tool| tool.name().to_owned());
        self.removed = former.removed.iter().cloned().chain(names).collect();
        let there: BTreeSet<&str> = self.tools.iter().map(|tool| tool.name()).collect();
        self.removed.retain(|name| !there.contains(name.as_str()));
        self
    }

    /// Returns whether results of calls include `_meta`.
    pub(crate) fn has_result_meta(&self) -> bool {
        self.result_meta
    }

    /// Whether an edit has removed the tool called `name`.
    pub(crate) fn was_removed(&self, name: &str) -> bool {
        self.removed.contains(name)
    }

    /// Returns the descriptions of the tools for clients, in a fixed order.
    pub(crate) fn descriptions(&self) -> &[ToolDescription] {
        &self.descriptions
    }

    /// Returns the names of the tools, each with its model's.
    pub(crate) fn with_models(&self) -> Vec<(&str, &str)> {
        let tools = self.tools.iter();
        tools.map(|tool| (tool.name(), tool.model())).collect()
    }

    /// The names of the tools.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.tools.iter().map(|tool| tool.name()).collect()
    }

    /// Returns the tool that has `name` as its name or as an alias.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Tool>> {
        let name = self.aliases.get(name).map_or(name, String::as_str);
        self.tools.iter().find(|tool| tool.name() == name).cloned()
    }
}

/// Arguments as they come.
pub(crate) type Arguments = Map<String, Value>;
