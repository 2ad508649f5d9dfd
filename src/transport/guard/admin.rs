//! Permission to unload and restart models.
//!
//! If the server has tokens, those with `admin = true` give the permission. Otherwise programs on this machine have it. Pages in a browser
//! do not have it, although pages on loopback may call tools. Clients of a proxy on this machine do not have it if the proxy adds a header
//! such as `Forwarded` or forwards the client's `Host`.

use std::net::SocketAddr;

use axum::http::header::{FORWARDED, HOST, HeaderName, ORIGIN, VIA};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue};

use super::{Principal, Refusal, host_of};

/// Headers that browsers add to every POST and that proxies add to forwarded requests.
const INDIRECT: [HeaderName; 6] = [
    ORIGIN,
    HeaderName::from_static("sec-fetch-site"),
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
];

/// Checks that the sender at `address` may unload and restart models.
///
/// # Errors
/// 403 if the sender may not.
pub(crate) fn check(
    principal: &Principal,
    address: Option<&SocketAddr>,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    let message = match &principal.0 {
        Some(token) if token.admin => return Ok(()),
        Some(_) => {
            "this token cannot unload and restart models; send the token of `auth`, or one with `admin = true` in `[server.tokens.NAME]`"
        }
        None if is_local_program(address, headers) => return Ok(()),
        None => {
            "without tokens, only programs on the server's machine can unload and restart models; run the command there, or configure a token with `admin = true`"
        }
    };
    Err(Refusal::forbidden(message))
}

/// Returns whether a program on this machine sent the request directly.
fn is_local_program(address: Option<&SocketAddr>, headers: &HeaderMap) -> bool {
    let is_local = address.is_some_and(|address| address.ip().to_canonical().is_loopback());
    let is_loopback = |host: &HeaderValue| {
        let authority = Authority::try_from(host.as_bytes()).ok();
        let host = authority.as_ref().and_then(host_of);
        host.is_some_and(|host| host.is_loopback())
    };
    is_local
        && headers.get_all(HOST).iter().all(is_loopback)
        && !INDIRECT.iter().any(|name| headers.contains_key(name))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::token::{BearerToken, TokenConfig};

    const LOCAL: &str = "127.0.0.1:50000";

    fn with_token(admin: bool) -> Principal {
        Principal(Some(Arc::new(TokenConfig {
            name: "ops".into(),
            secret: Ok(BearerToken::parse("secret").unwrap()),
            admin,
            tools: None,
            is_scraper: false,
            max_calls: None,
            calls_per_minute: None,
        })))
    }

    fn is_allowed(principal: &Principal, address: &str, given: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, value.parse().unwrap());
        }
        let address = address.parse().unwrap();
        check(principal, Some(&address), &headers).is_ok()
    }

    #[test]
    fn a_token_changes_models_only_if_it_is_an_admin_token() {
        for address in [LOCAL, "192.0.2.1:50000"] {
            assert!(is_allowed(&with_token(true), address, &[]));
            assert!(!is_allowed(&with_token(false), address, &[]));
        }
    }

    #[test]
    fn without_tokens_only_programs_on_this_machine_change_models() {
        let nobody = Principal(None);
        for host in ["127.0.0.1:8080", "localhost:8080", "[::1]:8080"] {
            assert!(is_allowed(&nobody, LOCAL, &[("host", host)]));
        }
        let host = [("host", "localhost")];
        assert!(is_allowed(&nobody, "[::ffff:127.0.0.1]:50000", &host));
        assert!(!is_allowed(&nobody, "192.0.2.1:50000", &host));
        assert!(!is_allowed(&nobody, LOCAL, &[("host", "llama.example")]));
    }

    #[test]
    fn without_tokens_pages_and_clients_of_a_proxy_do_not_change_models() {
        let given = [
            ("origin", "http://localhost:3000"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("x-forwarded-for", "192.0.2.1"),
            ("forwarded", "for=192.0.2.1"),
            ("via", "1.1 proxy"),
        ];
        for header in given {
            let headers = [("host", "localhost"), header];
            assert!(!is_allowed(&Principal(None), LOCAL, &headers), "{header:?}");
        }
    }
}
