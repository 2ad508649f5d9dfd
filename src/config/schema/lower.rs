//! Lowers a canonical schema to the values that it allows ([`Node`]).
//!
//! A place of a schema is a conjunction: the table itself, what its `$ref` and `allOf` name, and one option of each `anyOf` and
//! `oneOf`. Alternatives are multiplied out, the tables of each combination are merged keyword by keyword, and so a `$ref`, an
//! `allOf` or an `anyOf` may have any other keyword beside it.
//!
//! The result never allows more than the schema, except for what is checked on the finished answer: `uniqueItems`, and options of a
//! `oneOf` that overlap. It allows less if a model needs an end or an order: objects have only properties with a name, tuples are
//! whole, and a schema that contains itself ends after [`MAX_LEVEL`] levels. Notes report this.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use serde_json::{Map, Value};

use super::canonical::{Canonical, with_definitions};
use super::core::{ABSENT, EXCLUDED, core};
use super::keywords;
use super::node::{DefinitionKey, Kind, Node};
use super::validator::Validator;
use super::values::listed;
use super::{MAX_REPORTS, SchemaFault, SchemaNote, fault};

/// Most levels of a schema that contains itself.
pub const MAX_LEVEL: usize = 5;

/// Most schemas that are read; alternatives count once for each combination.
const MAX_NODES: usize = 50_000;

/// Most alternatives beside each other in one place.
const MAX_CHOICES: usize = 64;

/// Most conjunctions inside each other.
const MAX_DEPTH: usize = 300;

pub(super) type Table = Map<String, Value>;

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

/// Lowers `canonical`.
pub(super) fn lower(canonical: &Canonical) -> Lowered {
    let mut faults = canonical.faults.clone();
    let root = core(&canonical.root, "#", &mut faults);
    let definitions: Vec<(&str, String, Value)> = canonical
        .definitions
        .iter()
        .map(|definition| {
            let at = format!("#{}", definition.pointer);
            let schema = core(&definition.schema, &at, &mut faults);
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

/// The names of definitions that contain themselves.
fn cyclic<'d>(definitions: &[(&'d str, String, Value)]) -> BTreeSet<&'d str> {
    fn collect<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
        match value {
            Value::Object(table) => {
                for (key, value) in table {
                    match name_of(value)
                        .filter(|_| keywords::of(key) == keywords::Keyword::Reference)
                    {
                        Some(name) => drop(found.insert(name)),
                        None => collect(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let direct: BTreeMap<&str, BTreeSet<&str>> = definitions
        .iter()
        .map(|(name, _, schema)| {
            let mut found = BTreeSet::new();
            collect(schema, &mut found);
            (*name, found)
        })
        .collect();
    let reaches_itself = |start: &str| {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&str> = direct[start].iter().copied().collect();
        while let Some(name) = open.pop() {
            if name == start {
                return true;
            }
            if seen.insert(name) {
                open.extend(direct.get(name).into_iter().flatten());
            }
        }
        false
    };
    let names = definitions.iter().map(|(name, _, _)| *name);
    names.filter(|name| reaches_itself(name)).collect()
}

/// The name that a canonical reference means.
fn name_of(reference: &Value) -> Option<&str> {
    reference.as_str()?.strip_prefix("#/$defs/")
}

struct Definition<'c> {
    at: &'c str,
    schema: &'c Value,
    is_cyclic: bool,
}

/// Lowers one schema.
pub(super) struct Lowering<'c> {
    definitions: BTreeMap<&'c str, Definition<'c>>,
    /// Number of recursive schemas around the current one.
    level: usize,
    /// Number of alternatives around the current schema that were combined with other keywords: there, a contradiction is not a
    /// mistake.
    branches: usize,
    nodes: usize,
    /// Patterns so far.
    pub(super) patterns: usize,
    /// The first contradiction in an alternative.
    dead_end: Option<SchemaFault>,
    noted: HashSet<SchemaNote>,
    /// Comparisons of options so far.
    pub(super) comparisons: Cell<usize>,
    /// Patterns of properties' names, compiled; `None` if one is invalid.
    pub(super) name_patterns: HashMap<String, Option<Validator>>,
    /// Conjunctions that it is inside of.
    depth: usize,
    pub(super) made: Lowered,
}

/// Marks a place without values. The reason is reported already.
pub(super) struct NoValue;

/// A table of a conjunction.
#[derive(Clone)]
pub(super) struct Part<'c> {
    pub(super) table: &'c Table,
    pub(super) at: String,
}

#[derive(Clone, Default)]
struct Conjunction<'c> {
    parts: Vec<Part<'c>>,
    choices: VecDeque<Choice<'c>>,
    /// Names of definitions that are in it.
    references: BTreeSet<&'c str>,
    is_never: bool,
    is_cyclic: bool,
}

