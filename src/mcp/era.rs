//! The era of a request, decided by the request alone: pure.
//!
//! A modern request names its revision in `params._meta` (2026-07-28 `basic/index`), and over HTTP again in headers, which must
//! say the same (`basic/transports/streamable-http`, Server Validation). Everything else is legacy. The order of the checks is
//! that of the official servers, so that a client which contradicts itself is told that first.

use serde_json::{Map, Value, json};

use super::jsonrpc::{
    ErrorObject, HEADER_MISMATCH, INVALID_PARAMS, METHOD_NOT_FOUND, Request,
    UNSUPPORTED_PROTOCOL_VERSION,
};
use super::{MODERN_REVISION, revisions};

/// Names the revision of a request.
const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";

/// Says what its client can.
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";

/// How a message is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// By the revision that `initialize` negotiated.
    Legacy,
    /// By 2026-07-28.
    Modern,
}

/// What a request does beside being answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It opens a session.
    Open,
    /// It calls a tool.
    Call,
    /// It stays open, and its answer is a stream.
    Listen,
    /// Nothing.
    Ask,
}

impl Purpose {
    /// That of `method` in `era`.
    pub(crate) fn of(era: Era, method: &str) -> Self {
        match (era, method) {
            (Era::Legacy, "initialize") => Self::Open,
            (Era::Modern, "subscriptions/listen") => Self::Listen,
            (_, "tools/call") => Self::Call,
            _ => Self::Ask,
        }
    }
}

/// What the headers of HTTP say of a request. Values are decoded; one that cannot be is an error before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RoutingHeaders {
    /// `MCP-Protocol-Version`.
    pub revision: Option<String>,
    /// `Mcp-Method`.
    pub method: Option<String>,
    /// `Mcp-Name`.
    pub name: Option<String>,
}

impl RoutingHeaders {
    /// Whether they name the revision without a handshake.
    pub(crate) fn are_modern(&self) -> bool {
        self.revision.as_deref() == Some(MODERN_REVISION)
    }
}

impl Era {
    /// The era of `request`, which came with `headers`, or over stdio without any.
    ///
    /// # Errors
    /// A modern request that is incomplete, contradicts its headers or names a revision that is not served. Over HTTP the
    /// status is 400, and 404 where the code is [`METHOD_NOT_FOUND`].
    pub(crate) fn of(
        request: &Request,
        headers: Option<&RoutingHeaders>,
    ) -> Result<Self, ErrorObject> {
        let meta = request.params.get("_meta").and_then(Value::as_object);
        let claimed = meta.and_then(|meta| meta.get(VERSION_KEY));
        let method = request.method.as_str();
        let header_is_modern = headers.is_some_and(RoutingHeaders::are_modern);
        // A handshake that claims an earlier revision, or a strange one, negotiates as ever.
        let claimed =
            claimed.filter(|claimed| method != "initialize" || *claimed == MODERN_REVISION);
        let (Some(meta), Some(claimed)) = (meta, claimed) else {
            return match method {
                "initialize" if header_is_modern => Err(mismatch(format!(
                    "`MCP-Protocol-Version` is {MODERN_REVISION}, which has no `initialize`"
                ))),
                "server/discover" => Err(incomplete(VERSION_KEY)),
                _ if header_is_modern => Err(incomplete(VERSION_KEY)),
                _ => Ok(Self::Legacy),
            };
        };
        // What claims to be of an earlier revision here was made by none of its clients.
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

/// Headers must say what the body says, since what stands between client and server goes by them.
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
            return Err(mismatch(format!("the header `{header}` is missing")));
        };
        if body.as_str() != Some(given) {
            return Err(mismatch(format!(
                "the header `{header}` says something else than the body"
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
        format!("`_meta[\"{key}\"]` is missing: every request of {MODERN_REVISION} has it"),
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
        Era::of(&request(method, params), headers).map_err(|error| error.code)
    }

    #[test]
    fn a_request_is_modern_by_its_claim_and_legacy_without_one() {
        assert_eq!(
            code("tools/list", &claim(MODERN_REVISION), None),
            Ok(Era::Modern)
        );
        assert_eq!(code("tools/list", &json!({}), None), Ok(Era::Legacy));
        let token = json!({"_meta": {"progressToken": 1}});
        assert_eq!(code("tools/call", &token, None), Ok(Era::Legacy));
        let of_2025 = headers("2025-11-25", "", "");
        assert_eq!(
            code("initialize", &json!({}), Some(&of_2025)),
            Ok(Era::Legacy)
        );
        for revision in ["2025-11-25", "v999"] {
            assert_eq!(code("initialize", &claim(revision), None), Ok(Era::Legacy));
        }
    }

    #[test]
    fn what_is_wrong_with_a_claim_is_told_in_the_order_of_the_official_servers() {
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
        let fitting = headers(r, "tools/call", "chat");
        assert_eq!(code("tools/call", &modern, Some(&fitting)), Ok(Era::Modern));
    }

    #[test]
    fn a_revision_that_is_not_served_is_answered_with_those_that_are() {
        let error = Era::of(&request("tools/list", &claim("v999")), None).unwrap_err();
        assert_eq!(
            error.data,
            Some(Box::new(
                json!({"supported": revisions(), "requested": "v999"})
            ))
        );
    }
}
