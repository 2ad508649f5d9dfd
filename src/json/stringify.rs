//! Writes JSON as `JSON.stringify` does after `JSON.parse`: with the numbers and the key order of JavaScript.

use std::io::{self, Write};

use serde::ser::{Serialize, Serializer};
use serde_json::Value;
use serde_json::ser::Formatter;

/// The greatest integer, 2^53, up to which all integers are exact in JavaScript.
const MAX_EXACT: u64 = 1 << 53;

/// Writes `value` compactly, byte for byte as `JSON.stringify` does.
///
/// ```text
/// {"b": 1.0, "a": 1e21, "10": [], "2": null}  ->  {"2":null,"10":[],"b":1,"a":1e+21}
/// ```
pub(crate) fn stringify(value: &Value) -> String {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, JavaScript);
    InOrder(value)
        .serialize(&mut serializer)
        .expect("keys are strings, and writing to memory cannot fail");
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// A value whose keys are in JavaScript's order: array indices in numeric order, then the others in insertion order.
struct InOrder<'value>(&'value Value);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(items) => serializer.collect_seq(items.iter().map(InOrder)),
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                // The sort is stable, and no index is this large.
                members.sort_by_key(|(key, _)| index(key).unwrap_or(u32::MAX));
                let members = members.into_iter();
                serializer.collect_map(members.map(|(key, value)| (key, InOrder(value))))
            }
            other => other.serialize(serializer),
        }
    }
}

/// Parses `key` as an array index.
fn index(key: &str) -> Option<u32> {
    let index: u32 = key.parse().ok()?;
    (index != u32::MAX && index.to_string() == key).then_some(index)
}

/// Writes numbers as `Number.prototype.toString` does.
struct JavaScript;

impl Formatter for JavaScript {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(number(value).as_bytes())
    }

    fn write_i64<W: ?Sized + Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        if value.unsigned_abs() <= MAX_EXACT {
            return write!(writer, "{value}");
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "JavaScript rounds integers in the same way"
        )]
        self.write_f64(writer, value as f64)
    }

    fn write_u64<W: ?Sized + Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        if value <= MAX_EXACT {
            return write!(writer, "{value}");
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "JavaScript rounds integers in the same way"
        )]
        self.write_f64(writer, value as f64)
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        // JavaScript writes minus zero without a sign.
        0.0 => "0".into(),
        1e-6..1e21 => value.to_string(),
        _ => {
            let text = format!("{value:e}");
            if text.contains("e-") {
                text
            } else {
                text.replace('e', "e+")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_written_as_javascript_writes_them() {
        // Expected texts are the output of Node.js.
        for (value, written) in [
            (json!(1.0), "1"),
            (json!(-0.0), "0"),
            (json!(0.1), "0.1"),
            (json!(1.5e-7), "1.5e-7"),
            (json!(1e-6), "0.000001"),
            (json!(1e21), "1e+21"),
            (json!(1.25e300), "1.25e+300"),
            (
                json!(123_456_789_012_345_680_000.0),
                "123456789012345680000",
            ),
            (json!(5e-324), "5e-324"),
            (json!(9_007_199_254_740_993_i64), "9007199254740992"),
            (json!(-9_007_199_254_740_993_i64), "-9007199254740992"),
            (json!(u64::MAX), "18446744073709552000"),
        ] {
            assert_eq!(stringify(&value), written);
        }
    }

    #[test]
    fn keys_are_in_the_order_of_javascript() {
        let value = json!({"b": {"2": 0, "01": 1, "1": 2}, "10": [], "a": "\u{7f}\u{2028}\u{1}\n/", "9": null, "4294967295": 1});
        assert_eq!(
            stringify(&value),
            "{\"9\":null,\"10\":[],\"b\":{\"1\":2,\"2\":0,\"01\":1},\"a\":\"\u{7f}\u{2028}\\u0001\\n/\",\"4294967295\":1}"
        );
    }

    proptest! {
        #[test]
        fn a_number_is_unchanged_when_it_is_read_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let read: f64 = number(value).parse().unwrap();
            // JavaScript writes -0 as 0.
            prop_assert!(read.total_cmp(&value).is_eq() || value == 0.0);
        }
    }
}
