//! Threads that render and tokenise prompts of calls and shared prefixes of tools.

use std::sync::mpsc::Sender;
use std::sync::{LazyLock, OnceLock};
use std::thread;

use super::lanes::{Inbox, Job, Lane, Progress, Stage};
use super::warming::PrefixSet;
use super::{EventSink, Input, catch_panic};
use crate::engine::grammar::Grammars;
use crate::engine::limits::ContextSize;
use crate::engine::llama::ModelVocabulary;
use crate::engine::prompt::{Prompt, PromptBuilder};
use crate::engine::shared_prefix::PromptSamples;
use crate::engine::template::{ChatTemplate, stack_size};
use crate::engine::token::Token;
use crate::engine::{CallId, Conversation, EngineError, EngineErrorKind, Update};
use crate::process;
use crate::threads::SystemLimit;

/// The result of a [`Job`].
pub(super) enum Prepared {
    /// The id of a call, and its prompt.
    Call(CallId, Result<Box<Prompt>, EngineError>),
    /// A set of shared prefixes, and the tokens of one of them; `None` if it is not worth keeping.
    SharedPrefix(PrefixSet, Option<Vec<Token>>),
}

const UNRENDERABLE: &str = "the model's chat template could not be rendered";

type Builder = PromptBuilder<ModelVocabulary>;

/// Creates the builder. On `Err` the template is faulty, and every call fails with the error.
type MakeBuilder<'model> = Box<dyn FnOnce() -> Result<Builder, EngineError> + Send + 'model>;

/// State shared by the threads that prepare prompts.
pub(super) struct Preparer<'model> {
    /// Builder of prompts, created by the first thread that needs it.
    builder: LazyLock<Result<Builder, EngineError>, MakeBuilder<'model>>,
    /// Grammar tables of the vocabulary, built at first use since they cost time and memory.
    grammars: OnceLock<Result<Grammars, EngineError>>,
    /// Size of a thread's stack that compiling and rendering the template cannot exhaust, in bytes.
    stack: usize,
    prepared: Sender<Input>,
    events: EventSink,
}

impl<'model> Preparer<'model> {
    /// Creates a preparer for calls within `context`. `template` is the model's chat template, `None` for a base model. `tags` are the
    /// configured markers of reasoning. Results are sent to `prepared`.
    pub(super) fn new(
        vocabulary: ModelVocabulary,
        template: Option<&'model str>,
        tags: Option<&'model [String; 2]>,
        context: ContextSize,
        prepared: Sender<Input>,
        events: EventSink,
    ) -> Self {
        let make = move || {
            catch_panic(EngineErrorKind::Template, UNRENDERABLE, || {
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

    /// Starts a thread for each of `inboxes`, with a stack that compiling and rendering the template cannot exhaust.
    ///
    /// # Errors
    /// `Load` if the system cannot start a thread.
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
            started.map_err(SystemLimit::from_thread_error)?;
        }
        Ok(())
    }

    /// Prepares the jobs of `inbox` in order, until its sender is dropped.
    pub(super) fn work(&self, inbox: Inbox) {
        // Created before the first prompt, which then does not wait for it.
        LazyLock::force(&self.builder);
        if inbox.lane == Lane::Long {
            process::lower_priority();
        }
        for job in inbox.jobs {
            let prepared = match job {
                Job::Call(id, conversation) => {
                    // If this prompt ends the process, the server must not send the call again.
                    self.events.send_update(id, Update::Preparing(true));
                    let prompt = self.prepare_call(&conversation, &inbox.progress);
                    self.events.send_update(id, Update::Preparing(false));
                    Prepared::Call(id, prompt.map(Box::new))
                }
                Job::SharedPrefix(set, prompt) => {
                    inbox.progress.begin(Stage::Rendering);
                    // Calls of the tool report the error to their clients.
                    let tokens = self.prepare_shared_prefix(&prompt).inspect_err(|error| {
                        tracing::debug!(%error, "could not prepare a tool's prompt ahead of its calls");
                    });
                    Prepared::SharedPrefix(set, tokens.ok().flatten())
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

    fn prepare_call(
        &self,
        conversation: &Conversation,
        progress: &Progress,
    ) -> Result<Prompt, EngineError> {
        let builder = self.builder.as_ref().map_err(Clone::clone)?;
        catch_panic(EngineErrorKind::Template, UNRENDERABLE, || {
            progress.begin(Stage::Grammar);
            let schema = conversation.json_schema.as_ref();
            let grammars = || {
                let made = || Grammars::new(builder.vocabulary());
                self.grammars
                    .get_or_init(made)
                    .as_ref()
                    .map_err(Clone::clone)
            };
            let grammar = match schema {
                Some(schema) => Some(grammars()?.json(schema)?),
                None => None,
            };
            progress.begin(Stage::Rendering);
            let rendered = builder.render(conversation)?;
            progress.begin(Stage::Tokenizing);
            let prompt = builder.finish(rendered)?;
            Ok(Prompt { grammar, ..prompt })
        })
    }

    fn prepare_shared_prefix(
        &self,
        prompt: &PromptSamples,
    ) -> Result<Option<Vec<Token>>, EngineError> {
        let builder = self.builder.as_ref().map_err(Clone::clone)?;
        catch_panic(EngineErrorKind::Template, UNRENDERABLE, || {
            builder.shared_prefix(prompt)
        })
    }
}
