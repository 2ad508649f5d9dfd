//! The shared prefix of a tool: the beginning that all its prompts have in common, found with two samples.

use std::iter::zip;

use serde::{Deserialize, Serialize};

use super::prefix::common_prefix_len;
use super::prompt::PromptBuilder;
use super::token::Token;
use super::vocabulary::Vocabulary;
use super::{Conversation, EngineError};

/// Two sample prompts of a tool that differ in everything that a caller gives. Their common beginning is the shared prefix of the tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PromptSamples {
    /// Name of the tool, for the log.
    pub tool: String,
    /// Conversations as calls would have them.
    pub samples: [Conversation; 2],
}

/// Fewest tokens of a shared prefix. A shorter one costs one small step with the rest of the prompt, and is not worth its memory.
const SHORTEST: usize = 32;

impl PromptSamples {
    /// Returns the bytes of the shared prefix, without the text that a chat template adds.
    pub(crate) fn bytes(&self) -> usize {
        let [one, other] = &self.samples;
        let mut bytes = 0;
        for (one, other) in zip(&one.messages, &other.messages) {
            if one.role != other.role {
                break;
            }
            bytes += common_prefix_len(one.content.as_bytes(), other.content.as_bytes());
            if one.content != other.content {
                break;
            }
        }
        bytes
    }
}

/// Returns the bytes of the longest shared prefix of `tools`, or 0 if there are none.
pub(crate) fn longest(tools: &[PromptSamples]) -> u64 {
    let longest = tools.iter().map(PromptSamples::bytes).max();
    longest.unwrap_or(0) as u64
}

impl<V: Vocabulary> PromptBuilder<V> {
    /// Returns the shared prefix of a tool: the tokens with which all its prompts begin. Returns `None` if they are too few to be worth
    /// keeping, or fill the context.
    ///
    /// # Errors
    /// The errors of [`PromptBuilder::build`].
    pub(crate) fn shared_prefix(
        &self,
        prompts: &PromptSamples,
    ) -> Result<Option<Vec<Token>>, EngineError> {
        let [one, other] = &prompts.samples;
        let (mut tokens, other) = (self.build(one)?.tokens, self.build(other)?.tokens);
        // If other text follows, the last token may become part of a longer one.
        tokens.truncate(common_prefix_len(&tokens, &other).saturating_sub(1));
        let is_worth_it = (SHORTEST..self.n_ctx() as usize).contains(&tokens.len());
        if tokens.len() >= SHORTEST && !is_worth_it {
            let (tokens, n_ctx) = (tokens.len(), self.n_ctx());
            tracing::warn!(
                tool = prompts.tool,
                tokens,
                n_ctx,
                "the shared prefix of a tool fills the context, so all its calls fail; shorten its `system` or `prompt`, or raise `n_ctx`"
            );
        }
        Ok(is_worth_it.then_some(tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Message, Role};

    fn sample(messages: &[(Role, &str)]) -> Conversation {
        let message = |(role, content): &(Role, &str)| Message {
            role: *role,
            content: (*content).into(),
        };
        Conversation {
            messages: messages.iter().map(message).collect(),
            thinking: super::super::ThinkingOutput::Strip,
            json_schema: None,
            thinking_budget: None,
            template_arguments: serde_json::Map::new(),
        }
    }

    #[test]
    fn the_shared_prefix_ends_where_the_samples_differ() {
        use Role::{Assistant, System, User};
        let bytes = |one: &[(Role, &str)], other: &[(Role, &str)]| {
            let samples = [sample(one), sample(other)];
            PromptSamples {
                tool: "t".into(),
                samples,
            }
            .bytes()
        };
        let both = |one, other| {
            bytes(
                &[(System, "fixed"), (User, one)],
                &[(System, "fixed"), (User, other)],
            )
        };
        assert_eq!(both("a", "bb"), 5);
        assert_eq!(both("Sum: a", "Sum: bb"), 10);
        assert_eq!(both("a", "aa"), 6);
        assert_eq!(bytes(&[(User, "a")], &[(User, "bb")]), 0);
        assert_eq!(bytes(&[(User, "a")], &[(Assistant, "a")]), 0);
        assert_eq!(
            bytes(
                &[(System, "one"), (User, "a")],
                &[(System, "other"), (User, "a")]
            ),
            1
        );
    }
}
