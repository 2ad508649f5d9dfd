//! Determines the era of a request from the request itself. Pure.
//!
//! A modern request names its revision in `params._meta` (2026-07-28 `basic/index`). Over HTTP it repeats the revision in headers, which
//! must match the body (`basic/transports/streamable-http`, Server Validation). All other requests are legacy. The checks run in the same
//! order as in the official servers, so a request with several faults gets the same error.

use serde_json::{Map, Value, json};

use super::jsonrpc::{
    ErrorObject, HEADER_MISMATCH, INVALID_PARAMS, METHOD_NOT_FOUND, Request,
    UNSUPPORTED_PROTOCOL_VERSION,
};
use super::{MODERN_REVISION, revisions};

/// Key in `_meta` for the revision of a request.
const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";

/// Key in `_meta` for the capabilities of the client.
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";

/// The generation of the protocol to which a message belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// Revisions up to 2025-11-25, which `initialize` negotiates.
    Legacy,
    /// Revision 2026-07-28, which has no handshake.
    Modern,
}

/// The HTTP headers that repeat parts of a request's body, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RoutingHeaders {
    /// Value of `MCP-Protocol-Version`.
    pub revision: Option<String>,
    /// Value of `Mcp-Method`.
    pub method: Option<String>,
    /// Value of `Mcp-Name`.
    pub name: Option<String>,
}

impl RoutingHeaders {
    /// Returns whether the headers name the modern revision.
    pub(crate) fn are_modern(&self) -> bool {
        self.revision.as_deref() == Some(MODERN_REVISION)
    }
}

impl Era {
    /// Returns the era of `request`. Over HTTP, `headers` are its headers; over stdio they are `None`.
    ///
    /// # Errors
    /// Fails for a modern request that is incomplete, contradicts its headers or names an unsupported revision.
    pub(crate) fn of_request(
        request: &Request,
        headers: Option<&RoutingHeaders>,
    ) -> Result<Self, ErrorObject> {
        let meta = request.params.get("_meta").and_then(Value::as_object);
        let claimed = meta.and_then(|meta| meta.get(VERSION_KEY));
        let method = request.method.as_str();
        let header_is_modern = headers.is_some_and(RoutingHeaders::are_modern);
        // `initialize` with another revision in `_meta` is a legacy handshake.
        let claimed =
            claimed.filter(|claimed| method != "initialize" || *claimed == MODERN_REVISION);
        let (Some(meta), Some(claimed)) = (meta, claimed) else {
            return match method {
                "initialize" if header_is_modern => Err(mismatch(format!(
                    "`MCP-Protocol-Version` is {MODERN_REVISION}, which has no `initialize`; send `server/discover`"
                ))),
                "server/discover" => Err(incomplete(VERSION_KEY)),
                _ if header_is_modern => Err(incomplete(VERSION_KEY)),
                _ => Ok(Self::Legacy),
            };
        };
        // Also if the claimed revision is a legacy one: clients of those revisions never send the key.
        if !meta.contains_key(CAPABILITIES_KEY) {
            return Err(incomplete(CAPABILITIES_KEY));
        }
        if let Some(headers) = headers {
            check_headers(headers, claimed, method, &request.params)?;
        }
        let Some(revision) = claimed.as_str() else {
            return Err(ErrorObject::new(
                INVALID_PARAMS,
                format!("`_meta[\"{VERSION_KEY}\"]` must be a string"),
            ));
        };
        if revision != MODERN_REVISION {
            return Err(ErrorObject {
                data: Some(Box::new(
                    json!({"supported": revisions(), "requested": revision}),
                )),
                ..ErrorObject::new(UNSUPPORTED_PROTOCOL_VERSION, "Unsupported protocol version")
            });
        }
        if !meta[CAPABILITIES_KEY].is_object() {
            return Err(ErrorObject::new(
                INVALID_PARAMS,
                format!("`_meta[\"{CAPABILITIES_KEY}\"]` must be an object"),
            ));
        }
        if matches!(method, "initialize" | "ping") {
            return Err(ErrorObject::new(
                METHOD_NOT_FOUND,
                format!("{MODERN_REVISION} has no method `{method}`"),
            ));
        }
        Ok(Self::Modern)
    }
}

/// Checks that the headers match the body, since proxies route requests by the headers.
fn check_headers(
    headers: &RoutingHeaders,
    claimed: &Value,
    method: &str,
    params: &Map<String, Value>,
) -> Result<(), ErrorObject> {
    let name = match method {
        "tools/call" | "prompts/get" => params.get("name"),
        "resources/read" => params.get("uri"),
        _ => None,
    };
    let method = Value::from(method);
    for (header, given, body) in [
        ("MCP-Protocol-Version", &headers.revision, Some(claimed)),
        ("Mcp-Method", &headers.method, Some(&method)),
        ("Mcp-Name", &headers.name, name),
    ] {
        let Some(body) = body else { continue };
        let Some(given) = given else {
            return Err(mismatch(format!(
                "missing header `{header}`; revision {MODERN_REVISION} requires it"
            )));
        };
        if body.as_str() != Some(given) {
            return Err(mismatch(format!(
                "the header `{header}` contradicts the body; send the same value"
            )));
        }
    }
    Ok(())
}

