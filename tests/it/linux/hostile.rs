//! Malicious and oversized requests: each is refused with the expected status.
//!
//! This module has requests whose host, token or session is wrong or ambiguous. [`framing`] has ambiguous and malformed messages, and
//! [`heavy`] has large ones.

mod framing;
mod heavy;

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::http::{Client, HttpServer, read_message, request};
use crate::support::{Server, modern};

const TOKEN: &str = "Authorization: Bearer secret123";
const HOST: &str = "Host: localhost";
const JSON: &str = "Content-Type: application/json";
const CLOSE: &str = "Connection: close";
const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

fn server() -> HttpServer {
    HttpServer::tiny(&["--auth", "secret123"])
}

/// Returns a client with the token and a session.
fn client(server: &HttpServer) -> Client {
    let mut client = Client::new(server.url(), &[("authorization", "Bearer secret123")]);
    client.initialize();
    client
}

/// Sends `sent` and returns all responses until the server closes the connection, because the last request asks for that or is refused.
fn answers(server: &HttpServer, sent: &[u8]) -> String {
    let mut stream = server.connect();
    // The server may refuse a request and close the connection before everything is sent.
    drop(stream.write_all(sent));
    read_until_closed(&mut stream)
}

fn read_until_closed(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset also ends the connection. The data before it counts.
    drop(stream.read_to_end(&mut answer));
    String::from_utf8(answer).unwrap()
}

/// Returns the statuses of all responses in `text`.
fn statuses(text: &str) -> Vec<u16> {
    // HTTP/1.0 requests get HTTP/1.0 responses.
    let heads = text.split("HTTP/1.").skip(1);
    heads.map(|head| head[2..5].parse().unwrap()).collect()
}

/// Returns the last request of a connection, with the token, a host, these lines, and `body`.
fn with_token(first: &str, lines: &[&str], body: &str) -> String {
    let head = [&[first, HOST, TOKEN], lines].concat().join("\r\n");
    format!("{head}\r\nConnection: close\r\n\r\n{body}")
}

/// Returns a POST request of `body`, with the token and a host, that other requests may follow.
fn post(lines: &[&str], body: &str) -> String {
    let first = &["POST /mcp HTTP/1.1", HOST, TOKEN, JSON];
    format!("{}\r\n\r\n{body}", [first, lines].concat().join("\r\n"))
}

/// Asserts that the server still serves others.
fn assert_serves(server: &HttpServer) {
    let answer =
        client(server).chat(json!({"text": "What is the capital of Peru?", "temperature": 0}));
    assert_eq!(answer, "The capital of Peru is Lima.");
}

#[test]
fn duplicate_headers_are_refused() {
    let server = server();
    let session = client(&server).session().to_owned();
    let session = format!("Mcp-Session-Id: {session}");
    let length = format!("Content-Length: {}", PING.len());
    let other = "Mcp-Session-Id: 5233db20-66e9-4674-916a-6370fe7589ca";
    for (lines, expected) in [
        (&[session.as_str()][..], 200),
        (&[&session, &session], 400),
        (&[&session, other], 400),
        (&[other, &session], 400),
        (&[&session, HOST], 200),
        (&[&session, "Host: evil.com"], 403),
        (&[&session, TOKEN], 401),
        (&[&session, "Authorization: Basic x"], 401),
        (&[&session, &length], 200),
        (&[&session, "Content-Type: text/plain"], 415),
        (
            &[
                &session,
                "Content-Encoding: identity",
                "Content-Encoding: gzip",
            ],
            415,
        ),
        (
            &[
                &session,
                "Mcp-Protocol-Version: 2025-11-25",
                "Mcp-Protocol-Version: 2025-06-18",
            ],
            400,
        ),
    ] {
        let sent = post(&[&[length.as_str(), CLOSE], lines].concat(), PING);
        let answer = answers(&server, sent.as_bytes());
        assert_eq!(statuses(&answer), [expected], "{lines:?}: {answer}");
    }
    let list = modern::request(1, "tools/list", json!({})).to_string();
    let length = format!("Content-Length: {}", list.len());
    let revision = &format!("Mcp-Protocol-Version: {}", modern::REVISION)[..];
    let method = "Mcp-Method: tools/list";
    for (lines, expected) in [
        (&[revision, method][..], 200),
        (&[revision, method, method], 400),
        (&[revision, method, "Mcp-Method: tools/call"], 400),
        (&[revision, revision, method], 400),
        (&[revision, "Mcp-Protocol-Version: 2025-11-25", method], 400),
        (&[revision, method, "Mcp-Name: a", "Mcp-Name: b"], 400),
    ] {
        let sent = post(&[&[length.as_str(), CLOSE], lines].concat(), &list);
        let answer = answers(&server, sent.as_bytes());
        assert_eq!(statuses(&answer), [expected], "{lines:?}: {answer}");
    }
    // GET and DELETE use the session header, too.
    for method in ["GET /mcp HTTP/1.1", "DELETE /mcp HTTP/1.1"] {
        let answer = answers(
            &server,
            with_token(method, &[&session, other], "").as_bytes(),
        );
        assert_eq!(statuses(&answer), [400], "{method}: {answer}");
    }
}

