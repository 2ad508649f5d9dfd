//! Validates values of the configuration with its JSON Schema (draft 2020-12), which is generated from [`super::file`].
//!
//! Error messages and the reference are generated from the same schema. The program, the documentation and editors that use the schema
//! therefore agree.

mod dotted;
mod entries;
mod messages;
mod tables;
mod unknown;
mod value;

use jsonschema::{ValidationError, Validator, error::ValidationErrorKind};
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde::Deserialize as _;
use serde_json::Value;

use super::address::Address;
use super::effect::Effect;
use super::file::ConfigFile;
use super::foreign::value_hint;
use super::units;
use crate::json::integer::whole;
pub(crate) use entries::Entries;
use messages::{LOG_LEVEL, allowed, hint};
pub(crate) use messages::{nearest, plain, shown, suggestion};
pub(crate) use value::{ValueCheck, ValueFault};

/// Format of paths in the schema. Relative paths are resolved against the folder of the file.
pub(crate) const PATH: &str = "path";

/// The schema of the configuration file, compiled.
#[derive(Debug)]
pub(crate) struct ConfigSchema {
    schema: Value,
    validator: Validator,
}

/// Violation of the schema by one value or key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Address of the value or key.
    pub address: Address,
    /// Whether the key itself is wrong, not its value.
    pub is_key: bool,
    /// Table or key that was probably meant. It gets no further errors.
    pub meant: Option<Address>,
    /// The violated rule in words, such as `must be true or false`.
    pub rule: String,
    /// The value that was found, if it helps.
    pub found: Option<String>,
    /// How to fix it.
    pub hint: Option<String>,
}

impl Fault {
    /// Returns the error message. For a secret, it does not contain the value.
    pub(crate) fn message(&self, is_secret: bool) -> String {
        match &self.found {
            Some(_) if is_secret => format!("{}, found another value", self.rule),
            Some(found) => format!("{}, found {found}", self.rule),
            None => self.rule.clone(),
        }
    }
}

/// Suggestion for an unknown key.
struct Meant {
    hint: String,
    /// Key that was probably meant; `None` if that is not certain enough to suppress further errors about it.
    address: Option<Address>,
}

impl Default for ConfigSchema {
    fn default() -> Self {
        let schema = Value::from(schema());
        let mut options = jsonschema::draft202012::options().should_validate_formats(true);
        for format in [
            units::TIME,
            units::IDLE_TIME,
            units::SIZE,
            units::BUDGET,
            units::GPU_LAYERS,
            units::SPIN_COUNT,
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

/// Returns the schema as it is published.
pub(crate) fn schema() -> Schema {
    schema_of::<ConfigFile>()
}

/// Returns the schema of `T`, in which nothing may be null.
pub(super) fn schema_of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(without_null));
    settings.into_generator().into_root_schema_for::<T>()
}

/// Removes `null` from the schema of an optional value, since TOML has no null.
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

impl ConfigSchema {
    /// Returns the schema of the value at `address`, with references resolved. Returns `None` for an unknown key.
    fn at(&self, address: &Address) -> Option<&Value> {
        self.unresolved_at(address)
            .map(|schema| self.resolved(schema))
    }

