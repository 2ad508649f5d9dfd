//! Control tokens in messages: marked before the template renders them, and split off afterwards.
//!
//! A message with a control token is tokenised in pieces. Vocabularies that begin every text with a space (SPM) then add one before each
//! piece; messages without control tokens are not affected.

use aho_corasick::AhoCorasick;
use serde_json::Value;

use super::Piece;
use super::split::build_finder;
use crate::engine::template::Variables;
use crate::engine::thinking::families::Markers;
use crate::engine::{EngineError, Message, Role};

/// Finds and marks the texts of control tokens.
#[derive(Debug)]
pub(super) struct ControlTexts {
    finder: AhoCorasick,
    /// Markers of reasoning that are not marked in earlier answers, since templates search for them.
    bare: Vec<String>,
}

/// The two characters around a control token in a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks {
    open: char,
    close: char,
}

impl Marks {
    /// Returns two marks that occur neither in `messages` nor in `arguments`, or `None` if there are none.
    pub(super) fn absent_from(messages: &[Message], arguments: &Variables) -> Option<Self> {
        let is_in_arguments =
            |mark: char| arguments.values().any(|value| has_character(value, mark));
        let mut free = ('\u{fdd0}'..='\u{fdef}').filter(|mark| {
            let mut messages = messages.iter();
            !messages.any(|message| message.content.contains(*mark)) && !is_in_arguments(*mark)
        });
        Some(Self {
            open: free.next()?,
            close: free.next()?,
        })
    }
}

/// Returns whether `mark` occurs in a text of `value`.
fn has_character(value: &Value, mark: char) -> bool {
    match value {
        Value::String(text) => text.contains(mark),
        Value::Array(items) => items.iter().any(|item| has_character(item, mark)),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| name.contains(mark) || has_character(value, mark)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

impl ControlTexts {
    /// Creates an index of `texts`.
    ///
    /// # Errors
    /// `Load` if there are too many `texts` for a search automaton.
    pub(super) fn new(texts: Vec<String>, markers: &[Markers]) -> Result<Self, EngineError> {
        // Markers that also separate messages are marked, or a text could start a message.
        let bare = markers
            .iter()
            .filter(|markers| markers.direct.is_empty())
            .flat_map(|markers| [markers.open.clone(), markers.close.clone()])
            .collect();
        Ok(Self {
            finder: build_finder(texts)?,
            bare,
        })
    }

    /// Returns `message` with marks around its control tokens. The markers of reasoning in an earlier answer stay bare, since templates
    /// search for them.
    pub(super) fn mark(&self, message: &Message, marks: Marks) -> Message {
        let bare: &[String] = match message.role {
            Role::Assistant => &self.bare,
            Role::System | Role::User => &[],
        };
        Message {
            role: message.role,
            content: self.mark_text(&message.content, bare, marks),
        }
    }

    /// Returns `value` with marks around the control tokens of its texts.
    pub(super) fn mark_value(&self, value: &Value, marks: Marks) -> Value {
        match value {
            Value::String(text) => self.mark_text(text, &[], marks).into(),
            Value::Array(items) => items
                .iter()
                .map(|item| self.mark_value(item, marks))
                .collect(),
            Value::Object(members) => {
                let marked = members.iter().map(|(name, value)| {
                    let name = self.mark_text(name, &[], marks);
                    (name, self.mark_value(value, marks))
                });
                Value::Object(marked.collect())
            }
            other => other.clone(),
        }
    }

    fn mark_text(&self, content: &str, bare: &[String], marks: Marks) -> String {
        let mut marked = String::with_capacity(content.len());
        let mut from = 0;
        for found in self.finder.find_iter(content) {
            let text = &content[found.range()];
            if bare.iter().any(|bare| bare == text) {
                continue;
            }
            marked.push_str(&content[from..found.start()]);
            marked.push(marks.open);
            marked.push_str(text);
            marked.push(marks.close);
            from = found.end();
        }
        marked.push_str(&content[from..]);
        marked
    }

    /// Splits a rendered text into non-empty pieces, in order: the text of the template, and the control tokens of messages.
    ///
    /// A control token of a message becomes two pieces, its first character and the rest, since a vocabulary may match it in plain text,
    /// too. The opening mark alone protects the token, in case a template has cut off the closing one. A mark without a token behind it is
    /// dropped.
    pub(super) fn split(&self, rendered: &str, marks: Marks) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut template = String::new();
        let mut rest = rendered;
        while let Some(at) = rest.find([marks.open, marks.close]) {
            template.push_str(&rest[..at]);
            let mut behind = rest[at..].chars();
            let mark = behind.next();
            rest = behind.as_str();
            let token = self
                .finder
                .find(rest)
                .filter(|found| mark == Some(marks.open) && found.start() == 0);
            if let Some(token) = token {
                let (text, after) = rest.split_at(token.end());
                let second = text.chars().next().map_or(0, char::len_utf8);
                pieces.push(Piece::of_template(std::mem::take(&mut template)));
                pieces.push(Piece::plain(&text[..second]));
                pieces.push(Piece::plain(&text[second..]));
                rest = after;
            }
        }
        template.push_str(rest);
        pieces.push(Piece::of_template(template));
        pieces.retain(|piece| !piece.text.is_empty());
        pieces
    }
}
