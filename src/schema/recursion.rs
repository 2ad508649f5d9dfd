//! References. Each definition is lowered once for each level of recursion, up to a limit.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::conjunction::Conjunction;
use super::lower::Lowering;
use super::merge::annotations_of;
use super::node::{DefinitionKey, Kind, Node};
use super::{Table, fault, keywords};

/// Maximum number of levels of a recursive schema.
pub(crate) const MAX_LEVEL: usize = 5;

impl Lowering<'_> {
    /// Notes that the recursive definitions among `names` end at the last level.
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
                format!("recursive: at most {MAX_LEVEL} levels are written"),
            );
        }
    }

    pub(super) fn reference(&mut self, name: &str, beside: &Table, at: &str) -> Node {
        let Some((name, definition)) = self.definitions.get_key_value(name) else {
            return self.fault(fault(at, "refers to nothing; define it under `$defs`"));
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
            let node = self.conjunction(conjunction);
            self.level = outer;
            if level == MAX_LEVEL && !node.is_never() {
                self.note_recursion(&[name].into());
            }
            self.made.definitions.insert(key.clone(), node);
        }
        let node = &self.made.definitions[&key];
        let mut made = match node.kind {
            Kind::Object(_) | Kind::Array(_) | Kind::Union(_) => Node::new(Kind::Reference(key)),
            _ => node.clone(),
        };
        for (key, value) in annotations_of(beside) {
            made.annotations.insert(key, value);
        }
        made
    }
}

/// Returns the names of recursive definitions. Of definitions that contain each other, it returns one for each cycle, so that one level
/// is one pass through the cycle.
pub(super) fn cyclic<'d>(definitions: &[(&'d str, String, Value)]) -> BTreeSet<&'d str> {
    fn collect<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
        match value {
            Value::Object(table) => {
                for (key, value) in table {
                    match name_of(value)
                        .filter(|_| keywords::kind_of(key) == keywords::Keyword::Reference)
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
    let numbers: BTreeMap<&str, usize> = (0..)
        .zip(definitions)
        .map(|(number, (name, _, _))| (*name, number))
        .collect();
    let direct: Vec<Vec<usize>> = definitions
        .iter()
        .map(|(_, _, schema)| {
            let mut found = BTreeSet::new();
            collect(schema, &mut found);
            found
                .iter()
                .filter_map(|name| numbers.get(name).copied())
                .collect()
        })
        .collect();
    // A reference to a definition that is still open closes a cycle.
    let mut visits = vec![Visit::New; direct.len()];
    let mut closing = BTreeSet::new();
    for start in 0..direct.len() {
        let mut path = vec![(start, 0)];
        while let Some((number, next)) = path.last_mut() {
            if *next == 0 && visits[*number] != Visit::New {
                path.pop();
                continue;
            }
            visits[*number] = Visit::Open;
            let Some(&to) = direct[*number].get(*next) else {
                visits[*number] = Visit::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match visits[to] {
                Visit::New => path.push((to, 0)),
                Visit::Open => drop(closing.insert(definitions[to].0)),
                Visit::Done => {}
            }
        }
    }
    closing
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visit {
    New,
    Open,
    Done,
}

/// Returns the name that a canonical reference refers to.
pub(super) fn name_of(reference: &Value) -> Option<&str> {
    reference.as_str()?.strip_prefix("#/$defs/")
}

/// Returns the name that `table` refers to, if the reference is its only constraint.
pub(super) fn only_reference(table: &Table) -> Option<&str> {
    let is_only = table
        .keys()
        .all(|key| key == "$ref" || keywords::kind_of(key).is_annotation());
    name_of(table.get("$ref").filter(|_| is_only)?)
}
