//! JSON Schemas of answers: what can be enforced while an answer is written, and what is refused.
//!
//! The grammar ([`crate::engine::grammar`]) ignores what it does not know, so the keywords are listed here, and all others are
//! refused with their place. What is let through comes out narrower than it went in, never wider: objects are closed, strings
//! and arrays get an end, integers are those of a double, since a small model that may go on for ever does. References are put
//! in place of their names.

use serde_json::{Map, Value, json};

use super::shape::suggestion;

/// Characters of a string that says no `maxLength`.
pub const MAX_STRING: u64 = 1000;

/// Items of an array that says no `maxItems`.
pub const MAX_ITEMS: u64 = 100;

/// The longest lengths that the grammar counts to.
const MOST: u64 = 2000;

/// Schemas in schemas.
const MAX_DEPTH: usize = 16;

/// Bytes of a schema, as it is written and as it is enforced.
const MAX_BYTES: usize = 64 * 1024;

/// Schemas in a schema, references put in.
const MAX_SCHEMAS: usize = 1000;

/// Patterns in a schema, and characters of one: each is compiled, here and for the grammar.
const MAX_PATTERNS: (usize, usize) = (32, 200);

/// Bytes of a compiled pattern.
const PATTERN_BYTES: usize = 1 << 20;

/// Above it a double does not tell neighbouring integers apart (RFC 8259, 6).
const EXACT: i64 = (1 << 53) - 1;

/// What says nothing about values.
const ANNOTATIONS: [&str; 9] = [
    "$schema",
    "$id",
    "$comment",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "$defs",
];

/// Texts of these formats are enforced.
const FORMATS: [&str; 6] = ["date", "time", "date-time", "ipv4", "ipv6", "uuid"];

/// Why a schema cannot be enforced, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at `{pointer}`: {reason}")]
pub struct SchemaFault {
    /// JSON pointer of the schema or keyword; `#` is the whole.
    pub pointer: String,
    /// What is wrong, and the way out.
    pub reason: String,
}

/// `schema` as it is enforced. With `object` its root must be one.
///
/// # Errors
/// The first keyword that cannot be enforced.
pub fn enforceable(schema: &Value, object: bool) -> Result<Value, SchemaFault> {
    let too_long = || fault("#", format!("the schema is longer than {MAX_BYTES} bytes"));
    if schema.to_string().len() > MAX_BYTES {
        return Err(too_long());
    }
    let mut walk = Walk {
        root: schema,
        names: Vec::new(),
        depth: 0,
        schemas: 0,
        patterns: 0,
    };
    let made = walk.schema(schema, "#")?;
    if made.to_string().len() > MAX_BYTES {
        return Err(too_long());
    }
    if object && made["type"] != "object" {
        let reason = "the root must be an object: `\"type\": \"object\"`";
        return Err(fault("#", reason));
    }
    Ok(made)
}

fn fault(pointer: &str, reason: impl Into<String>) -> SchemaFault {
    SchemaFault {
        pointer: pointer.into(),
        reason: reason.into(),
    }
}

/// Says whether a value follows a schema.
#[derive(Debug)]
pub struct Checker(jsonschema::Validator);

impl Checker {
    /// Of `schema`, which passed [`enforceable`].
    ///
    /// # Errors
    /// One that is no JSON Schema.
    pub fn new(schema: &Value) -> Result<Self, SchemaFault> {
        let patterns = jsonschema::PatternOptions::regex()
            .size_limit(PATTERN_BYTES)
            .dfa_size_limit(PATTERN_BYTES);
        let options = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .with_pattern_options(patterns);
        let validator = options.build(schema);
        validator
            .map(Self)
            .map_err(|error| fault("#", error.to_string()))
    }

    /// # Errors
    /// What is wrong with `value`, and where.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        self.0
            .validate(value)
            .map_err(|error| format!("at `{}`: {error}", error.instance_path()))
    }
}

struct Walk<'schema> {
    root: &'schema Value,
    /// The references in which the walk is.
    names: Vec<&'schema str>,
    depth: usize,
    schemas: usize,
    patterns: usize,
}

