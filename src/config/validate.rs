//! What the configuration may hold, as JSON Schema (draft 2020-12), generated from [`super::file`].
//!
//! Every layer is checked by it and told in words that are made of it, so an editor with the schema, the program and the
//! reference cannot disagree.

mod dotted;
mod messages;
mod tables;
mod unknown;
mod value;

use jsonschema::{ValidationError, Validator, error::ValidationErrorKind};
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use super::address::Address;
use super::file::ConfigFile;
use super::foreign::value_hint;
use super::units;
use crate::json::integer::whole;
use messages::{LOG_LEVEL, allowed, hint};
pub(crate) use messages::{nearest, shown, suggestion};
pub(crate) use value::{ValueCheck, ValueFault};

/// The format of paths in the schema: relative ones start at the file's folder.
pub(crate) const PATH: &str = "path";

/// See the module.
#[derive(Debug)]
pub(crate) struct Shape {
    schema: Value,
    validator: Validator,
}

/// What is wrong with one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Which value, or which table's key.
    pub address: Address,
    /// The key itself is wrong, not its value.
    pub is_key: bool,
    /// The table or key that was probably meant: no further errors are reported for it.
    pub meant: Option<Address>,
    /// What is wrong, or allowed.
    pub allowed: String,
    /// What was found, where that tells more.
    pub found: Option<String>,
    /// The way out.
    pub hint: Option<String>,
}

impl Fault {
    /// What is wrong; of a secret without the value.
    pub(crate) fn message(&self, is_secret: bool) -> String {
        match &self.found {
            Some(_) if is_secret => format!("{}, found another value", self.allowed),
            Some(found) => format!("{}, found {found}", self.allowed),
            None => self.allowed.clone(),
        }
    }
}

/// The way out of an unknown key, and the key that was probably meant.
struct Meant {
    hint: String,
    address: Option<Address>,
}

impl Default for Shape {
    fn default() -> Self {
        let schema = Value::from(schema());
        let mut options = jsonschema::draft202012::options().should_validate_formats(true);
        for format in [
            units::TIME,
            units::IDLE_TIME,
            units::SIZE,
            units::BUDGET,
            units::GPU_LAYERS,
        ] {
            options = options.with_format(format, move |text| units::is_format(format, text));
        }
        let validator = options
            .with_format(LOG_LEVEL, crate::telemetry::is_filter)
            .build(&schema)
            .expect("the schema is generated, and tested");
        Self { schema, validator }
    }
}

/// The schema as it is published.
pub(crate) fn schema() -> Schema {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(without_null));
    settings
        .into_generator()
        .into_root_schema_for::<ConfigFile>()
}

/// TOML has no null: what may be missing is just not there.
fn without_null(schema: &mut Schema) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [single] = &mut types[..] {
            let single = single.take();
            schema.insert("type".into(), single);
        }
    }
    if let Some(Value::Array(options)) = schema.get_mut("enum") {
        options.retain(|option| !option.is_null());
    }
    if schema
        .get("default")
        .is_some_and(|default| default.is_null() || default.is_object())
    {
        schema.remove("default");
    }
}

impl Shape {
    /// The schema of the value at `address`.
    fn at(&self, address: &Address) -> Option<&Value> {
        self.written_at(address).map(|schema| self.resolved(schema))
    }

    /// The same as its table writes it: a reference has words of its own.
    fn written_at(&self, address: &Address) -> Option<&Value> {
        address
            .parts()
            .iter()
            .try_fold(&self.schema, |schema, part| {
                let schema = self.resolved(schema);
                let property = schema.get("properties").and_then(|keys| keys.get(part));
                property
                    .or_else(|| {
                        schema
                            .get("additionalProperties")
                            .filter(|more| more.is_object())
                    })
                    .or_else(|| schema.get("items"))
            })
    }

    fn resolved<'schema>(&'schema self, schema: &'schema Value) -> &'schema Value {
        let pointer = schema.get("$ref").and_then(Value::as_str);
        pointer
            .and_then(|pointer| self.schema.pointer(pointer.trim_start_matches('#')))
            .unwrap_or(schema)
    }

    /// The keys of the table at `address`.
    pub(crate) fn keys(&self, address: &Address) -> Vec<&str> {
        let keys = self
            .at(address)
            .and_then(|schema| schema.get("properties")?.as_object());
        keys.into_iter()
            .flat_map(|keys| keys.keys().map(String::as_str))
            .collect()
    }

    /// Whether there is such a key.
    pub(crate) fn knows(&self, address: &Address) -> bool {
        self.at(address).is_some()
    }

    /// Returns whether `address` is a table, with keys or with names.
    pub(crate) fn is_table(&self, address: &Address) -> bool {
        self.at(address).is_some_and(|schema| {
            let has = |key| schema.get(key).is_some_and(Value::is_object);
            has("properties") || has("additionalProperties")
        })
    }

    /// Returns whether `address` is a known key whose value is not a table.
    pub(crate) fn is_value(&self, address: &Address) -> bool {
        self.knows(address) && !self.is_table(address)
    }

    /// What the key at `address` is for.
    pub(crate) fn description(&self, address: &Address) -> Option<&str> {
        self.written_at(address)?.get("description")?.as_str()
    }

    /// Whether something counts for the key at `address` where nobody says.
    pub(crate) fn has_default(&self, address: &Address) -> bool {
        self.at(address)
            .is_some_and(|schema| schema.get("default").is_some())
    }

    /// From where to where the number at `address` may be.
    pub(crate) fn range(&self, address: &Address) -> Option<String> {
        messages::range(self.at(address)?)
    }

