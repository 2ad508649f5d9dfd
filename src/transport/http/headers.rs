//! The HTTP headers of MCP: revision, session, and the parts of the body that headers repeat for proxies (2026-07-28
//! `basic/transports/streamable-http`, Request Metadata).

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use data_encoding::BASE64;

use crate::mcp::era::RoutingHeaders;
use crate::mcp::jsonrpc::{ErrorObject, HEADER_MISMATCH};
use crate::mcp::{LEGACY_REVISIONS, MODERN_REVISION, revisions};
use crate::transport::guard::Refusal;

/// Name of the header with the session id.
pub(crate) const SESSION: &str = "mcp-session-id";

/// Name of the header with the revision.
pub(crate) const REVISION: &str = "mcp-protocol-version";

/// Name of the header that repeats the method.
pub(crate) const METHOD: &str = "mcp-method";

/// Name of the header that repeats the name in the parameters.
pub(crate) const NAME: &str = "mcp-name";

/// Returns the headers that repeat parts of the body.
///
/// # Errors
/// Fails for a header with an invalid value, and for a duplicate header: programs disagree on which of two values applies.
pub(crate) fn routing_headers(headers: &HeaderMap) -> Result<RoutingHeaders, ErrorObject> {
    Ok(RoutingHeaders {
        revision: text(headers, REVISION)?,
        method: text(headers, METHOD)?,
        name: decoded_text(headers, NAME)?,
    })
}

/// Returns whether the headers name the modern revision, so that the request needs no session.
pub(crate) fn are_modern(headers: &HeaderMap) -> bool {
    headers
        .get(REVISION)
        .is_some_and(|revision| revision.as_bytes() == MODERN_REVISION.as_bytes())
}

/// Returns the value of a header; `None` if it is missing.
fn single<'headers>(
    headers: &'headers HeaderMap,
    name: &str,
) -> Result<Option<&'headers HeaderValue>, ErrorObject> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(invalid(format!("duplicate header `{name}`; send it once"))),
    }
}

/// Returns the value of a header without the surrounding white space, which is not part of it (RFC 9110, 5.5).
fn text(headers: &HeaderMap, name: &str) -> Result<Option<String>, ErrorObject> {
    let Some(value) = single(headers, name)? else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_not_ascii| invalid(format!("the header `{name}` must be ASCII")))?;
    Ok(Some(text.trim_matches([' ', '\t']).to_owned()))
}

/// Returns the value of a header that may be encoded as base64: `=?base64?…?=`.
fn decoded_text(headers: &HeaderMap, name: &str) -> Result<Option<String>, ErrorObject> {
    let text = text(headers, name)?;
    let encoded = text
        .as_deref()
        .and_then(|text| text.strip_prefix("=?base64?")?.strip_suffix("?="));
    let Some(encoded) = encoded else {
        return Ok(text);
    };
    let bytes = BASE64.decode(encoded.as_bytes()).ok();
    let decoded = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let message = || format!("the header `{name}` must be base64 of UTF-8");
    decoded.map(Some).ok_or_else(|| invalid(message()))
}

fn invalid(message: String) -> ErrorObject {
    ErrorObject::new(HEADER_MISMATCH, message)
}

/// Returns the session id of a request.
///
/// # Errors
/// 400 if the header is missing or duplicate, 404 if the value cannot be a session id.
pub(crate) fn session_id(headers: &HeaderMap) -> Result<&str, Refusal> {
    match single_or_refuse(headers, SESSION)? {
        None => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "missing header `Mcp-Session-Id`; send the id that `initialize` returned",
        )),
        Some(id) => id.to_str().map_err(|_not_ascii| unknown_session()),
    }
}

/// Returns the value of a header like [`single`], with the error as a refusal.
fn single_or_refuse<'headers>(
    headers: &'headers HeaderMap,
    name: &str,
) -> Result<Option<&'headers HeaderValue>, Refusal> {
    single(headers, name).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.message))
}

/// Creates a refusal with status 404: the session does not exist.
pub(crate) fn unknown_session() -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "unknown or ended session in `Mcp-Session-Id`; send `initialize` to open one",
    )
}

/// Checks the revision in the header of a legacy request. It may differ from the revision of the session, since some clients send a
/// different one.
///
/// # Errors
/// 400 if the revision is unsupported or the header is duplicate.
pub(crate) fn check_revision(headers: &HeaderMap) -> Result<(), Refusal> {
    let known = |revision: &HeaderValue| {
        let mut known = LEGACY_REVISIONS.iter();
        known.any(|known| revision.as_bytes() == known.as_bytes())
    };
    if single_or_refuse(headers, REVISION)?.is_none_or(known) {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::BAD_REQUEST,
        format!(
            "`MCP-Protocol-Version`: must be one of {}",
            revisions().join(", ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn routed(headers: &[(&str, &[u8])]) -> Result<RoutingHeaders, i64> {
        let headers = headers.iter().map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_bytes(value).unwrap())
        });
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        routing_headers(&map).map_err(|error| error.code)
    }

    #[test]
    fn a_name_is_trimmed_and_decoded() {
        for (written, read) in [
            ("chat", "chat"),
            (" chat\t", "chat"),
            ("=?base64?Y2hhdA==?=", "chat"),
            ("=?base64?5LiW55WM?=", "世界"),
            ("=?base64?IGEg?=", " a "),
            ("=?BASE64?Y2hhdA==?=", "=?BASE64?Y2hhdA==?="),
        ] {
            let found = routed(&[("Mcp-Name", written.as_bytes())]).unwrap();
            assert_eq!(found.name.as_deref(), Some(read), "{written}");
        }
    }

    #[test]
    fn an_invalid_or_duplicate_header_is_refused() {
        for headers in [
            [("mcp-name", b"=?base64?!?=".as_slice()), ("x", b"")],
            [("mcp-name", b"=?base64?/w==?="), ("x", b"")],
            [("mcp-method", b"a\xe9"), ("x", b"")],
            [("mcp-method", b"a"), ("Mcp-Method", b"a")],
            [
                ("mcp-protocol-version", b"1"),
                ("MCP-Protocol-Version", b"1"),
            ],
        ] {
            assert_eq!(routed(&headers), Err(HEADER_MISMATCH), "{headers:?}");
        }
    }
}
