//! JSON Schemas of answers: what clients see of them, what is enforced while an answer is written, and what is refused.
//!
//! ```text
//! as written ─canonical─▶ one draft ─negation─▶ no negations ─lower─▶ values ─┬─▶ enforced: what the grammar follows
//!                              │                                              └─▶ advertised: what clients see
//!                              └─▶ the check of finished answers
//! ```
//!
//! The enforced schema never allows more than the written one, except for what the check of the finished answer finds (`lower`). The
//! advertised schema never allows less than the enforced one. All faults of a schema are reported at once. A note reports what is
//! ignored, narrowed or left out.

mod advertised;
mod array;
mod canonical;
mod conjunction;
mod cost;
mod cut;
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
mod types;
mod validator;
mod values;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

pub(crate) use self::advertised::advertised;
pub(crate) use self::enforced::Limits;
pub(crate) use self::report::{SchemaFault, SchemaFaults, SchemaNote};
use canonical::Canonical;
use cost::Uncheckable;
use lower::{Author, Lowered};
use node::Kind;
#[cfg(test)]
use report::MAX_REPORTS;
use report::{Reports, fault, note};
use serde::ser::{Serialize, SerializeMap, Serializer};
use validator::Validator;

use crate::threads::{NotDone, on_stack};

/// The members of a JSON object.
type Table = Map<String, Value>;

/// Bytes of a schema, as it is written and as it is enforced.
const MAX_BYTES: usize = 512 * 1024;

/// Most schemas that all values of an answer are checked by: some seconds.
const MAX_CHECKS: u64 = 100_000_000;

/// Most levels of the schema for the grammar: `serde_json` reads 128 levels of the message that contains it.
const MAX_LEVELS: usize = 100;

/// Most levels of arrays and objects that `serde_json` reads.
const MAX_TEXT_LEVELS: usize = 127;

/// Bytes of the stack of the thread that reads a schema: 40 KiB for each of the conjunctions that may nest (`lower`).
const STACK: usize = 16 * 1024 * 1024;

/// A reason why a text is not a schema that can be enforced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaTextError {
    /// The text is not JSON.
    #[error("invalid JSON: {0}")]
    Json(serde_json::Error),
    /// The text has too many levels of arrays and objects.
    #[error(
        "the JSON nests more than {MAX_TEXT_LEVELS} levels deep, at line {line}; write fewer levels, for example with `$ref`"
    )]
    TooDeep {
        /// The line on which the limit is exceeded.
        line: usize,
    },
    /// The schema has faults.
    #[error(transparent)]
    Faults(#[from] SchemaFaults),
}

/// The schema of an answer. It serialises as the key that declares it, `output` or `choices`.
#[derive(Debug)]
pub(crate) struct AnswerSchema {
    /// The schema as it was written.
    pub written: Value,
    /// The schema as clients see it.
    pub advertised: Value,
    /// The schema that the grammar follows.
    pub enforced: Value,
    /// Schemas of strings with a pattern, with their JSON pointers in the written schema. Only the grammar can check them.
    pub doubtful: Vec<(String, Value)>,
    /// Notes on the parts that are ignored, narrowed, checked later or not advertised.
    pub notes: Vec<SchemaNote>,
    /// The answer is a text among several.
    pub is_choice: bool,
    /// The limits of what the schema leaves open; `None` if it leaves nothing open.
    limits: Option<Limits>,
    lowered: Lowered,
    /// Most schemas that one value of an answer is checked by.
    cost: u64,
    validator: Validator,
}

impl AnswerSchema {
    /// Reads the JSON Schema of an object. `limits` apply to the parts that the schema leaves open.
    ///
    /// # Errors
    /// All faults of the schema.
    pub(crate) fn json(schema: &Value, limits: Limits) -> Result<Self, SchemaFaults> {
        Self::of(schema, limits, true)
    }

    /// Reads the JSON Schema of an object from `text`, which may begin with a byte order mark, as files of some editors do.
    ///
    /// # Errors
    /// The text is not JSON, or all faults of the schema.
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

    /// Makes the schema of an answer that is one of `choices`.
    ///
    /// # Errors
    /// `choices` is empty or too long.
    pub(crate) fn choice(choices: &[String]) -> Result<Self, SchemaFaults> {
        let written = json!({"type": "object", "properties": {"choice": {"type": "string", "enum": choices}}, "required": ["choice"]});
        Ok(Self {
            advertised: advertised(&written),
            written,
            is_choice: true,
            ..Self::of(&json!({"enum": choices}), Limits::default(), false)?
        })
    }

    /// Reads `schema` on a thread with a large stack: schemas may refer to each other more deeply than they nest.
    fn of(schema: &Value, limits: Limits, is_object: bool) -> Result<Self, SchemaFaults> {
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
            return Err(fault("#", format!("the schema is longer than {MAX_BYTES} bytes")).into());
        }
        let as_written = |mut faults: Vec<SchemaFault>| {
            for fault in &mut faults {
                fault.pointer = drafts::as_written(schema, &fault.pointer);
            }
            SchemaFaults(faults)
        };
        let mut canonical = Canonical::of(schema);
        let cost = match cost::of(&canonical) {
            Ok(cost) => cost,
            Err(Uncheckable::Endless(fault)) => {
                // Its other faults are found, too.
                canonical.faults.add(fault);
                0
            }
            Err(Uncheckable::TooMuch(fault)) => {
                canonical.faults.add(fault);
                return Err(as_written(canonical.faults.0));
            }
        };
        let mut lowered = lower::lower(&canonical, Author::Model);
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
                "the form that is enforced is longer than {MAX_BYTES} bytes: it has the limits of each part, and each level of what contains itself; write fewer properties"
            );
            return Err(fault("#", reason).into());
        }
        if levels(&enforced.schema) > MAX_LEVELS {
            return Err(fault("#", "schemas nest too deeply; write fewer levels").into());
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
            validator: Validator::of(&canonical.document())?,
        })
    }

    /// Checks that `value` follows the schema as it was written.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        if self.cost.saturating_mul(values(value)) > MAX_CHECKS {
            return Err("the schema has too many parts to check an answer of this size".into());
        }
        self.validator.check(value)
    }

    /// Returns the JSON pointer and a description of a string, array or map of `value` that is as long as the limit for open parts,
    /// and so was probably truncated.
    pub(crate) fn cut_at(&self, value: &Value) -> Option<(String, String)> {
        cut::find(&self.lowered, self.limits?, value)
    }

    /// Returns the array of choices; `None` if the answer is not one of several texts.
    pub(crate) fn choices(&self) -> Option<&Value> {
        let choices = self.written.pointer("/properties/choice/enum");
        choices.filter(|_| self.is_choice)
    }

    /// Returns the key of a tool that declares the schema.
    pub(crate) fn key(&self) -> &'static str {
        if self.is_choice { "choices" } else { "output" }
    }
}

/// Returns whether all values are objects.
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

/// Number of values in `value`.
fn values(value: &Value) -> u64 {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(table) => table.values().map(values).sum(),
        _ => 0,
    }
}

/// Levels of arrays and objects in `value`.
fn levels(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(levels).max().unwrap_or(0),
        Value::Object(table) => 1 + table.values().map(levels).max().unwrap_or(0),
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
