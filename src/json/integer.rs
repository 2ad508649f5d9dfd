//! Integers in any JSON notation: `3`, `3.0` and `3e0` are the same integer in JSON Schema.

use serde_json::Value;

/// Converts `number` to an integer. Returns `None` if it has a fraction or exceeds 64 bits.
pub(crate) fn whole(number: f64) -> Option<i64> {
    /// 2^63, which a double represents exactly. It does not represent `i64::MAX`.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the number is whole and in the range of `i64`"
    )]
    let whole = || number as i64;
    (number.fract() == 0.0 && (-BEYOND..BEYOND).contains(&number)).then(whole)
}

/// Converts a JSON number in any notation to an integer. Returns `None` if it has a fraction or exceeds 64 bits.
pub(crate) fn whole_value(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| whole(value.as_f64()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_integer_is_recognised_in_any_notation() {
        for (value, expected) in [
            (json!(3), Some(3)),
            (json!(3.0), Some(3)),
            (json!(-0.0), Some(0)),
            (json!(1e18), Some(1_000_000_000_000_000_000)),
            (json!(i64::MIN), Some(i64::MIN)),
            (json!(9_223_372_036_854_775_808.0), None),
            (json!(u64::MAX), None),
            (json!(0.5), None),
            (json!("3"), None),
        ] {
            assert_eq!(whole_value(&value), expected, "{value}");
        }
    }
}
