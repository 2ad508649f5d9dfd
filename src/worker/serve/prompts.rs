//! The threads that render and tokenise prompts, of calls, and those that are the same in all calls of a tool.

use std::sync::mpsc::Sender;
use std::sync::{LazyLock, OnceLock};
use std::thread;

use super::lanes::{Inbox, Job, Lane, Progress, Stage};
use super::{Events, Input, caught};
use crate::engine::grammar::Grammars;
use crate::engine::limits::ContextSize;
use crate::engine::llama::ModelVocabulary;
use crate::engine::prompt::{Prompt, PromptBuilder};
use crate::engine::shared_prefix::FixedPrompt;
use crate::engine::template::{ChatTemplate, stack_size};
use crate::engine::token::Token;
use crate::engine::{Conversation, EngineError, EngineErrorKind, Update};
use crate::process;
use crate::threads::SystemLimit;

/// A job that has ended.
#[expect(
    clippy::large_enum_variant,
    reason = "few are made, and each is moved at once"
)]
pub(super) enum Prepared {
    /// The prompt of the call of this number.
    Call(u64, Result<Prompt, EngineError>),
    /// The tokens of a shared prefix, `None` if it is not to be kept, and the number of its set.
    Fixed(u64, Option<Vec<Token>>),
}

const UNRENDERABLE: &str = "the model's chat template could not be rendered";

type Builder<'model> = PromptBuilder<ModelVocabulary<'model>>;

/// Makes the builder: `Err` is what is wrong with the template, and each call is told.
type Make<'model> = Box<dyn FnOnce() -> Result<Builder<'model>, EngineError> + Send + 'model>;

/// State shared by the threads that prepare prompts.
pub(super) struct Preparer<'model> {
    /// Made by the thread that is the first to need it.
    builder: LazyLock<Result<Builder<'model>, EngineError>, Make<'model>>,
    /// Grammar tables of the vocabulary, built at first use: they cost time and memory.
    grammars: OnceLock<Result<Grammars, EngineError>>,
    /// Bytes of a thread's stack that compiling and rendering the template cannot exhaust.
    stack: usize,
    prepared: Sender<Input>,
    events: Events,
}

impl<'model> Preparer<'model> {
    /// Makes a preparer for calls within `context`. `template` is the model's chat template; `None` for a base model. `tags` are markers
    /// of reasoning from the configuration. Prompts go to `prepared`.
    pub(super) fn new(
        vocabulary: ModelVocabulary<'model>,
        template: Option<&'model str>,
        tags: Option<&'model [String; 2]>,
        context: ContextSize,
        prepared: Sender<Input>,
        events: Events,
    ) -> Self {
        let make = move || {
            caught(EngineErrorKind::Template, UNRENDERABLE, || {
                let (bos, eos) = vocabulary.bos_and_eos();
                let template = match template {
                    Some(source) => Some((ChatTemplate::new(source, bos, eos)?, source)),
                    None => None,
                };
                PromptBuilder::new(vocabulary, template, tags, context)
            })
        };
        Self {
            builder: LazyLock::new(Box::new(make)),
            grammars: OnceLock::new(),
            stack: stack_size(template.unwrap_or_default()),
            prepared,
            events,
        }
    }

    /// Starts the thread of each of `inboxes`, on a stack that compiling and rendering the template cannot exhaust.
    ///
    /// # Errors
    /// `Load` if the system has no thread to spare.
    pub(super) fn start<'scope>(
        &'scope self,
        scope: &'scope thread::Scope<'scope, '_>,
        inboxes: [Inbox; 2],
    ) -> Result<(), EngineError> {
        for inbox in inboxes {
            let thread = thread::Builder::new()
                .name(inbox.lane.name().into())
                .stack_size(self.stack);
            let started = thread.spawn_scoped(scope, || self.work(inbox));
            started.map_err(SystemLimit::of_thread)?;
        }
        Ok(())
    }

    /// Renders and tokenises what comes, in order, until the sender is gone.
    pub(super) fn work(&self, inbox: Inbox) {
        // The first prompt need not wait for it.
        LazyLock::force(&self.builder);
        if inbox.lane == Lane::Long {
            process::lower_priority();
        }
        for job in inbox.jobs {
            let prepared = match job {
                Job::Call(id, conversation) => {
                    // Should this end the process, the server must not send the same call again.
                    self.events.call(id, Update::Preparing(true));
                    let prompt = self.call(&conversation, &inbox.progress);
                    self.events.call(id, Update::Preparing(false));
                    Prepared::Call(id, prompt)
                }
                Job::Fixed(set, prompt) => {
                    inbox.progress.begin(Stage::Rendering);
                    // A call will tell it to who can do something about it.
                    let tokens = self.fixed(&prompt).inspect_err(|error| {
                        tracing::debug!(%error, "a fixed prompt is not cached");
                    });
                    Prepared::Fixed(set, tokens.ok().flatten())
                }
            };
            if self
                .prepared
                .send(Input::Prepared(inbox.lane, prepared))
                .is_err()
            {
                return;
            }
        }
    }

    fn call(
        &self,
        conversation: &Conversation,
        progress: &Progress,
    ) -> Result<Prompt, EngineError> {
        let builder = self.builder.as_ref().map_err(Clone::clone)?;
        caught(EngineErrorKind::Template, UNRENDERABLE, || {
            progress.begin(Stage::Grammar);
            let schema = conversation.json_schema.as_ref();
            let grammars = || {
                let made = || Grammars::new(builder.vocabulary());
                self.grammars
                    .get_or_init(made)
                    .as_ref()
                    .map_err(Clone::clone)
            };
            let grammar = schema.map(|schema| grammars()?.json(schema)).transpose()?;
            progress.begin(Stage::Rendering);
            let rendered = builder.render(conversation)?;
            progress.begin(Stage::Tokenizing);
            let prompt = builder.finish(rendered)?;
            Ok(Prompt { grammar, ..prompt })
        })
    }

    fn fixed(&self, prompt: &FixedPrompt) -> Result<Option<Vec<Token>>, EngineError> {
        let builder = self.builder.as_ref().map_err(Clone::clone)?;
        caught(EngineErrorKind::Template, UNRENDERABLE, || {
            builder.fixed(prompt)
        })
    }
}
