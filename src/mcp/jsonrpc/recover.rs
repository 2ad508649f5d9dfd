//! Finds the id of a message that is not valid JSON. A client that gets an error without the id waits until its timeout.
//!
//! The scan looks only at brackets, quotes, commas and colons. All else may be invalid: escapes, literals such as `NaN`, bytes that are
//! not UTF-8, a missing end, mismatched brackets. The id is a member of the outermost object.

use serde_json::value::RawValue;

use super::RequestId;
use crate::json;

/// Longest name or scalar that is kept, in bytes. A longer value is not returned as an id.
const MAX_TOKEN: usize = 64 * 1024;

/// Deepest nesting that is tracked.
const MAX_LEVELS: usize = 1024 * 1024;

/// Finds the id of a message that arrives in pieces.
#[derive(Debug, Default)]
pub struct IdFinder {
    /// The open brackets.
    open: Vec<u8>,
    /// The number of open braces, and of open square brackets.
    counts: [usize; 2],
    /// The quote that ends the current string; `None` outside of strings.
    quote: Option<u8>,
    /// Whether the previous byte escapes the next one.
    is_escaped: bool,
    /// Text in the outermost object since the last comma, colon or bracket.
    token: Vec<u8>,
    /// Whether the next value belongs to `id`.
    is_id: bool,
    found: Option<RequestId>,
    /// Whether the search is over: the outermost object has ended, or there are too many levels.
    has_ended: bool,
}

impl IdFinder {
    /// Finds the id of `text`.
    pub(super) fn find(text: &[u8]) -> Option<RequestId> {
        let mut finder = Self::default();
        finder.read(text);
        finder.finish()
    }

    /// Reads the next piece.
    pub fn read(&mut self, piece: &[u8]) {
        for byte in piece {
            if self.has_ended {
                return;
            }
            self.read_byte(*byte);
        }
    }

    /// Returns the id, or the last one if there are several.
    pub fn finish(mut self) -> Option<RequestId> {
        // A truncated number could be the id of another request.
        let rest = self.token.trim_ascii_end();
        let is_number = rest.last().is_some_and(u8::is_ascii_digit);
        if self.quote.is_none() && !is_number {
            self.end_value();
        }
        self.found
    }

    fn read_byte(&mut self, byte: u8) {
        if let Some(quote) = self.quote {
            self.keep(byte);
            if self.is_escaped {
                self.is_escaped = false;
            } else if byte == b'\\' {
                self.is_escaped = true;
            } else if byte == quote {
                self.quote = None;
            }
            return;
        }
        match byte {
            b'"' | b'\'' => {
                self.quote = Some(byte);
                self.keep(byte);
            }
            b'{' | b'[' => {
                self.end_value();
                self.open.push(byte);
                self.counts[usize::from(byte == b'[')] += 1;
                self.has_ended = self.open.len() > MAX_LEVELS || self.open[0] == b'[';
            }
            b'}' | b']' => {
                self.end_value();
                self.close(if byte == b'}' { b'{' } else { b'[' });
            }
            b',' => self.end_value(),
            b':' => {
                let is_id = self.open.len() == 1 && is_id(&self.token);
                // The comma before the name may be missing.
                self.end_value();
                self.is_id = is_id;
            }
            _ => self.keep(byte),
        }
    }

    /// Closes the innermost bracket of the kind `opening`, and those inside it. Ignores a closing bracket without an opening one. Each
    /// bracket is popped once, so the scan takes linear time.
    fn close(&mut self, opening: u8) {
        if self.counts[usize::from(opening == b'[')] == 0 {
            return;
        }
        while let Some(bracket) = self.open.pop() {
            self.counts[usize::from(bracket == b'[')] -= 1;
            if bracket == opening {
                break;
            }
        }
        self.has_ended = self.open.is_empty();
    }

    fn keep(&mut self, byte: u8) {
        if self.open.len() == 1 && self.token.len() <= MAX_TOKEN {
            self.token.push(byte);
        }
    }

    fn end_value(&mut self) {
        if self.is_id
            && self.open.len() == 1
            && let Some(id) = leading_id(&self.token)
        {
            self.found = Some(id);
        }
        self.is_id = false;
        self.token.clear();
    }
}

/// Returns whether `token` is the name `id`, or ends with it because a comma is missing.
fn is_id(token: &[u8]) -> bool {
    let token = token.trim_ascii();
    matches!(token, b"id" | b"'id'")
        || (token.ends_with(b"\"id\"") && !token.ends_with(b"\\\"id\""))
}

