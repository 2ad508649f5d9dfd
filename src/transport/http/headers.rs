//! The headers of MCP: which revision, which session, and what of the body they repeat for what stands between client and
//! server (2026-07-28 `basic/transports/streamable-http`, Request Metadata).

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use data_encoding::BASE64;

use crate::mcp::era::RoutingHeaders;
use crate::mcp::jsonrpc::{ErrorObject, HEADER_MISMATCH};
use crate::mcp::{LEGACY_REVISIONS, MODERN_REVISION, revisions};
use crate::transport::guard::Refusal;

/// Names a session.
pub(crate) const SESSION: &str = "mcp-session-id";

/// Names a revision.
pub(crate) const REVISION: &str = "mcp-protocol-version";

/// Repeats the method of a request.
pub(crate) const METHOD: &str = "mcp-method";

/// Repeats the name in its parameters.
pub(crate) const NAME: &str = "mcp-name";

/// What the headers repeat of the body.
///
/// # Errors
/// One that stands there twice, or whose value cannot be read: who reads the first and who reads the last would disagree.
pub(crate) fn routing(headers: &HeaderMap) -> Result<RoutingHeaders, ErrorObject> {
    Ok(RoutingHeaders {
        revision: single(headers, REVISION)?.map(text).transpose()?,
        method: single(headers, METHOD)?.map(text).transpose()?,
        name: single(headers, NAME)?.map(decoded).transpose()?,
    })
}

/// Whether a request is one without a session, as far as its headers tell.
pub(crate) fn are_modern(headers: &HeaderMap) -> bool {
    headers
        .get(REVISION)
        .is_some_and(|revision| revision.as_bytes() == MODERN_REVISION.as_bytes())
}

fn single<'headers>(
    headers: &'headers HeaderMap,
    name: &str,
) -> Result<Option<&'headers HeaderValue>, ErrorObject> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(unreadable(format!(
            "the header `{name}` stands there twice"
        ))),
    }
}

/// Without the white space around it, which is none of the value (RFC 9110, 5.5).
fn text(value: &HeaderValue) -> Result<String, ErrorObject> {
    let text = value.to_str();
    text.map(|text| text.trim_matches([' ', '\t']).to_owned())
        .map_err(|_not_ascii| unreadable("a header holds other characters than ASCII's".into()))
}

/// The same, where it may be written in base64: `=?base64?…?=`.
fn decoded(value: &HeaderValue) -> Result<String, ErrorObject> {
    let text = text(value)?;
    let encoded = text
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="));
    let Some(encoded) = encoded else {
        return Ok(text);
    };
    let bytes = BASE64.decode(encoded.as_bytes()).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| unreadable("a header is no base64 of UTF-8".into()))
}

fn unreadable(message: String) -> ErrorObject {
    ErrorObject::new(HEADER_MISMATCH, message)
}

/// The session that a request names.
///
/// # Errors
/// 400 where it names none or two, 404 where no session can be called so.
pub(crate) fn session_id(headers: &HeaderMap) -> Result<&str, Refusal> {
    match once(headers, SESSION)? {
        None => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "the header `Mcp-Session-Id` is missing: `initialize` gives it",
        )),
        Some(id) => id.to_str().map_err(|_not_ascii| unknown_session()),
    }
}

/// The only value of a header; none where it is missing.
fn once<'headers>(
    headers: &'headers HeaderMap,
    name: &str,
) -> Result<Option<&'headers HeaderValue>, Refusal> {
    single(headers, name).map_err(|twice| Refusal::new(StatusCode::BAD_REQUEST, twice.message))
}

/// 404.
pub(crate) fn unknown_session() -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "unknown or ended session in `Mcp-Session-Id`; send `initialize` to open one",
    )
}

/// The revision in the header of a legacy request must be one of ours, told once, and need not be the session's: clients were
/// seen to send another.
///
/// # Errors
/// 400.
pub(crate) fn check_revision(headers: &HeaderMap) -> Result<(), Refusal> {
    let known = |revision: &HeaderValue| {
        let mut known = LEGACY_REVISIONS.iter();
        known.any(|known| revision.as_bytes() == known.as_bytes())
    };
    if once(headers, REVISION)?.is_none_or(known) {
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
        routing(&map).map_err(|error| error.code)
    }

    #[test]
    fn a_name_is_decoded_and_white_space_is_none_of_it() {
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
    fn what_cannot_be_read_or_stands_there_twice_is_refused() {
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
