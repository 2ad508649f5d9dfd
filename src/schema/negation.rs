//! Rewrites a canonical schema without negations and conditions, so that only conjunctions and alternatives are left.
//!
//! `not`, `if`, `dependentRequired` and `dependentSchemas` become `anyOf` inside `allOf`: "`a` requires `b`" becomes "without `a`, or
//! with both". Two internal keywords express what JSON Schema cannot express without `not`: [`ABSENT`] and [`EXCLUDED`].

use serde_json::{Value, json};

use super::keywords::{self, Keyword};
use super::references::escaped;
use super::types::TYPES;
use super::{Reports, SchemaFault, Table, fault};

/// Internal keyword: names of properties that an object must not have.
pub(super) const ABSENT: &str = "x-absent";

/// Internal keyword: values that are forbidden.
pub(super) const EXCLUDED: &str = "x-excluded";

/// Rewrites `schema`, whose JSON pointer is `at`.
pub(super) fn without_negations(
    schema: &Value,
    at: &str,
    faults: &mut Reports<SchemaFault>,
) -> Value {
    let Some(table) = schema.as_object() else {
        return schema.clone();
    };
    let mut made = Table::new();
    for (key, value) in table {
        let place = format!("{at}/{}", escaped(key));
        let read = match (keywords::kind_of(key), value) {
            (_, _) if ["not", "if", "then", "else"].contains(&key.as_str()) => continue,
            (Keyword::NameMap, _) => continue,
            (Keyword::SchemaMap, _) if key == "dependentSchemas" => continue,
            (Keyword::SchemaMap, Value::Object(schemas)) => schemas
                .iter()
                .map(|(name, schema)| {
                    let place = format!("{place}/{}", escaped(name));
                    (name.clone(), without_negations(schema, &place, faults))
                })
                .collect(),
            (Keyword::Schemas, Value::Array(schemas)) => (0..)
                .zip(schemas)
                .map(|(n, schema)| without_negations(schema, &format!("{place}/{n}"), faults))
                .collect(),
            (Keyword::Schema | Keyword::SchemaOrFlag | Keyword::Items, _) => {
                without_negations(value, &place, faults)
            }
            _ => value.clone(),
        };
        made.insert(key.clone(), read);
    }
    let all = alternatives(table, at, faults);
    if !all.is_empty() {
        let given = made.entry("allOf").or_insert_with(|| json!([]));
        if let Some(given) = given.as_array_mut() {
            given.extend(all);
        }
    }
    Value::Object(made)
}

/// Returns the conditions and negations of `table`, each as an `anyOf`.
fn alternatives(table: &Table, at: &str, faults: &mut Reports<SchemaFault>) -> Vec<Value> {
    let mut all = Vec::new();
    let sub = |schema: &Value, key: &str, faults: &mut Reports<SchemaFault>| {
        without_negations(schema, &format!("{at}/{key}"), faults)
    };
    if let Some(schema) = table.get("not") {
        match negated(schema) {
            Some(options) => all.push(any_of(&options)),
            None => faults.add(fault(
                &format!("{at}/not"),
                "unsupported `not`; describe what is allowed instead, or remove it",
            )),
        }
    }
    if let Some(condition) = table.get("if")
        && (table.contains_key("then") || table.contains_key("else"))
    {
        let branch = |key: &str, faults: &mut Reports<SchemaFault>| {
            table
                .get(key)
                .map_or(Value::Bool(true), |schema| sub(schema, key, faults))
        };
        match negated(condition) {
            Some(options) => all.push(json!({"anyOf": [
                {"allOf": [sub(condition, "if", faults), branch("then", faults)]},
                {"allOf": [any_of(&options), branch("else", faults)]},
            ]})),
            None => faults.add(fault(
                &format!("{at}/if"),
                "unsupported `if`; write the cases as `anyOf`",
            )),
        }
    }
    for (name, names) in entries(table, "dependentRequired") {
        let needed: Vec<&Value> = names.as_array().into_iter().flatten().collect();
        let mut required = vec![Value::from(name.as_str())];
        required.extend(needed.into_iter().cloned());
        all.push(any_of(&[
            json!({ABSENT: [name]}),
            json!({"required": required}),
        ]));
    }
    for (name, schema) in entries(table, "dependentSchemas") {
        let schema = without_negations(
            schema,
            &format!("{at}/dependentSchemas/{}", escaped(name)),
            faults,
        );
        let with = json!({"allOf": [{"required": [name]}, schema]});
        all.push(any_of(&[json!({ABSENT: [name]}), with]));
    }
    all
}

fn entries<'table>(
    table: &'table Table,
    key: &str,
) -> impl Iterator<Item = (&'table String, &'table Value)> {
    table
        .get(key)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

fn any_of(options: &[Value]) -> Value {
    if options.is_empty() {
        return Value::Bool(false);
    }
    json!({"anyOf": options})
}

/// Returns the negation of `schema` as alternatives. Returns `None` if it cannot be expressed without `not`.
fn negated(schema: &Value) -> Option<Vec<Value>> {
    let table = match schema {
        Value::Bool(true) => return Some(Vec::new()),
        Value::Bool(false) => return Some(vec![Value::Bool(true)]),
        schema => schema.as_object()?,
    };
    let mut options = Vec::new();
    for (key, value) in table {
        match (key.as_str(), value) {
            ("title" | "description" | "default", _) => {}
            ("const", value) => options.push(json!({EXCLUDED: [value]})),
            ("enum", values) => options.push(json!({EXCLUDED: values})),
            ("not", schema) => {
                options.push(without_negations(schema, "#", &mut Reports::default()));
            }
            ("type", Value::String(kind)) => options.push(other_types(&[kind])?),
            ("type", Value::Array(kinds)) => {
                let kinds: Vec<&str> = kinds.iter().filter_map(Value::as_str).collect();
                options.push(other_types(&kinds)?);
            }
            ("required", Value::Array(names)) => {
                options.extend(
                    names
                        .iter()
                        .map(|name| json!({"type": "object", ABSENT: [name]})),
                );
            }
            ("properties", Value::Object(schemas)) => {
                for (name, schema) in schemas {
                    let wrong = any_of(&negated(schema)?);
                    options.push(
                        json!({"type": "object", "properties": {name: wrong}, "required": [name]}),
                    );
                }
            }
            ("allOf", Value::Array(schemas)) => {
                for schema in schemas {
                    options.extend(negated(schema)?);
                }
            }
            ("anyOf", Value::Array(schemas)) => {
                let all: Option<Vec<Value>> = schemas
                    .iter()
                    .map(|schema| Some(any_of(&negated(schema)?)))
                    .collect();
                options.push(json!({"allOf": all?}));
            }
            _ => return None,
        }
    }
    Some(options)
}

/// Returns all types except `kinds`. Returns `None` if no type is left, or if only non-integer numbers are left, for which there is no type.
fn other_types(kinds: &[&str]) -> Option<Value> {
    if kinds.contains(&"integer") && !kinds.contains(&"number") {
        return None;
    }
    let others: Vec<&str> = TYPES
        .into_iter()
        .filter(|kind| !kinds.contains(kind) && *kind != "integer")
        .collect();
    (!others.is_empty()).then(|| json!({"type": others}))
}
