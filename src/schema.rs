//! JSON Schemas of answers: reads them, and derives the schema to enforce and the schema to advertise.
//!
//! ```text
//! as written ─canonical─▶ one draft ─negation─▶ no negations ─lower─▶ values ─┬─▶ enforced: followed by the grammar
//!                              │                                              └─▶ advertised: seen by clients
//!                              └─▶ the check of finished answers
//! ```
//!
//! The enforced schema never allows more than the written one, except for the keywords that are checked on the finished answer
//! ([`lower`]). The advertised schema never allows less than the enforced one. All faults of a schema are reported at once. Notes
//! report what is ignored, narrowed or left out.

mod advertised;
mod array;
mod canonical;
mod conjunction;
mod cost;
mod drafts;
mod enforced;
mod formats;
mod keywords;
mod lower;
mod merge;
mod negation;
mod node;
mod number;
mod object;
mod one_of;
mod pattern;
mod portable;
mod recursion;
mod references;
mod report;
mod truncation;
mod types;
mod validator;
mod values;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

pub(crate) use self::advertised::advertised;
pub(crate) use self::enforced::Limits;
pub(crate) use self::report::{SchemaFault, SchemaFaults, SchemaNote};
pub(crate) use self::truncation::Truncation;
use canonical::Canonical;
use cost::Uncheckable;
use lower::{Lowered, Producer};
use node::Kind;
#[cfg(test)]
use report::MAX_REPORTS;
use report::{Reports, fault, note};
use serde::ser::{Serialize, SerializeMap, Serializer};
use validator::Validator;

use crate::json::depth;
use crate::threads::{NotDone, on_stack};

/// The members of a JSON object.
type Table = Map<String, Value>;

/// Maximum length of a schema, in bytes, both as written and as enforced.
const MAX_BYTES: usize = 512 * 1024;

/// Maximum number of schemas that check the values of one answer. Such a check takes some seconds.
const MAX_CHECKS: u64 = 100_000_000;

/// Maximum nesting of the enforced schema: `serde_json` reads at most 128 levels of the message that contains it.
const MAX_LEVELS: usize = 100;

/// Maximum nesting of JSON text that `serde_json` reads.
const MAX_TEXT_LEVELS: usize = 127;

/// Stack of the thread that reads a schema, in bytes: 40 KiB for each nested conjunction ([`lower`]).
const STACK: usize = 16 * 1024 * 1024;

/// A reason why a text is not a schema that can be enforced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaTextError {
    /// The text is not JSON.
    #[error("invalid JSON: {0}")]
    Json(serde_json::Error),
    /// The text has too many levels of arrays and objects.
    #[error(
        "the JSON nests more than {MAX_TEXT_LEVELS} levels deep, at line {line}; reduce the nesting, for example with `$ref`"
    )]
    TooDeep {
        /// The line that exceeds the limit.
        line: usize,
    },
    /// The schema has faults.
    #[error(transparent)]
    Faults(#[from] SchemaFaults),
}

/// A reason why a value is not accepted as an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CheckError {
    /// Checking the value would take too long.
    #[error("the schema has too many parts to check an answer of this size")]
    TooCostly,
    /// A part of the value does not follow the schema.
    #[error("at `{pointer}`: {reason}")]
    Invalid {
        /// JSON pointer of the part.
        pointer: String,
        /// Description of what is wrong.
        reason: String,
    },
}

/// The schema of an answer: one value for the grammar, one for clients, and the notes on both.
///
/// ```text
/// let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]});
/// let answer = AnswerSchema::json(&schema, Limits::default())?;
/// answer.check(&json!({"n": 3}))      // Ok(())
/// answer.check(&json!({"n": 0}))      // Err: at `/n`: 0 is less than the minimum of 1
/// ```
///
/// Serialises as the key that declares it, `output` or `choices`.
#[derive(Debug)]
pub(crate) struct AnswerSchema {
    /// The schema as it was written.
    pub written: Value,
    /// The schema as clients see it.
    pub advertised: Value,
    /// The schema that the grammar follows.
    pub enforced: Value,
    /// Schemas of strings that only the grammar compiler can check, with their JSON pointers in the written schema.
    pub doubtful: Vec<(String, Value)>,
    /// Notes on the parts that are ignored, narrowed, checked later or not advertised.
    pub notes: Vec<SchemaNote>,
    /// Whether the answer is one of several texts.
    pub is_choice: bool,
    /// The limits of the parts that the schema leaves open. `None` if it leaves no part open.
    limits: Option<Limits>,
    lowered: Lowered,
    /// Maximum number of schemas that one value of an answer is checked by.
    cost: u64,
    validator: Validator,
}

impl AnswerSchema {
    /// Reads `schema`, a JSON Schema of an object. `limits` apply to the parts that the schema leaves open.
    ///
    /// # Errors
    /// Returns all faults of the schema.
    pub(crate) fn json(schema: &Value, limits: Limits) -> Result<Self, SchemaFaults> {
        Self::read_on_large_stack(schema, limits, true)
    }

