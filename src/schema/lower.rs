//! Lowers a canonical schema to a tree of the values that it allows ([`Node`]).
//!
//! Each subschema is a conjunction: the table itself, the targets of its `$ref` and `allOf`, and one option of each `anyOf` and
//! `oneOf`. Alternatives are multiplied out, and the tables of each combination are merged keyword by keyword. So `$ref`, `allOf` and
//! `anyOf` can be combined with any other keyword.
//!
//! The result never allows more than the schema, except for keywords that are checked on the finished answer only: `uniqueItems`,
//! overlapping options of a `oneOf`, a second constraint on property names, and a `pattern` that a `format` implies. The result allows
//! less if a model needs an end or an order: objects have only named properties, tuples are complete, and a recursive schema ends
//! after [`MAX_LEVEL`](super::recursion::MAX_LEVEL) levels. Notes report this.

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

/// Maximum number of schemas that are read. Alternatives count once for each combination.
const MAX_NODES: usize = 50_000;

/// Maximum number of table entries that are merged. Alternatives count once for each combination.
const MAX_ENTRIES: usize = 1_000_000;

/// Maximum number of remainders in the grammars of all `multipleOf`. Each takes 9 µs and 200 bytes to compile.
const MAX_REMAINDERS: usize = 100_000;

/// Bytes of a schema that cost as much to compile for a validator as one entry costs to merge.
const ENTRY_BYTES: usize = 16;

/// A schema as the values that it allows.
#[derive(Debug)]
pub(super) struct Lowered {
    /// The values of the whole schema.
    pub(super) root: Node,
    /// The definitions that nodes refer to.
    pub(super) definitions: BTreeMap<DefinitionKey, Node>,
    /// Notes on the parts that are ignored, narrowed, or checked on the finished answer.
    pub(super) notes: Reports<SchemaNote>,
    /// The parts that are invalid or unsupported.
    pub(super) faults: Reports<SchemaFault>,
}

/// The producer of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Producer {
    /// A model that follows a grammar. Its numbers are bounded.
    Model,
    /// A client. It may send any number.
    Client,
}

/// Lowers `canonical`, a schema of values that `producer` produces.
pub(super) fn lower(canonical: &Canonical, producer: Producer) -> Lowered {
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
        producer,
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

/// The state of lowering one schema.
pub(super) struct Lowering<'c> {
    pub(super) definitions: BTreeMap<&'c str, Definition<'c>>,
    /// The producer of the values.
    pub(super) producer: Producer,
    /// Number of recursive schemas around the current one.
    pub(super) level: usize,
    /// Number of alternatives around the current schema that were combined with other keywords. A contradiction inside one is not a
    /// mistake of the author.
    pub(super) branches: usize,
    nodes: usize,
    /// Length of all definitions, in bytes.
    bytes: usize,
    /// Number of patterns so far.
    pub(super) patterns: usize,
    /// The first contradiction in an alternative.
    pub(super) dead_end: Option<SchemaFault>,
    /// Number of table entries merged so far.
    entries: usize,
    /// Number of remainders of all `multipleOf` so far.
    remainders: usize,
    /// Number of comparisons of options so far.
    pub(super) comparisons: Cell<usize>,
    /// Compiled patterns of property names. `None` if a pattern is invalid.
    pub(super) name_patterns: HashMap<String, Option<Validator>>,
    /// Number of conjunctions around the current one.
    pub(super) depth: usize,
    pub(super) made: Lowered,
}

/// The absence of a value, for a reason that was already reported.
pub(super) struct NoValue;

impl<'c> Lowering<'c> {
    pub(super) fn note(&mut self, pointer: &str, text: impl Into<String>) {
        self.made.notes.add(note(pointer, text));
    }

    pub(super) fn fault(&mut self, fault: SchemaFault) -> Node {
        self.made.faults.add(fault);
        if self.made.faults.are_full() {
            // Further faults would not be reported, so this ends the reading.
            self.nodes = MAX_NODES;
        }
        Node::never()
    }

    /// Reports a contradiction. Inside an alternative, it only ends the alternative; otherwise it is a fault.
    pub(super) fn contradiction(&mut self, fault: SchemaFault) -> Node {
        if self.branches == 0 {
            return self.fault(fault);
        }
        self.dead_end.get_or_insert(fault);
        Node::never()
    }

    /// Reports `fault` where no node is built.
    pub(super) fn no_value(&mut self, fault: SchemaFault) -> NoValue {
        self.fault(fault);
        NoValue
    }

    pub(super) fn schema(&mut self, schema: &'c Value, at: &str) -> Node {
        self.all(&[(schema, at.to_owned())])
    }

    /// Returns the node of the values that follow all of `schemas`.
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

    /// Counts one more node. Returns whether there are too many, which is reported as a fault.
    pub(super) fn is_exhausted(&mut self) -> bool {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            self.too_large();
        }
        self.nodes > MAX_NODES
    }

    /// Counts `entries` that are about to be merged. Returns whether there are too many, which is reported as a fault.
    pub(super) fn is_too_much(&mut self, entries: usize) -> bool {
        self.entries = self.entries.saturating_add(entries);
        if self.entries > MAX_ENTRIES {
            self.too_large();
        }
        self.entries > MAX_ENTRIES
    }

    /// Counts the remainders that the grammar of a number distinguishes. Returns whether the whole schema has too many.
    pub(super) fn has_too_many_remainders(&mut self, count: usize) -> bool {
        self.remainders = self.remainders.saturating_add(count);
        self.remainders > MAX_REMAINDERS
    }

    fn too_large(&mut self) {
        let reason = format!(
            "the schema has more than {MAX_NODES} parts with its alternatives multiplied out; use fewer"
        );
        self.fault(fault("#", reason));
    }

    /// Compiles a validator of values against all `tables`. Returns `None` if that fails.
    pub(super) fn validator(&mut self, tables: &[Table]) -> Option<Validator> {
        let mut document = serde_json::json!({"allOf": tables});
        // Definitions may be large, so they are added only if needed.
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
        Validator::compile(&document).ok()
    }
}
