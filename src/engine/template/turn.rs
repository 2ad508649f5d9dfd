//! A message in the form that chat templates receive.

use std::borrow::Cow;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::engine::thinking::families::after_reasoning;
use crate::engine::{Message, Role};

/// A message of the conversation that a template renders.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn<'a> {
    pub role: Role,
    pub text: Cow<'a, str>,
    /// Whether the template receives the text as a list of parts, the form of messages with images.
    pub as_parts: bool,
    /// Indices of the caller's messages whose text this turn contains.
    pub sources: Vec<usize>,
}

/// Converts `messages` to turns.
pub(super) fn turns_of(messages: &[Message]) -> Vec<Turn<'_>> {
    let messages = messages.iter().enumerate();
    messages
        .map(|(at, message)| Turn::new(at, message))
        .collect()
}

impl<'a> Turn<'a> {
    fn new(at: usize, message: &'a Message) -> Self {
        Self {
            role: message.role,
            text: Cow::Borrowed(&message.content),
            as_parts: false,
            sources: vec![at],
        }
    }

    /// Returns this turn with borrowed text.
    pub(super) fn borrowed(&self) -> Turn<'_> {
        Turn {
            role: self.role,
            text: Cow::Borrowed(&self.text),
            as_parts: self.as_parts,
            sources: self.sources.clone(),
        }
    }

    /// Returns the text that a prompt must contain: that of the message, without reasoning if it is an answer.
    pub(super) fn required_text(&self) -> &str {
        match self.role {
            Role::Assistant => after_reasoning(&self.text),
            Role::System | Role::User => &self.text,
        }
    }

    /// Appends the text of `other` as a paragraph of its own.
    pub(super) fn append(&mut self, other: Turn<'_>) {
        let text = self.text.to_mut();
        text.push_str("\n\n");
        text.push_str(&other.text);
        self.sources.extend(other.sources);
    }
}

#[derive(Serialize)]
struct Part<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    text: &'a str,
}

impl Serialize for Turn<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut message = serializer.serialize_struct("Message", 2)?;
        message.serialize_field("role", &self.role)?;
        let text = self.text.as_ref();
        if self.as_parts {
            message.serialize_field("content", &[Part { kind: "text", text }])?;
        } else {
            message.serialize_field("content", text)?;
        }
        message.end()
    }
}