/// The keywords of a kind of value.
fn keywords(kind: &str) -> &'static [&'static str] {
    match kind {
        "object" => &["properties", "required", "additionalProperties"],
        "array" => &["items", "minItems", "maxItems"],
        "string" => &["minLength", "maxLength", "pattern", "format"],
        "integer" | "number" => &[
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "multipleOf",
        ],
        _ => &[],
    }
}

impl<'schema> Walk<'schema> {
    fn schema(&mut self, schema: &'schema Value, at: &str) -> Result<Value, SchemaFault> {
        let Some(table) = schema.as_object() else {
            return Err(fault(at, "a schema must be an object"));
        };
        self.schemas += 1;
        if self.depth >= MAX_DEPTH || self.schemas > MAX_SCHEMAS {
            let reason = format!(
                "schemas nest more than {MAX_DEPTH} deep, or are more than {MAX_SCHEMAS}, references put in"
            );
            return Err(fault(at, reason));
        }
        self.depth += 1;
        let made = self.table(table, at);
        self.depth -= 1;
        made
    }

    fn table(
        &mut self,
        table: &'schema Map<String, Value>,
        at: &str,
    ) -> Result<Value, SchemaFault> {
        let says: Vec<&str> = table
            .keys()
            .map(String::as_str)
            .filter(|key| !ANNOTATIONS.contains(key))
            .collect();
        for (key, walk) in [
            (
                "$ref",
                Self::reference as fn(&mut Self, &'schema Value, &str) -> _,
            ),
            ("enum", |_, values, at| listed(values, at)),
            ("const", |_, value, _| Ok(json!({"enum": [value]}))),
            ("anyOf", Self::any_of),
        ] {
            if let Some(value) = table.get(key) {
                let beside =
                    |other: &&&str| **other != key && !(key == "enum" && **other == "type");
                if let Some(other) = says.iter().find(beside) {
                    let reason = format!("`{other}` beside `{key}` is not enforced");
                    return Err(fault(&format!("{at}/{other}"), reason));
                }
                let made = walk(self, value, &format!("{at}/{key}"))?;
                check_listed(&made, table.get("type"), &format!("{at}/{key}"))?;
                return Ok(made);
            }
        }
        self.typed(table, &says, at)
    }

    fn reference(&mut self, name: &'schema Value, at: &str) -> Result<Value, SchemaFault> {
        let name = name.as_str().unwrap_or_default();
        let local = name.strip_prefix('#').ok_or_else(|| {
            fault(
                at,
                "only references into the schema itself are read: `#/$defs/…`",
            )
        })?;
        if self.names.contains(&name) {
            return Err(fault(
                at,
                "a schema that contains itself has no end; write its levels out",
            ));
        }
        let meant = self.root.pointer(local);
        let meant = meant.ok_or_else(|| fault(at, format!("there is no `{name}`")))?;
        self.names.push(name);
        let made = self.schema(meant, name);
        self.names.pop();
        made
    }

    fn any_of(&mut self, options: &'schema Value, at: &str) -> Result<Value, SchemaFault> {
        let options = options.as_array().filter(|options| !options.is_empty());
        let options = options.ok_or_else(|| fault(at, "must be an array of schemas, not empty"))?;
        let options: Vec<Value> = (0..)
            .zip(options)
            .map(|(n, option)| self.schema(option, &format!("{at}/{n}")))
            .collect::<Result<_, _>>()?;
        Ok(json!({"anyOf": options}))
    }

    /// A schema with a type, or several.
    fn typed(
        &mut self,
        table: &'schema Map<String, Value>,
        says: &[&str],
        at: &str,
    ) -> Result<Value, SchemaFault> {
        let kinds: Vec<&str> = match table.get("type") {
            Some(Value::String(kind)) => vec![kind],
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let known = [
            "object", "array", "string", "integer", "number", "boolean", "null",
        ];
        if kinds.is_empty()
            && let Some(other) = says.iter().find(|key| **key != "type")
        {
            let reason = format!("`{other}` is not enforced without a `type` beside it, or at all");
            return Err(fault(&format!("{at}/{other}"), reason));
        }
        if kinds.is_empty() || !kinds.iter().all(|kind| known.contains(kind)) {
            let reason = format!("`type` must say what it is: one of {}", known.join(", "));
            return Err(fault(at, reason));
        }
        let allowed: Vec<&str> = kinds
            .iter()
            .flat_map(|kind| keywords(kind))
            .chain(&["type", "enum", "const", "anyOf", "$ref"])
            .copied()
            .collect();
        if let Some(other) = says.iter().find(|key| !allowed.contains(key)) {
            let reason = format!(
                "`{other}` is not enforced for {}; {}",
                kinds.join(", "),
                suggestion(other, &allowed)
            );
            return Err(fault(&format!("{at}/{other}"), reason));
        }
        let options: Vec<Value> = kinds
            .iter()
            .map(|kind| self.of_kind(kind, table, at))
            .collect::<Result<_, _>>()?;
        Ok(match <[Value; 1]>::try_from(options) {
            Ok([single]) => single,
            Err(several) => json!({"anyOf": several}),
        })
    }

    fn of_kind(
        &mut self,
        kind: &str,
        table: &'schema Map<String, Value>,
        at: &str,
    ) -> Result<Value, SchemaFault> {
        match kind {
            "object" => self.object(table, at),
            "array" => self.array(table, at),
            "string" => {
                self.patterns += usize::from(table.contains_key("pattern"));
                if self.patterns > MAX_PATTERNS.0 {
                    let reason = format!("more than {} patterns", MAX_PATTERNS.0);
                    return Err(fault(&format!("{at}/pattern"), reason));
                }
                string(table, at)
            }
            "integer" | "number" => number(kind, table, at),
            _ => Ok(json!({"type": kind})),
        }
    }

    fn object(
        &mut self,
        table: &'schema Map<String, Value>,
        at: &str,
    ) -> Result<Value, SchemaFault> {
        if table
            .get("additionalProperties")
            .is_some_and(|more| *more != false)
        {
            let at = format!("{at}/additionalProperties");
            return Err(fault(&at, "must be false: name every property"));
        }
        let properties = match table.get("properties") {
            None => None,
            Some(Value::Object(properties)) => Some(properties),
            Some(_) => return Err(fault(&format!("{at}/properties"), "must be an object")),
        };
        let made: Map<String, Value> = properties
            .into_iter()
            .flatten()
            .map(|(name, schema)| {
                let escaped = name.replace('~', "~0").replace('/', "~1");
                let at = format!("{at}/properties/{escaped}");
                Ok((name.clone(), self.schema(schema, &at)?))
            })
            .collect::<Result<_, _>>()?;
        let required = match table.get("required") {
            None => Vec::new(),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            Some(_) => {
                return Err(fault(
                    &format!("{at}/required"),
                    "must be an array of names",
                ));
            }
        };
        if let Some(name) = required.iter().find(|name| !made.contains_key(**name)) {
            let reason = format!("`{name}` is not among `properties`");
            return Err(fault(&format!("{at}/required"), reason));
        }
        Ok(
            json!({"type": "object", "properties": made, "required": required, "additionalProperties": false}),
        )
    }

    fn array(
        &mut self,
        table: &'schema Map<String, Value>,
        at: &str,
    ) -> Result<Value, SchemaFault> {
        let items = table.get("items");
        let items = items.ok_or_else(|| fault(at, "`items` must say what the array holds"))?;
        let items = self.schema(items, &format!("{at}/items"))?;
        let (min, max) = lengths(table, at, "minItems", "maxItems", MAX_ITEMS)?;
        Ok(json!({"type": "array", "items": items, "minItems": min, "maxItems": max}))
    }
}

/// Values that are listed must be of the type that stands beside them, and not deeper than schemas.
fn check_listed(made: &Value, kind: Option<&Value>, at: &str) -> Result<(), SchemaFault> {
    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(table) => 1 + table.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }
    let Some(values) = made.get("enum").and_then(Value::as_array) else {
        return Ok(());
    };
    if values.iter().any(|value| depth(value) > MAX_DEPTH) {
        return Err(fault(at, format!("values nest more than {MAX_DEPTH} deep")));
    }
    let Some(kind) = kind else { return Ok(()) };
    let of_type = json!({"type": kind});
    let wrong = values
        .iter()
        .find(|value| super::shape::check(&of_type, value).is_err());
    wrong.map_or(Ok(()), |value| {
        Err(fault(at, format!("{value} is not of the type beside it")))
    })
}

fn listed(values: &Value, at: &str) -> Result<Value, SchemaFault> {
    let is_listed = values.as_array().is_some_and(|values| !values.is_empty());
    if !is_listed {
        return Err(fault(at, "must be an array of values, not empty"));
    }
    Ok(json!({"enum": values}))
}

/// The least and the greatest length; where no greatest is said, `usual`.
fn lengths(
    table: &Map<String, Value>,
    at: &str,
    min_key: &str,
    max_key: &str,
    usual: u64,
) -> Result<(u64, u64), SchemaFault> {
    let length = |key: &str| match table.get(key) {
        None => Ok(None),
        Some(value) => value
            .as_u64()
            .filter(|length| *length <= MOST)
            .map(Some)
            .ok_or_else(|| {
                fault(
                    &format!("{at}/{key}"),
                    format!("must be a whole number up to {MOST}"),
                )
            }),
    };
    let min = length(min_key)?.unwrap_or(0);
    let max = length(max_key)?.unwrap_or(usual.max(min));
    if min > max {
        return Err(fault(
            &format!("{at}/{min_key}"),
            format!("must be at most `{max_key}`, {max}"),
        ));
    }
    Ok((min, max))
}

fn string(table: &Map<String, Value>, at: &str) -> Result<Value, SchemaFault> {
    let text = |key: &str| match table.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(fault(&format!("{at}/{key}"), "must be a string")),
    };
    if let Some(format) = text("format")? {
        if let Some(other) = ["pattern", "minLength", "maxLength"]
            .iter()
            .find(|key| table.contains_key(**key))
        {
            let reason = format!("`{other}` beside `format` is not enforced");
            return Err(fault(&format!("{at}/{other}"), reason));
        }
        if !FORMATS.contains(&format) {
            let reason = format!(
                "the format `{format}` is not enforced; {}",
                suggestion(format, &FORMATS)
            );
            return Err(fault(&format!("{at}/format"), reason));
        }
        return Ok(json!({"type": "string", "format": format}));
    }
    let (min, max) = lengths(table, at, "minLength", "maxLength", MAX_STRING)?;
    let mut made = json!({"type": "string", "minLength": min, "maxLength": max});
    if let Some(pattern) = text("pattern")? {
        if pattern.chars().count() > MAX_PATTERNS.1 {
            let reason = format!("is longer than {} characters", MAX_PATTERNS.1);
            return Err(fault(&format!("{at}/pattern"), reason));
        }
        made["pattern"] = pattern.into();
    }
    Ok(made)
}

fn number(kind: &str, table: &Map<String, Value>, at: &str) -> Result<Value, SchemaFault> {
    let mut made = json!({"type": kind});
    for key in keywords(kind) {
        match table.get(*key) {
            None => {}
            Some(value) if value.is_number() => made[*key] = value.clone(),
            Some(_) => return Err(fault(&format!("{at}/{key}"), "must be a number")),
        }
    }
    let least = made.get("minimum").or(made.get("exclusiveMinimum"));
    let most = made.get("maximum").or(made.get("exclusiveMaximum"));
    let number = |bound: Option<&Value>| bound.and_then(Value::as_f64);
    if let (Some(least), Some(most)) = (number(least), number(most))
        && least > most
    {
        return Err(fault(at, format!("no number is from {least} to {most}")));
    }
    if kind == "integer" {
        let (has_least, has_most) = (least.is_some(), most.is_some());
        if !has_least {
            made["minimum"] = (-EXACT).into();
        }
        if !has_most {
            made["maximum"] = EXACT.into();
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests;
