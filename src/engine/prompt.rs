//! A conversation → the tokens that the model reads.
//!
//! Jinja gives template and contents as one text, in which llama.cpp would parse every control token, a user's
//! `<|im_end|>` too. So before rendering each control token that occurs in a content is put between two marks
//! (noncharacters of Unicode that occur nowhere in the conversation); afterwards what stands between marks is tokenised
//! as plain text, and the rest, which is the template's, with control tokens.

mod controls;
mod cuts;
mod tokens;

use std::sync::Arc;

use controls::{ControlTexts, Marks};
use cuts::Cuts;
use tokens::EXACT;

use super::grammar::Grammar;
use super::limits::ContextSize;
use super::template::{ChatTemplate, Variables, join_contents};
use super::thinking::Thinking;
use super::thinking::blocks::{Blocks, MarkerTokens, Start};
use super::thinking::families::{Markers, markers_of};
use super::thinking::switches::switches;
use super::token::Token;
use super::vocabulary::Vocabulary;
use super::{Conversation, EngineError, EngineErrorKind, Message, ThinkingOutput};

/// A prompt ready for the scheduler.
#[derive(Debug)]
pub(crate) struct Prompt {
    /// Not empty.
    pub tokens: Vec<Token>,
    /// The filter that removes reasoning from the answer.
    pub thinking: Thinking,
    /// The tokens with which reasoning begins and ends, and its limit.
    pub blocks: Blocks,
    /// What the answer follows; none where it is free.
    pub grammar: Option<Grammar>,
}

/// A conversation that a template has rendered.
#[derive(Debug)]
pub(crate) struct Rendered {
    /// Texts, and whether control tokens are recognised in them.
    pieces: Vec<(String, bool)>,
    thinking: Thinking,
    blocks: Blocks,
}

/// Turns conversations into prompts.
#[derive(Debug)]
pub(crate) struct PromptBuilder<V> {
    vocabulary: V,
    template: Option<ChatTemplate>,
    markers: Arc<[Markers]>,
    marker_tokens: MarkerTokens,
    /// Variables of the template that switch reasoning off and on, in this order.
    switches: [Variables; 2],
    controls: ControlTexts,
    cuts: Cuts,
    context: ContextSize,
    longest_token: usize,
}

impl<V: Vocabulary> PromptBuilder<V> {
    /// Makes a builder for calls within `context`. `template` is the model's chat template and its source; `None` for a base model.
    /// `tags` are markers of reasoning from the configuration.
    ///
    /// # Errors
    /// `Load` if the special tokens are too many for a search automaton.
    pub(crate) fn new(
        vocabulary: V,
        template: Option<(ChatTemplate, &str)>,
        tags: Option<&[String; 2]>,
        context: ContextSize,
    ) -> Result<Self, EngineError> {
        let source = template.as_ref().map_or("", |(_, source)| *source);
        let markers = markers_of(source, &vocabulary.special_texts(), tags);
        let controls = ControlTexts::new(vocabulary.control_texts(source), &markers)?;
        Ok(Self {
            cuts: Cuts::new(vocabulary.specials().as_deref(), vocabulary.neighbours())?,
            longest_token: vocabulary.longest_token().max(1),
            marker_tokens: MarkerTokens::new(&markers, &vocabulary),
            markers: markers.into(),
            switches: [false, true].map(|on| switches(source, on)),
            vocabulary,
            template: template.map(|(template, _)| template),
            controls,
            context,
        })
    }

    /// The vocabulary of the model.
    pub(crate) fn vocabulary(&self) -> &V {
        &self.vocabulary
    }

    /// Tokens of one call.
    pub(crate) fn n_ctx(&self) -> u32 {
        self.context.n_ctx
    }

    /// Makes the prompt of `conversation`, without a grammar.
    ///
    /// # Errors
    /// As [`Self::render`] and [`Self::finish`].
    pub(crate) fn build(&self, conversation: &Conversation) -> Result<Prompt, EngineError> {
        self.finish(self.render(conversation)?)
    }

    /// Renders `conversation`, the first of two steps.
    ///
    /// # Errors
    /// `Template` if the template refuses the messages, `ContextOverflow` if they cannot fit.
    pub(crate) fn render(&self, conversation: &Conversation) -> Result<Rendered, EngineError> {
        let messages = &conversation.messages;
        self.refuse_hopeless(messages)?;
        let (mut pieces, rendered) = match &self.template {
            Some(template) => self.chat(template, conversation)?,
            None => (vec![(join_contents(messages), false)], String::new()),
        };
        let (thinking, blocks, direct) = self.thinking_after(&rendered, conversation);
        match pieces.last_mut() {
            Some((last, true)) => last.push_str(&direct),
            _ if direct.is_empty() => {}
            _ => pieces.push((direct, true)),
        }
        Ok(Rendered {
            pieces,
            thinking,
            blocks,
        })
    }