fn mismatch(message: String) -> ErrorObject {
    ErrorObject::new(HEADER_MISMATCH, message)
}

fn incomplete(key: &str) -> ErrorObject {
    ErrorObject::new(
        INVALID_PARAMS,
        format!(
            "`_meta[\"{key}\"]` is missing; revision {MODERN_REVISION} requires it in every request"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::jsonrpc::RequestId;

    fn request(method: &str, params: &Value) -> Request {
        Request {
            id: RequestId::from("x".to_owned()),
            method: method.into(),
            params: params.as_object().unwrap().clone(),
            progress_token: None,
        }
    }

    fn claim(revision: &str) -> Value {
        json!({"_meta": {VERSION_KEY: revision, CAPABILITIES_KEY: {}}, "name": "chat"})
    }

    fn headers(revision: &str, method: &str, name: &str) -> RoutingHeaders {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        RoutingHeaders {
            revision: text(revision),
            method: text(method),
            name: text(name),
        }
    }

    fn code(method: &str, params: &Value, headers: Option<&RoutingHeaders>) -> Result<Era, i64> {
        Era::of_request(&request(method, params), headers).map_err(|error| error.code)
    }

    #[test]
    fn a_request_that_names_its_revision_is_modern_and_any_other_is_legacy() {
        assert_eq!(
            code("tools/list", &claim(MODERN_REVISION), None),
            Ok(Era::Modern)
        );
        assert_eq!(code("tools/list", &json!({}), None), Ok(Era::Legacy));
        let token = json!({"_meta": {"progressToken": 1}});
        assert_eq!(code("tools/call", &token, None), Ok(Era::Legacy));
        let legacy = headers("2025-11-25", "", "");
        assert_eq!(
            code("initialize", &json!({}), Some(&legacy)),
            Ok(Era::Legacy)
        );
        for revision in ["2025-11-25", "v999"] {
            assert_eq!(code("initialize", &claim(revision), None), Ok(Era::Legacy));
        }
    }

    #[test]
    fn a_request_with_several_faults_gets_the_error_of_the_official_servers() {
        let modern = claim(MODERN_REVISION);
        let bare = json!({"_meta": {VERSION_KEY: MODERN_REVISION}});
        let number = json!({"_meta": {VERSION_KEY: 7, CAPABILITIES_KEY: {}}});
        let r = MODERN_REVISION;
        for (method, params, headers, expected) in [
            ("server/discover", &json!({}), None, INVALID_PARAMS),
            ("tools/list", &bare, None, INVALID_PARAMS),
            ("tools/list", &number, None, INVALID_PARAMS),
            ("ping", &modern, None, METHOD_NOT_FOUND),
            ("initialize", &modern, None, METHOD_NOT_FOUND),
            (
                "tools/list",
                &claim("v999"),
                None,
                UNSUPPORTED_PROTOCOL_VERSION,
            ),
            (
                "tools/list",
                &claim("2025-11-25"),
                None,
                UNSUPPORTED_PROTOCOL_VERSION,
            ),
            (
                "initialize",
                &json!({}),
                Some(headers(r, "", "")),
                HEADER_MISMATCH,
            ),
            (
                "tools/list",
                &json!({}),
                Some(headers(r, "tools/list", "")),
                INVALID_PARAMS,
            ),
            (
                "tools/list",
                &modern,
                Some(headers("", "tools/list", "")),
                HEADER_MISMATCH,
            ),
            (
                "tools/list",
                &modern,
                Some(headers("2025-11-25", "tools/list", "")),
                HEADER_MISMATCH,
            ),
            (
                "tools/list",
                &claim("v999"),
                Some(headers(r, "tools/list", "")),
                HEADER_MISMATCH,
            ),
            (
                "tools/list",
                &claim("v999"),
                Some(headers("v999", "tools/list", "")),
                UNSUPPORTED_PROTOCOL_VERSION,
            ),
            (
                "tools/list",
                &modern,
                Some(headers(r, "", "")),
                HEADER_MISMATCH,
            ),
            (
                "tools/list",
                &modern,
                Some(headers(r, "tools/call", "")),
                HEADER_MISMATCH,
            ),
            (
                "tools/call",
                &modern,
                Some(headers(r, "tools/call", "")),
                HEADER_MISMATCH,
            ),
            (
                "tools/call",
                &modern,
                Some(headers(r, "tools/call", "other")),
                HEADER_MISMATCH,
            ),
        ] {
            let found = code(method, params, headers.as_ref());
            assert_eq!(found, Err(expected), "{method} {params} {headers:?}");
        }
        let matching = headers(r, "tools/call", "chat");
        assert_eq!(
            code("tools/call", &modern, Some(&matching)),
            Ok(Era::Modern)
        );
    }

    #[test]
    fn the_error_for_an_unsupported_revision_lists_the_supported_ones() {
        let error = Era::of_request(&request("tools/list", &claim("v999")), None).unwrap_err();
        assert_eq!(
            error.data,
            Some(Box::new(
                json!({"supported": revisions(), "requested": "v999"})
            ))
        );
    }
}
