//! Converts a schema of any draft to canonical form: draft 2020-12 without identifiers, unused annotations and unknown keywords.
//!
//! Every schema that a `$ref` refers to becomes an entry of `$defs`. So a reference is always `#/$defs/NAME`, and unused definitions
//! cost nothing. Finished answers are checked against this form, too.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

use super::drafts::modernise;
use super::formats;
use super::keywords::{self, Keyword};
use super::references::{References, escaped};
use super::types::TYPES;
use super::{Reports, SchemaFault, SchemaNote, Table, fault, note};
use crate::json::integer::whole_value;

/// Maximum nesting of schemas.
const MAX_DEPTH: usize = 64;

/// A schema in canonical form.
#[derive(Debug, Default)]
pub(super) struct Canonical {
    /// The root, without `$defs`.
    pub(super) root: Value,
    /// The schemas that references refer to.
    pub(super) definitions: Vec<Definition>,
    /// Notes on the parts that are ignored.
    pub(super) notes: Reports<SchemaNote>,
    /// The parts that are invalid or unsupported.
    pub(super) faults: Reports<SchemaFault>,
}

/// A schema that references refer to.
#[derive(Debug)]
pub(super) struct Definition {
    /// Its name below `$defs`.
    pub(super) name: String,
    /// JSON pointer into the schema as it was written.
    pub(super) pointer: String,
    pub(super) schema: Value,
}

impl Canonical {
    /// Converts `schema`.
    pub(super) fn from_schema(schema: &Value) -> Self {
        let mut canonicalizer = Canonicalizer {
            references: References::from_schema(schema),
            made: Self::default(),
        };
        canonicalizer.made.root = canonicalizer.schema(schema, "#", 0);
        while let Some((pointer, name)) = canonicalizer.references.next_pending() {
            let schema = schema.pointer(&pointer).unwrap_or(&Value::Null);
            let schema = canonicalizer.schema(schema, &format!("#{pointer}"), 0);
            canonicalizer.made.definitions.push(Definition {
                name,
                pointer,
                schema,
            });
        }
        canonicalizer.made
    }

    /// Returns the whole schema as one document.
    pub(super) fn document(&self) -> Value {
        let definitions: Table = self
            .definitions
            .iter()
            .map(|definition| (definition.name.clone(), definition.schema.clone()))
            .collect();
        with_definitions(self.root.clone(), definitions)
    }
}

/// Returns `schema` with `definitions` as its `$defs`.
pub(super) fn with_definitions(mut schema: Value, definitions: Table) -> Value {
    if let Some(table) = schema.as_object_mut()
        && !definitions.is_empty()
    {
        table.insert("$defs".into(), definitions.into());
    }
    schema
}

struct Canonicalizer<'schema> {
    references: References<'schema>,
    made: Canonical,
}

