//! The declared arguments of a typed tool.

use serde::Serialize;
use serde_json::{Value, json};

use super::address;
use crate::config::file::{ArgumentSettings, ArgumentType, ItemType};
use crate::config::load::Layers;
use crate::config::shape::ValueCheck;
use crate::config::whole::whole;

/// A declared argument.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Argument {
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
    pub fn name(&self) -> &str {
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
    let at = |key: &str| address(tool, "arguments").join(name).join(key);
    let kind = settings.r#type;
    let is_array = kind == ArgumentType::Array;
    let is_number = matches!(kind, ArgumentType::Integer | ArgumentType::Number);
    let is_text = kind == ArgumentType::String;
    // Reserved words of Jinja: in a template they have another meaning.
    if [
        "true", "false", "none", "not", "and", "or", "in", "is", "if", "else", "self", "loop",
    ]
    .contains(&name.to_lowercase().as_str())
    {
        let message = format!("`{name}` is a reserved word of Jinja");
        let place = address(tool, "arguments").join(name);
        layers.problem_at(
            &place,
            message,
            Some("give the argument another name".into()),
        );
    }
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
            layers.problem_at(&at(key), message, None);
        }
    }
    let schema = schema_of(settings);
    let is_more = |least: Option<f64>, most: Option<f64>| {
        let bounds = least.zip(most);
        bounds.is_some_and(|(least, most)| least > most)
    };
    #[expect(clippy::cast_precision_loss, reason = "compared with each other")]
    let length = |length: Option<u64>| length.map(|length| length as f64);
    for (key, is_wrong) in [
        ("minimum", is_more(settings.minimum, settings.maximum)),
        (
            "min_length",
            is_more(length(settings.min_length), length(settings.max_length)),
        ),
        (
            "min_items",
            is_more(length(settings.min_items), length(settings.max_items)),
        ),
        ("enum", settings.r#enum.as_ref().is_some_and(Vec::is_empty)),
    ] {
        if is_wrong {
            layers.problem_at(&at(key), "leaves no allowed value".into(), None);
        }
    }
    // The other keys must allow the listed values.
    let mut unlisted = schema.clone();
    if let Some(keys) = unlisted.as_object_mut() {
        keys.remove("enum");
    }
    let listed = settings.r#enum.iter().flatten();
    for (key, value, schema) in listed.map(|value| ("enum", value, &unlisted)).chain(
        settings
            .default
            .iter()
            .map(|value| ("default", value, &schema)),
    ) {
        if let Err(fault) = ValueCheck::new(schema).check(value) {
            let hint = "all values must have the argument's `type`, which is `string` by default";
            let hint = (key == "enum").then(|| hint.to_owned());
            layers.problem_at(&at(key), format!("must be {}", fault.message), hint);
        }
    }
    Argument {
        name: name.to_owned(),
        schema,
        default: settings.default.clone(),
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