#[test]
fn every_route_and_method_requires_the_token_and_an_allowed_origin() {
    let server = server();
    let session = client(&server).session().to_owned();
    let session = format!("Mcp-Session-Id: {session}");
    let methods = [
        "GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW",
    ];
    for method in methods {
        let mcp = format!("{method} /mcp HTTP/1.1");
        let other = format!("{method} / HTTP/1.1");
        let status = |lines: &[&str]| {
            let answer = answers(
                &server,
                format!("{}\r\n{CLOSE}\r\n\r\n", lines.join("\r\n")).as_bytes(),
            );
            // A response that echoes the request headers would reveal a user's token to a page.
            assert!(!answer.contains("secret"), "{answer}");
            statuses(&answer)
        };
        let wrong = "Authorization: Bearer secret1234";
        assert_eq!(status(&[&mcp, HOST, &session]), [401], "{method}");
        assert_eq!(status(&[&mcp, HOST, &session, wrong]), [401], "{method}");
        assert_eq!(
            status(&[&mcp, HOST, &session, "Cookie: token=secret123"]),
            [401],
            "{method}"
        );
        for source in [
            &["Host: evil.com"][..],
            &["Host: 127.0.0.1.evil.com"],
            &[HOST, "Origin: http://evil.com"],
            &[HOST, "Origin: null"],
            &[HOST, "Host: a b"],
            &["Host: [::1"],
            &["X: y"],
        ] {
            for first in [&mcp, &other] {
                let answer = status(&[&[first.as_str()], source, &[TOKEN, &session]].concat());
                assert_eq!(answer, [403], "{first} {source:?}");
            }
        }
        assert_eq!(status(&[&other, HOST]), [404], "{method}");
        let slash = format!("{method} /mcp/ HTTP/1.1");
        assert_eq!(status(&[&slash, HOST, &session]), [401], "{method}");
        assert_eq!(
            status(&[&format!("{method} /mcp/x HTTP/1.1"), HOST, TOKEN, &session]),
            [404]
        );
        assert_eq!(
            status(&[&format!("{method} /%6dcp HTTP/1.1"), HOST, TOKEN, &session]),
            [404]
        );
    }
    // The session still exists.
    let ping = post(
        &[&session, &format!("Content-Length: {}", PING.len()), CLOSE],
        PING,
    );
    assert_eq!(statuses(&answers(&server, ping.as_bytes())), [200]);
}

#[test]
fn refusals_reveal_neither_the_request_nor_the_server() {
    let server = server();
    let mut thief = Client::new(server.url(), &[("authorization", "Bearer guessed-token")]);
    thief.header("mcp-session-id", "guessed-session");
    let mut answer = thief.post(&request(1, "ping", json!({})));
    assert_eq!(answer.status(), 401);
    let headers = format!("{:?}", answer.headers());
    let error = read_message(&mut answer);
    assert_eq!(error["id"], Value::Null);
    for text in [headers, error.to_string()] {
        assert!(
            !text.contains("guessed") && !text.contains("secret"),
            "{text}"
        );
    }
}

#[test]
fn over_stdio_many_subscriptions_do_not_block_later_messages() {
    let mut server = Server::tiny(&[]);
    let wanted = json!({"notifications": {}});
    // More than the number of requests that are handled concurrently.
    for id in 0..1500 {
        let id = format!("s{id}");
        server.send_line(&modern::request(id, "subscriptions/listen", wanted.clone()).to_string());
    }
    let ping = server.request("ping", json!({}));
    assert_eq!(server.response(ping)["result"], json!({}));
    server.notify("notifications/cancelled", json!({"requestId": "s7"}));
    server.close_stdin();
    assert!(server.wait().success());
    let ended = server.remaining_messages();
    let ended = ended.iter().filter(|message| message["id"].is_string());
    assert_eq!(ended.count(), 1499, "all but the cancelled one");
}
