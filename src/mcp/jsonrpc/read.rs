//! Parses bytes into a message.
//!
//! The outermost object is parsed first, and its members are kept as text. So the id keeps its spelling, and it is known before an error
//! in the parameters can occur.

use std::collections::HashMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::recover::IdFinder;
use super::{
    ErrorObject, INVALID_PARAMS, INVALID_REQUEST, Invalid, Message, Notification, PARSE_ERROR,
    Request, RequestId,
};
use crate::json;

/// The members of an object, as text. Of duplicate names the last one applies.
type Members<'text> = HashMap<String, &'text RawValue>;

impl Message {
    /// Parses one message. Skips a byte order mark, and replaces lone surrogates as browsers do.
    ///
    /// # Errors
    /// Fails if the message is invalid. The error has the id, if one can be found, so that the client knows which request failed.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        let text = json::without_byte_order_mark(bytes);
        let text = json::without_lone_surrogates(text);
        let whole: &RawValue = serde_json::from_slice(&text)
            .map_err(|error| invalid(IdFinder::find(&text), PARSE_ERROR, not_json(&error)))?;
        let Some(members) = members_of(whole) else {
            let kind = if whole.get().starts_with('[') {
                "batches are not supported; send one object per message"
            } else {
                "a message must be a JSON object"
            };
            return Err(invalid(None, INVALID_REQUEST, kind));
        };
        let id = members.get("id").and_then(|id| RequestId::read(id));
        if text_of(&members, "jsonrpc").as_deref() != Some("2.0") {
            return Err(invalid(id, INVALID_REQUEST, "`jsonrpc` must be \"2.0\""));
        }
        let Some(method) = text_of(&members, "method") else {
            let has = |name: &str| members.contains_key(name);
            return if has("method") {
                Err(invalid(id, INVALID_REQUEST, "`method` must be a string"))
            } else if has("result") || has("error") {
                Ok(Self::Response)
            } else {
                Err(invalid(id, INVALID_REQUEST, "`method` is missing"))
            };
        };
        let params = members.get("params").copied();
        match id {
            Some(id) => request(id, method, params).map(Self::Request),
            None if members.contains_key("id") => {
                let message = "`id` must be a string or a number";
                Err(invalid(None, INVALID_REQUEST, message))
            }
            None => Ok(Self::Notification(notification(method, params))),
        }
    }
}

fn request(id: RequestId, method: String, json: Option<&RawValue>) -> Result<Request, Invalid> {
    let params = match json.map(read) {
        None | Some(Ok(Value::Null)) => Map::new(),
        Some(Ok(Value::Object(params))) => params,
        Some(Ok(_)) => {
            let message = "`params` must be an object";
            return Err(invalid(Some(id), INVALID_PARAMS, message));
        }
        Some(Err(error)) => return Err(invalid(Some(id), PARSE_ERROR, not_json(&error))),
    };
    let has_meta = params.contains_key("_meta");
    let token = json.filter(|_| has_meta);
    Ok(Request {
        id,
        method,
        params,
        progress_token: token.and_then(|json| id_at(json, &["_meta", "progressToken"])),
    })
}

/// Parses a notification. It gets no response, so invalid parameters are ignored.
fn notification(method: String, json: Option<&RawValue>) -> Notification {
    let params = match json.map(read) {
        Some(Ok(Value::Object(params))) => params,
        _ => Map::new(),
    };
    Notification {
        method,
        params,
        request_id: json.and_then(|json| id_at(json, &["requestId"])),
    }
}

fn read(json: &RawValue) -> serde_json::Result<Value> {
    serde_json::from_str(json.get())
}

fn members_of(json: &RawValue) -> Option<Members<'_>> {
    serde_json::from_str(json.get()).ok()
}

fn text_of(members: &Members<'_>, name: &str) -> Option<String> {
    serde_json::from_str(members.get(name)?.get()).ok()
}

/// Returns the id at `path` in `json`, with its spelling.
fn id_at(json: &RawValue, path: &[&str]) -> Option<RequestId> {
    let mut found = json;
    for name in path {
        found = members_of(found)?.remove(*name)?;
    }
    RequestId::read(found)
}

fn invalid(id: Option<RequestId>, code: i64, message: impl Into<String>) -> Invalid {
    Invalid {
        id,
        error: ErrorObject::new(code, message),
    }
}

