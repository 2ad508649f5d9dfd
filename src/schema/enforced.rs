//! The schema that the grammar follows. It uses only keywords that llguidance supports, is closed, and bounds every value.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::formats::FormatRule;
use super::lower::Lowered;
use super::node::{ArrayNode, DefinitionKey, Entries, Kind, Node, ObjectNode, TextNode};
use super::number::number;
use super::{Reports, SchemaNote, note};

/// Maximum nesting of arrays and objects in a value that the schema does not constrain.
const ANY_LEVELS: usize = 3;

/// Pattern of property names that the schema does not list.
const KEY: &str = r#"^[^"\\\x00-\x1F\x7F]{1,100}$"#;

/// Limits of the parts of an answer that the schema leaves open: it sets no maximum, or a greater one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Limits {
    /// Maximum characters of a string.
    #[serde(rename = "json_max_string")]
    pub string: u64,
    /// Maximum items of an array, and maximum properties of a map.
    #[serde(rename = "json_max_items")]
    pub items: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            string: 50_000,
            items: 5_000,
        }
    }
}

impl Limits {
    /// Returns the maximum of a part with the limit `limit`, and whether this limit, not the schema's own `max`, ends the part. If the
    /// schema requires more than half of the limit, the maximum is twice what it requires: with a limit of 100 items and `minItems` 80,
    /// it is 160.
    pub(super) fn most(limit: u64, max: Option<u64>, min: u64) -> (u64, bool) {
        let limit = limit.max(min.saturating_mul(2));
        match max {
            Some(max) if max <= limit => (max, false),
            _ => (limit, true),
        }
    }
}

/// A schema for the grammar.
#[derive(Debug)]
pub(super) struct Enforced {
    pub(super) schema: Value,
    /// Schemas of strings that only the grammar compiler can check, with their JSON pointers in the written schema.
    pub(super) doubtful: Vec<(String, Value)>,
    /// Whether a limit of the configuration bounds a string, an array or a map.
    pub(super) is_limited: bool,
    /// Notes on the limits that are raised because the schema requires more than half of them.
    pub(super) notes: Vec<SchemaNote>,
}

/// Renders `lowered` for the grammar.
pub(super) fn enforced(lowered: &Lowered, limits: Limits) -> Enforced {
    let mut renderer = Renderer {
        limits,
        doubtful: Vec::new(),
        notes: Reports::default(),
        is_limited: false,
        has_any: false,
        used: BTreeSet::new(),
        open: Vec::new(),
    };
    let mut schema = renderer.node(&lowered.root);
    let mut definitions = Map::new();
    while let Some(key) = renderer.open.pop() {
        if let Some(node) = lowered.definitions.get(&key) {
            definitions.insert(name_of(&key), renderer.node(node));
        }
    }
    if renderer.has_any {
        renderer.is_limited = true;
        for level in 0..=ANY_LEVELS {
            definitions.insert(any_name(level), renderer.any(level));
        }
    }
    if let Some(table) = schema.as_object_mut()
        && !definitions.is_empty()
    {
        table.insert("$defs".into(), definitions.into());
    }
    Enforced {
        schema,
        doubtful: renderer.doubtful,
        is_limited: renderer.is_limited,
        notes: renderer.notes.0,
    }
}

fn name_of(key: &DefinitionKey) -> String {
    format!("{}.{}", key.level, key.name)
}