/// Returns the id at the start of `token`.
fn leading_id(token: &[u8]) -> Option<RequestId> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let token = token.trim_ascii();
    if let Some(text) = token.strip_prefix(b"'") {
        let text = text.split(|byte| *byte == b'\'').next()?;
        return Some(String::from_utf8(text.to_vec()).ok()?.into());
    }
    let token = json::without_lone_surrogates(token);
    let mut values = serde_json::Deserializer::from_slice(&token).into_iter::<Box<RawValue>>();
    RequestId::read(&values.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn found(text: &[u8]) -> Value {
        json!(IdFinder::find(text))
    }

    #[test]
    fn the_id_of_a_message_is_found_whatever_else_is_wrong_with_it() {
        for (text, id) in [
            (
                r#"{"jsonrpc":"2.0","id":7,"method":"x","params":{"a":NaN}}"#,
                json!(7),
            ),
            (
                r#"{"params":{"a":NaN,"id":3},"method":"x","jsonrpc":"2.0","id":7}"#,
                json!(7),
            ),
            (
                r#"{"jsonrpc":"2.0","id":"a\"},","method":"x",}"#,
                json!("a\"},"),
            ),
            (r#"{"jsonrpc":"2.0","id":7,"method":"tools/ca"#, json!(7)),
            (r#"{"jsonrpc":"2.0","method":"x","id": -7 }}"#, json!(-7)),
            (r#"{"params":{"a":[1,2},"id":7}"#, json!(7)),
            (r#"{"params":{"a":1]},"id":7}"#, json!(7)),
            (r#"{"params":{"a":"\x","b":"\"id\":3"},"id":7}"#, json!(7)),
            (r#"{"jsonrpc":"2.0" "id":7 "method":"x"}"#, json!(7)),
            (r"{'jsonrpc': '2.0', 'id': 'a', 'method': 'x'}", json!("a")),
            (r#"{jsonrpc: "2.0", id: 7, method: "x"}"#, json!(7)),
            (r#"{"id":1,"id":7,"x":tru}"#, json!(7)),
            (r#"{"id":7}{"id":8}"#, json!(7)),
            (r#"{"x":"id","id":7,"y":}"#, json!(7)),
            ("{\"id\":\"\\ud83d\",}", json!("\u{fffd}")),
        ] {
            assert_eq!(found(text.as_bytes()), id, "{text}");
        }
        assert_eq!(found(b"{\"a\":\"\xff\",\"id\":7}"), json!(7));
        let large = br#"{"id":18446744073709551616,"x":Infinity}"#;
        assert_eq!(
            IdFinder::find(large).unwrap().to_string(),
            "18446744073709551616"
        );
        assert_eq!(
            found(
                format!(
                    r#"{{"a":{},"id":7,}}"#,
                    "[".repeat(9999) + &"]".repeat(9999)
                )
                .as_bytes()
            ),
            json!(7)
        );
    }

    #[test]
    fn other_values_are_not_mistaken_for_the_id() {
        for text in [
            "",
            "id",
            "{",
            r#"{"id""#,
            r#"{"id":"#,
            r#"{"jsonrpc":"2.0","id":7"#,
            r#"{"id":"never ends"#,
            r#"{"id":null,}"#,
            r#"{"id":true,}"#,
            r#"{"id":{"id":7},}"#,
            r#"{"id":[7],}"#,
            r#"{"id":01,}"#,
            r#"{"id":NaN}"#,
            r#"{"params":{"id":7"#,
            r#"{"idea":7,}"#,
            r#"{"a\"id":7,}"#,
            r#"{"x":"\"id\":7","y"}"#,
            r#"[{"id":7}"#,
            r#""id":7"#,
        ] {
            assert_eq!(found(text.as_bytes()), json!(null), "{text}");
        }
    }

    #[test]
    fn a_long_message_of_brackets_is_scanned_in_linear_time() {
        // Quadratic work would take hours.
        let text = format!(
            "{}{},\"id\":7}}",
            "{".repeat(2_000_000),
            "]".repeat(2_000_000)
        );
        assert_eq!(found(text.as_bytes()), json!(null));
        let text = format!(
            r#"{{"a":{}{},"id":7}}"#,
            "[{".repeat(400_000),
            "]".repeat(400_000)
        );
        assert_eq!(found(text.as_bytes()), json!(7));
    }

    proptest! {
        #[test]
        fn the_id_of_a_truncated_message_is_found(cut in 9_usize..70, size in 1_usize..9) {
            let text = br#"{"id":77,"method":"tools/call","params":{"name":"a","b":[1,{"id":3}]}}"#;
            let text = &text[..text.len().min(cut)];
            let mut finder = IdFinder::default();
            text.chunks(size).for_each(|piece| finder.read(piece));
            prop_assert_eq!(json!(finder.finish()), json!(77));
        }

        #[test]
        fn no_input_panics(bytes: Vec<u8>) {
            drop(IdFinder::find(&bytes));
        }
    }
}
