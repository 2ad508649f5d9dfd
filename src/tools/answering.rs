//! A question → the answer of a model, for every kind of tool.

mod messages;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::conversation::with_system;
use super::{Superseded, ToolCall, ToolOutput, structured};
use crate::backend::CallError;
use crate::config::{Defaults, ModelConfig, ToolConfig};
use crate::engine::limits::ContextSize;
use crate::engine::{
    Conversation, EngineErrorKind, FinishReason, GenerateRequest, Generation, Message, Phase,
    SamplingParams, Usage,
};
use crate::registry::residency::Refusal;
use crate::registry::{CallContext, Edition, Registry, RegistryError};
use crate::schema::AnswerSchema;
use crate::telemetry::call::Outcome;
use crate::telemetry::metrics::{self, Answered};
pub(crate) use messages::TokenLimit;
use messages::{CallLimits, empty_answer, failure, with_cut_note};

/// A token of ordinary text, of whatever language or programming language, is 2 to 5 characters long; 8 leaves room for runs of
/// blanks, which are one token, and for thinking that is kept.
const CHARS_PER_TOKEN: u32 = 8;

/// What hosts take of a result without being told, and the most that they take if they are: 50,000 and 500,000 characters in
/// Claude Code ("Raise the limit for a specific tool" in its documentation of MCP). Less than the former would make it less.
const HOST_CHARS: (u32, u32) = (50_000, 500_000);

/// A model, as a tool uses it.
#[derive(Debug, Clone)]
pub(crate) struct Answering {
    /// The tool's name, for the log.
    pub tool: String,
    /// The model's name in the configuration.
    pub model: String,
    /// The model's full name, from its header or its file.
    pub full_name: String,
    /// The file's name, without its end: tells quantisations apart.
    file: String,
    /// Tokens of one call at most.
    context: u32,
    /// Trained context, in tokens.
    trained: u32,
    /// Tokens that a call may ask for at most.
    max_tokens_limit: Option<u32>,
    edition: Edition,
    /// Whether what is asked and answered is logged.
    log_prompts: bool,
    registry: Arc<Registry>,
}

/// What a model is asked.
#[derive(Debug)]
pub(crate) struct Question {
    /// The messages.
    pub conversation: Conversation,
    /// Bytes of the texts that come from the call, not from the tool's configuration.
    pub given: usize,
    /// Longest answer in tokens.
    pub max_tokens: u32,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Texts that end a free answer.
    pub stop: Vec<String>,
    /// From the call's arrival.
    pub deadline: Option<Duration>,
    /// What the answer must be; none where it is free.
    pub answer: Option<Arc<AnswerSchema>>,
    /// Whether a free answer that is cut ends with a line that says so.
    pub cut_note: bool,
}

impl Answering {
    /// `model` in its `edition`, for `tool`.
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

    /// Characters of an answer of at most `max_tokens`, as far as hosts want to know.
    pub(crate) fn max_chars(&self, max_tokens: u32) -> u32 {
        chars_of(max_tokens.min(self.context))
    }

    /// Asks. Dropping the future cancels.
    ///
    /// # Errors
    /// The tool is another one now.
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
        let is_mostly_own = bytes.saturating_sub(given) > given;
        conversation.json_schema = answer.as_ref().map(|answer| answer.enforced.clone());
        let request = GenerateRequest {
            conversation,
            max_tokens,
            sampling,
            // A stop string inside a JSON text would cut it.
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
                    is_most: self.max_tokens_limit.is_some_and(|most| max_tokens >= most),
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
                if is_mostly_own {
                    self.blame_own_text(&mut error);
                }
                Ok(failure(&error))
            }
        }
    }

    /// Makes the error of a prompt that is too long say that most of it is the tool's own text. A caller cannot shorten that.
    fn blame_own_text(&self, error: &mut RegistryError) {
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
                context.way_out()
            ));
        }
    }

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
        let meta = Some(self.meta(&generation));
        let finish_reason = generation.finish_reason;
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
        let (text, structured, error) = match answered {
            Ok((text, structured)) => (text, structured, None),
            Err(problem) => (problem.text, None, Some(problem.code)),
        };
        ToolOutput {
            text,
            structured,
            error,
            generation: meta,
            outcome: match finish_reason {
                FinishReason::Deadline => Outcome::Deadline,
                FinishReason::Cancelled => Outcome::Cancelled,
                _ if error.is_some() => Outcome::Error,
                FinishReason::Length => Outcome::Length,
                FinishReason::Stop => Outcome::Stop,
            },
        }
    }

    fn count(&self, usage: &Usage) {
        let answer = Answered {
            prompt: usage.prompt_tokens,
            cached: usage.cached_tokens,
            completion: usage.completion_tokens,
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

/// How an answer came about, as clients are told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct GenerationMeta {
    /// The file's name, without its end.
    pub model: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The seed that was used.
    pub seed: u32,
    /// Counts and times.
    #[serde(flatten)]
    pub usage: Usage,
}

impl Defaults {
    /// `messages` with the fixed system prompt, and with `suffix`; the answer is free.
    pub(super) fn conversation(
        &self,
        messages: Vec<Message>,
        suffix: Option<String>,
    ) -> Conversation {
        Conversation {
            messages: with_system(messages, self.system.as_deref(), suffix),
            thinking: self.thinking,
            json_schema: None,
            thinking_budget: self.thinking_budget,
            template_arguments: self.template_arguments.clone(),
        }
    }
}

/// Characters of an answer of `tokens`, within what hosts know.
fn chars_of(tokens: u32) -> u32 {
    let (least, most) = HOST_CHARS;
    tokens.saturating_mul(CHARS_PER_TOKEN).clamp(least, most)
}

/// A seed as unforeseeable as the standard library's hash keys; `u32::MAX` is none.
pub(crate) fn draw_seed() -> u32 {
    let drawn = RandomState::new().hash_one(()) % u64::from(u32::MAX);
    u32::try_from(drawn).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_as_many_characters_as_tokens_may_make_within_what_they_know() {
        let chars = [0, 2048, 10_000, 62_499, 62_500, u32::MAX].map(chars_of);
        assert_eq!(chars, [50_000, 50_000, 80_000, 499_992, 500_000, 500_000]);
    }
}
