//! The thread that renders and tokenises prompts.

use std::sync::mpsc::{Receiver, Sender};

use super::{Events, Input, caught};
use crate::engine::llama::ModelVocabulary;
use crate::engine::prompt::PromptBuilder;
use crate::engine::template::ChatTemplate;
use crate::engine::{Conversation, EngineErrorKind, Update};

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
    for (id, conversation) in prompts {
        // Should this end the process, the server must not send the same call again.
        events.call(id, Update::Preparing(true));
        let prompt = builder.as_ref().map_err(Clone::clone).and_then(|builder| {
            caught(EngineErrorKind::Template, UNRENDERABLE, || {
                builder.build(&conversation)
            })
        });
        events.call(id, Update::Preparing(false));
        if prepared.send(Input::Prepared(id, prompt)).is_err() {
            return;
        }
    }
}
