//! JSON-RPC 2.0: messages, ids and error codes.

mod read;
mod recover;

use std::fmt::{self, Display};
use std::hash::{Hash, Hasher};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

pub use recover::IdFinder;

/// Code for a message that is not valid JSON.
pub const PARSE_ERROR: i64 = -32700;
/// Code for JSON that is not a valid message.
pub const INVALID_REQUEST: i64 = -32600;
/// Code for an unknown method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// Code for invalid parameters.
pub const INVALID_PARAMS: i64 = -32602;
/// Code for a bug in the server.
pub const INTERNAL_ERROR: i64 = -32603;
/// Code for headers that contradict the body (2026-07-28 `basic/index`, Error Codes).
pub const HEADER_MISMATCH: i64 = -32020;
/// Code for an unsupported protocol revision.
pub const UNSUPPORTED_PROTOCOL_VERSION: i64 = -32022;
/// Code for a request that was cancelled while its client still waits. The Language Server Protocol and the official Python server use
/// the same number.
pub const REQUEST_CANCELLED: i64 = -32800;

/// A JSON text. Numbers keep their spelling, whereas a [`Value`] rounds large ones.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// Serialises `value`.
    ///
    /// # Errors
    /// Fails if a key is not a string.
    pub fn new(value: &impl Serialize) -> serde_json::Result<Self> {
        to_raw_value(value).map(Self)
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        Self::new(&value).expect("the keys of a value are strings")
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

/// The id of a request: a string or a number. `1` and `"1"` differ, and a number keeps its spelling: `1e3` does not become 1000.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct RequestId(Json);

impl RequestId {
    /// Reads an id from `json`. Returns `None` if it is neither a string nor a number.
    fn read(json: &RawValue) -> Option<Self> {
        match json.get().as_bytes().first()? {
            // Unescaped, so that spellings of the same string are equal.
            b'"' => Some(serde_json::from_str::<String>(json.get()).ok()?.into()),
            b'-' | b'0'..=b'9' => {
                // An integer may have any size. Most clients read a float out of range as infinity.
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

/// Token by which a client recognises the progress notifications of a request: a string or a number.
pub type ProgressToken = RequestId;

/// A message from a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// A request, which gets a response.
    Request(Request),
    /// A notification, which gets no response.
    Notification(Notification),
    /// A response. The server sends no requests, so it is ignored.
    Response,
}

/// A request from a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Id of the request, which the response repeats.
    pub id: RequestId,
    /// Name of the method.
    pub method: String,
    /// The parameters; empty if the message has none.
    pub params: Map<String, Value>,
    /// The `progressToken` in `_meta`, if the client asks for progress.
    pub progress_token: Option<ProgressToken>,
}

/// A notification from a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// Name of the method.
    pub method: String,
    /// The parameters; empty if the message has none.
    pub params: Map<String, Value>,
    /// The `requestId` in the parameters of a cancellation.
    pub request_id: Option<RequestId>,
}

/// The `error` of a response.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorObject {
    /// Number of the error, for example [`INVALID_PARAMS`].
    pub code: i64,
    /// Cause and way out, for people.
    pub message: String,
    /// Details for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<Value>>,
}

impl ErrorObject {
    /// Creates an error without `data`.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }
}

/// An invalid message and its response.
#[derive(Debug, Clone, PartialEq)]
pub struct Invalid {
    /// Id of the message; `None` if it could not be found.
    pub id: Option<RequestId>,
    /// The error to send.
    pub error: ErrorObject,
}

/// A message to a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Outgoing {
    /// The result of a request.
    Result(RequestId, Json),
    /// The error of a request, or of a message that could not be read.
    Error(Option<RequestId>, ErrorObject),
    /// A notification.
    Notification(&'static str, Json),
}

impl Outgoing {
    /// Creates the notification that the list of tools has changed. `params` identify the subscription, if there is one.
    pub fn tools_changed(params: Option<Json>) -> Self {
        let params = params.unwrap_or_else(|| json!({}).into());
        Self::Notification("notifications/tools/list_changed", params)
    }

    /// Returns the message as JSON on one line.
    pub fn to_json(&self) -> String {
        match self {
            Self::Result(id, result) => {
                format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
            }
            Self::Error(id, error) => {
                // JSON-RPC requires null if no id could be read, and clients reject a message without an id.
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
        fn a_response_is_one_line(text: String) {
            let id = RequestId::from(text.clone());
            let line = Outgoing::Result(id, json!({ "text": text }).into()).to_json();
            prop_assert!(!line.contains('\n'));
        }
    }
}
