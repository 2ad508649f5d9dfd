//! A question → the answer of a model, for every kind of tool.

mod words;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Superseded, ToolCall, ToolOutput};
use crate::config::schema::AnswerSchema;
use crate::config::{Defaults, ModelConfig};
use crate::engine::{Conversation, GenerateRequest, Generation, SamplingParams};
use crate::registry::residency::Refusal;
use crate::registry::{CallContext, Edition, Registry, RegistryError};
use words::{empty_answer, failure};

/// A model, as a tool uses it.
#[derive(Debug, Clone)]
pub struct Answering {
    /// The tool's name, for the log.
    pub tool: String,
    /// The file's name, without its end: tells quantisations apart.
    pub model: String,
    edition: Edition,
    /// Whether what is asked and answered is logged.
    log_prompts: bool,
    registry: Arc<Registry>,
}

/// What a model is asked.
#[derive(Debug)]
pub struct Question {
    /// The messages.
    pub conversation: Conversation,
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
}

impl Answering {
    /// `model` in its `edition`, for `tool`.
    pub fn new(
        tool: &str,
        model: &ModelConfig,
        edition: Edition,
        log_prompts: bool,
        registry: &Arc<Registry>,
    ) -> Self {
        let file = model.load.path.file_stem().unwrap_or_default();
        Self {
            tool: tool.to_owned(),
            model: file.to_string_lossy().into_owned(),
            edition,
            log_prompts,
            registry: Arc::clone(registry),
        }
    }

    /// Asks. Dropping the future cancels.
    ///
    /// # Errors
    /// The tool is another one now.
    pub async fn answer(
        &self,
        question: Question,
        call: ToolCall,
    ) -> Result<ToolOutput, Superseded> {
        let Question {
            mut conversation,
            max_tokens,
            sampling,
            stop,
            deadline,
            answer,
        } = question;
        if self.log_prompts {
            let messages = serde_json::to_string(&conversation.messages).unwrap_or_default();
            tracing::info!(tool = self.tool, messages, "asked");
        }
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
                Ok(self.output(generation, max_tokens, deadline, answer.as_deref()))
            }
            Err(RegistryError::Refused(Refusal::Superseded)) => Err(Superseded),
            Err(error) => Ok(failure(&error)),
        }
    }

    fn output(
        &self,
        generation: Generation,
        max_tokens: u32,
        deadline: Option<Duration>,
        answer: Option<&AnswerSchema>,
    ) -> ToolOutput {
        let meta = Some(self.meta(&generation));
        let problem = empty_answer(&generation, max_tokens, deadline);
        let (text, structured, is_error) = match (problem, answer) {
            (Some(problem), _) => (problem, None, true),
            (None, None) => (generation.text, None, false),
            (None, Some(answer)) => match answer.read(&generation) {
                Ok(read) => (read.text, Some(read.value), false),
                Err(problem) => (problem, None, true),
            },
        };
        ToolOutput {
            text,
            structured,
            is_error,
            generation: meta,
        }
    }

    fn meta(&self, generation: &Generation) -> Value {
        let usage = &generation.usage;
        json!({
            "model": self.model,
            "finish_reason": generation.finish_reason,
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "completion_tokens": usage.completion_tokens,
            "thinking_tokens": usage.thinking_tokens,
            "seed": generation.seed,
            "queue_ms": usage.queue_ms,
            "load_ms": usage.load_ms,
            "prefill_ms": usage.prefill_ms,
            "decode_ms": usage.decode_ms,
        })
    }
}

impl Defaults {
    /// How a call samples that does not say otherwise.
    pub fn sampling(&self) -> SamplingParams {
        SamplingParams {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            repeat_last_n: self.repeat_last_n,
            seed: self.seed.unwrap_or_else(draw_seed),
        }
    }
}

/// A seed as unforeseeable as the standard library's hash keys; `u32::MAX` is none.
pub fn draw_seed() -> u32 {
    let drawn = RandomState::new().hash_one(()) % u64::from(u32::MAX);
    u32::try_from(drawn).unwrap_or_default()
}
