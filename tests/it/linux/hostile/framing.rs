//! Requests with an ambiguous length, a malformed head, or too much of anything. Bytes that were meant as the body are never taken for
//! another request.

use std::io::Write;

use super::{
    HOST, JSON, PING, TOKEN, answers, assert_serves, client, post, server, statuses, with_token,
};
use crate::support::http::read_head;
use crate::support::memory_of;

#[test]
fn an_ambiguous_length_closes_the_connection_and_the_following_bytes_are_no_request() {
    let server = server();
    let session = format!("Mcp-Session-Id: {}", client(&server).session());
    // If the body of the first request were read as shorter or longer than intended, this would be a second request.
    let second = with_token("GET /smuggled HTTP/1.1", &[], "");
    let five = &format!("{second}     ")[..];
    for (lengths, expected) in [
        (&["Content-Length: 5", "Content-Length: 6"][..], 400),
        (&["Content-Length: 5, 6"], 400),
        (&["Content-Length: 5,5"], 400),
        (&["Content-Length: +5"], 400),
        (&["Content-Length: -1"], 400),
        (&["Content-Length: 0x5"], 400),
        (&["Content-Length: 5 5"], 400),
        (&["Content-Length: 5.0"], 400),
        (&["Content-Length: "], 400),
        (&["Content-Length: 18446744073709551616"], 400),
        (&["Content-Length : 5"], 400),
        (&["Content-Length: 5", " continued: 6"], 400),
        (&["X: folded", "\tover: lines"], 400),
        (&["Transfer-Encoding: identity"], 400),
        (&["Transfer-Encoding: gzip"], 400),
        (&["Transfer-Encoding: chunked, gzip"], 400),
        (&["Transfer-Encoding: xchunked"], 400),
        (
            &["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
            400,
        ),
        (&["Transfer-Encoding : chunked"], 400),
        (
            &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
            400,
        ),
        (&["Transfer-Encoding: chunked, chunked"], 400),
        (&["Transfer-Encoding: gzip, chunked"], 501),
        (
            &["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"],
            501,
        ),
    ] {
        let sent = post(&[&[session.as_str()], lengths].concat(), five);
        let answer = answers(&server, sent.as_bytes());
        assert_eq!(statuses(&answer), [expected], "{lengths:?}: {answer}");
    }
    // Both lengths at once: RFC 9112, 6.3 says that the chunks take precedence, and the connection is closed because the following bytes
    // are ambiguous.
    let chunks = format!("{:x}\r\n{PING}\r\n0\r\n\r\n{second}", PING.len());
    for lengths in [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
    ] {
        let sent = post(&[session.as_str(), lengths[0], lengths[1]], &chunks);
        let answer = answers(&server, sent.as_bytes());
        assert_eq!(statuses(&answer), [200], "{lengths:?}: {answer}");
    }
    // Unambiguous input is two requests.
    let whole = post(
        &[&session, &format!("Content-Length: {}", PING.len())],
        PING,
    );
    let answer = answers(&server, format!("{whole}{second}").as_bytes());
    assert_eq!(statuses(&answer), [200, 404], "{answer}");
    assert_serves(&server);
}

#[test]
fn the_body_of_a_refused_request_is_not_read_as_a_request() {
    let server = server();
    let inner = with_token("GET /smuggled HTTP/1.1", &[], "");
    let length = format!("Content-Length: {}", inner.len());
    let outer = |first: &str, lines: &[&str]| {
        let head = [&[first, HOST, &length], lines].concat().join("\r\n");
        format!("{head}\r\n\r\n{inner}")
    };
    for (sent, expected) in [
        (outer("POST /mcp HTTP/1.1", &[JSON]), 401),
        (
            outer("POST /mcp HTTP/1.1", &[JSON, TOKEN, "Host: evil.com"]),
            403,
        ),
        (
            outer(
                "POST /mcp HTTP/1.1",
                &[JSON, TOKEN, "Origin: https://evil.com"],
            ),
            403,
        ),
        (outer("POST /mcp HTTP/1.1", &[TOKEN]), 415),
        (
            outer(
                "POST /mcp HTTP/1.1",
                &[JSON, TOKEN, "Content-Encoding: gzip"],
            ),
            415,
        ),
        (outer("POST /mcp HTTP/1.1", &[JSON, TOKEN]), 400),
        (outer("POST /other HTTP/1.1", &[JSON, TOKEN]), 404),
        (outer("PUT /mcp HTTP/1.1", &[JSON, TOKEN]), 405),
        (outer("GET /mcp HTTP/1.1", &[TOKEN]), 400),
        (outer("DELETE /mcp HTTP/1.1", &[TOKEN]), 400),
    ] {
        // Either the connection is closed, or the next request is the one after the body.
        let next = with_token("PUT /mcp HTTP/1.1", &[], "");
        let answer = answers(&server, format!("{sent}{next}").as_bytes());
        let found = statuses(&answer);
        assert!(
            found == [expected] || found == [expected, 405],
            "{sent}: {answer}"
        );
    }
    assert_serves(&server);
}

#[test]
fn unusual_forms_of_requests_obey_the_same_rules_or_are_refused() {
    let server = server();
    let get = "GET /mcp HTTP/1.1";
    for (sent, expected) in [
        (
            with_token("GET http://localhost/mcp HTTP/1.1", &[], ""),
            &[400][..],
        ),
        (
            with_token("GET http://evil.com/mcp HTTP/1.1", &[], ""),
            &[403],
        ),
        (
            with_token("GET http://localhost@evil.com/mcp HTTP/1.1", &[], ""),
            &[403],
        ),
        (with_token("OPTIONS * HTTP/1.1", &[], ""), &[404]),
        (with_token("GET * HTTP/1.1", &[], ""), &[404]),
        (with_token("CONNECT localhost:80 HTTP/1.1", &[], ""), &[404]),
        (with_token("CONNECT evil.com:80 HTTP/1.1", &[], ""), &[403]),
        (with_token("GET mcp HTTP/1.1", &[], ""), &[403]),
        (with_token("GET //localhost/mcp HTTP/1.1", &[], ""), &[404]),
        (with_token("GET /../mcp HTTP/1.1", &[], ""), &[404]),
        (with_token("GET /mcp#part HTTP/1.1", &[], ""), &[400]),
        (with_token("GET /mcp HTTP/1.0", &[], ""), &[400]),
        (with_token("GET /mcp HTTP/2.0", &[], ""), &[400]),
        (with_token("GET /mcp HTTP/9.9", &[], ""), &[400]),
        (with_token("GET /mcp", &[], ""), &[400]),
        (
            with_token("TRACE /mcp HTTP/1.1", &["X-Secret: 1"], ""),
            &[405],
        ),
        // Nothing is upgraded: the response is that of the request.
        (
            with_token(
                get,
                &[
                    "Upgrade: h2c",
                    "Connection: Upgrade, HTTP2-Settings",
                    "HTTP2-Settings: AAMAAABkAAQAAP__",
                ],
                "",
            ),
            &[400],
        ),
        (
            with_token(
                get,
                &[
                    "Upgrade: websocket",
                    "Connection: Upgrade",
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                    "Sec-WebSocket-Version: 13",
                ],
                "",
            ),
            &[400],
        ),
        (
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0".to_owned(),
            &[],
        ),
        ("\u{16}\u{3}\u{1}\0\u{5}hello\r\n\r\n".to_owned(), &[400]),
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n".to_owned(), &[400]),
        (with_token(get, &["X: a\0b"], ""), &[400]),
        (with_token(get, &["X\u{1}: a"], ""), &[400]),
        (with_token(get, &["no colon"], ""), &[400]),
        (with_token(get, &[": no name"], ""), &[400]),
    ] {
        let answer = answers(&server, sent.as_bytes());
        assert_eq!(statuses(&answer), expected, "{sent}: {answer}");
        assert!(
            !answer.contains("101 ") && !answer.contains("X-Secret"),
            "{answer}"
        );
    }
    assert_serves(&server);
}

#[test]
fn a_client_gets_100_continue_only_if_its_body_will_be_read() {
    let server = server();
    let session = format!("Mcp-Session-Id: {}", client(&server).session());
    let length = format!("Content-Length: {}", PING.len());
    let expect = "Expect: 100-continue";
    let mut stream = server.connect();
    stream
        .write_all(post(&[&session, &length, expect], "").as_bytes())
        .unwrap();
    assert_eq!(read_head(&mut stream), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(PING.as_bytes()).unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 200"));
    for (lines, expected) in [
        (&[HOST, JSON, &length, expect][..], 401),
        (&[HOST, TOKEN, &length, expect], 415),
        (&[HOST, TOKEN, JSON, "Content-Length: 4194305", expect], 413),
    ] {
        let head = format!("POST /mcp HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
        let answer = server.raw(&head);
        assert_eq!(statuses(&answer), [expected], "{lines:?}: {answer}");
    }
}

#[test]
fn too_much_of_anything_is_refused_and_not_buffered() {
    let server = server();
    let session = format!("Mcp-Session-Id: {}", client(&server).session());
    let before = memory_of(server.child.id(), "VmRSS");
    let get = "GET /mcp HTTP/1.1";
    let x = |count: usize| "x".repeat(count);
    let many: Vec<String> = (0..101).map(|n| format!("X-{n}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let chunked = &[&session[..], "Transfer-Encoding: chunked"];
    let mebibyte = format!("100000\r\n{}\r\n", x(1 << 20));
    for (name, sent, expected) in [
        (
            "a long header",
            with_token(get, &[&format!("X: {}", x(70_000))], ""),
            431,
        ),
        (
            "an endless header",
            format!("{get}\r\nX: {}", x(200_000)),
            431,
        ),
        ("an endless name", format!("{get}\r\n{}", x(200_000)), 431),
        ("many headers", with_token(get, &many, ""), 431),
        (
            "an address longer than a head",
            with_token(&format!("GET /{} HTTP/1.1", x(66_000)), &[], ""),
            431,
        ),
        ("an endless address", format!("GET /{}", x(200_000)), 431),
        ("an endless method", x(200_000), 431),
        (
            "a body that says so",
            post(&[&session, "Content-Length: 4194305"], &x(1000)),
            413,
        ),
        ("chunks", post(chunked, &mebibyte.repeat(5)), 413),
        (
            "the size of a chunk",
            post(chunked, "fffffffffffffffff\r\nx"),
            400,
        ),
        (
            "a chunk of all memory",
            post(chunked, &format!("7fffffffffffffff\r\n{}", x(4_200_000))),
            413,
        ),
        ("no size", post(chunked, "\r\nx"), 400),
        ("a size that is none", post(chunked, "-1\r\nx"), 400),
        (
            "an extension of a chunk",
            post(chunked, &format!("1;{}\r\nx\r\n0\r\n\r\n", x(20_000))),
            400,
        ),
        (
            "many extensions",
            post(
                chunked,
                &format!("{}0\r\n\r\n", format!("1;{}\r\n \r\n", x(1000)).repeat(30)),
            ),
            400,
        ),
        (
            "trailers",
            post(
                chunked,
                &format!(
                    "1\r\n \r\n0\r\n{}\r\n",
                    format!("X: {}\r\n", x(1000)).repeat(70)
                ),
            ),
            400,
        ),
    ] {
        let answer = answers(&server, sent.as_bytes());
        let found = statuses(&answer);
        // A client that is still sending when the connection is closed may not see the response.
        assert!(
            found == [expected] || (found.is_empty() && sent.len() > 100_000),
            "{name}: {answer}"
        );
    }
    let after = memory_of(server.child.id(), "VmRSS");
    assert!(after < before + (64 << 20), "{before} bytes became {after}");
    assert_serves(&server);
}