#[derive(Clone)]
struct Choice<'c> {
    options: &'c [Value],
    at: String,
    is_one_of: bool,
}

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
    fn is_exhausted(&mut self) -> bool {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let reason = format!(
                "the schema has more than {MAX_NODES} parts with its alternatives multiplied out; write fewer of them"
            );
            self.fault(fault("#", reason));
        }
        self.nodes > MAX_NODES
    }

    fn add(&mut self, schema: &'c Value, at: &str, to: &mut Conjunction<'c>) {
        if self.is_exhausted() {
            to.is_never = true;
            return;
        }
        let table = match schema {
            Value::Object(table) => table,
            schema => {
                to.is_never |= *schema == Value::Bool(false);
                return;
            }
        };
        for (key, value) in table {
            let place = || format!("{at}/{key}");
            match (key.as_str(), value) {
                ("$ref" | "$dynamicRef" | "$recursiveRef", reference) => {
                    let found =
                        name_of(reference).and_then(|name| self.definitions.get_key_value(name));
                    if let Some((name, definition)) = found
                        && to.references.insert(name)
                    {
                        to.is_cyclic |= definition.is_cyclic;
                        let (schema, at) = (definition.schema, definition.at);
                        self.add(schema, at, to);
                    }
                }
                ("allOf", Value::Array(schemas)) => {
                    for (n, schema) in schemas.iter().enumerate() {
                        self.add(schema, &format!("{at}/allOf/{n}"), to);
                    }
                }
                ("anyOf" | "oneOf", Value::Array(options)) => to.choices.push_back(Choice {
                    options,
                    at: place(),
                    is_one_of: key == "oneOf",
                }),
                _ => {}
            }
        }
        to.parts.push(Part {
            table,
            at: at.to_owned(),
        });
    }

    fn conjunction(&mut self, conjunction: Conjunction<'c>) -> Node {
        if conjunction.is_never {
            return Node::never();
        }
        let at = conjunction
            .parts
            .first()
            .map_or("#", |part| part.at.as_str());
        if conjunction.choices.len() > MAX_CHOICES || self.depth >= MAX_DEPTH {
            let reason = format!(
                "more than {MAX_CHOICES} `anyOf` and `oneOf` in one place, or schemas nest too deeply; write fewer of them"
            );
            let fault = fault(at, reason);
            return self.fault(fault);
        }
        self.depth += 1;
        let node = self.conjunction_within(conjunction);
        self.depth -= 1;
        node
    }

    fn conjunction_within(&mut self, mut conjunction: Conjunction<'c>) -> Node {
        let is_deeper = std::mem::take(&mut conjunction.is_cyclic);
        self.level += usize::from(is_deeper);
        let node = if self.level > MAX_LEVEL {
            let at = conjunction
                .parts
                .first()
                .map_or("#", |part| part.at.as_str());
            let without_end = fault(
                at,
                "a schema that contains itself must leave a way to end: make a property optional, or allow an empty array or `null`",
            );
            self.dead_end.get_or_insert(without_end);
            Node::never()
        } else {
            match conjunction.choices.pop_front() {
                Some(choice) => self.choice(&conjunction, &choice),
                None => self.merged(&conjunction.parts),
            }
        };
        self.level -= usize::from(is_deeper);
        node
    }

    fn choice(&mut self, conjunction: &Conjunction<'c>, choice: &Choice<'c>) -> Node {
        let says_nothing =
            |part: &Part<'_>| part.table.keys().all(|key| keywords::is_combinator(key));
        let is_plain = conjunction.choices.is_empty() && conjunction.parts.iter().all(says_nothing);
        let mut options = Vec::with_capacity(choice.options.len());
        for (n, option) in choice.options.iter().enumerate() {
            let at = format!("{}/{n}", choice.at);
            options.push(if is_plain {
                self.schema(option, &at)
            } else {
                let mut with = conjunction.clone();
                self.add(option, &at, &mut with);
                self.branches += 1;
                let node = self.conjunction(with);
                self.branches -= 1;
                node
            });
        }
        if choice.is_one_of {
            self.separate(&mut options, &choice.at);
        }
        let mut node = Node::union(options);
        let outer = annotations(&conjunction.parts);
        if is_plain && !outer.is_empty() {
            node.annotations = outer;
        }
        node
    }

    fn reference(&mut self, name: &str, beside: &Table, at: &str) -> Node {
        let Some((name, definition)) = self.definitions.get_key_value(name) else {
            return self.fault(fault(at, "refers to nothing"));
        };
        let (name, schema, place) = (*name, definition.schema, definition.at);
        let level = self.level + usize::from(definition.is_cyclic);
        let key = DefinitionKey {
            name: name.to_owned(),
            level,
        };
        if !self.made.definitions.contains_key(&key) {
            let mut conjunction = Conjunction::default();
            conjunction.references.insert(name);
            self.add(schema, place, &mut conjunction);
            conjunction.is_cyclic = false;
            let outer = std::mem::replace(&mut self.level, level);
            let node = if level > MAX_LEVEL {
                conjunction.is_cyclic = true;
                self.conjunction(conjunction)
            } else {
                self.conjunction(conjunction)
            };
            self.level = outer;
            if definition_ends_early(&node, level) {
                self.note(
                    place,
                    format!("contains itself: at most {MAX_LEVEL} levels are written"),
                );
            }
            self.made.definitions.insert(key.clone(), node);
        }
        let node = &self.made.definitions[&key];
        let mut made = match node.kind {
            Kind::Object(_) | Kind::Array(_) | Kind::Union(_) => Node::of(Kind::Reference(key)),
            _ => node.clone(),
        };
        for (key, value) in annotations_of(beside) {
            made.annotations.insert(key, value);
        }
        made
    }

    /// Merges tables without alternatives.
    fn merged(&mut self, parts: &[Part<'c>]) -> Node {
        let declared = declared_types(parts);
        let mut node = if let Some(values) = listed(parts) {
            self.values(parts, &values, declared.as_deref())
        } else {
            self.of_types(parts, declared)
        };
        if !node.is_never() {
            node.annotations = annotations(parts);
        }
        node
    }

    fn of_types(&mut self, parts: &[Part<'c>], declared: Option<Vec<&'c str>>) -> Node {
        let is_said = |kind: &&str| {
            let says = |part: &Part<'_>, key: &str| part.table.contains_key(key);
            let words = keywords::of_type(kind)
                .iter()
                .filter(|key| **key != "format");
            let mut words = words.chain((*kind == "object").then_some(&ABSENT));
            words.any(|key| parts.iter().any(|part| says(part, key)))
        };
        let types = if let Some(types) = declared {
            types
        } else {
            let said: Vec<&str> = ["object", "array", "string", "number"]
                .into_iter()
                .filter(is_said)
                .collect();
            if let Some(first) = parts.first().filter(|_| !said.is_empty()) {
                self.note(
                    &first.at,
                    format!("`type` is missing; `{}` is assumed", said.join("` or `")),
                );
            }
            said
        };
        if types.is_empty() {
            let has_type = parts.iter().any(|part| part.table.contains_key("type"));
            let first = parts.first().map_or("#", |part| part.at.as_str());
            return match excluded(parts).next() {
                _ if has_type => {
                    self.contradiction(fault(first, "its parts have no type in common"))
                }
                Some((at, _)) => self.fault(not_values(&at)),
                None => Node::of(Kind::Any),
            };
        }
        self.note_without_effect(parts, &types);
        let options = types.iter().map(|kind| self.of_type(kind, parts)).collect();
        Node::union(options)
    }

    fn note_without_effect(&mut self, parts: &[Part<'c>], types: &[&str]) {
        for part in parts.iter().filter(|part| part.table.contains_key("type")) {
            let of_other = |key: &&String| {
                let applies = |kind: &&str| keywords::of_type(kind).contains(&key.as_str());
                keywords::TYPES.iter().any(applies) && !types.iter().any(applies)
            };
            let idle: Vec<&String> = part.table.keys().filter(of_other).collect();
            for key in idle {
                self.note(
                    &format!("{}/{key}", part.at),
                    format!("has no effect on the type `{}`", types.join("` or `")),
                );
            }
        }
    }

    fn of_type(&mut self, kind: &str, parts: &[Part<'c>]) -> Node {
        let excluded: Vec<(String, &Value)> = excluded(parts)
            .filter(|(_, value)| is_of(value, kind))
            .collect();
        match kind {
            "null" if excluded.is_empty() => Node::of(Kind::Null),
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
                    1 => Node::of(Kind::Values(values)),
                    _ => Node::of(Kind::Boolean),
                }
            }
            _ if let Some((at, _)) = excluded.first() => self.fault(not_values(at)),
            "integer" | "number" => self.number(kind == "integer", parts),
            "string" => self.text(parts),
            "array" => self.array(parts),
            _ => self.object(parts),
        }
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

fn not_values(at: &str) -> SchemaFault {
    fault(
        at,
        "values can be excluded only from an `enum`; list those that are allowed",
    )
}

/// Returns whether `node`, a definition at the last level, lacks what deeper levels would have.
fn definition_ends_early(node: &Node, level: usize) -> bool {
    level == MAX_LEVEL && !node.is_never()
}

/// The name in a table that says nothing but `$ref`.
fn only_reference(table: &Table) -> Option<&str> {
    let is_only = table
        .keys()
        .all(|key| key == "$ref" || keywords::of(key).is_annotation());
    name_of(table.get("$ref").filter(|_| is_only)?)
}

fn annotations_of(table: &Table) -> impl Iterator<Item = (String, Value)> + '_ {
    ["title", "description", "default"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), table.get(key)?.clone())))
}

/// Merges the annotations of `parts`. The last one takes precedence: a table with a reference comes after the table it refers to.
fn annotations(parts: &[Part<'_>]) -> Table {
    parts
        .iter()
        .flat_map(|part| annotations_of(part.table))
        .collect()
}

/// The types that all parts allow; `None` if no part has `type`.
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

/// The types that both lists allow.
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

/// The values that parts exclude, with their places.
fn excluded<'p>(parts: &'p [Part<'_>]) -> impl Iterator<Item = (String, &'p Value)> + 'p {
    parts.iter().flat_map(|part| {
        let values = part.table.get(EXCLUDED).and_then(Value::as_array);
        values
            .into_iter()
            .flatten()
            .map(|value| (part.at.clone(), value))
    })
}

/// Returns whether `value` is of the type `kind`.
pub(super) fn is_of(value: &Value, kind: &str) -> bool {
    match value {
        Value::Null => kind == "null",
        Value::Bool(_) => kind == "boolean",
        Value::String(_) => kind == "string",
        Value::Array(_) => kind == "array",
        Value::Object(_) => kind == "object",
        Value::Number(_) => {
            kind == "number"
                || kind == "integer" && crate::config::whole::whole_value(value).is_some()
        }
    }
}
