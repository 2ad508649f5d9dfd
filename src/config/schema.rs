//! JSON Schemas of answers: what can be enforced while an answer is written, and what is refused.
//!
//! The grammar ([`crate::engine::grammar`]) ignores what it does not know, so the keywords are listed here (`walk`), and all
//! others are refused with their place. What is let through comes out narrower than it went in, never wider: objects are
//! closed, strings and arrays get an end, numbers are those of a double with a bounded fraction (`number`), since a small
//! model that may go on for ever does. References are put in place of their names.

mod number;
mod pattern;
mod text;
mod walk;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

pub use number::MAX_FRACTION;
pub use text::MAX_STRING;
pub use walk::MAX_ITEMS;

/// Bytes of a schema, as it is written and as it is enforced.
const MAX_BYTES: usize = 64 * 1024;

/// Bytes of a compiled pattern.
const PATTERN_BYTES: usize = 1 << 20;

/// Why a schema cannot be enforced, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at `{pointer}`: {reason}")]
pub struct SchemaFault {
    /// JSON pointer of the schema or keyword; `#` is the whole.
    pub pointer: String,
    /// What is wrong, and the way out.
    pub reason: String,
}

fn fault(pointer: &str, reason: impl Into<String>) -> SchemaFault {
    SchemaFault {
        pointer: pointer.into(),
        reason: reason.into(),
    }
}

/// What an answer must be. Serialised, it is its key of a tool.
#[derive(Debug)]
pub struct AnswerSchema {
    /// As it was written, for clients.
    pub written: Value,
    /// As it is enforced.
    pub enforced: Value,
    /// The parts of what is enforced that only the grammar itself can judge, strings with a pattern, with their places in what
    /// was written.
    pub doubtful: Vec<(String, Value)>,
    /// The answer is a text among several.
    pub is_choice: bool,
    validator: jsonschema::Validator,
}

impl AnswerSchema {
    /// Of JSON that follows `schema`, an object.
    ///
    /// # Errors
    /// What cannot be enforced.
    pub fn json(schema: &Value) -> Result<Self, SchemaFault> {
        let made = Self::of(schema)?;
        if made.enforced["type"] != "object" {
            let reason = "the root must be an object: `\"type\": \"object\"`";
            return Err(fault("#", reason));
        }
        Ok(made)
    }

    /// Of one of `choices`.
    ///
    /// # Errors
    /// What cannot be enforced: that there is no choice, or too much of it.
    pub fn choice(choices: &[String]) -> Result<Self, SchemaFault> {
        let written = json!({"type": "object", "properties": {"choice": {"type": "string", "enum": choices}}, "required": ["choice"]});
        Ok(Self {
            written,
            is_choice: true,
            ..Self::of(&json!({"enum": choices}))?
        })
    }

    fn of(schema: &Value) -> Result<Self, SchemaFault> {
        let too_long = || fault("#", format!("the schema is longer than {MAX_BYTES} bytes"));
        if schema.to_string().len() > MAX_BYTES {
            return Err(too_long());
        }
        let (enforced, doubtful) = walk::walk(schema)?;
        if enforced.to_string().len() > MAX_BYTES {
            return Err(too_long());
        }
        let patterns = jsonschema::PatternOptions::regex()
            .size_limit(PATTERN_BYTES)
            .dfa_size_limit(PATTERN_BYTES);
        let validator = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .with_pattern_options(patterns)
            .build(schema)
            .map_err(|error| fault("#", error.to_string()))?;
        Ok(Self {
            written: schema.clone(),
            enforced,
            doubtful,
            is_choice: false,
            validator,
        })
    }

    /// Whether `value` follows the schema as it was written.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        self.validator
            .validate(value)
            .map_err(|error| format!("at `{}`: {error}", error.instance_path()))
    }

    /// The key of a tool that says it.
    pub fn key(&self) -> &'static str {
        if self.is_choice { "choices" } else { "output" }
    }
}

impl PartialEq for AnswerSchema {
    fn eq(&self, other: &Self) -> bool {
        (self.is_choice, &self.written) == (other.is_choice, &other.written)
    }
}

impl Serialize for AnswerSchema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = serializer.serialize_map(Some(1))?;
        table.serialize_entry(self.key(), &self.written)?;
        table.end()
    }
}

#[cfg(test)]
mod tests;
