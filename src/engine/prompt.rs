//! Builds prompts: renders a conversation with the chat template, and tokenises it.
//!
//! Jinja renders template and messages to one text, in which llama.cpp would parse every control token, even `<|im_end|>` in a message of
//! a user. So each control token in a message is put between two marks before rendering: noncharacters of Unicode that do not occur in the
//! conversation. Afterwards, text between marks is tokenised as plain text, and the text of the template with control tokens.
//!
//! ```text
//! message   say <|im_end|>
//! marked    say ⟦<|im_end|>⟧
//! rendered  <|im_start|>user\nsay ⟦<|im_end|>⟧<|im_end|>
//! pieces    "<|im_start|>user\nsay " parsed, "<" and "|im_end|>" plain, "<|im_end|>" parsed
//! ```

mod controls;
mod split;
mod tokens;

use std::sync::Arc;

use controls::{ControlTexts, Marks};
use split::Splitter;
use tokens::EXACT_COUNT_LIMIT;

use super::grammar::Grammar;
use super::limits::ContextSize;
use super::template::{ChatTemplate, Variables, join_contents};
use super::thinking::Thinking;
use super::thinking::blocks::{AnswerStart, Blocks, MarkerTokens};
use super::thinking::families::{Markers, markers_of};
use super::thinking::switches::switches;
use super::token::Token;
use super::vocabulary::Vocabulary;
use super::{Conversation, EngineError, EngineErrorKind, Message, ThinkingOutput};

/// A prompt for the scheduler.
#[derive(Debug)]
pub(crate) struct Prompt {
    /// Tokens of the prompt, not empty.
    pub tokens: Vec<Token>,
    /// Filter that removes reasoning from the answer.
    pub thinking: Thinking,
    /// Tokens with which reasoning begins and ends, and the limit of reasoning.
    pub blocks: Blocks,
    /// Grammar of a structured answer; `None` for free text.
    pub grammar: Option<Grammar>,
}

/// A part of a rendered conversation.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    text: String,
    /// Whether the template wrote the text, so that control tokens are parsed in it. Otherwise it is a control token of a message.
    is_template: bool,
}

impl Piece {
    fn of_template(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_template: true,
        }
    }

    fn plain(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_template: false,
        }
    }
}

/// A rendered conversation.
#[derive(Debug)]
pub(crate) struct Rendered {
    pieces: Vec<Piece>,
    thinking: Thinking,
    blocks: Blocks,
}

/// Builds prompts of conversations for one model.
#[derive(Debug)]
pub(crate) struct PromptBuilder<V> {
    vocabulary: V,
    template: Option<ChatTemplate>,
    markers: Arc<[Markers]>,
    marker_tokens: MarkerTokens,
    /// Template variables that switch reasoning off, and those that switch it on.
    switches: [Variables; 2],
    controls: ControlTexts,
    splitter: Splitter,
    context: ContextSize,
    longest_token: usize,
}

impl<V: Vocabulary> PromptBuilder<V> {
    /// Creates a builder for calls within `context`. `template` is the model's chat template and its source, `None` for a base model.
    /// `tags` are the configured markers of reasoning.
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
            splitter: Splitter::new(
                vocabulary.special_tokens().as_deref(),
                vocabulary.adjacent_chars(),
            )?,
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

    /// Returns the vocabulary of the model.
    pub(crate) fn vocabulary(&self) -> &V {
        &self.vocabulary
    }

    /// Returns the context size of one call, in tokens.
    pub(crate) fn n_ctx(&self) -> u32 {
        self.context.n_ctx
    }

    /// Builds the prompt of `conversation`, without a grammar.
    ///
    /// # Errors
    /// The errors of [`Self::render`] and [`Self::finish`].
    pub(crate) fn build(&self, conversation: &Conversation) -> Result<Prompt, EngineError> {
        self.finish(self.render(conversation)?)
    }

