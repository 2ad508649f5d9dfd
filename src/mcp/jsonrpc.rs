//! The JSON-RPC 2.0 envelope: ids, messages, error codes.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value, json};

/// Not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// JSON, but no request.
pub const INVALID_REQUEST: i64 = -32600;
/// An unknown method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// Wrong parameters.
pub const INVALID_PARAMS: i64 = -32602;
/// A fault of ours.
pub const INTERNAL_ERROR: i64 = -32603;
/// Headers that do not say what the body says (2026-07-28 `basic/index`, Error Codes).
pub const HEADER_MISMATCH: i64 = -32020;
/// A revision that is not served.
pub const UNSUPPORTED_PROTOCOL_VERSION: i64 = -32022;
/// A request that was cancelled, where its client still waits (the number is that of the Language Server Protocol, which
/// the official Python server sends too).
pub const REQUEST_CANCELLED: i64 = -32800;

/// A request's id: a string or a number, and 1 is not "1".
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RequestId {
    /// As it came, 1.0 too.
    Number(Number),
    /// As it came.
    String(String),
}

/// One message of a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Wants a response.
    Request(Request),
    /// Wants none.
    Notification(Notification),
    /// An answer to something that we never ask.
    Response,
}

/// A call of a method.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What the response carries.
    pub id: RequestId,
    /// Which method.
    pub method: String,
    /// Empty where there were none.
    pub params: Map<String, Value>,
}

/// A message without an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// Which method.
    pub method: String,
    /// Empty where there were none.
    pub params: Map<String, Value>,
}

/// An error object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorObject {
    /// One of the constants above.
    pub code: i64,
    /// One sentence.
    pub message: String,
    /// What a program can act on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<Value>>,
}

impl ErrorObject {
    /// An error of `code`.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }
}

/// A message that is none: what to answer, and to which id.
#[derive(Debug, Clone, PartialEq)]
pub struct Invalid {
    /// Null where it could not be read.
    pub id: Option<RequestId>,
    /// What to answer.
    pub error: ErrorObject,
}

impl Message {
    /// Reads one message.
    ///
    /// # Errors
    /// With the id, where the message has one, so that its sender learns which request failed.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        let invalid = |id, code, message: String| Invalid {
            id,
            error: ErrorObject::new(code, message),
        };
        let value: Value = serde_json::from_slice(bytes).map_err(|error| {
            invalid(
                None,
                PARSE_ERROR,
                format!("the message is not valid JSON: {error}"),
            )
        })?;
        let Value::Object(mut members) = value else {
            let kind = if value.is_array() {
                "batches are not supported: send one object a message"
            } else {
                "a message must be a JSON object"
            };
            return Err(invalid(None, INVALID_REQUEST, kind.into()));
        };
        let id = members.remove("id");
        let has_id = id.is_some();
        let id = id.and_then(|id| serde_json::from_value::<RequestId>(id).ok());
        if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return Err(invalid(
                id,
                INVALID_REQUEST,
                "`jsonrpc` must be \"2.0\"".into(),
            ));
        }
        let method = match members.remove("method") {
            Some(Value::String(method)) => method,
            None if members.contains_key("result") || members.contains_key("error") => {
                return Ok(Self::Response);
            }
            None => return Err(invalid(id, INVALID_REQUEST, "`method` is missing".into())),
            Some(_) => {
                return Err(invalid(
                    id,
                    INVALID_REQUEST,
                    "`method` must be a string".into(),
                ));
            }
        };
        let params = match members.remove("params") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(params)) => params,
            // A notification never gets an answer; its parameters are of no use then.
            Some(_) if !has_id => Map::new(),
            Some(_) => {
                return Err(invalid(
                    id,
                    INVALID_PARAMS,
                    "`params` must be an object".into(),
                ));
            }
        };
        match id {
            Some(id) => Ok(Self::Request(Request { id, method, params })),
            None if has_id => Err(invalid(
                None,
                INVALID_REQUEST,
                "`id` must be a string or a number".into(),
            )),
            None => Ok(Self::Notification(Notification { method, params })),
        }
    }
}

/// What goes back to a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Outgoing {
    /// The result of a request.
    Result(RequestId, Value),
    /// The error of a request, or of something that could not be read.
    Error(Option<RequestId>, ErrorObject),
    /// News.
    Notification(&'static str, Value),
}

impl Outgoing {
    /// Tells a client to list the tools again; `meta` is that of the subscription, where there is one.
    pub fn tools_changed(meta: Option<&Value>) -> Self {
        let params = meta.map_or(json!({}), |meta| json!({"_meta": meta}));
        Self::Notification("notifications/tools/list_changed", params)
    }

    /// The JSON of the message, on one line.
    pub fn to_json(&self) -> String {
        match self {
            Self::Result(id, result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Self::Error(id, error) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
            Self::Notification(method, params) => {
                json!({"jsonrpc": "2.0", "method": method, "params": params})
            }
        }
        .to_string()
    }
}

impl From<Invalid> for Outgoing {
    fn from(invalid: Invalid) -> Self {
        Self::Error(invalid.id, invalid.error)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(text: &str) -> (Value, i64) {
        let invalid = Message::parse(text.as_bytes()).unwrap_err();
        (json!(invalid.id), invalid.error.code)
    }

    #[test]
    fn what_is_no_request_is_refused_with_its_id_where_it_has_one() {
        let table = [
            ("{", json!(null), PARSE_ERROR),
            ("[]", json!(null), INVALID_REQUEST),
            ("[{}]", json!(null), INVALID_REQUEST),
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
                r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":[]}"#,
                json!(7),
                INVALID_PARAMS,
            ),
        ];
        for (text, id, code) in table {
            assert_eq!(refused(text), (id, code), "{text}");
        }
    }

    #[test]
    fn ids_come_back_as_they_came() {
        for id in ["0", "1.5", "-3", "\"\"", "\"a\"", "18446744073709551615"] {
            let text = format!(r#"{{"method":"ping","id":{id},"jsonrpc":"2.0"}}"#);
            let Ok(Message::Request(request)) = Message::parse(text.as_bytes()) else {
                panic!("{text} is a request")
            };
            let answer = Outgoing::Result(request.id, json!({})).to_json();
            assert_eq!(
                answer,
                format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
            );
        }
    }

    #[test]
    fn without_an_id_it_is_a_notification_and_with_a_result_a_response() {
        let notification = Message::parse(br#"{"jsonrpc":"2.0","method":"x","params":3}"#);
        assert!(matches!(notification, Ok(Message::Notification(_))));
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

        #[test]
        fn an_answer_is_one_line(text: String) {
            let line = Outgoing::Result(RequestId::String(text.clone()), json!({ "text": text })).to_json();
            prop_assert!(!line.contains('\n'));
        }
    }
}