    /// Returns the schema of the value at `address` as it is in the schema of the table. A `$ref` there has its own description.
    fn unresolved_at(&self, address: &Address) -> Option<&Value> {
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

    /// Returns the keys of the table at `address`.
    pub(crate) fn keys(&self, address: &Address) -> Vec<&str> {
        let keys = self
            .at(address)
            .and_then(|schema| schema.get("properties")?.as_object());
        keys.into_iter()
            .flat_map(|keys| keys.keys().map(String::as_str))
            .collect()
    }

    /// Returns whether `address` is a known key or table.
    pub(crate) fn knows(&self, address: &Address) -> bool {
        self.at(address).is_some()
    }

    /// Returns the description of the key at `address`.
    pub(crate) fn description(&self, address: &Address) -> Option<&str> {
        self.unresolved_at(address)?.get("description")?.as_str()
    }

    /// Returns whether the key at `address` has a default.
    pub(crate) fn has_default(&self, address: &Address) -> bool {
        self.at(address)
            .is_some_and(|schema| schema.get("default").is_some())
    }

    /// Returns the range of the number at `address` in words, such as `0 to 5`.
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

    /// Returns when an edit of the key at `address` takes effect, as the key declares or the nearest table around it.
    pub(crate) fn effect(&self, address: &Address) -> Option<Effect> {
        let declared = self
            .unresolved_at(address)
            .and_then(|key| key.get("x-reload"));
        declared
            .and_then(|effect| Effect::deserialize(effect).ok())
            .or_else(|| self.effect(&address.parent()?))
    }

    /// Returns whether the value at `address` is a path.
    pub(crate) fn is_path(&self, address: &Address) -> bool {
        self.at(address)
            .is_some_and(|schema| schema["format"] == PATH)
    }

    /// Returns whether the value at `address` must not be shown.
    pub(crate) fn is_secret(&self, address: &Address) -> bool {
        // An unknown key among the tokens is probably meant as a token.
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

    /// Converts `text`, from a flag or a variable, to the type of the key at `address`. Returns it as a string if it does not parse.
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
            // A string is allowed for JSON text, which replaces the table of a lower layer as a whole.
            () if is("object") && !is("string") => table(text),
            () => None,
        };
        value.unwrap_or_else(|| text.into())
    }

    /// Converts floats such as `3.0` to integers if the key requires an integer. JSON Schema treats both as integers, but serde does not.
    pub(crate) fn normalize_integers(&self, address: &Address, value: &mut Value) {
        match value {
            Value::Object(table) => {
                for (key, value) in table {
                    self.normalize_integers(&address.join(key), value);
                }
            }
            Value::Number(number) if number.is_f64() => {
                let is_integer = |schema: &Value| {
                    let kinds = &schema["type"];
                    let mut several = kinds.as_array().into_iter().flatten();
                    kinds == "integer" || several.any(|kind| kind == "integer")
                };
                if let Some(whole) = number.as_f64().and_then(whole)
                    && self.at(address).is_some_and(is_integer)
                {
                    *value = whole.into();
                }
            }
            _ => {}
        }
    }

    /// Returns all violations of the schema in `tree`.
    pub(crate) fn faults(&self, tree: &Value) -> Vec<Fault> {
        let mut faults: Vec<Fault> = Vec::new();
        for error in self.validator.iter_errors(tree) {
            for fault in self.faults_of(&error, tree) {
                // A value that violates two rules is reported once, with all allowed values.
                if !faults.iter().any(|other| other.address == fault.address) {
                    faults.push(fault);
                }
            }
        }
        faults
    }

    /// Converts an error of the validator.
    fn faults_of(&self, error: &ValidationError<'_>, root: &Value) -> Vec<Fault> {
        let pointer = error.instance_path().to_string();
        let part = |part: &str| part.replace("~1", "/").replace("~0", "~");
        let address = Address::new(pointer.split('/').skip(1).map(part));
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                let written = error.instance();
                let unknown = |key: &String| self.unknown_key(&address, key, written, root);
                unexpected.iter().map(unknown).collect()
            }
            ValidationErrorKind::PropertyNames { error } => {
                let name = error.instance().as_str().unwrap_or_default();
                vec![self.wrong_name(&address, name, root)]
            }
            ValidationErrorKind::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                vec![Fault {
                    rule: format!("`{key}` is missing"),
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
                    rule: format!("must be {}", allowed(schema)),
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

/// Returns the hint for the value `found` at `address` if another program accepts that value.
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

/// Parses a table from a variable or a flag: `{"a": 1}` or `{ a = 1 }`.
fn table(text: &str) -> Option<Value> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    serde_json::from_str(text)
        .ok()
        .or_else(|| serde_json::to_value(text.parse::<toml::Value>().ok()?).ok())
}

/// Parses an array from a variable or a flag: `a, b` or `["a", "b"]`.
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