/// Returns the message for a parse error. Two limits are those of `serde_json`, not of JSON.
fn not_json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("recursion limit exceeded") {
        "the parameters are nested too deeply; send at most 127 levels".into()
    } else if text.starts_with("number out of range") {
        "the parameters have a number that is too large; send numbers up to 1.7e308".into()
    } else {
        format!("the message is not valid JSON: {text}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::Outgoing;
    use super::*;

    fn refusal_of(text: &str) -> (Value, i64) {
        let invalid = Message::parse(text.as_bytes()).unwrap_err();
        (json!(invalid.id), invalid.error.code)
    }

    fn request_of(text: &str) -> Request {
        match Message::parse(text.as_bytes()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{text} is a request, not {other:?}"),
        }
    }

    #[test]
    fn an_invalid_message_is_refused_with_its_id_if_it_has_one() {
        let table = [
            ("{", json!(null), PARSE_ERROR),
            ("", json!(null), PARSE_ERROR),
            ("[]", json!(null), INVALID_REQUEST),
            ("[{}]", json!(null), INVALID_REQUEST),
            ("[{}", json!(null), PARSE_ERROR),
            ("7", json!(null), INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":7}"#, json!(7), INVALID_REQUEST),
            (
                r#"{"jsonrpc":"2.0","id":"a","params":{}}"#,
                json!("a"),
                INVALID_REQUEST,
            ),
            (
                r#"{"jsonrpc":"2.0","id":7,"method":1}"#,
                json!(7),
                INVALID_REQUEST,
            ),
            (
                r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#,
                json!(7),
                INVALID_REQUEST,
            ),
            (r#"{"id":7,"method":"ping"}"#, json!(7), INVALID_REQUEST),
            (
                r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
                json!(null),
                INVALID_REQUEST,
            ),
            (
                r#"{"jsonrpc":"2.0","id":[],"method":"ping"}"#,
                json!(null),
                INVALID_REQUEST,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1e400,"method":"ping"}"#,
                json!(null),
                INVALID_REQUEST,
            ),
            (
                r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":[]}"#,
                json!(7),
                INVALID_PARAMS,
            ),
            (
                r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":1e400}}"#,
                json!(7),
                PARSE_ERROR,
            ),
        ];
        for (text, id, code) in table {
            assert_eq!(refusal_of(text), (id, code), "{text}");
        }
        let deep = "[".repeat(5000) + &"]".repeat(5000);
        let deep = format!(r#"{{"method":"ping","params":{{"a":{deep}}},"jsonrpc":"2.0","id":7}}"#);
        assert_eq!(refusal_of(&deep), (json!(7), PARSE_ERROR));
    }

    #[test]
    fn ids_keep_their_spelling() {
        for id in [
            "0",
            "-0",
            "1.5",
            "-3",
            "1e3",
            "1E+3",
            "\"\"",
            "\"a\"",
            "\"\u{1f600}\"",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775809",
            "123456789012345678901234567890123456789012345678901234567890",
        ] {
            let text = format!(
                r#"{{"method":"ping","id":{id},"jsonrpc":"2.0","params":{{"_meta":{{"progressToken":{id}}}}}}}"#
            );
            let request = request_of(&text);
            assert_eq!(request.progress_token.as_ref(), Some(&request.id));
            let answer = Outgoing::Result(request.id, json!({}).into()).to_json();
            assert_eq!(
                answer,
                format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
            );
            let cancel = format!(
                r#"{{"method":"notifications/cancelled","jsonrpc":"2.0","params":{{"requestId":{id}}}}}"#
            );
            let Ok(Message::Notification(cancel)) = Message::parse(cancel.as_bytes()) else {
                panic!("{cancel} is a notification")
            };
            assert_eq!(cancel.request_id, request.progress_token);
        }
    }

    #[test]
    fn ids_that_differ_only_in_escapes_are_equal() {
        let id =
            |id: &str| request_of(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x"}}"#)).id;
        assert_eq!(id(r#""\u0061/""#), id(r#""a\/""#));
        assert_ne!(id("1"), id("\"1\""));
    }

    #[test]
    fn the_last_of_duplicate_members_applies() {
        let twice = r#"{"jsonrpc":"2.0","id":1,"method":"a","id":2,"method":"b"}"#;
        let request = request_of(twice);
        assert_eq!(
            (request.id.to_string().as_str(), &request.method[..]),
            ("2", "b")
        );
    }

    #[test]
    fn a_byte_order_mark_is_skipped_and_lone_surrogates_are_replaced() {
        let text = "\u{feff} {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":{\"a\":\"\\ud83d\"}}";
        assert_eq!(request_of(text).params["a"], "\u{fffd}");
    }

    #[test]
    fn a_message_without_an_id_is_a_notification_and_one_with_a_result_a_response() {
        for params in ["3", "[1]", "{\"a\":1e400}"] {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"x","params":{params}}}"#);
            let notification = Message::parse(text.as_bytes());
            assert!(matches!(notification, Ok(Message::Notification(_))));
        }
        assert_eq!(
            Message::parse(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
            Ok(Message::Response)
        );
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes: Vec<u8>) {
            drop(Message::parse(&bytes));
        }
    }
}
