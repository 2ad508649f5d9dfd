//! JSON as JavaScript reads and writes it, because most MCP clients are written in JavaScript.
//!
//! [`parse`] also accepts output of `JSON.stringify` that `serde_json` refuses. [`stringify()`] writes the same text as the
//! `JSON.stringify` of a client, so that both can be compared.

pub(crate) mod integer;
mod stringify;
mod unique;

use std::borrow::Cow;

use serde_json::Value;

pub(crate) use stringify::stringify;
pub(crate) use unique::parse_unique;

/// The UTF-8 byte order mark, which RFC 8259, section 8.1, allows readers to skip.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Length of an escape such as `\ud83d`, in bytes.
const ESCAPE: usize = 6;

/// Returns the number of nested arrays and objects in `value`.
pub(crate) fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(table) => 1 + table.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Parses `text`. Lone surrogates in its strings become U+FFFD.
///
/// ```text
/// parse(r#"{"half": "\ud83d"}"#)     // Ok({"half": "\u{fffd}"})
/// ```
///
/// # Errors
/// Fails if `text` is not valid JSON, nests deeper than 127 levels, or has a number that exceeds the range of a double.
pub(crate) fn parse(text: &str) -> serde_json::Result<Value> {
    serde_json::from_slice(&without_lone_surrogates(text.as_bytes()))
}

/// Parses `value` if it is a string with the JSON of the expected type `kind`: `"3"` becomes 3 for an `integer`.
///
/// Strings stay as they are if `kind` is `string`, if they have JSON of another type (except `null`), or if their tree of values would
/// take more than 32 MiB.
pub(crate) fn from_text(value: Value, kind: &str) -> Value {
    let Value::String(text) = &value else {
        return value;
    };
    if kind == "string" || (text.len() > SMALL_TEXT && tree_bytes(text.as_bytes()) > MAX_TEXT_TREE)
    {
        return value;
    }
    match parse(text) {
        Ok(parsed) if parsed.is_null() || has_type(&parsed, kind) => parsed,
        _ => value,
    }
}

/// Returns whether `value` has the JSON Schema type `kind`. A fraction passes as an `integer`, so that the range check reports it with
/// its value.
fn has_type(value: &Value, kind: &str) -> bool {
    match kind {
        "integer" | "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

/// Maximum memory of the parsed tree of JSON text within a value, in bytes. The limits on messages do not include such trees.
const MAX_TEXT_TREE: usize = 32 * 1024 * 1024;

/// Length of text that is always below this maximum, in bytes.
const SMALL_TEXT: usize = 16 * 1024;

/// Memory of a value in a tree, in bytes: 80 for the value, and as much for the spare capacity of the list that contains it.
const VALUE_BYTES: usize = 160;

/// Memory of an object in a tree, in bytes, in addition to its values: its table with capacity for the first members.
const OBJECT_BYTES: usize = 750;

/// Returns an upper bound of the memory, in bytes, that `text` takes as a tree of values. The text may be invalid.
pub(crate) fn tree_bytes(text: &[u8]) -> usize {
    let (mut values, mut objects) = (1_usize, 0_usize);
    let mut rest = text;
    while let Some((byte, behind)) = rest.split_first() {
        rest = match byte {
            b'"' => after_string(behind),
            _ => behind,
        };
        match byte {
            b',' | b'[' | b':' => values += 1,
            b'{' => objects += 1,
            _ => {}
        }
    }
    text.len() + values * VALUE_BYTES + objects * OBJECT_BYTES
}

/// Returns the text after the string whose opening quote is just before `text`.
fn after_string(mut text: &[u8]) -> &[u8] {
    while let Some(at) = text.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        let is_end = text[at] == b'"';
        text = text
            .get(at + if is_end { 1 } else { 2 }..)
            .unwrap_or_default();
        if is_end {
            return text;
        }
    }
    &[]
}

/// Returns `text` without the byte order mark that some programs on Windows write.
pub(crate) fn without_byte_order_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// Replaces the escapes of lone surrogates in `text` with `\ufffd`. The length stays the same.
///
/// JavaScript can split a string inside a character; then `JSON.stringify` writes the remaining half as an escape.
pub(crate) fn without_lone_surrogates(text: &[u8]) -> Cow<'_, [u8]> {
    let mut mended = Cow::Borrowed(text);
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(next_backslash) {
        let start = at + found;
        at = match surrogate_at(text, start) {
            None => start + 2,
            Some(Surrogate::High) if surrogate_at(text, start + ESCAPE) == Some(Surrogate::Low) => {
                start + 2 * ESCAPE
            }
            Some(_) => {
                mended.to_mut()[start..start + ESCAPE].copy_from_slice(br"\ufffd");
                start + ESCAPE
            }
        };
    }
    mended
}

