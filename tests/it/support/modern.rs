//! A client of the revision without a handshake.

use serde_json::{Value, json};
use ureq::Body;
use ureq::http::Response;

use super::http::Client;

pub(crate) const REVISION: &str = "2026-07-28";

/// `params` with what every request says of itself.
pub(crate) fn enveloped(mut params: Value) -> Value {
    let meta = &mut params["_meta"];
    meta["io.modelcontextprotocol/protocolVersion"] = REVISION.into();
    meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
    meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "test", "version": "1"});
    params
}

pub(crate) fn request(id: impl Into<Value>, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": enveloped(params)})
}

/// Posts `message` with the headers that it wants.
pub(crate) fn post(client: &Client, message: &Value) -> Response<Body> {
    let mut client = client.clone();
    client.header("mcp-protocol-version", REVISION);
    client.header("mcp-method", message["method"].as_str().unwrap());
    if let Some(name) = message["params"]["name"].as_str() {
        client.header("mcp-name", name);
    }
    client.post(message)
}

/// A call of the chat tool.
pub(crate) fn chat(id: impl Into<Value>, arguments: Value) -> Value {
    request(
        id,
        "tools/call",
        json!({"name": "chat", "arguments": arguments}),
    )
}
