//! The schema that clients see.
//!
//! Clients check answers with validators of several languages and drafts, and pass input schemas to model APIs that support a part of
//! JSON Schema. So the advertised schema is never stricter than the enforced one: its root has the type `object`, each node has one
//! `type`, and it has no `pattern` that JavaScript and Python read differently, no `multipleOf` with a fraction (dividing doubles
//! gets it wrong), no tuples (drafts write them differently), and no `additionalProperties: false`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::canonical::Canonical;
use super::lower::{Lowered, Producer, lower};
use super::node::{ArrayNode, DefinitionKey, Kind, Node, NumberNode, ObjectNode, TextNode};
use super::{Reports, SchemaNote, Table, note, portable, types};

/// Formats that validators of JavaScript and Python support and interpret alike.
const FORMATS: [&str; 10] = [
    "date",
    "time",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
];

/// Returns `schema` in a form that every client can read.
///
/// ```text
/// {"type": ["object"], "additionalProperties": false, "properties": {"price": {"type": "number", "multipleOf": 0.01}}}
/// becomes
/// {"type": "object", "properties": {"price": {"type": "number"}}}
/// ```
///
/// Omits the parts that cannot be read or that allow no value.
pub(crate) fn advertised(schema: &Value) -> Value {
    rendered(&lower(&Canonical::from_schema(schema), Producer::Client)).0
}

/// Renders `lowered`. The notes report the parts that are omitted.
pub(super) fn rendered(lowered: &Lowered) -> (Value, Vec<SchemaNote>) {
    let mut names: BTreeMap<&str, &DefinitionKey> = BTreeMap::new();
    // The definition at the lowest level allows the values of all deeper levels.
    for key in lowered.definitions.keys().rev() {
        names.insert(&key.name, key);
    }
    let mut renderer = Renderer {
        lowered,
        names,
        used: BTreeSet::new(),
        open: Vec::new(),
        notes: Reports::default(),
    };
    let mut schema = renderer.root(&lowered.root);
    let mut definitions = Map::new();
    while let Some(name) = renderer.open.pop() {
        if let Some(node) = renderer.definition(&name) {
            definitions.insert(name, renderer.node(node));
        }
    }
    if !definitions.is_empty() {
        schema.insert("$defs".into(), definitions.into());
    }
    (Value::Object(schema), renderer.notes.0)
}

struct Renderer<'l> {
    lowered: &'l Lowered,
    /// The lowest level of each definition.
    names: BTreeMap<&'l str, &'l DefinitionKey>,
    used: BTreeSet<String>,
    open: Vec<String>,
    notes: Reports<SchemaNote>,
}

impl<'l> Renderer<'l> {
    fn note(&mut self, pointer: &str, text: impl Into<String>) {
        self.notes.add(note(pointer, text));
    }

