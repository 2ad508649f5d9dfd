//! Variables for chat templates, from the configuration or from a call.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::address::Address;
use super::load::Layers;
use crate::json::depth;

/// Names that the server or the template language defines. They cannot be set.
const RESERVED: [&str; 12] = [
    "messages",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
    "tools",
    "raise_exception",
    "strftime_now",
    "namespace",
    "range",
    "dict",
    "loop",
    "self",
];

/// Maximum number of variables.
const MAX_VARIABLES: usize = 32;

/// Maximum length of all variables as JSON, in bytes. Values become a part of the prompt, or select one.
const MAX_BYTES: usize = 16 * 1024;

/// Maximum depth of nested arrays and objects.
const MAX_LEVELS: usize = 8;

/// Checks the names and values of `arguments`.
///
/// # Errors
/// The message, with the name of the variable if it is about a single one.
pub(crate) fn check(arguments: &Map<String, Value>) -> Result<(), (Option<&str>, String)> {
    if arguments.len() > MAX_VARIABLES {
        let message = format!(
            "must have at most {MAX_VARIABLES} variables, found {}",
            arguments.len()
        );
        return Err((None, message));
    }
    for (name, value) in arguments {
        let at = Some(name.as_str());
        if RESERVED.contains(&name.as_str()) {
            let message = format!("`{name}` is reserved: the server sets it; use another name");
            return Err((at, message));
        }
        if !is_name(name) {
            let message = "a variable's name must be 1 to 64 letters, digits or `_`, and not begin with a digit";
            return Err((at, message.into()));
        }
        if depth(value) > MAX_LEVELS {
            let message = format!("must have at most {MAX_LEVELS} levels of arrays and objects");
            return Err((at, message));
        }
    }
    let bytes = serde_json::to_string(arguments).map_or(0, |json| json.len());
    if bytes > MAX_BYTES {
        let message = format!("must be at most {MAX_BYTES} bytes of JSON, found {bytes}");
        return Err((None, message));
    }
    Ok(())
}

/// Returns the variables of a key. A missing key has none.
pub(super) fn given(arguments: Option<&BTreeMap<String, Value>>) -> Map<String, Value> {
    arguments.cloned().into_iter().flatten().collect()
}

/// Reports invalid `arguments` of the key at `place` to `layers`.
pub(super) fn report_invalid(
    arguments: Option<&BTreeMap<String, Value>>,
    place: &Address,
    layers: &mut Layers,
) {
    let arguments = given(arguments);
    if let Err((name, message)) = check(&arguments) {
        let place = match name {
            Some(name) => place.join(name),
            None => place.clone(),
        };
        layers.problem_at(&place, message, None);
    }
}

/// Merges two tables. Variables in `over` take precedence.
pub(crate) fn merged(
    arguments: &Map<String, Value>,
    over: &Map<String, Value>,
) -> Map<String, Value> {
    let mut merged = arguments.clone();
    for (name, value) in over {
        merged.insert(name.clone(), value.clone());
    }
    merged
}

/// Returns whether `name` is a valid name of a variable in a template.
pub(crate) fn is_name(name: &str) -> bool {
    let has_start = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let mut characters = name.chars();
    has_start && name.len() <= 64 && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fault(value: &Value) -> Option<String> {
        let Value::Object(arguments) = value else {
            panic!("arguments are an object")
        };
        check(arguments).err().map(|(_, message)| message)
    }

    #[test]
    fn variables_of_any_json_type_are_accepted_up_to_the_limits() {
        assert_eq!(
            fault(
                &json!({"reasoning_effort": "low", "enable_thinking": true, "x": {"y": [1, null]}})
            ),
            None
        );
        let long = "x".repeat(MAX_BYTES);
        assert_eq!(
            fault(&json!({ "x": long })),
            Some("must be at most 16384 bytes of JSON, found 16392".into())
        );
        let mut deep = json!(1);
        for _ in 0..=MAX_LEVELS {
            deep = json!([deep]);
        }
        assert_eq!(
            fault(&json!({ "x": deep })),
            Some("must have at most 8 levels of arrays and objects".into())
        );
        let many: Map<String, Value> = (0..40).map(|n| (format!("x{n}"), n.into())).collect();
        assert_eq!(
            fault(&many.into()),
            Some("must have at most 32 variables, found 40".into())
        );
    }

    #[test]
    fn reserved_and_invalid_names_are_rejected() {
        assert_eq!(
            fault(&json!({"messages": []})),
            Some("`messages` is reserved: the server sets it; use another name".into())
        );
        assert!(fault(&json!({"a b": 1})).is_some() && fault(&json!({"": 1})).is_some());
    }

    #[test]
    fn the_second_of_two_values_takes_precedence() {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        let merged = merged(&object(json!({"a": 1, "b": 1})), &object(json!({"b": 2})));
        assert_eq!(Value::Object(merged), json!({"a": 1, "b": 2}));
    }
}
