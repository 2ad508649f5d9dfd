//! The thread that renders and tokenises prompts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender};

use super::{Events, Input};
use crate::engine::llama::ModelVocabulary;
use crate::engine::prompt::PromptBuilder;
use crate::engine::template::ChatTemplate;
use crate::engine::{EngineError, EngineErrorKind, Message, Update};

/// Renders and tokenises, in order, until the sender is gone.
pub(super) fn prepare_prompts(
    vocabulary: ModelVocabulary<'_>,
    template: Option<&str>,
    n_ctx: u32,
    prompts: Receiver<(u64, Vec<Message>)>,
    prepared: &Sender<Input>,
    events: &Events,
) {
    let builder = caught(|| {
        let (bos, eos) = vocabulary.bos_and_eos();
        let template = match template {
            Some(source) => Some((ChatTemplate::new(source, bos, eos)?, source)),
            None => None,
        };
        PromptBuilder::new(vocabulary, template, n_ctx)
    });
    for (id, messages) in prompts {
        // Should this end the process, the server must not send the same call again.
        events.call(id, Update::Preparing(true));
        let prompt = builder
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|builder| caught(|| builder.build(&messages)));
        events.call(id, Update::Preparing(false));
        if prepared.send(Input::Prepared(id, prompt)).is_err() {
            return;
        }
    }
}

/// A template is untrusted input: should it make the renderer panic, its call fails and the worker goes on.
fn caught<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(EngineError::new(
            EngineErrorKind::Template,
            "the model's chat template could not be rendered",
        )
        .hint("the server's log holds the details"))
    })
}