impl Canonicalizer<'_> {
    fn fault(&mut self, pointer: impl AsRef<str>, reason: impl fmt::Display) {
        self.made.faults.add(fault(pointer.as_ref(), reason));
    }

    /// Adds a note that the part at `pointer` is ignored.
    fn note(&mut self, pointer: &str, text: impl Into<String>) {
        self.made.notes.add(SchemaNote {
            is_ignored: true,
            ..note(pointer, text)
        });
    }

    fn schema(&mut self, schema: &Value, at: &str, depth: usize) -> Value {
        let table = match schema {
            Value::Bool(_) => return schema.clone(),
            Value::Object(table) => table,
            _ => {
                self.fault(at, "a schema must be an object, `true` or `false`");
                return Value::Bool(true);
            }
        };
        if depth >= MAX_DEPTH {
            self.fault(
                at,
                format!("schemas nest more than {MAX_DEPTH} levels deep; reduce the nesting"),
            );
            return Value::Bool(true);
        }
        if at == "#"
            && let Some(inner) = wrapped_schema(table)
        {
            self.fault(
                at,
                format!("this object contains the schema; pass only the value of `{inner}`"),
            );
            return Value::Bool(true);
        }
        let mut made = Table::new();
        for (key, value) in table {
            let place = format!("{at}/{}", escaped(key));
            self.keyword(key, value, &place, depth + 1, &mut made);
        }
        modernise(table, &mut made);
        if formats::pattern_forbids_offset(&made) {
            self.note(
                &format!("{at}/format"),
                "not enforced: `pattern` allows only times without an offset from UTC, which this format requires",
            );
            made.remove("format");
        }
        Value::Object(made)
    }

    fn keyword(&mut self, key: &str, value: &Value, at: &str, depth: usize, made: &mut Table) {
        let read = match keywords::kind_of(key) {
            Keyword::Dropped => None,
            Keyword::Content => {
                self.note(at, "ignored: the content of strings is not enforced");
                None
            }
            Keyword::Annotation => (key == "default" || value.is_string()).then(|| value.clone()),
            Keyword::Const => Some(value.clone()),
            Keyword::Items if value.is_array() => {
                let items = self.schemas(value, at, depth, true);
                made.insert("prefixItems".into(), items.into());
                None
            }
            Keyword::Schema | Keyword::SchemaOrFlag | Keyword::Items => {
                Some(self.schema(value, at, depth))
            }
            Keyword::Schemas => Some(self.schemas(value, at, depth, key == "prefixItems").into()),
            Keyword::SchemaMap => self.schema_map(value, at, depth),
            Keyword::Dependencies => {
                self.dependencies(value, at, depth, made);
                None
            }
            Keyword::NameMap => self.name_map(value, at),
            Keyword::Names => self.names_of(value, at).map(Value::from),
            Keyword::Type => self.types(value, at),
            Keyword::Values => self.values(value, at),
            Keyword::Reference => self.reference(value, at),
            Keyword::Count => self.count(value, at),
            Keyword::Number => self.expect(value.is_number(), "must be a number", value, at),
            Keyword::Bound => {
                let is_bound = value.is_number() || value.is_boolean();
                self.expect(is_bound, "must be a number", value, at)
            }
            Keyword::Pattern => self.expect(value.is_string(), "must be a string", value, at),
            Keyword::Format => self.format(value, at),
            Keyword::Flag => self.expect(value.is_boolean(), "must be true or false", value, at),
            Keyword::Unknown => {
                self.unknown(key, at);
                None
            }
        };
        match (read, made.get_mut(key)) {
            // `dependencies` may have added entries already.
            (Some(Value::Object(read)), Some(Value::Object(made))) => {
                for (name, needed) in read {
                    add_needed(made, name, needed);
                }
            }
            (Some(read), _) => drop(made.insert(key.to_owned(), read)),
            (None, _) => {}
        }
    }

    fn expect(&mut self, is_right: bool, wanted: &str, value: &Value, at: &str) -> Option<Value> {
        if !is_right {
            self.fault(at, wanted);
        }
        is_right.then(|| value.clone())
    }

    fn unknown(&mut self, key: &str, at: &str) {
        match keywords::correction_of(key) {
            Some(meant) => self.fault(at, format!("unknown keyword; did you mean `{meant}`?")),
            None if key.starts_with("x-")
                || key.starts_with('$')
                || keywords::is_annotation(key) => {}
            None if key == "nullable" => self.note(
                at,
                "a keyword of OpenAPI 3.0, ignored; add `null` to `type` instead",
            ),
            None => self.note(at, "unknown keyword, ignored"),
        }
    }

    fn schemas(&mut self, value: &Value, at: &str, depth: usize, may_be_empty: bool) -> Vec<Value> {
        let schemas = value
            .as_array()
            .filter(|schemas| may_be_empty || !schemas.is_empty());
        let Some(schemas) = schemas else {
            self.fault(at, "must be a non-empty array of schemas");
            return vec![Value::Bool(true)];
        };
        (0..)
            .zip(schemas)
            .map(|(n, schema)| self.schema(schema, &format!("{at}/{n}"), depth))
            .collect()
    }

    fn schema_map(&mut self, value: &Value, at: &str, depth: usize) -> Option<Value> {
        let Some(schemas) = value.as_object() else {
            self.fault(at, "must be an object of schemas");
            return None;
        };
        let read = |(name, schema): (&String, &Value)| {
            let place = format!("{at}/{}", escaped(name));
            (name.clone(), self.schema(schema, &place, depth))
        };
        Some(schemas.iter().map(read).collect())
    }

    /// Reads `dependencies` of draft 7 and earlier: each value is an array of names, or a schema.
    fn dependencies(&mut self, value: &Value, at: &str, depth: usize, made: &mut Table) {
        let Some(dependencies) = value.as_object() else {
            return self.fault(at, "must be an object");
        };
        for (name, needed) in dependencies {
            let place = format!("{at}/{}", escaped(name));
            let (key, needed) = if needed.is_array() {
                (
                    "dependentRequired",
                    self.names_of(needed, &place).map(Value::from),
                )
            } else {
                ("dependentSchemas", Some(self.schema(needed, &place, depth)))
            };
            if let Some(needed) = needed {
                let made = made.entry(key).or_insert_with(|| json!({}));
                if let Some(made) = made.as_object_mut() {
                    add_needed(made, name.clone(), needed);
                }
            }
        }
    }

    fn name_map(&mut self, value: &Value, at: &str) -> Option<Value> {
        let Some(map) = value.as_object() else {
            self.fault(at, "must be an object of arrays of names");
            return None;
        };
        let read = |(name, names): (&String, &Value)| {
            let names = self.names_of(names, &format!("{at}/{}", escaped(name)))?;
            Some((name.clone(), names.into()))
        };
        Some(Value::Object(map.iter().filter_map(read).collect()))
    }

    fn names_of(&mut self, value: &Value, at: &str) -> Option<Vec<Value>> {
        let names = value
            .as_array()
            .filter(|names| names.iter().all(Value::is_string));
        let Some(names) = names else {
            self.fault(at, "must be an array of names");
            return None;
        };
        let mut seen = BTreeSet::new();
        let names = names.iter().filter(|name| seen.insert(name.as_str()));
        Some(names.cloned().collect())
    }

    fn types(&mut self, value: &Value, at: &str) -> Option<Value> {
        let mut types: Vec<&Value> = match value {
            Value::Array(types) => types.iter().collect(),
            single => vec![single],
        };
        let is_type = |kind: &&Value| kind.as_str().is_some_and(|kind| TYPES.contains(&kind));
        if types.is_empty() || !types.iter().all(is_type) {
            self.fault(at, format!("must be one of {}", TYPES.join(", ")));
            return None;
        }
        let mut seen = BTreeSet::new();
        types.retain(|kind| seen.insert(kind.as_str()));
        Some(match types[..] {
            [single] => single.clone(),
            ref several => several.iter().map(|kind| (*kind).clone()).collect(),
        })
    }

    fn values(&mut self, value: &Value, at: &str) -> Option<Value> {
        let is_listed = value.as_array().is_some_and(|values| !values.is_empty());
        self.expect(is_listed, "must be a non-empty array of values", value, at)
    }

    fn count(&mut self, value: &Value, at: &str) -> Option<Value> {
        let count = whole_value(value).and_then(|count| u64::try_from(count).ok());
        // A count that exceeds 64 bits limits nothing.
        let count = count.or_else(|| {
            value
                .as_f64()
                .filter(|count| *count >= 1.0)
                .map(|_| u64::MAX)
        });
        if count.is_none() {
            self.fault(at, "must be a non-negative integer");
        }
        count.map(Value::from)
    }

    fn format(&mut self, value: &Value, at: &str) -> Option<Value> {
        let Some(format) = value.as_str() else {
            self.fault(at, "must be a string");
            return None;
        };
        let is_known =
            formats::string_format(format).is_some() || formats::number_range(format).is_some();
        if formats::ANNOTATIONS.contains(&format) {
            let text = format!("ignored: the format `{format}` does not constrain JSON values");
            self.made.notes.add(note(at, text));
        } else if !is_known {
            self.note(
                at,
                format!("the format `{format}` is not enforced; use `pattern` to enforce one"),
            );
        }
        is_known.then(|| value.clone())
    }

    fn reference(&mut self, value: &Value, at: &str) -> Option<Value> {
        let Some(written) = value.as_str() else {
            self.fault(at, "must be a string");
            return None;
        };
        let Some(pointer) = self.references.pointer_of(written, at) else {
            let reason = if written.starts_with('#') {
                format!("`{written}` is not in the schema; define it under `$defs`")
            } else {
                "references to other documents are unsupported; copy the schema to `$defs` and refer to `#/$defs/NAME`".into()
            };
            self.fault(at, reason);
            return None;
        };
        let name = self.references.name(pointer);
        Some(format!("#/$defs/{name}").into())
    }
}

/// Adds `needed`, the names or the schema that the property `name` requires, to `made`.
fn add_needed(made: &mut Table, name: String, needed: Value) {
    let both = match (made.remove(&name), needed) {
        (Some(Value::Array(mut former)), Value::Array(new)) => {
            former.extend(new);
            Value::Array(former)
        }
        (Some(former), needed) => json!({"allOf": [former, needed]}),
        (None, needed) => needed,
    };
    made.insert(name, both);
}

/// Returns the key that holds the schema, if `table` is a wrapper that some model APIs use.
fn wrapped_schema(table: &Table) -> Option<&'static str> {
    ["schema", "json_schema"].into_iter().find(|key| {
        let is_kept = |key: &String| keywords::kind_of(key) != Keyword::Unknown;
        let says_nothing = table.keys().filter(|key| is_kept(key)).all(|key| {
            ["description", "title"].contains(&key.as_str())
                || key == "type" && table[key] == "json_schema"
        });
        says_nothing && table.get(*key).is_some_and(Value::is_object)
    })
}
