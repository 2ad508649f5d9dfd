//! Bounds the cost of checking a finished answer.
//!
//! A validator follows every `$ref`, `allOf`, `anyOf`, `oneOf` and `not` for the same value, as often as it is referred to: 40 levels
//! that refer to the next one twice are 2^40 steps for one number. A reference that leads back to itself at the same value never ends.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::canonical::Canonical;
use super::keywords::{self, Keyword};
use super::recursion::MAX_LEVEL;
use super::{SchemaFault, fault};

/// Most schemas that one value is checked by, and for each property or item most of its own.
const MAX_COST: u64 = 1_000_000;

/// Most schemas that are looked at to find the cost: definitions that contain each other have many situations.
const MAX_STEPS: usize = 1_000_000;

/// Checks that a finished answer can be checked by `canonical`.
///
/// # Errors
/// The schema refers to itself at the same value, or the check takes too long.
pub(super) fn check(canonical: &Canonical) -> Result<(), SchemaFault> {
    let definitions = canonical.definitions.iter();
    let mut costs = Costs {
        definitions: definitions
            .map(|definition| (definition.name.as_str(), &definition.schema))
            .collect(),
        open: BTreeMap::new(),
        outermost: BTreeMap::new(),
        known: HashMap::new(),
        steps: 0,
    };
    let cost = costs.of(&canonical.root, 0)?;
    if cost > MAX_COST {
        return Err(too_long());
    }
    Ok(())
}

fn too_long() -> SchemaFault {
    fault(
        "#",
        "definitions refer to each other too often: checking an answer would take too long; write them fewer times",
    )
}

struct Costs<'c> {
    definitions: BTreeMap<&'c str, &'c Value>,
    /// Definitions whose cost is being found, with how many values deep that began.
    open: BTreeMap<&'c str, Vec<usize>>,
    /// The costs of definitions that were found outside of all others.
    outermost: BTreeMap<&'c str, u64>,
    /// The costs of definitions that were found inside of others.
    known: HashMap<Situation<'c>, u64>,
    /// Schemas that were looked at.
    steps: usize,
}

/// What the cost of a definition depends on: its name, and the definitions around it with their number of levels and whether they
/// are for the same value.
type Situation<'c> = (&'c str, Vec<(&'c str, usize, bool)>);

impl<'c> Costs<'c> {
    /// The cost of `schema` for a value that is `depth` properties and items deep.
    fn of(&mut self, schema: &'c Value, depth: usize) -> Result<u64, SchemaFault> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(too_long());
        }
        let Some(table) = schema.as_object() else {
            return Ok(1);
        };
        let (mut same, mut below) = (1_u64, 0);
        for (key, value) in table {
            let is_same = matches!(
                key.as_str(),
                "allOf" | "anyOf" | "oneOf" | "not" | "if" | "then" | "else" | "dependentSchemas"
            );
            for schema in schemas_of(key, value) {
                let depth = if is_same { depth } else { depth + 1 };
                let cost = self.of(schema, depth)?;
                if is_same {
                    same = same.saturating_add(cost);
                } else {
                    below = below.max(cost);
                }
            }
            if keywords::of(key) == Keyword::Reference {
                same = same.saturating_add(self.of_reference(value, depth)?);
            }
        }
        Ok(same.saturating_add(below))
    }

    fn of_reference(&mut self, reference: &'c Value, depth: usize) -> Result<u64, SchemaFault> {
        let name = reference.as_str().unwrap_or_default();
        let name = name.strip_prefix("#/$defs/").unwrap_or_default();
        let Some((name, schema)) = self.definitions.get_key_value(name) else {
            return Ok(1);
        };
        let (name, schema) = (*name, *schema);
        if let Some(cost) = self.outermost.get(name) {
            return Ok(*cost);
        }
        let around = self.open.iter().filter_map(|(name, depths)| {
            let last = depths.last()?;
            Some((*name, depths.len(), *last == depth))
        });
        let situation = (name, around.collect());
        if let Some(cost) = self.known.get(&situation) {
            return Ok(*cost);
        }
        let open = self.open.entry(name).or_default();
        if open.last() == Some(&depth) {
            let reason = "refers to itself for the same value, which never ends; refer to it from a property or an item";
            return Err(fault(&format!("#/$defs/{name}"), reason));
        }
        if open.len() >= MAX_LEVEL {
            return Ok(1);
        }
        open.push(depth);
        let cost = self.of(schema, depth);
        if let Some(open) = self.open.get_mut(name) {
            open.pop();
        }
        let cost = cost?;
        if situation.1.iter().all(|(around, ..)| *around != name) {
            self.outermost.insert(name, cost);
        }
        self.known.insert(situation, cost);
        Ok(cost)
    }
}

/// The schemas that the keyword `key` has as its `value`.
fn schemas_of<'c>(key: &str, value: &'c Value) -> Vec<&'c Value> {
    let of_map = |map: &'c Map<String, Value>| map.values().collect();
    match (keywords::of(key), value) {
        (keyword, Value::Object(map)) if keyword.is_map() => of_map(map),
        (keyword, Value::Array(schemas)) if keyword.is_schema() => schemas.iter().collect(),
        (keyword, schema) if keyword.is_schema() => vec![schema],
        _ => Vec::new(),
    }
}
