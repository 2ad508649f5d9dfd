//! Conjunctions: tables that apply to the same value, with the alternatives of `anyOf` and `oneOf` multiplied out.

use std::collections::{BTreeSet, VecDeque};

use serde_json::Value;

use super::lower::Lowering;
use super::merge::annotations;
use super::node::Node;
use super::recursion::{MAX_LEVEL, name_of};
use super::{Table, fault, keywords};

/// Maximum number of alternatives in one conjunction.
const MAX_CHOICES: usize = 64;

/// Maximum nesting of conjunctions.
const MAX_DEPTH: usize = 300;

/// A table of a conjunction.
#[derive(Clone)]
pub(super) struct Part<'c> {
    pub(super) table: &'c Table,
    pub(super) at: String,
}

impl Part<'_> {
    /// Returns the number of entries that a merge visits or copies. Annotations and listed values are copied.
    pub(super) fn entries(&self) -> usize {
        let entries = self.table.iter().map(|(key, value)| {
            let keyword = keywords::kind_of(key);
            match value {
                Value::Object(schemas) if keyword.is_map() => 1 + schemas.len(),
                Value::Array(schemas) if keyword.is_schema() => 1 + schemas.len(),
                _ if keyword.is_schema() => 1,
                value => entries_of(value),
            }
        });
        entries.sum()
    }
}

/// Returns the number of values in `value`. Long texts count as more than one.
fn entries_of(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(entries_of).sum::<usize>(),
        Value::Object(table) => 1 + table.values().map(entries_of).sum::<usize>(),
        Value::String(text) => 1 + text.len() / 64,
        _ => 1,
    }
}

#[derive(Clone, Default)]
pub(super) struct Conjunction<'c> {
    parts: Vec<Part<'c>>,
    choices: VecDeque<Choice<'c>>,
    /// Names of the definitions that it contains.
    pub(super) references: BTreeSet<&'c str>,
    is_never: bool,
    pub(super) is_cyclic: bool,
}

#[derive(Clone)]
struct Choice<'c> {
    options: &'c [Value],
    at: String,
    is_one_of: bool,
}

impl<'c> Lowering<'c> {
    pub(super) fn add(&mut self, schema: &'c Value, at: &str, to: &mut Conjunction<'c>) {
        if self.is_exhausted() {
            to.is_never = true;
            return;
        }
        let table = match schema {
            Value::Object(table) => table,
            schema => {
                to.is_never |= *schema == Value::Bool(false);
                return;
            }
        };
        for (key, value) in table {
            let place = || format!("{at}/{key}");
            match (key.as_str(), value) {
                ("$ref" | "$dynamicRef" | "$recursiveRef", reference) => {
                    let found =
                        name_of(reference).and_then(|name| self.definitions.get_key_value(name));
                    if let Some((name, definition)) = found
                        && to.references.insert(name)
                    {
                        to.is_cyclic |= definition.is_cyclic;
                        let (schema, at) = (definition.schema, definition.at);
                        self.add(schema, at, to);
                    }
                }
                ("allOf", Value::Array(schemas)) => {
                    for (n, schema) in schemas.iter().enumerate() {
                        self.add(schema, &format!("{at}/allOf/{n}"), to);
                    }
                }
                ("anyOf" | "oneOf", Value::Array(options)) => to.choices.push_back(Choice {
                    options,
                    at: place(),
                    is_one_of: key == "oneOf",
                }),
                _ => {}
            }
        }
        to.parts.push(Part {
            table,
            at: at.to_owned(),
        });
    }

    pub(super) fn conjunction(&mut self, conjunction: Conjunction<'c>) -> Node {
        if conjunction.is_never {
            return Node::never();
        }
        let at = conjunction
            .parts
            .first()
            .map_or("#", |part| part.at.as_str());
        if conjunction.choices.len() > MAX_CHOICES || self.depth >= MAX_DEPTH {
            let reason = format!(
                "more than {MAX_CHOICES} `anyOf` and `oneOf` in one place, or schemas nest too deeply; use fewer"
            );
            let fault = fault(at, reason);
            return self.fault(fault);
        }
        self.depth += 1;
        let node = self.conjunction_within(conjunction);
        self.depth -= 1;
        node
    }

    fn conjunction_within(&mut self, mut conjunction: Conjunction<'c>) -> Node {
        let is_deeper = std::mem::take(&mut conjunction.is_cyclic);
        self.level += usize::from(is_deeper);
        let references = conjunction.references.clone();
        let node = if self.level > MAX_LEVEL {
            let at = conjunction
                .parts
                .first()
                .map_or("#", |part| part.at.as_str());
            let without_end = fault(
                at,
                "the recursion never ends; make a property optional, or allow an empty array or `null`",
            );
            self.dead_end.get_or_insert(without_end);
            Node::never()
        } else {
            match conjunction.choices.pop_front() {
                Some(choice) => self.choice(&conjunction, &choice),
                None => self.merged(&conjunction.parts),
            }
        };
        if is_deeper && self.level == MAX_LEVEL && !node.is_never() {
            self.note_recursion(&references);
        }
        self.level -= usize::from(is_deeper);
        node
    }

    fn choice(&mut self, conjunction: &Conjunction<'c>, choice: &Choice<'c>) -> Node {
        let says_nothing =
            |part: &Part<'_>| part.table.keys().all(|key| keywords::is_combinator(key));
        let is_plain = conjunction.choices.is_empty() && conjunction.parts.iter().all(says_nothing);
        let mut options = Vec::with_capacity(choice.options.len());
        for (n, option) in choice.options.iter().enumerate() {
            let at = format!("{}/{n}", choice.at);
            options.push(if is_plain {
                self.schema(option, &at)
            } else if self.is_too_much(conjunction.parts.len() + conjunction.choices.len()) {
                Node::never()
            } else {
                let mut with = conjunction.clone();
                self.add(option, &at, &mut with);
                // A single option applies like the other keywords.
                let is_branch = choice.options.len() > 1;
                self.branches += usize::from(is_branch);
                let node = self.conjunction(with);
                self.branches -= usize::from(is_branch);
                node
            });
        }
        if choice.is_one_of {
            self.separate(&mut options, &choice.at);
        }
        let mut node = Node::union(options);
        let outer = annotations(&conjunction.parts);
        if is_plain && !outer.is_empty() {
            node.annotations = outer;
        }
        node
    }
}

/// Returns the JSON pointer of the first `key` in `parts`.
pub(super) fn pointer_to(parts: &[Part<'_>], key: &str) -> String {
    let part = parts.iter().find(|part| part.table.contains_key(key));
    match part {
        Some(part) => format!("{}/{key}", part.at),
        None => parts
            .first()
            .map_or_else(|| "#".into(), |part| part.at.clone()),
    }
}

/// Returns the greatest minimum and the least maximum of all parts.
pub(super) fn count_range(parts: &[Part<'_>], min: &str, max: &str) -> (u64, Option<u64>) {
    let values_of = |key: &str| {
        parts
            .iter()
            .filter_map(|part| part.table.get(key)?.as_u64())
            .collect::<Vec<_>>()
    };
    (
        values_of(min).into_iter().max().unwrap_or(0),
        values_of(max).into_iter().min(),
    )
}
