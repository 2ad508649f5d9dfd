//! A client of the revision without a handshake.

use serde_json::{Value, json};
use ureq::Body;
use ureq::http::Response;

use super::http::Client;

pub(crate) const REVISION: &str = "2026-07-28";

/// Adds to `params` the metadata that every request of this revision carries.
pub(crate) fn with_envelope(mut params: Value) -> Value {
    let meta = &mut params["_meta"];
    meta["io.modelcontextprotocol/protocolVersion"] = REVISION.into();
    meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
    meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "test", "version": "1"});
    params
}

pub(crate) fn request(id: impl Into<Value>, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": with_envelope(params)})
}

/// Posts `message` with the headers that it requires.
pub(crate) fn post(client: &Client, message: &Value) -> Response<Body> {
    let mut client = client.clone();
    client.header("mcp-protocol-version", REVISION);
    client.header("mcp-method", message["method"].as_str().unwrap());
    if let Some(name) = message["params"]["name"].as_str() {
        client.header("mcp-name", name);
    }
    client.post(message)
}

/// Returns a call of the tool `chat`.
pub(crate) fn chat(id: impl Into<Value>, arguments: Value) -> Value {
    request(
        id,
        "tools/call",
        json!({"name": "chat", "arguments": arguments}),
    )
}
