//! Values that a call of a typed tool might give: two for every argument, which differ as far as its schema allows. Pure.

use std::iter;

use serde_json::{Map, Value};

use crate::config::tool::Argument;
use crate::json::integer::whole;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The shorter or lesser one.
    One,
    /// The longer or greater one.
    Other,
}

impl Which {
    fn of<T>(self, one: T, other: T) -> T {
        match self {
            Self::One => one,
            Self::Other => other,
        }
    }
}

/// A value for each of `arguments`, their defaults left out of account.
pub(crate) fn values(arguments: &[Argument], which: Which) -> Map<String, Value> {
    let value = |argument: &Argument| (argument.name.clone(), value(&argument.schema, which));
    arguments.iter().map(value).collect()
}

fn value(schema: &Value, which: Which) -> Value {
    let listed = schema["enum"].as_array();
    if let Some((first, last)) = listed.and_then(|listed| listed.first().zip(listed.last())) {
        return which.of(first, last).clone();
    }
    match schema["type"].as_str() {
        Some("integer" | "number") => number(schema, which),
        Some("boolean") => which.of(false, true).into(),
        Some("array") => {
            let count = length(schema, ["minItems", "maxItems"], which);
            iter::repeat_n(value(&schema["items"], which), count).collect()
        }
        _ => {
            let count = length(schema, ["minLength", "maxLength"], which);
            which.of("a", "b").repeat(count).into()
        }
    }
}

/// Texts and arrays that must be longer are made shorter than they must be: a prompt shows them, and no more.
const LONGEST: usize = 1000;

/// One, and one more: a prompt may tell how many there are.
fn length(schema: &Value, [min, max]: [&str; 2], which: Which) -> usize {
    let bound = |key: &str| {
        let bound = schema[key].as_u64()?;
        usize::try_from(bound).ok()
    };
    let least = bound(min).unwrap_or(1).clamp(1, LONGEST);
    // An array of none is all that some allow.
    let most = bound(max).unwrap_or(LONGEST);
    which.of(least, least + 1).min(most)
}

/// Numbers whose first digits differ, where there is room for it.
fn number(schema: &Value, which: Which) -> Value {
    let is_whole = schema["type"] == "integer";
    let min = schema["minimum"].as_f64();
    let max = schema["maximum"].as_f64();
    let (min, max) = if is_whole {
        (min.map(f64::ceil), max.map(f64::floor))
    } else {
        (min, max)
    };
    let one = min.unwrap_or_else(|| max.map_or(1.0, |max| (max - 1.0).min(1.0)));
    let other = (2.0 * one.abs() + 1.0).min(max.unwrap_or(f64::MAX));
    let number = which.of(one, other);
    whole(number).map_or_else(|| number.into(), Value::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::validate::ValueCheck;

    fn both(schema: &Value) -> [Value; 2] {
        [Which::One, Which::Other].map(|which| value(schema, which))
    }

    #[test]
    fn two_values_of_an_argument_differ_and_are_what_its_schema_allows() {
        for (schema, one, other) in [
            (json!({"type": "string"}), json!("a"), json!("bb")),
            (
                json!({"type": "string", "minLength": 3}),
                json!("aaa"),
                json!("bbbb"),
            ),
            (
                json!({"type": "string", "maxLength": 1}),
                json!("a"),
                json!("b"),
            ),
            (
                json!({"type": "string", "enum": ["x", "y", "z"]}),
                json!("x"),
                json!("z"),
            ),
            (json!({"type": "integer"}), json!(1), json!(3)),
            (
                json!({"type": "integer", "minimum": 100}),
                json!(100),
                json!(201),
            ),
            (json!({"type": "integer", "maximum": 1}), json!(0), json!(1)),
            (
                json!({"type": "integer", "minimum": 0.5, "maximum": 2.5}),
                json!(1),
                json!(2),
            ),
            (
                json!({"type": "integer", "minimum": -9, "maximum": -5}),
                json!(-9),
                json!(-5),
            ),
            (
                json!({"type": "number", "maximum": -5}),
                json!(-6),
                json!(-5),
            ),
            (
                json!({"type": "number", "minimum": 0, "maximum": 0.5}),
                json!(0),
                json!(0.5),
            ),
            (json!({"type": "boolean"}), json!(false), json!(true)),
            (
                json!({"type": "array", "items": {"type": "boolean"}}),
                json!([false]),
                json!([true, true]),
            ),
            (
                json!({"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}),
                json!(["a", "a"]),
                json!(["bb", "bb"]),
            ),
        ] {
            assert_eq!(both(&schema), [one, other], "{schema}");
            for value in both(&schema) {
                assert_eq!(ValueCheck::new(&schema).check(&value), Ok(()), "{schema}");
            }
        }
    }

    #[test]
    fn a_schema_that_leaves_no_choice_or_asks_for_too_much_has_a_sample_all_the_same() {
        for (schema, one, other) in [
            (
                json!({"type": "string", "enum": ["x"]}),
                json!("x"),
                json!("x"),
            ),
            (
                json!({"type": "integer", "minimum": 4, "maximum": 4}),
                json!(4),
                json!(4),
            ),
            (
                json!({"type": "array", "items": {"type": "string"}, "maxItems": 0}),
                json!([]),
                json!([]),
            ),
        ] {
            assert_eq!(both(&schema), [one, other], "{schema}");
        }
        let [one, other] = both(&json!({"type": "string", "minLength": u64::MAX}));
        assert_eq!(
            [one, other].map(|text| text.as_str().unwrap().len()),
            [1000, 1000]
        );
        let [_, other] = both(&json!({"type": "number", "minimum": f64::MAX}));
        assert_eq!(other, json!(f64::MAX));
    }
}
