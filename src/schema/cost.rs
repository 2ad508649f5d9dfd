//! Bounds the cost of checking a finished answer.
//!
//! A validator follows every `$ref`, `allOf`, `anyOf`, `oneOf` and `not` for the same value, each time it occurs. 40 levels that refer
//! to the next one twice are 2^40 steps for one number. A reference that leads back to itself for the same value never ends.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::canonical::{Canonical, Definition};
use super::keywords::{self, Keyword};
use super::recursion::{MAX_LEVEL, name_of};
use super::{SchemaFault, fault};

/// Maximum number of schemas that one value may be checked against. Each property and each item has its own limit.
const MAX_COST: u64 = 1_000_000;

/// Maximum number of schemas that are visited to compute the cost: a definition may be visited many times within others.
const MAX_STEPS: usize = 1_000_000;

/// Maximum nesting of schemas for one value: the validator recurses this deeply for each level of an answer.
const MAX_SAME: usize = 100;

/// Maximum nesting of schemas for all levels of a value: this module and the lowering recurse this deeply.
const MAX_NESTED: usize = 2000;

/// A reason why finished answers cannot be checked.
pub(super) enum Uncheckable {
    /// A schema refers to itself for the same value, so a check never ends.
    Endless(SchemaFault),
    /// The check takes too long or nests too deeply.
    TooMuch(SchemaFault),
}

/// Returns the maximum number of schemas of `canonical` that one value of an answer is checked against.
///
/// # Errors
/// Fails if finished answers cannot be checked.
pub(super) fn upper_bound(canonical: &Canonical) -> Result<u64, Uncheckable> {
    let definitions = canonical.definitions.iter();
    let mut costs = Costs {
        definitions: definitions
            .map(|definition| (definition.name.as_str(), definition))
            .collect(),
        open: BTreeMap::new(),
        outermost: BTreeMap::new(),
        known: HashMap::new(),
        steps: 0,
        nested: 0,
    };
    let cost = costs.schema_cost(&canonical.root, 0)?;
    if cost.schemas > MAX_COST {
        return Err(too_long());
    }
    Ok(cost.schemas)
}

fn too_long() -> Uncheckable {
    Uncheckable::TooMuch(fault(
        "#",
        "references multiply, so checking an answer would take too long; use fewer references between definitions",
    ))
}

fn too_deep() -> Uncheckable {
    Uncheckable::TooMuch(fault(
        "#",
        "references and combined schemas nest too deeply; reduce the nesting",
    ))
}

/// The cost of checking one value.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Number of schemas that the value is checked against.
    schemas: u64,
    /// Maximum nesting of these schemas.
    nested: usize,
}

impl Cost {
    const LEAST: Self = Self {
        schemas: 1,
        nested: 1,
    };
}

struct Costs<'c> {
    definitions: BTreeMap<&'c str, &'c Definition>,
    /// Definitions whose cost is being computed, each with the depths of the values at which that began.
    open: BTreeMap<&'c str, Vec<usize>>,
    /// Costs of definitions that were computed outside of all others.
    outermost: BTreeMap<&'c str, Cost>,
    /// Costs of definitions that were computed inside others.
    known: HashMap<CostKey<'c>, Cost>,
    /// Number of schemas visited and of enclosing definitions compared.
    steps: usize,
    /// Number of schemas around the current one.
    nested: usize,
}

/// Key of a definition's cost: its name and the enclosing definitions. Each of those has its number of levels, and whether it applies
/// to the same value.
type CostKey<'c> = (&'c str, Vec<(&'c str, usize, bool)>);

impl<'c> Costs<'c> {
    /// Returns the cost of `schema` for a value that is `depth` properties and items deep.
    fn schema_cost(&mut self, schema: &'c Value, depth: usize) -> Result<Cost, Uncheckable> {
        self.step(1)?;
        let Some(table) = schema.as_object() else {
            return Ok(Cost::LEAST);
        };
        self.nested += 1;
        if self.nested > MAX_NESTED {
            return Err(too_deep());
        }
        let (mut same, mut below) = (Cost::LEAST, 0);
        let mut add = |cost: Cost| {
            same.schemas = same.schemas.saturating_add(cost.schemas);
            same.nested = same.nested.max(cost.nested + 1);
        };
        for (key, value) in table {
            let is_same = matches!(
                key.as_str(),
                "allOf" | "anyOf" | "oneOf" | "not" | "if" | "then" | "else" | "dependentSchemas"
            );
            for schema in schemas_of(key, value) {
                if is_same {
                    add(self.schema_cost(schema, depth)?);
                } else {
                    below = below.max(self.schema_cost(schema, depth + 1)?.schemas);
                }
            }
            if keywords::kind_of(key) == Keyword::Reference {
                add(self.reference_cost(value, depth)?);
            }
        }
        self.nested -= 1;
        if same.nested > MAX_SAME {
            return Err(too_deep());
        }
        same.schemas = same.schemas.saturating_add(below);
        Ok(same)
    }

    fn step(&mut self, steps: usize) -> Result<(), Uncheckable> {
        self.steps += steps;
        if self.steps > MAX_STEPS {
            return Err(too_long());
        }
        Ok(())
    }

    fn reference_cost(&mut self, reference: &'c Value, depth: usize) -> Result<Cost, Uncheckable> {
        let definition = name_of(reference).and_then(|name| self.definitions.get(name));
        let Some(definition) = definition.copied() else {
            return Ok(Cost::LEAST);
        };
        let name = definition.name.as_str();
        if let Some(cost) = self.outermost.get(name) {
            return Ok(*cost);
        }
        self.step(self.open.len())?;
        let around = self.open.iter().filter_map(|(name, depths)| {
            let last = depths.last()?;
            Some((*name, depths.len(), *last == depth))
        });
        let key = (name, around.collect());
        if let Some(cost) = self.known.get(&key) {
            return Ok(*cost);
        }
        let open = self.open.entry(name).or_default();
        if open.last() == Some(&depth) {
            let reason = "refers to itself for the same value, so checking never ends; move the reference below a property or an item";
            let fault = fault(&format!("#{}", definition.pointer), reason);
            return Err(Uncheckable::Endless(fault));
        }
        if open.len() >= MAX_LEVEL {
            return Ok(Cost::LEAST);
        }
        open.push(depth);
        let cost = self.schema_cost(&definition.schema, depth);
        if let Some(open) = self.open.get_mut(name) {
            open.pop();
        }
        let cost = cost?;
        if key.1.iter().all(|(around, ..)| *around != name) {
            self.outermost.insert(name, cost);
        }
        self.known.insert(key, cost);
        Ok(cost)
    }
}

/// Returns the schemas that `value` holds if it is the value of the keyword `key`.
fn schemas_of<'c>(key: &str, value: &'c Value) -> Vec<&'c Value> {
    let of_map = |map: &'c Map<String, Value>| map.values().collect();
    match (keywords::kind_of(key), value) {
        (keyword, Value::Object(map)) if keyword.is_map() => of_map(map),
        (keyword, Value::Array(schemas)) if keyword.is_schema() => schemas.iter().collect(),
        (keyword, schema) if keyword.is_schema() => vec![schema],
        _ => Vec::new(),
    }
}
