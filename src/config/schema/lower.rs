//! Lowers a canonical schema to the values that it allows ([`Node`]).
//!
//! A place of a schema is a conjunction: the table itself, what its `$ref` and `allOf` name, and one option of each `anyOf` and
//! `oneOf`. Alternatives are multiplied out, the tables of each combination are merged keyword by keyword, and so a `$ref`, an
//! `allOf` or an `anyOf` may have any other keyword beside it.
//!
//! The result never allows more than the schema, except for what is checked on the finished answer: `uniqueItems`, and options of a
//! `oneOf` that overlap. It allows less if a model needs an end or an order: objects have only properties with a name, tuples are
//! whole, and a schema that contains itself ends after [`MAX_LEVEL`](super::MAX_LEVEL) levels. Notes report this.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::canonical::{Canonical, with_definitions};
use super::conjunction::Conjunction;
use super::negation::without_negations;
use super::node::{DefinitionKey, Node};
use super::recursion::{cyclic, only_reference};
use super::validator::Validator;
use super::{MAX_REPORTS, SchemaFault, SchemaNote, Table, fault};

/// Most schemas that are read; alternatives count once for each combination.
const MAX_NODES: usize = 50_000;

/// A schema as the values that it allows.
#[derive(Debug)]
pub(super) struct Lowered {
    /// The values of the whole schema.
    pub(super) root: Node,
    /// The definitions that nodes refer to.
    pub(super) definitions: BTreeMap<DefinitionKey, Node>,
    /// Notes on parts that are ignored, narrowed, or checked afterwards.
    pub(super) notes: Vec<SchemaNote>,
    /// All faults of the schema.
    pub(super) faults: Vec<SchemaFault>,
}

/// Who makes the values of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    /// A model, by a grammar: its numbers have an end.
    Model,
    /// A client, which may give any number.
    Client,
}

/// Lowers `canonical`, a schema of values that `author` makes.
pub(super) fn lower(canonical: &Canonical, author: Author) -> Lowered {
    let mut faults = canonical.faults.clone();
    let root = without_negations(&canonical.root, "#", &mut faults);
    let definitions: Vec<(&str, String, Value)> = canonical
        .definitions
        .iter()
        .map(|definition| {
            let at = format!("#{}", definition.pointer);
            let schema = without_negations(&definition.schema, &at, &mut faults);
            (definition.name.as_str(), at, schema)
        })
        .collect();
    let cyclic = cyclic(&definitions);
    let mut lowering = Lowering {
        definitions: definitions
            .iter()
            .map(|(name, at, schema)| {
                let is_cyclic = cyclic.contains(name);
                (
                    *name,
                    Definition {
                        at,
                        schema,
                        is_cyclic,
                    },
                )
            })
            .collect(),
        author,
        level: 0,
        branches: 0,
        nodes: 0,
        patterns: 0,
        dead_end: None,
        noted: HashSet::new(),
        comparisons: Cell::new(0),
        name_patterns: HashMap::new(),
        depth: 0,
        made: Lowered {
            root: Node::never(),
            definitions: BTreeMap::new(),
            notes: canonical.notes.clone(),
            faults,
        },
    };
    lowering.made.root = lowering.schema(&root, "#");
    let Lowering {
        mut made, dead_end, ..
    } = lowering;
    if made.root.is_never() && made.faults.is_empty() {
        let fault = dead_end.unwrap_or_else(|| fault("#", "no value satisfies the schema"));
        made.faults.push(fault);
    }
    made
}

/// A definition without negations.
pub(super) struct Definition<'c> {
    pub(super) at: &'c str,
    pub(super) schema: &'c Value,
    pub(super) is_cyclic: bool,
}

/// Lowers one schema.
pub(super) struct Lowering<'c> {
    pub(super) definitions: BTreeMap<&'c str, Definition<'c>>,
    /// Who makes the values.
    pub(super) author: Author,
    /// Number of recursive schemas around the current one.
    pub(super) level: usize,
    /// Number of alternatives around the current schema that were combined with other keywords: there, a contradiction is not a
    /// mistake.
    pub(super) branches: usize,
    nodes: usize,
    /// Patterns so far.
    pub(super) patterns: usize,
    /// The first contradiction in an alternative.
    pub(super) dead_end: Option<SchemaFault>,
    noted: HashSet<SchemaNote>,
    /// Comparisons of options so far.
    pub(super) comparisons: Cell<usize>,
    /// Patterns of properties' names, compiled; `None` if one is invalid.
    pub(super) name_patterns: HashMap<String, Option<Validator>>,
    /// Conjunctions that it is inside of.
    pub(super) depth: usize,
    pub(super) made: Lowered,
}

/// Marks a place without values. The reason is reported already.
pub(super) struct NoValue;

impl<'c> Lowering<'c> {
    pub(super) fn note(&mut self, pointer: &str, text: impl Into<String>) {
        let note = SchemaNote {
            pointer: pointer.to_owned(),
            text: text.into(),
        };
        if self.made.notes.len() < MAX_REPORTS && self.noted.insert(note.clone()) {
            self.made.notes.push(note);
        }
    }

    pub(super) fn fault(&mut self, fault: SchemaFault) -> Node {
        if self.made.faults.len() >= MAX_REPORTS {
            // Enough to correct; more would take time for nothing.
            self.nodes = MAX_NODES;
        } else if !self.made.faults.contains(&fault) {
            self.made.faults.push(fault);
        }
        Node::never()
    }

    /// A contradiction: a mistake if it was written in one place, and otherwise the end of an alternative.
    pub(super) fn contradiction(&mut self, fault: SchemaFault) -> Node {
        if self.branches == 0 {
            return self.fault(fault);
        }
        self.dead_end.get_or_insert(fault);
        Node::never()
    }

    /// Reports `fault` where no node is made.
    pub(super) fn no_value(&mut self, fault: SchemaFault) -> NoValue {
        self.fault(fault);
        NoValue
    }

    pub(super) fn schema(&mut self, schema: &'c Value, at: &str) -> Node {
        self.all(&[(schema, at.to_owned())])
    }

    /// The values that follow all of `schemas`.
    pub(super) fn all(&mut self, schemas: &[(&'c Value, String)]) -> Node {
        if let [(Value::Object(table), at)] = schemas
            && let Some(name) = only_reference(table)
        {
            return self.reference(name, table, at);
        }
        let mut conjunction = Conjunction::default();
        for (schema, at) in schemas {
            self.add(schema, at, &mut conjunction);
        }
        self.branches += usize::from(schemas.len() > 1);
        let node = self.conjunction(conjunction);
        self.branches -= usize::from(schemas.len() > 1);
        node
    }

    /// Returns whether the schema has become too large; that is a fault then.
    pub(super) fn is_exhausted(&mut self) -> bool {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let reason = format!(
                "the schema has more than {MAX_NODES} parts with its alternatives multiplied out; write fewer of them"
            );
            self.fault(fault("#", reason));
        }
        self.nodes > MAX_NODES
    }

    /// Checks values that are at hand by what all `tables` say.
    pub(super) fn validator(&self, tables: &[Table]) -> Option<Validator> {
        let mut document = serde_json::json!({"allOf": tables});
        // Definitions may be large.
        if document.to_string().contains("$ref\"") {
            let definitions = self.definitions.iter();
            let definitions = definitions
                .map(|(name, definition)| ((*name).to_owned(), definition.schema.clone()));
            document = with_definitions(document, definitions.collect());
        }
        Validator::of(&document).ok()
    }
}