fn any_name(level: usize) -> String {
    format!("any.{level}")
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

struct Renderer {
    limits: Limits,
    doubtful: Vec<(String, Value)>,
    is_limited: bool,
    notes: Reports<SchemaNote>,
    has_any: bool,
    used: BTreeSet<DefinitionKey>,
    /// Definitions that are referred to but not yet rendered.
    open: Vec<DefinitionKey>,
}

impl Renderer {
    fn node(&mut self, node: &Node) -> Value {
        match &node.kind {
            Kind::Never => Value::Bool(false),
            Kind::Any => {
                self.has_any = true;
                reference(&any_name(ANY_LEVELS))
            }
            Kind::Null => json!({"type": "null"}),
            Kind::Boolean => json!({"type": "boolean"}),
            Kind::Values(values) => json!({"enum": values}),
            Kind::Number(number) => number.enforced.clone(),
            Kind::Text(text) => self.text(text),
            Kind::Array(array) => self.array(array),
            Kind::Object(object) => self.object(object),
            Kind::Union(options) => {
                let options: Vec<Value> = options.iter().map(|option| self.node(option)).collect();
                json!({"anyOf": options})
            }
            Kind::Reference(key) => {
                if self.used.insert(key.clone()) {
                    self.open.push(key.clone());
                }
                reference(&name_of(key))
            }
        }
    }

    /// Returns the maximum of the part at `pointer` (see [`Limits::most`]), and notes a raised limit.
    fn most(
        &mut self,
        max: Option<u64>,
        min: u64,
        (key, limit): (&str, u64),
        pointer: &str,
    ) -> u64 {
        let (most, is_ours) = Limits::most(limit, max, min);
        self.is_limited |= is_ours;
        if is_ours && most > limit {
            let text = format!(
                "requires {min}, more than half of `{key}` ({limit}); the limit is raised to {most}"
            );
            self.notes.add(note(pointer, text));
        }
        most
    }

    fn text(&mut self, text: &TextNode) -> Value {
        let mut patterns: Vec<String> = text
            .patterns
            .iter()
            .filter_map(|pattern| pattern.enforced.clone())
            .collect();
        let mut made = json!({"type": "string"});
        match text.format.map(|format| (format.name, format.pattern)) {
            Some((_, FormatRule::Pattern(pattern))) => patterns.push(format!("^(?:{pattern})$")),
            Some((name, FormatRule::Grammar)) => made["format"] = name.into(),
            None => {}
        }
        // The pattern of a format already bounds its strings.
        if text.format.is_none() || text.min > 0 || text.max.is_some() {
            made["minLength"] = text.min.into();
            made["maxLength"] = match text.format {
                Some(_) => text.max.unwrap_or(self.limits.string.max(text.min)).into(),
                None => self
                    .most(
                        text.max,
                        text.min,
                        ("json_max_string", self.limits.string),
                        &text.pointer,
                    )
                    .into(),
            };
        }
        match patterns.len() {
            0 => return made,
            1 => made["pattern"] = patterns.remove(0).into(),
            _ => {
                let all = patterns
                    .into_iter()
                    .map(|pattern| json!({"type": "string", "pattern": pattern}));
                made["allOf"] = all.collect();
            }
        }
        if !text.patterns.is_empty() || made.get("maxLength").is_some() {
            self.doubtful.push((text.pointer.clone(), made.clone()));
        }
        made
    }

    fn array(&mut self, array: &ArrayNode) -> Value {
        let prefix: Vec<Value> = array.prefix.iter().map(|item| self.node(item)).collect();
        let items = array
            .items
            .as_ref()
            .map_or(Value::Bool(false), |items| self.node(items));
        let max = match (&array.items, array.max) {
            (None, Some(max)) => max,
            (_, max) => self.most(
                max,
                array.min,
                ("json_max_items", self.limits.items),
                &array.pointer,
            ),
        };
        let mut made =
            json!({"type": "array", "items": items, "minItems": array.min, "maxItems": max});
        if !prefix.is_empty() {
            made["prefixItems"] = prefix.into();
        }
        made
    }

    fn object(&mut self, object: &ObjectNode) -> Value {
        if let Some(entries) = &object.entries {
            return self.map(object, entries);
        }
        let properties: Map<String, Value> = object
            .properties
            .iter()
            .map(|property| (property.name.clone(), self.node(&property.node)))
            .collect();
        let required: Vec<&str> = object
            .properties
            .iter()
            .filter(|property| property.is_required)
            .map(|property| property.name.as_str())
            .collect();
        let mut made = json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
        if object.min > 0 {
            made["minProperties"] = object.min.into();
        }
        made
    }

    fn map(&mut self, object: &ObjectNode, entries: &Entries) -> Value {
        let key = entries.keys.first().map_or(KEY, String::as_str);
        let value = self.node(&entries.value);
        let max = self.most(
            object.max,
            object.min,
            ("json_max_items", self.limits.items),
            &object.pointer,
        );
        json!({
            "type": "object",
            "patternProperties": {key: value},
            "additionalProperties": false,
            "minProperties": object.min,
            "maxProperties": max,
        })
    }

    /// Returns the schema of any value with at most `level` levels of arrays and objects.
    fn any(&self, level: usize) -> Value {
        let number = number(false, &Map::new(), "#").unwrap_or(Value::Bool(false));
        let mut options = vec![
            json!({"type": "string", "maxLength": self.limits.string}),
            number,
            json!({"type": "boolean"}),
            json!({"type": "null"}),
        ];
        if let Some(inner) = level.checked_sub(1).map(any_name) {
            let items = self.limits.items;
            options.push(json!({"type": "array", "items": reference(&inner), "maxItems": items}));
            options.push(json!({"type": "object", "patternProperties": {KEY: reference(&inner)}, "additionalProperties": false, "maxProperties": items}));
        }
        json!({"anyOf": options})
    }
}
