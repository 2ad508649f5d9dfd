//! Lowers a canonical schema to the values that it allows ([`Node`]).
//!
//! A place of a schema is a conjunction: the table itself, what its `$ref` and `allOf` name, and one option of each `anyOf` and
//! `oneOf`. Alternatives are multiplied out, the tables of each combination are merged keyword by keyword, and so a `$ref`, an
//! `allOf` or an `anyOf` may have any other keyword beside it.
//!
//! The result never allows more than the schema, except for keywords that are checked on the finished answer only: `uniqueItems`,
//! options of a `oneOf` that overlap, a second constraint on property names, and a `pattern` that a `format` implies. It allows less
//! if a model needs an end or an order: objects have only properties with a name, tuples are complete, and a schema that contains
//! itself ends after [`MAX_LEVEL`](super::recursion::MAX_LEVEL) levels. Notes report this.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::canonical::{Canonical, with_definitions};
use super::conjunction::Conjunction;
use super::negation::without_negations;
use super::node::{DefinitionKey, Node};
use super::recursion::{cyclic, only_reference};
use super::validator::Validator;
use super::{Reports, SchemaFault, SchemaNote, Table, fault, note};

/// Most schemas that are read; alternatives count once for each combination.
const MAX_NODES: usize = 50_000;

/// Most entries of tables that are merged; alternatives count once for each combination.
const MAX_ENTRIES: usize = 1_000_000;

/// Most remainders that the grammars of all `multipleOf` distinguish together. Each takes 9 µs and 200 bytes to compile.
const MAX_REMAINDERS: usize = 100_000;

/// Bytes of a schema for a validator that count as one entry.
const ENTRY_BYTES: usize = 16;

/// A schema as the values that it allows.
#[derive(Debug)]
pub(super) struct Lowered {
    /// The values of the whole schema.
    pub(super) root: Node,
    /// The definitions that nodes refer to.
    pub(super) definitions: BTreeMap<DefinitionKey, Node>,
    /// Notes on parts that are ignored, narrowed, or checked afterwards.
    pub(super) notes: Reports<SchemaNote>,
    /// All faults of the schema.
    pub(super) faults: Reports<SchemaFault>,
}

/// The producer of the values of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    /// A model that follows a grammar: its numbers are bounded.
    Model,
    /// A client: it may send any number.
    Client,
}

/// Lowers `canonical`, a schema of values that `author` produces.
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
        bytes: definitions
            .iter()
            .map(|(_, _, schema)| schema.to_string().len())
            .sum(),
        patterns: 0,
        dead_end: None,
        entries: 0,
        remainders: 0,
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
    if made.root.is_never() && made.faults.0.is_empty() {
        let fault = dead_end.unwrap_or_else(|| {
            fault(
                "#",
                "no value satisfies the schema; remove one of its keywords",
            )
        });
        made.faults.add(fault);
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
    /// The producer of the values.
    pub(super) author: Author,
    /// Number of recursive schemas around the current one.
    pub(super) level: usize,
    /// Number of alternatives around the current schema that were combined with other keywords: there, a contradiction is not a
    /// mistake.
    pub(super) branches: usize,
    nodes: usize,
    /// Bytes of all definitions.
    bytes: usize,
    /// Number of patterns so far.
    pub(super) patterns: usize,
    /// The first contradiction in an alternative.
    pub(super) dead_end: Option<SchemaFault>,
    /// Entries of tables that were merged so far.
    entries: usize,
    /// Remainders of all `multipleOf` so far.
    remainders: usize,
    /// Number of comparisons of options so far.
    pub(super) comparisons: Cell<usize>,
    /// Patterns of properties' names, compiled; `None` if one is invalid.
    pub(super) name_patterns: HashMap<String, Option<Validator>>,
    /// Number of conjunctions around the current one.
    pub(super) depth: usize,
    pub(super) made: Lowered,
}

/// Marks a place without values. The reason is reported already.
pub(super) struct NoValue;

impl<'c> Lowering<'c> {
    pub(super) fn note(&mut self, pointer: &str, text: impl Into<String>) {
        self.made.notes.add(note(pointer, text));
    }

    pub(super) fn fault(&mut self, fault: SchemaFault) -> Node {
        self.made.faults.add(fault);
        if self.made.faults.are_full() {
            // Further faults are not reported, so reading on would waste time.
            self.nodes = MAX_NODES;
        }
        Node::never()
    }

    /// Reports a contradiction: as a fault if it was written in one place, otherwise only as the end of an alternative.
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

    /// Returns the values that follow all of `schemas`.
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

    /// Counts one more part. Returns whether there are too many, and reports that as a fault.
    pub(super) fn is_exhausted(&mut self) -> bool {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            self.too_large();
        }
        self.nodes > MAX_NODES
    }

    /// Counts `entries` that are about to be merged. Returns whether they are too many; that is a fault then.
    pub(super) fn is_too_much(&mut self, entries: usize) -> bool {
        self.entries = self.entries.saturating_add(entries);
        if self.entries > MAX_ENTRIES {
            self.too_large();
        }
        self.entries > MAX_ENTRIES
    }

    /// Counts the remainders that the grammar of a number distinguishes. Returns whether there are too many in the whole schema.
    pub(super) fn has_too_many_remainders(&mut self, count: usize) -> bool {
        self.remainders = self.remainders.saturating_add(count);
        self.remainders > MAX_REMAINDERS
    }

    fn too_large(&mut self) {
        let reason = format!(
            "the schema has more than {MAX_NODES} parts with its alternatives multiplied out; write fewer of them"
        );
        self.fault(fault("#", reason));
    }

    /// Returns a validator of values against all `tables`. Returns `None` if they cannot be compiled.
    pub(super) fn validator(&mut self, tables: &[Table]) -> Option<Validator> {
        let mut document = serde_json::json!({"allOf": tables});
        // Definitions may be large.
        let text = document.to_string();
        let mut bytes = text.len();
        if text.contains("$ref\"") {
            bytes += self.bytes;
            let definitions = self.definitions.iter();
            let definitions = definitions
                .map(|(name, definition)| ((*name).to_owned(), definition.schema.clone()));
            document = with_definitions(document, definitions.collect());
        }
        if self.is_too_much(bytes / ENTRY_BYTES) {
            return None;
        }
        Validator::of(&document).ok()
    }
}
