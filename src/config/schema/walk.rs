//! A schema, keyword by keyword.

use serde_json::{Map, Value, json};

use super::number::number;
use super::text::{string, with_pattern};
use super::{SchemaFault, fault};
use crate::config::shape::{self, suggestion};
use crate::config::whole::whole_value;

/// Items of an array that says no `maxItems`.
pub const MAX_ITEMS: u64 = 100;

/// The longest lengths that the grammar counts to.
const MOST: u64 = 2000;

/// Schemas in schemas, and values in values that are listed.
const MAX_DEPTH: usize = 16;

/// Schemas in a schema, references put in.
const MAX_SCHEMAS: usize = 1000;

/// Patterns in a schema: each is compiled, here and for the grammar.
const MAX_PATTERNS: usize = 32;

/// What says nothing about values.
const ANNOTATIONS: [&str; 12] = [
    "$schema",
    "$id",
    "$comment",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$defs",
    // What `$defs` was called before draft 2019-09.
    "definitions",
];

const KINDS: [&str; 7] = [
    "object", "array", "string", "integer", "number", "boolean", "null",
];

type Table = Map<String, Value>;

/// `schema` as it is enforced, and those parts of it that have a pattern, with their places.
///
/// # Errors
/// The first keyword that cannot be enforced.
pub(super) fn walk(schema: &Value) -> Result<(Value, Vec<(String, Value)>), SchemaFault> {
    let mut walk = Walk {
        root: schema,
        names: Vec::new(),
        depth: 0,
        schemas: 0,
        patterns: Vec::new(),
    };
    let made = walk.schema(schema, "#")?;
    Ok((made, walk.patterns))
}

struct Walk<'schema> {
    root: &'schema Value,
    /// The references in which the walk is.
    names: Vec<&'schema str>,
    depth: usize,
    schemas: usize,
    patterns: Vec<(String, Value)>,
}

/// The keywords of a kind of value.
pub(super) fn keywords(kind: &str) -> &'static [&'static str] {
    match kind {
        "object" => &["properties", "required", "additionalProperties"],
        "array" => &["items", "minItems", "maxItems", "uniqueItems"],
        "string" => &["minLength", "maxLength", "pattern", "format"],
        "integer" | "number" => &[
            "minimum",
            "exclusiveMinimum",
            "maximum",
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

    fn table(&mut self, table: &'schema Table, at: &str) -> Result<Value, SchemaFault> {
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
                let may_have_type = ["enum", "const"].contains(&key);
                let beside =
                    |other: &&&str| **other != key && !(may_have_type && **other == "type");
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
        table: &'schema Table,
        says: &[&str],
        at: &str,
    ) -> Result<Value, SchemaFault> {
        let kinds: Vec<&str> = match table.get("type") {
            Some(Value::String(kind)) => vec![kind],
            Some(Value::Array(kinds)) => kinds
                .iter()
                .map(|kind| kind.as_str().unwrap_or_default())
                .collect(),
            _ => Vec::new(),
        };
        if kinds.is_empty()
            && let Some(other) = says.iter().find(|key| **key != "type")
        {
            let reason = format!("`{other}` is not enforced without a `type` beside it, or at all");
            return Err(fault(&format!("{at}/{other}"), reason));
        }
        if kinds.is_empty() || !kinds.iter().all(|kind| KINDS.contains(kind)) {
            let reason = format!("`type` must say what it is: one of {}", KINDS.join(", "));
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
        table: &'schema Table,
        at: &str,
    ) -> Result<Value, SchemaFault> {
        match kind {
            "object" => self.object(table, at),
            "array" => self.array(table, at),
            "string" if table.contains_key("pattern") && !table.contains_key("format") => {
                let made = with_pattern(table, at)?;
                if self.patterns.len() >= MAX_PATTERNS {
                    let reason = format!("more than {MAX_PATTERNS} patterns");
                    return Err(fault(&format!("{at}/pattern"), reason));
                }
                self.patterns.push((format!("{at}/pattern"), made.clone()));
                Ok(made)
            }
            "string" => string(table, at),
            "integer" | "number" => number(kind == "integer", table, at),
            _ => Ok(json!({"type": kind})),
        }
    }

    fn object(&mut self, table: &'schema Table, at: &str) -> Result<Value, SchemaFault> {
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
        let made: Table = properties
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

    fn array(&mut self, table: &'schema Table, at: &str) -> Result<Value, SchemaFault> {
        if table
            .get("uniqueItems")
            .is_some_and(|unique| *unique != false)
        {
            let at = format!("{at}/uniqueItems");
            return Err(fault(&at, "items that differ are not enforced"));
        }
        let items = table.get("items");
        let items = items.ok_or_else(|| fault(at, "`items` must say what the array holds"))?;
        let items = self.schema(items, &format!("{at}/items"))?;
        let (min, max) = lengths(table, at, "minItems", "maxItems", MAX_ITEMS)?;
        Ok(json!({"type": "array", "items": items, "minItems": min, "maxItems": max}))
    }
}

/// Values that are listed must be of the type that stands beside them, numbers that a double tells apart, and not deeper than
/// schemas.
fn check_listed(made: &Value, kind: Option<&Value>, at: &str) -> Result<(), SchemaFault> {
    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(table) => 1 + table.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }
    /// The grammar writes numbers as doubles.
    fn inexact(value: &Value) -> Option<&Value> {
        match value {
            Value::Array(items) => items.iter().find_map(inexact),
            Value::Object(table) => table.values().find_map(inexact),
            Value::Number(number) if !number.is_f64() => {
                let double = value.as_f64().map(Value::from);
                let is_same = double.is_some_and(|double| whole_value(&double) == value.as_i64());
                (!is_same || !value.is_i64()).then_some(value)
            }
            _ => None,
        }
    }
    let Some(values) = made.get("enum").and_then(Value::as_array) else {
        return Ok(());
    };
    if values.iter().any(|value| depth(value) > MAX_DEPTH) {
        return Err(fault(at, format!("values nest more than {MAX_DEPTH} deep")));
    }
    if let Some(number) = values.iter().find_map(inexact) {
        let reason = format!("a double does not tell {number} from its neighbours");
        return Err(fault(at, reason));
    }
    let Some(kind) = kind else { return Ok(()) };
    let of_type = json!({"type": kind});
    let wrong = values
        .iter()
        .find(|value| shape::check(&of_type, value).is_err());
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
pub(super) fn lengths(
    table: &Table,
    at: &str,
    min_key: &str,
    max_key: &str,
    usual: u64,
) -> Result<(u64, u64), SchemaFault> {
    let length = |key: &str| match table.get(key) {
        None => Ok(None),
        Some(value) => whole_value(value)
            .and_then(|length| u64::try_from(length).ok())
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
