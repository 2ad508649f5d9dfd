//! Sends a question to a model and makes the output of its answer, for every kind of tool.

mod messages;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{Superseded, ToolCall, ToolOutput, structured};
use crate::backend::CallError;
use crate::config::{ModelConfig, ToolConfig};
use crate::engine::limits::ContextSize;
use crate::engine::{
    Conversation, EngineErrorKind, FinishReason, GenerateRequest, Generation, Phase,
    SamplingParams, Usage,
};
use crate::registry::residency::Refusal;
use crate::registry::{CallContext, Edition, Registry, RegistryError};
use crate::schema::AnswerSchema;
use crate::telemetry::metrics::{self, Answered};
use messages::{CallLimits, empty_answer, failure, with_cut_note};

/// Most characters of an answer per token, for an upper bound. A token of prose or code has 2 to 5 characters; the rest allows for runs
/// of spaces, which are one token, and for reasoning in the answer.
const CHARS_PER_TOKEN: u32 = 8;

/// Range of the longest result that a tool may announce, in characters. Claude Code accepts 50,000 by default and at most 500,000 if a
/// tool asks for them ("Raise the limit for a specific tool" in its documentation of MCP). A smaller announcement would lower its default.
const HOST_CHARS: (u32, u32) = (50_000, 500_000);

/// A tool's access to its model.
#[derive(Debug, Clone)]
pub(crate) struct Answering {
    /// The tool's name.
    pub tool: String,
    /// The model's name in the configuration.
    pub model: String,
    /// The model's full name, from its header or its file.
    pub full_name: String,
    /// Name of the model's file without its extension. It tells quantisations apart.
    file: String,
    /// Context of one call, in tokens.
    context: u32,
    /// Trained context, in tokens.
    trained: u32,
    /// Highest `max_tokens` that a call may set.
    max_tokens_limit: Option<u32>,
    edition: Edition,
    /// Whether prompts and answers are logged.
    log_prompts: bool,
    registry: Arc<Registry>,
}

/// A question to a model.
#[derive(Debug)]
pub(crate) struct Question {
    /// The messages.
    pub conversation: Conversation,
    /// Bytes of the texts that come from the call, not from the tool's configuration.
    pub given: usize,
    /// Longest answer, in tokens.
    pub max_tokens: u32,
    /// Sampling parameters.
    pub sampling: SamplingParams,
    /// Texts that end a free answer.
    pub stop: Vec<String>,
    /// Time limit from the arrival of the call.
    pub deadline: Option<Duration>,
    /// Schema of the answer; `None` if it is free.
    pub answer: Option<Arc<AnswerSchema>>,
    /// Whether a note is appended to a free answer that is truncated.
    pub cut_note: bool,
}

impl Answering {
    /// Creates the access of `tool` to the `edition` of `model`.
    pub(crate) fn new(
        tool: &ToolConfig,
        model: &ModelConfig,
        edition: Edition,
        log_prompts: bool,
        registry: &Arc<Registry>,
    ) -> Self {
        let file = model.gguf().settings.path.file_stem().unwrap_or_default();
        Self {
            tool: tool.name.clone(),
            model: model.name.clone(),
            full_name: model.full_name(),
            file: file.to_string_lossy().into_owned(),
            context: model.context(),
            trained: model.trained_context(),
            max_tokens_limit: tool.defaults.max_tokens_limit,
            edition,
            log_prompts,
            registry: Arc::clone(registry),
        }
    }

    /// Returns the most characters of an answer of `max_tokens`, within the range that hosts accept.
    pub(crate) fn max_chars(&self, max_tokens: u32) -> u32 {
        max_chars(max_tokens.min(self.context))
    }

    /// Asks the model `question`. Dropping the future cancels the call.
    ///
    /// # Errors
    /// Returns [`Superseded`] if an edit replaced the model before it accepted the call.
    pub(crate) async fn answer(
        &self,
        question: Question,
        call: ToolCall,
    ) -> Result<ToolOutput, Superseded> {
        let Question {
            mut conversation,
            given,
            max_tokens,
            sampling,
            stop,
            deadline,
            answer,
            cut_note,
        } = question;
        if self.log_prompts {
            let messages = serde_json::to_string(&conversation.messages).unwrap_or_default();
            tracing::info!(tool = self.tool, messages, "asked");
        }
        let messages = conversation.messages.iter();
        let bytes: usize = messages.map(|message| message.content.len()).sum();
        let is_mostly_configured = bytes.saturating_sub(given) > given;
        conversation.json_schema = answer.as_ref().map(|answer| answer.enforced.clone());
        let request = GenerateRequest {
            conversation,
            max_tokens,
            sampling,
            // A stop string could occur inside JSON and truncate it.
            stop: if answer.is_some() { Vec::new() } else { stop },
        };
        let context = CallContext {
            client: call.client,
            deadline: deadline.map(|deadline| call.received + deadline),
            progress: call.progress,
        };
        match self
            .registry
            .generate(self.edition, request, &context)
            .await
        {
            Ok(generation) => {
                if self.log_prompts {
                    tracing::info!(tool = self.tool, text = generation.text, "answered");
                }
                let limits = CallLimits {
                    max_tokens,
                    is_at_limit: (self.max_tokens_limit).is_some_and(|limit| max_tokens >= limit),
                    deadline,
                    trained: self.trained,
                };
                let client = &context.client;
                Ok(self
                    .output(client, generation, limits, answer, cut_note)
                    .await)
            }
            Err(RegistryError::Refused(Refusal::Superseded)) => Err(Superseded),
            Err(mut error) => {
                if is_mostly_configured {
                    self.blame_configured_text(&mut error);
                }
                Ok(failure(&error).into())
            }
        }
    }

