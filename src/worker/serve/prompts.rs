//! The thread that renders and tokenises prompts.

use std::sync::mpsc::{Receiver, Sender};

use super::{Events, Input, caught};
use crate::engine::grammar::Grammars;
use crate::engine::llama::ModelVocabulary;
use crate::engine::prompt::{Prompt, PromptBuilder};
use crate::engine::template::ChatTemplate;
use crate::engine::{Conversation, EngineError, EngineErrorKind, Update};

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
    n_ctx: u32,
    prompts: Receiver<(u64, Conversation)>,
    prepared: &Sender<Input>,
    events: &Events,
) {
    let builder = caught(EngineErrorKind::Template, UNRENDERABLE, || {
        let (bos, eos) = vocabulary.bos_and_eos();
        let template = match template {
            Some(source) => Some((ChatTemplate::new(source, bos, eos)?, source)),
            None => None,
        };
        PromptBuilder::new(vocabulary, template, n_ctx)
    });
    let mut grammars = KnownGrammars::default();
    for (id, conversation) in prompts {
        // Should this end the process, the server must not send the same call again.
        events.call(id, Update::Preparing(true));
        let prompt = builder.as_ref().map_err(Clone::clone).and_then(|builder| {
            caught(EngineErrorKind::Template, UNRENDERABLE, || {
                let schema = conversation.json_schema.as_ref();
                let grammar = schema
                    .map(|schema| grammars.get(builder.vocabulary())?.json(schema))
                    .transpose()?;
                let prompt = builder.build(&conversation)?;
                Ok(Prompt { grammar, ..prompt })
            })
        });
        events.call(id, Update::Preparing(false));
        if prepared.send(Input::Prepared(id, prompt)).is_err() {
            return;
        }
    }
}
