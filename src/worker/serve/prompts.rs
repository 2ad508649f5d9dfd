//! The thread that renders and tokenises prompts, of calls, and those that are the same in all calls of a tool.

use std::sync::mpsc::{Receiver, Sender};

use super::{Events, Input, caught};
use crate::engine::fixed::FixedPrompt;
use crate::engine::grammar::Grammars;
use crate::engine::llama::ModelVocabulary;
use crate::engine::prompt::{Prompt, PromptBuilder, Token};
use crate::engine::template::ChatTemplate;
use crate::engine::{Conversation, EngineError, EngineErrorKind, Update};

/// What is to be prepared.
pub(super) enum Job {
    /// The prompt of the call of this number.
    Call(u64, Conversation),
    /// What is fixed, of the set of this number.
    Fixed(u64, FixedPrompt),
}

type Builder<'model> = PromptBuilder<ModelVocabulary<'model>>;

/// What makes grammars, once it was needed: it costs time and memory.
#[derive(Default)]
struct KnownGrammars(Option<Grammars>);

impl KnownGrammars {
    fn get(&mut self, vocabulary: &ModelVocabulary<'_>) -> Result<&Grammars, EngineError> {
        if self.0.is_none() {
            self.0 = Some(Grammars::new(vocabulary)?);
        }
        Ok(self.0.as_ref().expect("just made"))
    }
}

const UNRENDERABLE: &str = "the model's chat template could not be rendered";

/// Renders and tokenises, in order, until the sender is gone.
pub(super) fn prepare_prompts(
    vocabulary: ModelVocabulary<'_>,
    template: Option<&str>,
    tags: Option<&[String; 2]>,
    n_ctx: u32,
    jobs: Receiver<Job>,
    prepared: &Sender<Input>,
    events: &Events,
) {
    let builder = caught(EngineErrorKind::Template, UNRENDERABLE, || {
        let (bos, eos) = vocabulary.bos_and_eos();
        let template = match template {
            Some(source) => Some((ChatTemplate::new(source, bos, eos)?, source)),
            None => None,
        };
        PromptBuilder::new(vocabulary, template, tags, n_ctx)
    });
    let mut grammars = KnownGrammars::default();
    for job in jobs {
        let builder = builder.as_ref();
        let input = match job {
            Job::Call(id, conversation) => {
                // Should this end the process, the server must not send the same call again.
                events.call(id, Update::Preparing(true));
                let builder = builder.map_err(Clone::clone);
                let prompt =
                    builder.and_then(|builder| call(builder, &conversation, &mut grammars));
                events.call(id, Update::Preparing(false));
                Input::Prepared(id, prompt)
            }
            Job::Fixed(set, prompt) => {
                let builder = builder.map_err(Clone::clone);
                let tokens = builder.and_then(|builder| fixed(builder, &prompt));
                // A call will tell it to who can do something about it.
                let tokens = tokens.inspect_err(|error| {
                    tracing::debug!(%error, "a fixed prompt is not kept ready");
                });
                Input::PreparedFixed(set, tokens.ok().flatten())
            }
        };
        if prepared.send(input).is_err() {
            return;
        }
    }
}

fn call(
    builder: &Builder<'_>,
    conversation: &Conversation,
    grammars: &mut KnownGrammars,
) -> Result<Prompt, EngineError> {
    caught(EngineErrorKind::Template, UNRENDERABLE, || {
        let schema = conversation.json_schema.as_ref();
        let grammar = schema
            .map(|schema| grammars.get(builder.vocabulary())?.json(schema))
            .transpose()?;
        let prompt = builder.build(conversation)?;
        Ok(Prompt { grammar, ..prompt })
    })
}

fn fixed(builder: &Builder<'_>, prompt: &FixedPrompt) -> Result<Option<Vec<Token>>, EngineError> {
    caught(EngineErrorKind::Template, UNRENDERABLE, || {
        builder.fixed(prompt)
    })
}
