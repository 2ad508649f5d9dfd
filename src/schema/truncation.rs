//! Finds the part of a finished answer that was truncated at a limit of the configuration, not of the schema.

use std::cell::Cell;

use serde_json::Value;

use super::enforced::Limits;
use super::lower::Lowered;
use super::node::{ArrayNode, Kind, Node, ObjectNode};
use super::references::escaped;

/// Maximum number of nodes that are compared with an answer: nested options multiply.
const MAX_STEPS: usize = 100_000;

/// A truncated part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Truncation {
    /// JSON pointer of the part.
    pub pointer: String,
    /// Description of the limit at which the part ends, such as `100 items of an array`.
    pub limit: String,
}

fn truncation(at: &str, limit: String) -> Truncation {
    Truncation {
        pointer: at.to_owned(),
        limit,
    }
}

/// Returns the first part of `value` that is as long as one of `limits`. `value` must follow `lowered`.
pub(super) fn find(lowered: &Lowered, limits: Limits, value: &Value) -> Option<Truncation> {
    let finder = Finder {
        lowered,
        limits,
        steps: Cell::new(0),
    };
    finder.node(&lowered.root, value, "")
}

struct Finder<'l> {
    lowered: &'l Lowered,
    limits: Limits,
    steps: Cell<usize>,
}

impl Finder<'_> {
    fn node(&self, node: &Node, value: &Value, at: &str) -> Option<Truncation> {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > MAX_STEPS {
            return None;
        }
        match (&node.kind, value) {
            (Kind::Any, value) => self.any(value, at),
            (Kind::Text(text), Value::String(found)) if text.format.is_none() => {
                let (most, is_ours) = Limits::most(self.limits.string, text.max, text.min);
                let is_full = is_ours && is_long(found, most);
                is_full.then(|| truncation(at, characters(most)))
            }
            (Kind::Array(array), Value::Array(items)) => self.array(array, items, at),
            (Kind::Object(object), Value::Object(_)) => self.object(object, value, at),
            (Kind::Reference(key), value) => {
                self.node(self.lowered.definitions.get(key)?, value, at)
            }
            (Kind::Union(options), value) => {
                let mut fitting = options.iter().filter(|option| self.fits(option, value));
                let first = self.node(fitting.next()?, value, at)?;
                let is_truncated = fitting.all(|option| self.node(option, value, at).is_some());
                is_truncated.then_some(first)
            }
            _ => None,
        }
    }

    fn array(&self, array: &ArrayNode, items: &[Value], at: &str) -> Option<Truncation> {
        let (most, is_ours) = Limits::most(self.limits.items, array.max, array.min);
        if is_ours && array.items.is_some() && is_full(items.len(), most) {
            return Some(truncation(at, format!("{most} items of an array")));
        }
        let nodes = array
            .prefix
            .iter()
            .map(Some)
            .chain(std::iter::repeat(array.items.as_deref()));
        (0..)
            .zip(items.iter().zip(nodes))
            .find_map(|(n, (item, node))| self.node(node?, item, &format!("{at}/{n}")))
    }

    fn object(&self, object: &ObjectNode, value: &Value, at: &str) -> Option<Truncation> {
        let table = value.as_object()?;
        if let Some(entries) = &object.entries {
            let (most, is_ours) = Limits::most(self.limits.items, object.max, object.min);
            if is_ours && is_full(table.len(), most) {
                return Some(truncation(at, format!("{most} properties of a map")));
            }
            let mut values = table.iter();
            return values.find_map(|(key, value)| {
                self.node(&entries.value, value, &format!("{at}/{}", escaped(key)))
            });
        }
        object.properties.iter().find_map(|property| {
            let value = table.get(&property.name)?;
            self.node(
                &property.node,
                value,
                &format!("{at}/{}", escaped(&property.name)),
            )
        })
    }

    fn any(&self, value: &Value, at: &str) -> Option<Truncation> {
        let Limits { string, items } = self.limits;
        match value {
            Value::String(text) => {
                is_long(text, string).then(|| truncation(at, characters(string)))
            }
            Value::Array(all) if is_full(all.len(), items) => {
                Some(truncation(at, format!("{items} items of an array")))
            }
            Value::Object(all) if is_full(all.len(), items) => {
                Some(truncation(at, format!("{items} properties of a map")))
            }
            Value::Array(all) => (0..)
                .zip(all)
                .find_map(|(n, item)| self.any(item, &format!("{at}/{n}"))),
            Value::Object(all) => all
                .iter()
                .find_map(|(key, value)| self.any(value, &format!("{at}/{}", escaped(key)))),
            _ => None,
        }
    }

    /// Returns whether `value` may follow `node`. The check is shallow.
    fn fits(&self, node: &Node, value: &Value) -> bool {
        match (&node.kind, value) {
            (Kind::Any | Kind::Union(_), _)
            | (Kind::Null, Value::Null)
            | (Kind::Boolean, Value::Bool(_))
            | (Kind::Number(_), Value::Number(_))
            | (Kind::Text(_), Value::String(_))
            | (Kind::Array(_), Value::Array(_)) => true,
            (Kind::Values(values), value) => values.contains(value),
            (Kind::Object(object), Value::Object(table)) => {
                object.entries.is_some()
                    || object
                        .properties
                        .iter()
                        .all(|property| !property.is_required || table.contains_key(&property.name))
            }
            (Kind::Reference(key), value) => {
                let node = self.lowered.definitions.get(key);
                node.is_some_and(|node| self.fits(node, value))
            }
            _ => false,
        }
    }
}

fn characters(most: u64) -> String {
    format!("{most} characters of a string")
}

fn is_full(length: usize, most: u64) -> bool {
    u64::try_from(length).is_ok_and(|length| length >= most)
}

fn is_long(text: &str, most: u64) -> bool {
    // A text has at least as many bytes as characters, and its bytes need not be counted.
    is_full(text.len(), most) && is_full(text.chars().count(), most)
}
