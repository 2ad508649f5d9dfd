//! Whole numbers that are written as doubles: to JSON Schema 3.0 is 3, and 1e3 is 1000.

use serde_json::Value;

/// The whole number that `number` is; none where it has a fraction or is beyond 64 bits.
pub(crate) fn whole(number: f64) -> Option<i64> {
    /// 2^63, which a double can tell; the greatest `i64` it cannot.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole, and inside the range of 64 bits"
    )]
    let whole = || number as i64;
    (number.fract() == 0.0 && (-BEYOND..BEYOND).contains(&number)).then(whole)
}

/// The same of a value of JSON, however it is written.
pub(crate) fn whole_value(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| whole(value.as_f64()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
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
