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

/// Bytes of a schema, references put in.
const MAX_BYTES: usize = 64 * 1024;

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
const FORMATS: [&str; 9] = [
    "date",
    "time",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
];

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
    let mut walk = Walk {
        root: schema,
        names: Vec::new(),
        bytes: 0,
    };
    let made = walk.schema(schema, "#")?;
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
        let options = jsonschema::draft202012::options().should_validate_formats(true);
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
    bytes: usize,
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
        if at.matches('/').count() > 2 * MAX_DEPTH {
            return Err(fault(
                at,
                format!("schemas nest more than {MAX_DEPTH} deep"),
            ));
        }
        self.bytes += schema.to_string().len();
        if self.bytes > MAX_BYTES {
            let reason =
                format!("the schema is longer than {MAX_BYTES} bytes, its references put in");
            return Err(fault(at, reason));
        }
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
                return walk(self, value, &format!("{at}/{key}"));
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
            "string" => string(table, at),
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
                let at = format!("{at}/properties/{name}");
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