    /// Reads a JSON Schema of an object from `text`, which may begin with a byte order mark.
    ///
    /// # Errors
    /// Fails if `text` is not JSON; otherwise, returns all faults of the schema.
    pub(crate) fn from_text(text: &str, limits: Limits) -> Result<Self, SchemaTextError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let schema: Value = serde_json::from_str(text).map_err(|error| {
            // `serde_json` has no error category for this limit.
            if error.to_string().starts_with("recursion limit exceeded") {
                SchemaTextError::TooDeep { line: error.line() }
            } else {
                SchemaTextError::Json(error)
            }
        })?;
        Ok(Self::json(&schema, limits)?)
    }

    /// Builds the schema of an answer that is one of `choices`.
    ///
    /// # Errors
    /// Fails if `choices` is empty or too long.
    pub(crate) fn choice(choices: &[String]) -> Result<Self, SchemaFaults> {
        let written = json!({"type": "object", "properties": {"choice": {"type": "string", "enum": choices}}, "required": ["choice"]});
        Ok(Self {
            advertised: advertised(&written),
            written,
            is_choice: true,
            ..Self::read_on_large_stack(&json!({"enum": choices}), Limits::default(), false)?
        })
    }

    /// Reads `schema` on a thread with a large stack: schemas may refer to each other more deeply than they nest.
    fn read_on_large_stack(
        schema: &Value,
        limits: Limits,
        is_object: bool,
    ) -> Result<Self, SchemaFaults> {
        let read = || Self::read_schema(schema, limits, is_object);
        on_stack(STACK, read).unwrap_or_else(|reason| match reason {
            NotDone::NoThread(limit) => {
                let fault = SchemaFault {
                    is_of_system: true,
                    ..fault("#", limit.to_string())
                };
                Err(fault.into())
            }
            NotDone::Panicked => {
                Err(fault("#", "the schema could not be read; simplify it").into())
            }
        })
    }

    fn read_schema(schema: &Value, limits: Limits, is_object: bool) -> Result<Self, SchemaFaults> {
        if schema.to_string().len() > MAX_BYTES {
            return Err(fault(
                "#",
                format!("the schema is longer than {MAX_BYTES} bytes; shorten it"),
            )
            .into());
        }
        let as_written = |mut faults: Vec<SchemaFault>| {
            for fault in &mut faults {
                fault.pointer = drafts::as_written(schema, &fault.pointer);
            }
            SchemaFaults(faults)
        };
        let mut canonical = Canonical::from_schema(schema);
        let cost = match cost::upper_bound(&canonical) {
            Ok(cost) => cost,
            Err(Uncheckable::Endless(fault)) => {
                // The other faults of the schema are reported with it.
                canonical.faults.add(fault);
                0
            }
            Err(Uncheckable::TooMuch(fault)) => {
                canonical.faults.add(fault);
                return Err(as_written(canonical.faults.0));
            }
        };
        let mut lowered = lower::lower(&canonical, Producer::Model);
        if is_object && lowered.faults.0.is_empty() && !has_object_root(&lowered) {
            let reason = "the root must be an object: `\"type\": \"object\"`";
            lowered.faults.add(fault("#", reason));
        }
        if !lowered.faults.0.is_empty() {
            return Err(as_written(lowered.faults.0));
        }
        let mut enforced = enforced::enforced(&lowered, limits);
        if enforced.schema.to_string().len() > MAX_BYTES {
            let reason = format!(
                "the enforced form is longer than {MAX_BYTES} bytes, because it spells out each limit and each level of recursion; use fewer properties"
            );
            return Err(fault("#", reason).into());
        }
        if depth(&enforced.schema) > MAX_LEVELS {
            return Err(fault("#", "schemas nest too deeply; reduce the nesting").into());
        }
        let (advertised, left_out) = advertised::rendered(&lowered);
        let mut notes = std::mem::take(&mut lowered.notes.0);
        notes.extend(std::mem::take(&mut enforced.notes));
        notes.extend(left_out);
        for note in &mut notes {
            note.pointer = drafts::as_written(schema, &note.pointer);
        }
        Ok(Self {
            written: schema.clone(),
            advertised,
            enforced: enforced.schema,
            doubtful: enforced.doubtful,
            notes,
            is_choice: false,
            limits: enforced.is_limited.then_some(limits),
            lowered,
            cost,
            validator: Validator::compile(&canonical.document())?,
        })
    }

    /// Checks that `value` follows the schema as it was written.
    ///
    /// # Errors
    /// `Invalid` for the first fault of `value`, `TooCostly` if the check would take too long.
    pub(crate) fn check(&self, value: &Value) -> Result<(), CheckError> {
        if self.cost.saturating_mul(values(value)) > MAX_CHECKS {
            return Err(CheckError::TooCostly);
        }
        self.validator.check(value)
    }

    /// Returns a part of `value` that is as long as the limit for open parts: it was probably truncated.
    pub(crate) fn truncated_part(&self, value: &Value) -> Option<Truncation> {
        truncation::find(&self.lowered, self.limits?, value)
    }

    /// Returns the choices as a JSON array. Returns `None` if the answer is not one of several texts.
    pub(crate) fn choices(&self) -> Option<&Value> {
        let choices = self.written.pointer("/properties/choice/enum");
        choices.filter(|_| self.is_choice)
    }

    /// Returns the configuration key that declares the schema.
    pub(crate) fn key(&self) -> &'static str {
        if self.is_choice { "choices" } else { "output" }
    }
}

/// Returns whether all values of `lowered` are objects.
fn has_object_root(lowered: &Lowered) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![&lowered.root];
    while let Some(node) = open.pop() {
        match &node.kind {
            Kind::Object(_) => {}
            Kind::Values(values) if values.iter().all(Value::is_object) => {}
            Kind::Union(options) => open.extend(options),
            Kind::Reference(key) => {
                if seen.insert(key) {
                    open.extend(lowered.definitions.get(key));
                }
            }
            _ => return false,
        }
    }
    true
}

/// Counts the values in `value`, itself included.
fn values(value: &Value) -> u64 {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(table) => table.values().map(values).sum(),
        _ => 0,
    }
}

impl PartialEq for AnswerSchema {
    fn eq(&self, other: &Self) -> bool {
        (self.is_choice, &self.written, self.limits)
            == (other.is_choice, &other.written, other.limits)
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