    /// Renders `conversation`, the first of two steps. [`Self::finish`] is the second.
    ///
    /// # Errors
    /// `Template` if the template rejects the messages, `ContextOverflow` if they cannot fit the context.
    pub(crate) fn render(&self, conversation: &Conversation) -> Result<Rendered, EngineError> {
        let messages = &conversation.messages;
        self.check_fits(messages)?;
        let (mut pieces, rendered) = match &self.template {
            Some(template) => self.render_chat(template, conversation)?,
            None => (vec![Piece::plain(join_contents(messages))], String::new()),
        };
        let (thinking, blocks, direct) = self.thinking_after(&rendered, conversation);
        match pieces.last_mut() {
            Some(last) if last.is_template => last.text.push_str(&direct),
            _ if direct.is_empty() => {}
            _ => pieces.push(Piece::of_template(direct)),
        }
        Ok(Rendered {
            pieces,
            thinking,
            blocks,
        })
    }

    /// Tokenises a rendered conversation, the second of two steps.
    ///
    /// # Errors
    /// `ContextOverflow` if a long text cannot fit the context, `Template` if there is no text.
    pub(crate) fn finish(&self, rendered: Rendered) -> Result<Prompt, EngineError> {
        let mut tokens = self.tokenize(&rendered.pieces)?;
        // Some templates write the token themselves, and a second one degrades the answer.
        if let Some(bos) = self.vocabulary.bos()
            && self.vocabulary.adds_bos()
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        if tokens.is_empty() {
            return Err(EngineError::new(
                EngineErrorKind::Template,
                "the messages render to an empty prompt",
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

    /// Rejects messages that exceed the context even if each token were the longest one, before they cost time and memory.
    ///
    /// # Errors
    /// `ContextOverflow` if the messages cannot fit.
    fn check_fits(&self, messages: &[Message]) -> Result<(), EngineError> {
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let least = u32::try_from(bytes / self.longest_token).unwrap_or(u32::MAX);
        if bytes < EXACT_COUNT_LIMIT || least < self.context.n_ctx {
            return Ok(());
        }
        Err(EngineError::overflow(least as usize, false, self.context))
    }

    fn render_chat(
        &self,
        template: &ChatTemplate,
        conversation: &Conversation,
    ) -> Result<(Vec<Piece>, String), EngineError> {
        let messages = &conversation.messages;
        let arguments = &conversation.template_arguments;
        let Some(marks) = Marks::absent_from(messages, arguments) else {
            return Err(EngineError::new(
                EngineErrorKind::Template,
                "the messages contain every noncharacter from U+FDD0 to U+FDEF",
            )
            .hint("remove these characters from the text"));
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

    /// Returns the filter and the limits of reasoning after a prompt, and the text to append to the prompt. If reasoning is off, that text
    /// closes a block that the template opened.
    fn thinking_after(
        &self,
        rendered: &str,
        conversation: &Conversation,
    ) -> (Thinking, Blocks, String) {
        let new = || Thinking::new(Arc::clone(&self.markers));
        let mut thinking = new().after_prompt(rendered);
        let mut direct = String::new();
        if !conversation.may_think() {
            direct = match thinking.block() {
                Some(at) => self.markers[at].closing.clone(),
                None if thinking.is_after_block() => String::new(),
                None => {
                    let first = self.markers.first();
                    first.map(|first| first.direct.clone()).unwrap_or_default()
                }
            };
            thinking = new().after_prompt(if direct.is_empty() { rendered } else { &direct });
        }
        let is_forced = conversation.json_schema.is_some();
        let start = match thinking.block() {
            _ if !is_forced => AnswerStart::Answer,
            Some(_) => AnswerStart::Block,
            None if conversation.may_think() && !thinking.is_after_block() => {
                self.marker_tokens.choice()
            }
            None => AnswerStart::Answer,
        };
        if is_forced {
            thinking = thinking.leading_only();
            if start == AnswerStart::Answer {
                thinking.begin_answer();
            }
        } else if conversation.thinking == ThinkingOutput::Keep {
            thinking = thinking.keep_reasoning();
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
