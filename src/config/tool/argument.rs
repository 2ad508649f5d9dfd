//! The declared arguments of a typed tool.

use serde::Serialize;
use serde_json::{Value, json};

use super::address;
use crate::config::address::Address;
use crate::config::file::{ArgumentSettings, ArgumentType, ItemType};
use crate::config::load::Layers;
use crate::config::validate::ValueCheck;
use crate::json::integer::whole;

/// A declared argument.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Argument {
    /// Its name in the template and in calls.
    pub name: String,
    /// The JSON Schema of its values.
    pub schema: Value,
    /// Value for calls that leave the argument out; `None` if the argument is required.
    pub default: Option<Value>,
}

impl Argument {
    /// Makes a stand-in for an argument with an invalid declaration, of which only the `name` is known.
    pub(super) fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            schema: json!({"type": "string"}),
            default: None,
        }
    }

    /// Returns its name in the template and in calls.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// Resolves the argument `name` of `tool`. Problems go to `layers`.
pub(super) fn resolve(
    tool: &str,
    name: &str,
    settings: &ArgumentSettings,
    layers: &mut Layers,
) -> Argument {
    let place = address(tool, "arguments").join(name);
    check_word(name, &place, layers);
    check_keys(settings, &place, layers);
    let schema = schema_of(settings);
    // No value follows bounds that contradict each other.
    if check_bounds(settings, &place, layers) {
        check_listed(settings, &schema, &place, layers);
    }
    Argument {
        name: name.to_owned(),
        schema,
        default: settings.default.clone(),
    }
}

/// Checks that `name` is not a reserved word of Jinja, which has another meaning in a template.
fn check_word(name: &str, place: &Address, layers: &mut Layers) {
    const RESERVED: [&str; 12] = [
        "true", "false", "none", "not", "and", "or", "in", "is", "if", "else", "self", "loop",
    ];
    if RESERVED.contains(&name.to_lowercase().as_str()) {
        let message = format!("`{name}` is a reserved word of Jinja");
        let hint = "give the argument another name";
        layers.problem_at(place, message, Some(hint.into()));
    }
}

/// Checks that the keys apply to the type of the argument.
fn check_keys(settings: &ArgumentSettings, place: &Address, layers: &mut Layers) {
    let kind = settings.r#type;
    let is_array = kind == ArgumentType::Array;
    let is_number = matches!(kind, ArgumentType::Integer | ArgumentType::Number);
    let is_text = kind == ArgumentType::String;
    for (key, is_set, fits) in [
        ("items", settings.items.is_some(), is_array),
        ("minimum", settings.minimum.is_some(), is_number),
        ("maximum", settings.maximum.is_some(), is_number),
        ("min_length", settings.min_length.is_some(), is_text),
        ("max_length", settings.max_length.is_some(), is_text),
        ("min_items", settings.min_items.is_some(), is_array),
        ("max_items", settings.max_items.is_some(), is_array),
    ] {
        if is_set && !fits {
            let message = "does not apply to the argument's `type`".to_owned();
            layers.problem_at(&place.join(key), message, None);
        }
    }
}

/// Checks that the bounds leave a value. Returns whether they do.
fn check_bounds(settings: &ArgumentSettings, place: &Address, layers: &mut Layers) -> bool {
    fn is_more<T: PartialOrd>(least: Option<T>, most: Option<T>) -> bool {
        let bounds = least.zip(most);
        bounds.is_some_and(|(least, most)| least > most)
    }
    let is_empty = settings.r#enum.as_ref().is_some_and(Vec::is_empty);
    let wrong = [
        ("minimum", is_more(settings.minimum, settings.maximum)),
        (
            "min_length",
            is_more(settings.min_length, settings.max_length),
        ),
        ("min_items", is_more(settings.min_items, settings.max_items)),
        ("enum", is_empty),
    ];
    for (key, _) in wrong.iter().filter(|(_, is_wrong)| *is_wrong) {
        let message = "leaves no allowed value".to_owned();
        layers.problem_at(&place.join(*key), message, None);
    }
    !wrong.iter().any(|(_, is_wrong)| *is_wrong)
}

/// Checks that the other keys allow the values of `enum`, and all of them the `default`.
fn check_listed(settings: &ArgumentSettings, schema: &Value, place: &Address, layers: &mut Layers) {
    let mut unlisted = schema.clone();
    if let Some(keys) = unlisted.as_object_mut() {
        keys.remove("enum");
    }
    let listed = settings.r#enum.iter().flatten();
    let listed = listed.map(|value| ("enum", value, &unlisted));
    let default = settings.default.iter();
    let default = default.map(|value| ("default", value, schema));
    for (key, value, schema) in listed.chain(default) {
        if let Err(fault) = ValueCheck::new(schema).check(value) {
            let hint = "all values must have the argument's `type`, which is `string` by default";
            let hint = (key == "enum").then(|| hint.to_owned());
            let message = format!("must be {}", fault.message);
            layers.problem_at(&place.join(key), message, hint);
        }
    }
}

fn schema_of(settings: &ArgumentSettings) -> Value {
    let mut schema = json!({"type": settings.r#type});
    if settings.r#type == ArgumentType::Array {
        schema["items"] = json!({"type": settings.items.unwrap_or(ItemType::String)});
    }
    let number = |bound: f64| whole(bound).map_or_else(|| bound.into(), Value::from);
    for (key, value) in [
        ("description", settings.description.clone().map(Value::from)),
        ("enum", settings.r#enum.clone().map(Value::from)),
        ("default", settings.default.clone()),
        ("minimum", settings.minimum.map(number)),
        ("maximum", settings.maximum.map(number)),
        ("minLength", settings.min_length.map(Value::from)),
        ("maxLength", settings.max_length.map(Value::from)),
        ("minItems", settings.min_items.map(Value::from)),
        ("maxItems", settings.max_items.map(Value::from)),
    ] {
        if let Some(value) = value {
            schema[key] = value;
        }
    }
    schema
}
