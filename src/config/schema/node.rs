//! What a schema comes to: the values that an answer may have, without references to how that was written.
//!
//! One tree has two renderings: the schema that the grammar follows (`enforced`), and the one that clients see (`advertised`).

use serde_json::{Map, Value};

use super::formats::TextFormat;

/// The values that are allowed at one place, and what is said about them.
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
    /// How many schemas that contain themselves it is inside of.
    pub(super) level: usize,
}

/// Numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NumberNode {
    /// Only whole ones.
    pub(super) is_integer: bool,
    /// The keywords, merged.
    pub(super) keywords: Map<String, Value>,
    /// As the grammar is given them.
    pub(super) enforced: Value,
}

/// Strings.
#[derive(Debug, Clone)]
pub(super) struct TextNode {
    /// Least characters.
    pub(super) min: u64,
    /// Most characters.
    pub(super) max: Option<u64>,
    /// All of them match.
    pub(super) patterns: Vec<Pattern>,
    /// Its texts.
    pub(super) format: Option<&'static TextFormat>,
    /// JSON pointer of what the grammar may find too complex.
    pub(super) pointer: String,
}

/// A pattern of strings.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pattern {
    /// As it was written.
    pub(super) written: String,
    /// As the grammar is given it; `None` if the format beside it stands for it.
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
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ArrayNode {
    /// The first items.
    pub(super) prefix: Vec<Node>,
    /// Those behind them; `None` if there are no more.
    pub(super) items: Option<Box<Node>>,
    /// Least items.
    pub(super) min: u64,
    /// Most items.
    pub(super) max: Option<u64>,
}

/// Objects.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ObjectNode {
    /// The properties that have a name, in order.
    pub(super) properties: Vec<Property>,
    /// Other properties. With some, `properties` is empty.
    pub(super) entries: Option<Entries>,
    /// Least properties.
    pub(super) min: u64,
    /// Most properties.
    pub(super) max: Option<u64>,
    /// The schema forbids other properties. An answer has none in any case.
    pub(super) is_closed: bool,
}

/// A property with a name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Property {
    /// Its name.
    pub(super) name: String,
    /// Its values.
    pub(super) node: Node,
    /// It is never left out.
    pub(super) is_required: bool,
}

/// Properties of any name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entries {
    /// Patterns that all names match, as the grammar is given them.
    pub(super) keys: Vec<String>,
    /// Their values.
    pub(super) value: Box<Node>,
}

impl Node {
    /// A node about which nothing is said.
    pub(super) fn of(kind: Kind) -> Self {
        Self {
            kind,
            annotations: Map::new(),
        }
    }

    /// No value.
    pub(super) fn never() -> Self {
        Self::of(Kind::Never)
    }

    /// Returns whether there is no value.
    pub(super) fn is_never(&self) -> bool {
        self.kind == Kind::Never
    }

    /// The values of at least one of `options`.
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
