//! The values that a schema allows, independent of how the schema was written.
//!
//! One tree has two renderings: the schema that the grammar follows (`enforced`) and the one that clients see (`advertised`).

use serde_json::{Map, Value};

use super::formats::TextFormat;

/// The values that one subschema allows, with their annotations.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// `title`, `description` and `default` as they were written.
    pub(super) annotations: Map<String, Value>,
}

/// A set of values.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Never,
    Any,
    Null,
    Boolean,
    /// Listed values, at least one.
    Values(Vec<Value>),
    Number(NumberNode),
    Text(TextNode),
    Array(ArrayNode),
    Object(ObjectNode),
    /// The values of any option; there are at least two options.
    Union(Vec<Node>),
    /// The values of a definition.
    Reference(DefinitionKey),
}

/// A definition at one level of recursion.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DefinitionKey {
    /// Name of the definition below `$defs`.
    pub(super) name: String,
    /// Number of recursive schemas around the definition.
    pub(super) level: usize,
}

/// A set of numbers.
#[derive(Debug, Clone)]
pub(super) struct NumberNode {
    /// Whether only integers are allowed.
    pub(super) is_integer: bool,
    /// The merged keywords as they were written.
    pub(super) keywords: Map<String, Value>,
    /// The schema that the grammar follows.
    pub(super) enforced: Value,
    /// JSON pointer of the schema.
    pub(super) pointer: String,
}

impl PartialEq for NumberNode {
    fn eq(&self, other: &Self) -> bool {
        (self.is_integer, &self.keywords, &self.enforced)
            == (other.is_integer, &other.keywords, &other.enforced)
    }
}

/// A set of strings.
#[derive(Debug, Clone)]
pub(super) struct TextNode {
    /// Minimum length, in characters.
    pub(super) min: u64,
    /// Maximum length, in characters.
    pub(super) max: Option<u64>,
    /// Patterns that must all match.
    pub(super) patterns: Vec<Pattern>,
    pub(super) format: Option<&'static TextFormat>,
    /// JSON pointer for the message if the grammar compiler rejects the string.
    pub(super) pointer: String,
}

/// A pattern of strings.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pattern {
    /// The pattern as it was written.
    pub(super) written: String,
    /// The pattern that the grammar follows. `None` if `format` implies the pattern.
    pub(super) enforced: Option<String>,
}

impl PartialEq for TextNode {
    fn eq(&self, other: &Self) -> bool {
        let format = |node: &Self| node.format.map(|format| format.name);
        (self.min, self.max, &self.patterns, format(self))
            == (other.min, other.max, &other.patterns, format(other))
    }
}

/// A set of arrays.
#[derive(Debug, Clone)]
pub(super) struct ArrayNode {
    /// The first items.
    pub(super) prefix: Vec<Node>,
    /// The items after the prefix. `None` if there are none.
    pub(super) items: Option<Box<Node>>,
    /// Minimum number of items.
    pub(super) min: u64,
    /// Maximum number of items.
    pub(super) max: Option<u64>,
    /// JSON pointer of the schema, or of its tuple.
    pub(super) pointer: String,
}

impl PartialEq for ArrayNode {
    fn eq(&self, other: &Self) -> bool {
        (&self.prefix, &self.items, self.min, self.max)
            == (&other.prefix, &other.items, other.min, other.max)
    }
}

/// A set of objects.
#[derive(Debug, Clone)]
pub(super) struct ObjectNode {
    /// The named properties, in order.
    pub(super) properties: Vec<Property>,
    /// The properties of a map. If this is `Some`, `properties` is empty.
    pub(super) entries: Option<Entries>,
    /// Minimum number of properties.
    pub(super) min: u64,
    /// Maximum number of properties.
    pub(super) max: Option<u64>,
    /// Whether the schema forbids other properties. An answer never has other properties.
    pub(super) is_closed: bool,
    /// JSON pointer of the schema.
    pub(super) pointer: String,
}

impl PartialEq for ObjectNode {
    fn eq(&self, other: &Self) -> bool {
        (
            &self.properties,
            &self.entries,
            self.min,
            self.max,
            self.is_closed,
        ) == (
            &other.properties,
            &other.entries,
            other.min,
            other.max,
            other.is_closed,
        )
    }
}

/// A named property.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Property {
    pub(super) name: String,
    /// The values of the property.
    pub(super) node: Node,
    /// Whether the property is always written.
    pub(super) is_required: bool,
}

/// The properties of a map, which have any names.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entries {
    /// Patterns that all names must match, in the form for the grammar.
    pub(super) keys: Vec<String>,
    /// The values of the properties.
    pub(super) value: Box<Node>,
}

impl Node {
    /// Creates a node without annotations.
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            annotations: Map::new(),
        }
    }

    /// Creates a node that allows no value.
    pub(super) fn never() -> Self {
        Self::new(Kind::Never)
    }

    /// Returns whether the node allows no value.
    pub(super) fn is_never(&self) -> bool {
        self.kind == Kind::Never
    }

    /// Creates a node that allows the values of all `options`.
    pub(super) fn union(options: Vec<Self>) -> Self {
        let mut flat: Vec<Self> = Vec::new();
        for option in options {
            match option.kind {
                Kind::Never => {}
                Kind::Union(nested) if option.annotations.is_empty() => flat.extend(nested),
                _ if flat.contains(&option) => {}
                _ => flat.push(option),
            }
        }
        match flat.len() {
            0 => Self::never(),
            1 => flat.remove(0),
            _ => Self::new(Kind::Union(flat)),
        }
    }
}

impl ObjectNode {
    /// Returns the property called `name`.
    pub(super) fn property(&self, name: &str) -> Option<&Property> {
        self.properties
            .iter()
            .find(|property| property.name == name)
    }
}