fn next_backslash(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| *byte == b'\\')
}

/// A surrogate: half of a UTF-16 pair for a character above U+FFFF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Surrogate {
    High,
    Low,
}

/// Returns the surrogate whose escape is at `at`.
fn surrogate_at(text: &[u8], at: usize) -> Option<Surrogate> {
    let digits = text.get(at..at + ESCAPE)?.strip_prefix(br"\u")?;
    let digits = std::str::from_utf8(digits).ok()?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..0xdc00 => Some(Surrogate::High),
        0xdc00..0xe000 => Some(Surrogate::Low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn lone_surrogates_become_replacement_characters() {
        for (text, read) in [
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""a\uDE00b""#, "a\u{fffd}b"),
            (r#""\ud83d\ude00""#, "\u{1f600}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""\\ud83d""#, r"\ud83d"),
            (r#""\\\ud83d""#, "\\\u{fffd}"),
            (r#""\ud83d\n""#, "\u{fffd}\n"),
            (r#""\ud83dx""#, "\u{fffd}x"),
        ] {
            assert_eq!(parse(text).unwrap(), json!(read), "{text}");
        }
        assert!(parse(r#""\ud8""#).is_err());
        assert_eq!(parse(r#"{"\ud83d": 1}"#).unwrap(), json!({"\u{fffd}": 1}));
    }

    #[test]
    fn text_is_parsed_only_if_it_is_json_of_the_expected_type() {
        for (text, kind, read) in [
            ("3", "integer", json!(3)),
            (" 1e2 ", "number", json!(1e2)),
            ("true", "boolean", json!(true)),
            (r#"["a"]"#, "array", json!(["a"])),
            (r#"{"a":1}"#, "object", json!({"a": 1})),
            ("null", "object", json!(null)),
            ("3", "string", json!("3")),
            ("True", "boolean", json!("True")),
            ("1", "boolean", json!("1")),
            ("\"3\"", "integer", json!("\"3\"")),
            ("0x3", "integer", json!("0x3")),
            ("NaN", "number", json!("NaN")),
            ("1e400", "number", json!("1e400")),
            ("[1", "array", json!("[1")),
            ("a, b", "array", json!("a, b")),
            ("", "integer", json!("")),
        ] {
            assert_eq!(from_text(json!(text), kind), read, "{text} as {kind}");
        }
    }

    #[test]
    fn text_that_would_become_a_large_tree_stays_text() {
        let objects = |count: usize| json!(format!("[{}0]", "{\"\":0},".repeat(count)));
        assert!(from_text(objects(1000), "array").is_array());
        assert!(from_text(objects(50_000), "array").is_string());
        let words = json!(format!("[\"{}\"]", "word ".repeat(200_000)));
        assert!(from_text(words, "array").is_array());
    }

    #[test]
    fn the_estimate_of_a_tree_counts_values_outside_strings() {
        let bytes = |text: &str| tree_bytes(text.as_bytes()) - text.len();
        assert_eq!(bytes("1"), VALUE_BYTES);
        assert_eq!(bytes(r#""a,[{:\"\\""#), VALUE_BYTES);
        assert_eq!(bytes(r#"[1, "\\", ","]"#), 4 * VALUE_BYTES);
        assert_eq!(
            bytes(r#"{"a": {"b": 1}}"#),
            3 * VALUE_BYTES + 2 * OBJECT_BYTES
        );
        assert_eq!(bytes(r#"["never ends\"#), 2 * VALUE_BYTES);
    }

    proptest! {
        #[test]
        fn valid_json_is_unchanged(text: String) {
            let written = Value::from(text).to_string();
            prop_assert_eq!(&*without_lone_surrogates(written.as_bytes()), written.as_bytes());
        }

        #[test]
        fn every_string_that_javascript_writes_is_accepted(units: Vec<u16>) {
            let escaped: Vec<String> = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let escaped = escaped.concat();
            let read = parse(&format!("\"{escaped}\"")).unwrap();
            prop_assert_eq!(read, json!(String::from_utf16_lossy(&units)));
        }

        #[test]
        fn no_text_panics(text: Vec<u8>) {
            drop(without_lone_surrogates(&text));
        }
    }
}
