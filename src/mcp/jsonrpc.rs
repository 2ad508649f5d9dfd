//! The JSON-RPC 2.0 envelope: ids, messages, error codes.

mod read;
mod recover;

use std::fmt::{self, Display};
use std::hash::{Hash, Hasher};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

pub use recover::IdFinder;

/// The message is not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// The message is JSON, but not a request.
pub const INVALID_REQUEST: i64 = -32600;
/// An unknown method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// Wrong parameters.
pub const INVALID_PARAMS: i64 = -32602;
/// An internal error.
pub const INTERNAL_ERROR: i64 = -32603;
/// Headers that contradict the body (2026-07-28 `basic/index`, Error Codes).
pub const HEADER_MISMATCH: i64 = -32020;
/// An unsupported protocol revision.
pub const UNSUPPORTED_PROTOCOL_VERSION: i64 = -32022;
/// A request that was cancelled, where its client still waits (the number is that of the Language Server Protocol, which
/// the official Python server sends too).
pub const REQUEST_CANCELLED: i64 = -32800;

/// A JSON text. It keeps numbers as they were written, however large: a [`Value`] would round them.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// Writes `value` as JSON.
    ///
    /// # Errors
    /// A key is not a string.
    pub fn of(value: &impl Serialize) -> serde_json::Result<Self> {
        to_raw_value(value).map(Self)
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        Self::of(&value).expect("the keys of a value are strings")
    }
}

impl Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for Json {}

impl Hash for Json {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.get().hash(state);
    }
}

/// A request's id: a string or a number; 1 and "1" differ. A number is returned as it was written: `1e3` does not become 1000.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct RequestId(Json);

impl RequestId {
    /// Reads an id from `json`. Returns `None` if it is neither a string nor a number.
    fn read(json: &RawValue) -> Option<Self> {
        match json.get().as_bytes().first()? {
            // Strings are compared unescaped, whatever characters the sender escaped.
            b'"' => Some(serde_json::from_str::<String>(json.get()).ok()?.into()),
            b'-' | b'0'..=b'9' => {
                // An integer may have any size. A number beyond a double is infinity to most clients.
                let text = json.get();
                let is_finite = || text.parse().is_ok_and(f64::is_finite);
                (!text.contains(['e', 'E']) || is_finite()).then(|| Self(Json(json.to_owned())))
            }
            _ => None,
        }
    }
}

impl From<String> for RequestId {
    fn from(text: String) -> Self {
        Self(Json::from(Value::from(text)))
    }
}

impl Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name that a client gives to the progress of a request: a string or a number, like an id.
pub type ProgressToken = RequestId;

/// One message of a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// A request, which requires a response.
    Request(Request),
    /// A notification, which has no response.
    Notification(Notification),
    /// A response, though the server sends no requests.
    Response,
}

/// A call of a method.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The id of the response.
    pub id: RequestId,
    /// Which method.
    pub method: String,
    /// Empty where there were none.
    pub params: Map<String, Value>,
    /// The `progressToken` in `_meta`, if the client asks for progress.
    pub progress_token: Option<ProgressToken>,
}

/// A message without an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// Which method.
    pub method: String,
    /// Empty where there were none.
    pub params: Map<String, Value>,
    /// The `requestId` in the parameters: the request to cancel.
    pub request_id: Option<RequestId>,
}

/// An error object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorObject {
    /// One of the constants above.
    pub code: i64,
    /// One sentence.
    pub message: String,
    /// Details for programs.
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

/// A message that is invalid, with the error to send back.
#[derive(Debug, Clone, PartialEq)]
pub struct Invalid {
    /// The id of the message; `None` if it could not be found.
    pub id: Option<RequestId>,
    /// The error to send.
    pub error: ErrorObject,
}

/// A message to a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Outgoing {
    /// The result of a request.
    Result(RequestId, Json),
    /// The error of a request, or of something that could not be read.
    Error(Option<RequestId>, ErrorObject),
    /// A notification.
    Notification(&'static str, Json),
}

impl Outgoing {
    /// Asks a client to list the tools again; `params` are those of its subscription, if it has one.
    pub fn tools_changed(params: Option<Json>) -> Self {
        let params = params.unwrap_or_else(|| json!({}).into());
        Self::Notification("notifications/tools/list_changed", params)
    }

    /// The JSON of the message, on one line.
    pub fn to_json(&self) -> String {
        match self {
            Self::Result(id, result) => {
                format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
            }
            Self::Error(id, error) => {
                // If no id could be read, JSON-RPC requires null, and clients refuse a message without an id.
                let id = id.as_ref().map_or("null".into(), RequestId::to_string);
                let error = json!(error);
                format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
            }
            Self::Notification(method, params) => {
                format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
            }
        }
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

    proptest! {
        #[test]
        fn an_answer_is_one_line(text: String) {
            let id = RequestId::from(text.clone());
            let line = Outgoing::Result(id, json!({ "text": text }).into()).to_json();
            prop_assert!(!line.contains('\n'));
        }
    }
}
