//! The values that a schema allows, in a form that does not depend on how the schema was written.
//!
//! One tree has two renderings: the schema that the grammar follows (`enforced`), and the one that clients see (`advertised`).

use serde_json::{Map, Value};

use super::formats::TextFormat;

/// The values that are allowed at one place, with their annotations.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// The values.
    pub(super) kind: Kind,
    /// `title`, `description` and `default`, as they were written.
    pub(super) annotations: Map<String, Value>,
}

/// A set of values.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// No value at all.
    Never,
    /// Every value.
    Any,
    /// `null`.
    Null,
    /// `true` and `false`.
    Boolean,
    /// Values that are listed, at least one.
    Values(Vec<Value>),
    /// Numbers.
    Number(NumberNode),
    /// Strings.
    Text(TextNode),
    /// Arrays.
    Array(ArrayNode),
    /// Objects.
    Object(ObjectNode),
    /// The values of each option, at least two.
    Union(Vec<Node>),
    /// A definition.
    Reference(DefinitionKey),
}

/// A definition at one level of recursion.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DefinitionKey {
    /// Its name below `$defs`.
    pub(super) name: String,
    /// Number of recursive schemas around it.
    pub(super) level: usize,
}

/// Numbers.
#[derive(Debug, Clone)]
pub(super) struct NumberNode {
    /// Whether only whole numbers are allowed.
    pub(super) is_integer: bool,
    /// The keywords, merged.
    pub(super) keywords: Map<String, Value>,
    /// The keywords in the form for the grammar.
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

/// Strings.
#[derive(Debug, Clone)]
pub(super) struct TextNode {
    /// Least characters.
    pub(super) min: u64,
    /// Most characters.
    pub(super) max: Option<u64>,
    /// Patterns that must all match.
    pub(super) patterns: Vec<Pattern>,
    /// The format, if there is one.
    pub(super) format: Option<&'static TextFormat>,
    /// JSON pointer for the message if the grammar rejects this string.
    pub(super) pointer: String,
}

/// A pattern of strings.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pattern {
    /// The pattern as it was written.
    pub(super) written: String,
    /// The pattern in the form for the grammar; `None` if `format` implies it.
    pub(super) enforced: Option<String>,
}

impl PartialEq for TextNode {
    fn eq(&self, other: &Self) -> bool {
        let format = |node: &Self| node.format.map(|format| format.name);
        (self.min, self.max, &self.patterns, format(self))
            == (other.min, other.max, &other.patterns, format(other))
    }
}

/// Arrays.
#[derive(Debug, Clone)]
pub(super) struct ArrayNode {
    /// The first items.
    pub(super) prefix: Vec<Node>,
    /// The items after the prefix; `None` if there are none.
    pub(super) items: Option<Box<Node>>,
    /// Least items.
    pub(super) min: u64,
    /// Most items.
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

/// Objects.
#[derive(Debug, Clone)]
pub(super) struct ObjectNode {
    /// The properties that have a name, in order.
    pub(super) properties: Vec<Property>,
    /// Properties of any name. If this is `Some`, `properties` is empty.
    pub(super) entries: Option<Entries>,
    /// Least properties.
    pub(super) min: u64,
    /// Most properties.
    pub(super) max: Option<u64>,
    /// Whether the schema forbids other properties. An answer never has any.
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

/// A property with a name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Property {
    /// Its name.
    pub(super) name: String,
    /// Its values.
    pub(super) node: Node,
    /// Whether it is always written.
    pub(super) is_required: bool,
}

/// Properties of any name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entries {
    /// Patterns that all names match, in the form for the grammar.
    pub(super) keys: Vec<String>,
    /// Their values.
    pub(super) value: Box<Node>,
}

impl Node {
    /// Makes a node without annotations.
    pub(super) fn of(kind: Kind) -> Self {
        Self {
            kind,
            annotations: Map::new(),
        }
    }

    /// Makes a node that allows no value.
    pub(super) fn never() -> Self {
        Self::of(Kind::Never)
    }

    /// Returns whether no value is allowed.
    pub(super) fn is_never(&self) -> bool {
        self.kind == Kind::Never
    }

    /// Makes a node that allows the values of all `options`.
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
            _ => Self::of(Kind::Union(flat)),
        }
    }
}

impl ObjectNode {
    /// The property called `name`.
    pub(super) fn property(&self, name: &str) -> Option<&Property> {
        self.properties
            .iter()
            .find(|property| property.name == name)
    }
}
