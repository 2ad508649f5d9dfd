//! Two sample values for each argument of a typed tool, which differ as far as the schema allows. Pure.

use std::iter;

use serde_json::{Map, Value};

use crate::config::tool::Argument;
use crate::json::integer::whole;

/// One of the two samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SampleSize {
    /// The shorter text or the lesser number.
    Small,
    /// The longer text or the greater number.
    Large,
}

impl SampleSize {
    fn choose<T>(self, small: T, large: T) -> T {
        match self {
            Self::Small => small,
            Self::Large => large,
        }
    }
}

/// Returns a sample for each of `arguments`. Ignores their defaults.
pub(crate) fn values(arguments: &[Argument], size: SampleSize) -> Map<String, Value> {
    let value = |argument: &Argument| (argument.name.clone(), value(&argument.schema, size));
    arguments.iter().map(value).collect()
}

fn value(schema: &Value, size: SampleSize) -> Value {
    let listed = schema["enum"].as_array();
    if let Some((first, last)) = listed.and_then(|listed| listed.first().zip(listed.last())) {
        return size.choose(first, last).clone();
    }
    match schema["type"].as_str() {
        Some("integer" | "number") => number(schema, size),
        Some("boolean") => size.choose(false, true).into(),
        Some("array") => {
            let count = length(schema, ["minItems", "maxItems"], size);
            iter::repeat_n(value(&schema["items"], size), count).collect()
        }
        _ => {
            let count = length(schema, ["minLength", "maxLength"], size);
            size.choose("a", "b").repeat(count).into()
        }
    }
}

/// Longest sample, in characters or items, even if the schema requires more: samples are not checked against the schema.
const MAX_LENGTH: usize = 1000;

/// Returns the length of a sample. The lengths differ by one if the schema allows it, since a prompt may contain the length.
fn length(schema: &Value, [min, max]: [&str; 2], size: SampleSize) -> usize {
    let bound = |key: &str| {
        let bound = schema[key].as_u64()?;
        usize::try_from(bound).ok()
    };
    let least = bound(min).unwrap_or(1).clamp(1, MAX_LENGTH);
    // `maxItems` may be 0.
    let most = bound(max).unwrap_or(MAX_LENGTH);
    size.choose(least, least + 1).min(most)
}

/// Returns a number. The first digits of both samples differ if the range allows it.
fn number(schema: &Value, size: SampleSize) -> Value {
    let is_whole = schema["type"] == "integer";
    let min = schema["minimum"].as_f64();
    let max = schema["maximum"].as_f64();
    let (min, max) = if is_whole {
        (min.map(f64::ceil), max.map(f64::floor))
    } else {
        (min, max)
    };
    let small = min.unwrap_or_else(|| max.map_or(1.0, |max| (max - 1.0).min(1.0)));
    let large = (2.0 * small.abs() + 1.0).min(max.unwrap_or(f64::MAX));
    let number = size.choose(small, large);
    whole(number).map_or_else(|| number.into(), Value::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::validate::ValueCheck;

    fn both(schema: &Value) -> [Value; 2] {
        [SampleSize::Small, SampleSize::Large].map(|size| value(schema, size))
    }

    #[test]
    fn the_samples_of_an_argument_differ_and_follow_its_schema() {
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
    fn a_schema_that_allows_one_value_or_requires_too_long_ones_has_samples_too() {
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