    /// Tokenises a rendered conversation, the second step.
    ///
    /// # Errors
    /// `ContextOverflow` if a long text cannot fit, `Template` if there is no text.
    pub(crate) fn finish(&self, rendered: Rendered) -> Result<Prompt, EngineError> {
        let mut tokens = self.tokenize(&rendered.pieces)?;
        // The template may write the token itself; twice would spoil the answer.
        if let Some(bos) = self.vocabulary.bos()
            && self.vocabulary.adds_bos()
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        if tokens.is_empty() {
            return Err(EngineError::new(
                EngineErrorKind::Template,
                "the messages give an empty prompt",
            )
            .hint("send some text"));
        }
        Ok(Prompt {
            tokens,
            thinking: rendered.thinking,
            blocks: rendered.blocks,
            grammar: None,
        })
    }

    /// What cannot fit the context whatever its tokens are is refused before it costs time and memory.
    fn refuse_hopeless(&self, messages: &[Message]) -> Result<(), EngineError> {
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let least = u32::try_from(bytes / self.longest_token).unwrap_or(u32::MAX);
        if bytes < EXACT || least < self.context.n_ctx {
            return Ok(());
        }
        Err(EngineError::overflow(
            &format!("at least {least}"),
            self.context,
        ))
    }

    fn chat(
        &self,
        template: &ChatTemplate,
        conversation: &Conversation,
    ) -> Result<(Vec<(String, bool)>, String), EngineError> {
        let messages = &conversation.messages;
        let arguments = &conversation.template_arguments;
        let Some(marks) = Marks::absent_from(messages, arguments) else {
            return Err(EngineError::new(
                EngineErrorKind::Template,
                "the messages hold every noncharacter of Unicode",
            )
            .hint("remove the characters U+FDD0 to U+FDEF from the text"));
        };
        let marked: Vec<Message> = messages
            .iter()
            .map(|message| self.controls.mark(message, marks))
            .collect();
        let [off, on] = &self.switches;
        let mut variables = match conversation.thinking {
            _ if !conversation.may_think() => off.clone(),
            ThinkingOutput::Before => on.clone(),
            ThinkingOutput::Strip | ThinkingOutput::Keep | ThinkingOutput::Off => Variables::new(),
        };
        for (name, value) in arguments {
            variables.insert(name.clone(), self.controls.mark_value(value, marks));
        }
        let rendered = template.render(&marked, &variables)?;
        Ok((self.controls.split(&rendered, marks), rendered))
    }

    /// Returns how the reasoning after a prompt is filtered and limited, and the text to append to the prompt. If reasoning is off,
    /// that text closes a block that the template opened.
    fn thinking_after(
        &self,
        rendered: &str,
        conversation: &Conversation,
    ) -> (Thinking, Blocks, String) {
        let new = || Thinking::new(Arc::clone(&self.markers));
        let mut thinking = new().after(rendered);
        let mut direct = String::new();
        if !conversation.may_think() {
            direct = match thinking.block() {
                Some(at) => self.markers[at].closing.clone(),
                None if thinking.is_behind_block() => String::new(),
                None => {
                    let first = self.markers.first();
                    first.map(|first| first.direct.clone()).unwrap_or_default()
                }
            };
            thinking = new().after(if direct.is_empty() { rendered } else { &direct });
        }
        let is_forced = conversation.json_schema.is_some();
        let start = match thinking.block() {
            _ if !is_forced => Start::Answer,
            Some(_) => Start::Block,
            None if conversation.may_think() && !thinking.is_behind_block() => {
                self.marker_tokens.choice()
            }
            None => Start::Answer,
        };
        if is_forced {
            thinking = thinking.leading_only();
            if start == Start::Answer {
                thinking.begin_answer();
            }
        } else if conversation.thinking == ThinkingOutput::Keep {
            thinking = thinking.keep();
        }
        let blocks = Blocks {
            tokens: self.marker_tokens.clone(),
            start,
            // A model may open a block even if reasoning is off.
            budget: if conversation.may_think() {
                conversation.thinking_budget
            } else {
                Some(0)
            },
        };
        (thinking, blocks, direct)
    }
}

#[cfg(test)]
mod tests;