    fn definition(&self, name: &str) -> Option<&'l Node> {
        self.lowered.definitions.get(*self.names.get(name)?)
    }

    /// Follows references. This ends, because each level of a recursive schema is a definition of its own.
    fn resolved(&self, mut node: &'l Node) -> &'l Node {
        while let Kind::Reference(key) = &node.kind {
            match self.lowered.definitions.get(key) {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    /// Renders the root: always an object with its own `properties`.
    fn root(&mut self, node: &'l Node) -> Table {
        let mut made = Table::new();
        made.insert("type".into(), "object".into());
        let objects = self.objects(node);
        match objects[..] {
            [] => {}
            [single] => self.object(single, &mut made),
            _ => {
                self.note(
                    "#",
                    "clients see one object with the properties of all options",
                );
                self.merged(&objects, &mut made);
            }
        }
        let annotations = node
            .annotations
            .iter()
            .chain(&self.resolved(node).annotations);
        for (key, value) in annotations {
            made.entry(key.clone()).or_insert_with(|| value.clone());
        }
        made
    }

    /// Returns the options of `node` that are objects.
    fn objects(&self, node: &'l Node) -> Vec<&'l ObjectNode> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            match &node.kind {
                Kind::Object(object) => found.push(object),
                // The first option must be popped first.
                Kind::Union(options) => open.extend(options.iter().rev()),
                Kind::Reference(key) if seen.insert(key) => {
                    open.extend(self.lowered.definitions.get(key));
                }
                _ => {}
            }
        }
        found
    }

    /// Renders one object that allows the values of all `objects`.
    fn merged(&mut self, objects: &[&'l ObjectNode], made: &mut Table) {
        if objects.iter().any(|object| object.entries.is_some()) {
            return;
        }
        let mut properties = Table::new();
        for property in objects.iter().flat_map(|object| &object.properties) {
            if properties.contains_key(&property.name) {
                continue;
            }
            let nodes = objects
                .iter()
                .filter_map(|object| object.property(&property.name));
            let nodes = nodes.map(|property| property.node.clone()).collect();
            let node = Node::union(nodes);
            properties.insert(property.name.clone(), self.node(&node));
        }
        let is_in_all = |name: &&String| {
            let required = |object: &&ObjectNode| {
                object
                    .property(name)
                    .is_some_and(|property| property.is_required)
            };
            objects.iter().all(required)
        };
        let required: Vec<Value> = properties
            .keys()
            .filter(is_in_all)
            .map(|name| name.as_str().into())
            .collect();
        made.insert("properties".into(), properties.into());
        made.insert("required".into(), required.into());
    }

    fn node(&mut self, node: &Node) -> Value {
        let mut table = node.annotations.clone();
        self.kind(&node.kind, &mut table);
        Value::Object(table)
    }

    fn kind(&mut self, kind: &Kind, made: &mut Table) {
        let typed = |kind: &str, made: &mut Table| drop(made.insert("type".into(), kind.into()));
        match kind {
            Kind::Never | Kind::Any => {}
            Kind::Null => typed("null", made),
            Kind::Boolean => typed("boolean", made),
            Kind::Values(values) => values_of(values, made),
            Kind::Number(number) => self.number(number, made),
            Kind::Text(text) => self.text(text, made),
            Kind::Array(array) => self.array(array, made),
            Kind::Object(object) => {
                typed("object", made);
                self.object(object, made);
            }
            Kind::Union(options) => {
                let options: Vec<Value> = options.iter().map(|option| self.node(option)).collect();
                made.insert("anyOf".into(), options.into());
            }
            // Some clients follow references endlessly, so recursion ends at the first level.
            Kind::Reference(key)
                if self
                    .names
                    .get(key.name.as_str())
                    .is_some_and(|least| least.level < key.level) =>
            {
                if let Some(node) = self.lowered.definitions.get(key) {
                    match node.kind {
                        Kind::Object(_) => typed("object", made),
                        Kind::Array(_) => {
                            typed("array", made);
                            made.insert("items".into(), json!({}));
                        }
                        _ => {}
                    }
                }
            }
            Kind::Reference(key) => {
                if self.used.insert(key.name.clone()) {
                    self.open.push(key.name.clone());
                }
                made.insert("$ref".into(), format!("#/$defs/{}", key.name).into());
            }
        }
    }

    fn number(&mut self, number: &NumberNode, made: &mut Table) {
        let kind = if number.is_integer {
            "integer"
        } else {
            "number"
        };
        made.insert("type".into(), kind.into());
        for (key, value) in &number.keywords {
            let is_whole = value.as_f64().is_some_and(|value| value.fract() == 0.0);
            if key != "multipleOf" || is_whole {
                made.insert(key.clone(), value.clone());
            } else {
                self.note(&number.pointer, format!("clients do not see `multipleOf` {value}: floating-point division would make them reject some multiples"));
            }
        }
    }

    fn text(&mut self, text: &TextNode, made: &mut Table) {
        made.insert("type".into(), "string".into());
        if text.min > 0 {
            made.insert("minLength".into(), text.min.into());
        }
        if let Some(max) = text.max {
            made.insert("maxLength".into(), max.into());
        }
        if let Some(format) = text.format {
            if FORMATS.contains(&format.name) {
                made.insert("format".into(), format.name.into());
            } else {
                self.note(
                    &text.pointer,
                    format!(
                        "clients do not see the format `{}`: not all of their validators support it",
                        format.name
                    ),
                );
            }
        }
        for pattern in &text.patterns {
            match portable::portable(&pattern.written) {
                Some(portable) if !made.contains_key("pattern") => {
                    made.insert("pattern".into(), portable.into());
                }
                _ => self.note(&text.pointer, format!("clients do not see the pattern `{}`: JavaScript and Python read it differently", pattern.written)),
            }
        }
    }

    /// Renders an array. Drafts write tuples differently, so one schema allows the items at all positions.
    fn array(&mut self, array: &ArrayNode, made: &mut Table) {
        made.insert("type".into(), "array".into());
        let kinds = array.prefix.iter().chain(array.items.as_deref());
        let items = Node::union(kinds.cloned().collect());
        if array.prefix.iter().any(|item| *item != items) {
            self.note(
                &array.pointer,
                "clients see one schema for all items: drafts write tuples differently",
            );
        }
        let items = match items.kind {
            Kind::Never | Kind::Any => Value::Object(items.annotations),
            _ => self.node(&items),
        };
        made.insert("items".into(), items);
        if array.min > 0 {
            made.insert("minItems".into(), array.min.into());
        }
        if let Some(max) = array.max {
            made.insert("maxItems".into(), max.into());
        }
    }

    fn object(&mut self, object: &ObjectNode, made: &mut Table) {
        if let Some(entries) = &object.entries {
            if !entries.keys.is_empty() {
                self.note(
                    &object.pointer,
                    "clients do not see the pattern of the property names",
                );
            }
            if object.min > 0 || object.max.is_some() {
                self.note(
                    &object.pointer,
                    "clients do not see `minProperties` and `maxProperties`",
                );
            }
            if entries.value.kind != Kind::Any {
                let value = self.node(&entries.value);
                made.insert("additionalProperties".into(), value);
            }
            return;
        }
        if object.min > 0 {
            self.note(&object.pointer, "clients do not see `minProperties`");
        }
        let properties: Table = object
            .properties
            .iter()
            .map(|property| (property.name.clone(), self.node(&property.node)))
            .collect();
        let required = object
            .properties
            .iter()
            .filter(|property| property.is_required);
        let required: Vec<Value> = required
            .map(|property| property.name.as_str().into())
            .collect();
        made.insert("properties".into(), properties.into());
        made.insert("required".into(), required.into());
    }
}

/// Renders the schema of listed `values`: one `type` if all values share it, otherwise one option for each type.
fn values_of(values: &[Value], made: &mut Table) {
    let mut by_type: Vec<(&str, Vec<&Value>)> = Vec::new();
    for value in values {
        let kind = match value {
            Value::Number(number) if !number.is_f64() => "integer",
            value => types::name_of_value(value),
        };
        match by_type.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, values)) => values.push(value),
            None => by_type.push((kind, vec![value])),
        }
    }
    let mut options: Vec<Value> = by_type
        .into_iter()
        .map(|(kind, values)| json!({"type": kind, "enum": values}))
        .collect();
    match options.len() {
        1 => {
            if let Value::Object(only) = options.remove(0) {
                made.extend(only);
            }
        }
        _ => drop(made.insert("anyOf".into(), options.into())),
    }
}