    /// Returns a value for the key at `address`: its default, else an example. `Null` if the key has neither.
    pub(crate) fn example(&self, address: &Address) -> Value {
        let Some(schema) = self.at(address) else {
            return Value::Null;
        };
        let example = schema
            .get("default")
            .or_else(|| schema.get("examples")?.get(0))
            .or_else(|| schema.get("enum")?.get(0))
            .cloned();
        example.unwrap_or_default()
    }

    /// Whether the value at `address` names a file.
    pub(crate) fn is_path(&self, address: &Address) -> bool {
        self.at(address)
            .is_some_and(|schema| schema["format"] == PATH)
    }

    /// Whether the value at `address` must not be shown.
    pub(crate) fn is_secret(&self, address: &Address) -> bool {
        // What stands among tokens is meant as one, unless it is another key of theirs.
        let is_meant = match address.parts() {
            [server, tokens, rest @ ..] if server == "server" && tokens == "tokens" => {
                rest.len() < 2 || !self.knows(address)
            }
            _ => false,
        };
        is_meant
            || self
                .at(address)
                .is_some_and(|schema| schema["writeOnly"] == true)
    }

    /// What a flag or a variable says, as the type that its key has; as text where it is none.
    pub(crate) fn typed(&self, address: &Address, text: &str) -> Value {
        let schema = self.at(address);
        let is = |kind: &str| {
            let kinds = schema.and_then(|schema| schema.get("type"));
            kinds.is_some_and(|kinds| {
                kinds == kind
                    || kinds
                        .as_array()
                        .is_some_and(|kinds| kinds.iter().any(|one| one == kind))
            })
        };
        let number = || {
            text.parse::<i64>().map(Value::from).ok().or_else(|| {
                text.parse::<f64>()
                    .ok()
                    .and_then(|number| Some(serde_json::Number::from_f64(number)?.into()))
            })
        };
        let value = match () {
            () if is("boolean") => boolean(text).map(Value::Bool),
            () if is("integer") || is("number") => number(),
            () if is("array") => Some(list(text)),
            () => None,
        };
        value.unwrap_or_else(|| text.into())
    }

    /// Writes 3.0 as 3 where a whole number is wanted: to the schema they are the same.
    pub(crate) fn make_whole(&self, address: &Address, value: &mut Value) {
        match value {
            Value::Object(table) => {
                for (key, value) in table {
                    self.make_whole(&address.join(key), value);
                }
            }
            Value::Number(number) if number.is_f64() => {
                let takes_whole = |schema: &Value| {
                    let kinds = &schema["type"];
                    let mut several = kinds.as_array().into_iter().flatten();
                    kinds == "integer" || several.any(|kind| kind == "integer")
                };
                if let Some(whole) = number.as_f64().and_then(whole)
                    && self.at(address).is_some_and(takes_whole)
                {
                    *value = whole.into();
                }
            }
            _ => {}
        }
    }

    /// All that is wrong with `tree`.
    pub(crate) fn faults(&self, tree: &Value) -> Vec<Fault> {
        let mut faults: Vec<Fault> = Vec::new();
        for error in self.validator.iter_errors(tree) {
            for fault in self.told(&error, tree) {
                // A value that breaks two rules at once is told once, with all that is allowed.
                if !faults.iter().any(|other| other.address == fault.address) {
                    faults.push(fault);
                }
            }
        }
        faults
    }

    fn told(&self, error: &ValidationError<'_>, root: &Value) -> Vec<Fault> {
        let pointer = error.instance_path().to_string();
        let part = |part: &str| part.replace("~1", "/").replace("~0", "~");
        let address = Address::of(pointer.split('/').skip(1).map(part));
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                let written = error.instance();
                let unknown = |key: &String| self.unknown_key(&address, key, written, root);
                unexpected.iter().map(unknown).collect()
            }
            ValidationErrorKind::PropertyNames { error } => {
                let name = error.instance().as_str().unwrap_or_default();
                vec![Self::wrong_name(&address, name, root)]
            }
            ValidationErrorKind::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                vec![Fault {
                    allowed: format!("`{key}` is missing"),
                    found: None,
                    hint: None,
                    address,
                    is_key: false,
                    meant: None,
                }]
            }
            _ => {
                let schema = self.at(&address).unwrap_or(&Value::Null);
                vec![Fault {
                    allowed: format!("must be {}", allowed(schema)),
                    found: Some(shown(error.instance())),
                    hint: tables::instead_of_array(&address, error.instance())
                        .filter(|_| self.is_table(&address))
                        .or_else(|| meant_value(&address, error.instance()))
                        .or_else(|| hint(schema, error.instance())),
                    address,
                    is_key: false,
                    meant: None,
                }]
            }
        }
    }
}

/// Returns what to write instead of the value `found` at `address`, if another program accepts that value.
fn meant_value(address: &Address, found: &Value) -> Option<String> {
    match address.parts() {
        [_, key] | [_, _, key] => value_hint(key, found),
        [_, _, arguments, _, key] if arguments == "arguments" => value_hint(key, found),
        _ => None,
    }
}

/// Parses `true` or `false` from a variable, in the spellings of Compose files and scripts.
fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// `a, b` or `["a", "b"]`.
fn list(text: &str) -> Value {
    if text.trim_start().starts_with('[')
        && let Ok(toml::Value::Array(items)) = text.parse::<toml::Value>()
    {
        return serde_json::to_value(items).unwrap_or_default();
    }
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect()
}
