//! Merges the tables of a conjunction keyword by keyword, for each type that all of them allow.

use serde_json::Value;

use super::conjunction::Part;
use super::lower::Lowering;
use super::negation::{ABSENT, EXCLUDED};
use super::node::{Kind, Node};
use super::types::{self, has_type};
use super::values::listed;
use super::{SchemaFault, Table, fault, formats};

impl<'c> Lowering<'c> {
    /// Merges `parts`, which have no alternatives.
    pub(super) fn merged(&mut self, parts: &[Part<'c>]) -> Node {
        if self.is_too_much(parts.iter().map(Part::entries).sum()) {
            return Node::never();
        }
        let declared = declared_types(parts);
        let mut node = if let Some(values) = listed(parts) {
            self.values(parts, &values, declared.as_deref())
        } else {
            self.node_of_types(parts, declared)
        };
        if !node.is_never() {
            node.annotations = annotations(parts);
        }
        node
    }

    fn node_of_types(&mut self, parts: &[Part<'c>], declared: Option<Vec<&'c str>>) -> Node {
        let is_implied = |kind: &&str| {
            let has_key = |part: &Part<'_>, key: &str| part.table.contains_key(key);
            let keys = types::keywords_of(kind)
                .iter()
                .filter(|key| **key != "format");
            let mut keys = keys.chain((*kind == "object").then_some(&ABSENT));
            keys.any(|key| parts.iter().any(|part| has_key(part, key)))
        };
        let types = if let Some(types) = declared {
            types
        } else {
            let implied: Vec<&str> = ["object", "array", "string", "number"]
                .into_iter()
                .filter(is_implied)
                .collect();
            if let Some(first) = parts.first().filter(|_| !implied.is_empty()) {
                self.note(
                    &first.at,
                    format!("`type` is missing; `{}` is assumed", implied.join("` or `")),
                );
            }
            implied
        };
        if types.is_empty() {
            let has_type = parts.iter().any(|part| part.table.contains_key("type"));
            let first = parts.first().map_or("#", |part| part.at.as_str());
            return match excluded(parts).next() {
                _ if has_type => {
                    self.contradiction(fault(first, "its parts have no type in common; write one `type`, or alternatives as `anyOf`"))
                }
                Some((at, _)) => self.fault(unsupported_exclusion(&at)),
                None => Node::new(Kind::Any),
            };
        }
        self.note_without_effect(parts, &types);
        let options = types
            .iter()
            .map(|kind| self.node_of_type(kind, parts))
            .collect();
        Node::union(options)
    }

    fn note_without_effect(&mut self, parts: &[Part<'c>], types: &[&str]) {
        for part in parts.iter().filter(|part| part.table.contains_key("type")) {
            let of_other = |key: &&String| {
                let applies = |kind: &&str| types::keywords_of(kind).contains(&key.as_str());
                types::TYPES.iter().any(applies) && !types.iter().any(applies)
            };
            let is_idle_format = |key: &&String| {
                *key == "format"
                    && formats::types_of(&part.table[*key])
                        .is_some_and(|of| !types.iter().any(|kind| of.contains(kind)))
            };
            let idle: Vec<&String> = part
                .table
                .keys()
                .filter(|key| of_other(key) || is_idle_format(key))
                .collect();
            for key in idle {
                self.note(
                    &format!("{}/{key}", part.at),
                    format!("has no effect on the type `{}`", types.join("` or `")),
                );
            }
        }
    }

    fn node_of_type(&mut self, kind: &str, parts: &[Part<'c>]) -> Node {
        let excluded: Vec<(String, &Value)> = excluded(parts)
            .filter(|(_, value)| has_type(value, kind))
            .collect();
        match kind {
            "null" if excluded.is_empty() => Node::new(Kind::Null),
            "null" => Node::never(),
            "boolean" => {
                let allowed = |value: &bool| {
                    !excluded
                        .iter()
                        .any(|(_, excluded)| excluded.as_bool() == Some(*value))
                };
                let values: Vec<Value> = [true, false]
                    .into_iter()
                    .filter(allowed)
                    .map(Value::from)
                    .collect();
                match values.len() {
                    0 => Node::never(),
                    1 => Node::new(Kind::Values(values)),
                    _ => Node::new(Kind::Boolean),
                }
            }
            _ if let Some((at, _)) = excluded.first() => self.fault(unsupported_exclusion(at)),
            "integer" | "number" => self.number(kind == "integer", parts),
            "string" => self.text(parts),
            "array" => self.array(parts),
            _ => self.object(parts),
        }
    }
}

fn unsupported_exclusion(at: &str) -> SchemaFault {
    fault(
        at,
        "values can be excluded only from an `enum`; list the allowed values",
    )
}

pub(super) fn annotations_of(table: &Table) -> impl Iterator<Item = (String, Value)> + '_ {
    ["title", "description", "default"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), table.get(key)?.clone())))
}

/// Merges the annotations of `parts`. The last part takes precedence: a table with a reference comes after the table it refers to.
pub(super) fn annotations(parts: &[Part<'_>]) -> Table {
    parts
        .iter()
        .flat_map(|part| annotations_of(part.table))
        .collect()
}

/// Returns the types that all parts allow. Returns `None` if no part has `type`.
fn declared_types<'c>(parts: &[Part<'c>]) -> Option<Vec<&'c str>> {
    let mut all: Option<Vec<&str>> = None;
    for part in parts {
        let types: Vec<&str> = match part.table.get("type") {
            None => continue,
            Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
            Some(single) => single.as_str().into_iter().collect(),
        };
        all = Some(match all {
            None => types,
            Some(former) => both(&former, &types),
        });
    }
    let mut all = all?;
    if all.contains(&"number") {
        all.retain(|kind| *kind != "integer");
    }
    Some(all)
}

/// Returns the types that both lists allow.
fn both<'c>(one: &[&'c str], other: &[&'c str]) -> Vec<&'c str> {
    let allows = |types: &[&str], kind: &str| {
        types.contains(&kind) || kind == "integer" && types.contains(&"number")
    };
    let mut both: Vec<&str> = one
        .iter()
        .copied()
        .filter(|kind| allows(other, kind))
        .collect();
    let more = other.iter().copied().filter(|kind| allows(one, kind));
    both.extend(more.filter(|kind| !one.contains(kind)).collect::<Vec<_>>());
    both
}

/// Returns the values that parts exclude, with the JSON pointers of those parts.
fn excluded<'p>(parts: &'p [Part<'_>]) -> impl Iterator<Item = (String, &'p Value)> + 'p {
    parts.iter().flat_map(|part| {
        let values = part.table.get(EXCLUDED).and_then(Value::as_array);
        values
            .into_iter()
            .flatten()
            .map(|value| (part.at.clone(), value))
    })
}