    /// Rewrites the error of a prompt that is too long: most of it is configured text, which the caller cannot shorten.
    fn blame_configured_text(&self, error: &mut RegistryError) {
        if let RegistryError::Call(CallError::Engine(error)) = error
            && error.kind == EngineErrorKind::ContextOverflow
        {
            let context = ContextSize {
                n_ctx: self.context,
                trained: self.trained,
            };
            error.text = format!(
                "{}; most of it is the own text of the tool `{}`",
                error.text, self.tool
            );
            error.hint = Some(format!(
                "shorten `system` or `prompt` in the configuration, or {}",
                context.advice()
            ));
        }
    }

    /// Makes the output of a call from its `generation`, and counts the tokens.
    async fn output(
        &self,
        client: &str,
        generation: Generation,
        limits: CallLimits,
        answer: Option<Arc<AnswerSchema>>,
        cut_note: bool,
    ) -> ToolOutput {
        if !matches!(generation.phase, Phase::Load | Phase::Queue) {
            self.count(&generation.usage);
        }
        let meta = self.meta(&generation);
        let problem = empty_answer(&generation, limits);
        let answered = match (problem, answer) {
            (Some(problem), _) => Err(problem),
            (None, None) if cut_note => Ok((with_cut_note(generation, limits), None)),
            (None, None) => Ok((generation.text, None)),
            (None, Some(answer)) => {
                let limit = limits.token_limit(&generation);
                let read = structured::read(client, answer, generation, limit).await;
                read.map(|read| (read.text, Some(read.value)))
            }
        };
        match answered {
            Ok((text, structured)) => ToolOutput::Answer {
                text,
                structured,
                generation: meta,
            },
            Err(error) => ToolOutput::Error {
                error,
                generation: Some(meta),
            },
        }
    }

    fn count(&self, usage: &Usage) {
        let answer = Answered {
            prompt: usage.prompt_tokens,
            cached: usage.cached_tokens,
            completion: usage.completion_tokens,
            forced: usage.forced_tokens,
            drafted: usage.drafted_tokens,
            accepted: usage.accepted_tokens,
            waited: Duration::from_millis(usage.queue_ms + usage.load_ms),
            prefill: Duration::from_millis(usage.prefill_ms),
            prompt_speed: usage.prompt_speed(),
            generation_speed: usage.generation_speed(),
        };
        metrics::answered(&self.model, answer);
    }

    fn meta(&self, generation: &Generation) -> GenerationMeta {
        GenerationMeta {
            model: self.file.clone(),
            finish_reason: generation.finish_reason,
            seed: generation.seed,
            usage: generation.usage.clone(),
        }
    }
}

/// Metadata of an answer, for clients.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct GenerationMeta {
    /// Name of the model's file, without its extension.
    pub model: String,
    /// Reason why the answer ended.
    pub finish_reason: FinishReason,
    /// Seed of the sampler.
    pub seed: u32,
    /// Token counts and times.
    #[serde(flatten)]
    pub usage: Usage,
}

/// Returns the most characters of an answer of `tokens`, within [`HOST_CHARS`].
fn max_chars(tokens: u32) -> u32 {
    let (min, max) = HOST_CHARS;
    tokens.saturating_mul(CHARS_PER_TOKEN).clamp(min, max)
}

/// Returns a random seed below `u32::MAX`, which stands for no seed. It is as unpredictable as the standard library's hash keys.
pub(crate) fn draw_seed() -> u32 {
    let drawn = RandomState::new().hash_one(()) % u64::from(u32::MAX);
    u32::try_from(drawn).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_answer_in_characters_grows_with_its_tokens_within_the_range_of_hosts() {
        let chars = [0, 2048, 10_000, 62_499, 62_500, u32::MAX].map(max_chars);
        assert_eq!(chars, [50_000, 50_000, 80_000, 499_992, 500_000, 500_000]);
    }
}
