//! References: each definition is lowered once for each level of recursion, and a schema that contains itself ends.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::conjunction::Conjunction;
use super::lower::Lowering;
use super::merge::annotations_of;
use super::node::{DefinitionKey, Kind, Node};
use super::{Table, fault, keywords};

/// Most levels of a schema that contains itself.
pub const MAX_LEVEL: usize = 5;

impl Lowering<'_> {
    /// Notes that those of the definitions called `names` that contain themselves end at the last level.
    pub(super) fn note_recursion(&mut self, names: &BTreeSet<&str>) {
        let places: Vec<&str> = names
            .iter()
            .filter_map(|name| self.definitions.get(name))
            .filter(|definition| definition.is_cyclic)
            .map(|definition| definition.at)
            .collect();
        for place in places {
            self.note(
                place,
                format!("contains itself: at most {MAX_LEVEL} levels are written"),
            );
        }
    }

    pub(super) fn reference(&mut self, name: &str, beside: &Table, at: &str) -> Node {
        let Some((name, definition)) = self.definitions.get_key_value(name) else {
            return self.fault(fault(at, "refers to nothing"));
        };
        let (name, schema, place) = (*name, definition.schema, definition.at);
        let level = self.level + usize::from(definition.is_cyclic);
        let key = DefinitionKey {
            name: name.to_owned(),
            level,
        };
        if !self.made.definitions.contains_key(&key) {
            let mut conjunction = Conjunction::default();
            conjunction.references.insert(name);
            self.add(schema, place, &mut conjunction);
            conjunction.is_cyclic = false;
            let outer = std::mem::replace(&mut self.level, level);
            let node = if level > MAX_LEVEL {
                conjunction.is_cyclic = true;
                self.conjunction(conjunction)
            } else {
                self.conjunction(conjunction)
            };
            self.level = outer;
            if definition_ends_early(&node, level) {
                self.note_recursion(&[name].into());
            }
            self.made.definitions.insert(key.clone(), node);
        }
        let node = &self.made.definitions[&key];
        let mut made = match node.kind {
            Kind::Object(_) | Kind::Array(_) | Kind::Union(_) => Node::of(Kind::Reference(key)),
            _ => node.clone(),
        };
        for (key, value) in annotations_of(beside) {
            made.annotations.insert(key, value);
        }
        made
    }
}

/// The names of definitions that contain themselves.
pub(super) fn cyclic<'d>(definitions: &[(&'d str, String, Value)]) -> BTreeSet<&'d str> {
    fn collect<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
        match value {
            Value::Object(table) => {
                for (key, value) in table {
                    match name_of(value)
                        .filter(|_| keywords::of(key) == keywords::Keyword::Reference)
                    {
                        Some(name) => drop(found.insert(name)),
                        None => collect(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let direct: BTreeMap<&str, BTreeSet<&str>> = definitions
        .iter()
        .map(|(name, _, schema)| {
            let mut found = BTreeSet::new();
            collect(schema, &mut found);
            (*name, found)
        })
        .collect();
    let reaches_itself = |start: &str| {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&str> = direct[start].iter().copied().collect();
        while let Some(name) = open.pop() {
            if name == start {
                return true;
            }
            if seen.insert(name) {
                open.extend(direct.get(name).into_iter().flatten());
            }
        }
        false
    };
    let names = definitions.iter().map(|(name, _, _)| *name);
    names.filter(|name| reaches_itself(name)).collect()
}

/// The name that a canonical reference means.
pub(super) fn name_of(reference: &Value) -> Option<&str> {
    reference.as_str()?.strip_prefix("#/$defs/")
}

/// Returns whether `node`, a definition at the last level, lacks what deeper levels would have.
fn definition_ends_early(node: &Node, level: usize) -> bool {
    level == MAX_LEVEL && !node.is_never()
}

/// The name in a table that says nothing but `$ref`.
pub(super) fn only_reference(table: &Table) -> Option<&str> {
    let is_only = table
        .keys()
        .all(|key| key == "$ref" || keywords::of(key).is_annotation());
    name_of(table.get("$ref").filter(|_| is_only)?)
}
