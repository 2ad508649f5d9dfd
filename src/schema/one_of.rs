//! `oneOf`: options that exclude each other.
//!
//! A value of one option must not satisfy another option. Two options exclude each other if the values of a property differ, or if one
//! option requires a property that the other forbids. Some options exclude each other only after an optional property is removed. In all
//! other cases the finished answer is checked.

use serde_json::Value;

use super::lower::Lowering;
use super::node::{Kind, Node, ObjectNode};
use super::types;

/// The relation of two options.
enum Relation {
    /// No value of the first option satisfies the second.
    Apart,
    /// No value of the first option satisfies the second once this property is removed from the first.
    ApartWithout(String),
    /// A value may satisfy both options.
    Overlapping,
}

/// Maximum number of comparisons of values for one schema: shared definitions multiply.
const MAX_COMPARISONS: usize = 1_000_000;

impl Lowering<'_> {
    /// Makes `options` exclude each other as far as possible.
    pub(super) fn separate(&mut self, options: &mut [Node], at: &str) {
        let mut overlap = false;
        'pairs: for one in 0..options.len() {
            for other in 0..options.len() {
                if one == other {
                    continue;
                }
                if !self.may_compare(1) {
                    overlap = true;
                    break 'pairs;
                }
                match self.relation(&options[one], &options[other]) {
                    Relation::Apart => {}
                    Relation::ApartWithout(name) => {
                        let annotations = options[one].annotations.clone();
                        let mut kind = self.resolved(&options[one]).kind.clone();
                        if let Kind::Object(object) = &mut kind {
                            object.properties.retain(|property| property.name != name);
                        }
                        options[one] = Node { kind, annotations };
                        self.note(
                            &format!("{at}/{one}"),
                            format!(
                                "`{name}` is not written here, because the options would overlap"
                            ),
                        );
                    }
                    Relation::Overlapping => overlap = true,
                }
            }
        }
        if overlap {
            self.note(at, "options may overlap, so they are checked on the finished answer only; use `anyOf` if overlaps are allowed");
        }
    }

    fn resolved<'n>(&'n self, node: &'n Node) -> &'n Node {
        match &node.kind {
            Kind::Reference(key) => self
                .made
                .definitions
                .get(key)
                .map_or(node, |node| self.resolved(node)),
            _ => node,
        }
    }

    fn relation(&self, values: &Node, schema: &Node) -> Relation {
        if self.is_apart(values, schema) {
            return Relation::Apart;
        }
        if let (Kind::Object(values), Kind::Object(schema)) =
            (&self.resolved(values).kind, &self.resolved(schema).kind)
            && self.may_compare(values.properties.len() * schema.properties.len())
        {
            let optional = |name: &&String| {
                values
                    .property(name)
                    .is_some_and(|property| !property.is_required)
            };
            let required = schema
                .properties
                .iter()
                .filter(|property| property.is_required);
            if let Some(name) = required.map(|property| &property.name).find(optional) {
                return Relation::ApartWithout(name.clone());
            }
        }
        Relation::Overlapping
    }

    /// Spends `count` comparisons of the budget. Returns `false` once the budget is used up; then options count as overlapping.
    fn may_compare(&self, count: usize) -> bool {
        self.comparisons
            .set(self.comparisons.get().saturating_add(count));
        self.comparisons.get() <= MAX_COMPARISONS
    }

    /// Returns whether no value of `values` satisfies `schema` as it was written.
    fn is_apart(&self, values: &Node, schema: &Node) -> bool {
        if !self.may_compare(1) {
            return false;
        }
        let (values, schema) = (self.resolved(values), self.resolved(schema));
        match (&values.kind, &schema.kind) {
            (Kind::Never, _) | (_, Kind::Never) => true,
            (Kind::Any | Kind::Reference(_), _) | (_, Kind::Any | Kind::Reference(_)) => false,
            (Kind::Union(options), _) => options.iter().all(|option| self.is_apart(option, schema)),
            (_, Kind::Union(options)) => options.iter().all(|option| self.is_apart(values, option)),
            (Kind::Values(some), Kind::Values(others)) => {
                self.may_compare(some.len() * others.len())
                    && !some
                        .iter()
                        .any(|value| others.iter().any(|other| is_same(value, other)))
            }
            (Kind::Values(some), _) => some
                .iter()
                .all(|value| types::name_of_value(value) != type_of(&schema.kind)),
            (_, Kind::Values(others)) => others
                .iter()
                .all(|value| types::name_of_value(value) != type_of(&values.kind)),
            (Kind::Object(values), Kind::Object(schema)) => self.are_objects_apart(values, schema),
            (one, other) => type_of(one) != type_of(other),
        }
    }

    fn are_objects_apart(&self, values: &ObjectNode, schema: &ObjectNode) -> bool {
        if values.entries.is_some() {
            return false;
        }
        if !self.may_compare(values.properties.len() * schema.properties.len()) {
            return false;
        }
        let differs = values
            .properties
            .iter()
            .filter(|property| property.is_required)
            .any(|property| match schema.property(&property.name) {
                Some(other) => self.is_apart(&property.node, &other.node),
                None => schema.is_closed,
            });
        let lacks = schema
            .properties
            .iter()
            .any(|property| property.is_required && values.property(&property.name).is_none());
        differs || lacks
    }
}

fn is_same(one: &Value, other: &Value) -> bool {
    one == other
        || one
            .as_f64()
            .is_some_and(|number| other.as_f64() == Some(number))
}

fn type_of(kind: &Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::Boolean => "boolean",
        Kind::Number(_) => "number",
        Kind::Text(_) => "string",
        Kind::Array(_) => "array",
        Kind::Object(_) => "object",
        Kind::Never | Kind::Any | Kind::Values(_) | Kind::Union(_) | Kind::Reference(_) => "",
    }
}
