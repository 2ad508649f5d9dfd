//! Requests that are meant to confuse or to be too much: each is refused with the status of its table.
//!
//! Here are those whose host, token or session is wrong or can be read in two ways; [`framing`] has those whose form is, and [`heavy`]
//! those that are large.

mod framing;
mod heavy;

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::http::{Client, HttpServer, json_of, request};
use crate::support::{Server, modern};

const TOKEN: &str = "Authorization: Bearer secret123";
const HOST: &str = "Host: localhost";
const JSON: &str = "Content-Type: application/json";
const CLOSE: &str = "Connection: close";
const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

fn server() -> HttpServer {
    HttpServer::tiny(&["--auth", "secret123"])
}

/// A client with the token and a session.
fn client(server: &HttpServer) -> Client {
    let mut client = Client::new(server.url(), &[("authorization", "Bearer secret123")]);
    client.initialize();
    client
}

/// All that is answered to `sent`, until the server closes: what comes last asks it to, or is refused so.
fn answers(server: &HttpServer, sent: &[u8]) -> String {
    let mut stream = server.connect();
    // A server that has refused may have closed before all was sent.
    drop(stream.write_all(sent));
    rest(&mut stream)
}

fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is reset has ended, too; what came before counts.
    drop(stream.read_to_end(&mut answer));
    String::from_utf8(answer).unwrap()
}

/// The statuses of all answers in `text`.
fn statuses(text: &str) -> Vec<u16> {
    // One of HTTP/1.0 is answered as such.
    let heads = text.split("HTTP/1.").skip(1);
    heads.map(|head| head[2..5].parse().unwrap()).collect()
}

/// A request of `lines` with the token and a host, and `body` behind it; the last of its connection.
fn with_token(first: &str, lines: &[&str], body: &str) -> String {
    let head = [&[first, HOST, TOKEN], lines].concat().join("\r\n");
    format!("{head}\r\nConnection: close\r\n\r\n{body}")
}

/// The same that posts `body`, behind which more may come.
fn post(lines: &[&str], body: &str) -> String {
    let first = &["POST /mcp HTTP/1.1", HOST, TOKEN, JSON];
    format!("{}\r\n\r\n{body}", [first, lines].concat().join("\r\n"))
}

/// After all of that somebody is served as ever.
fn assert_serves(server: &HttpServer) {
    let answer =
        client(server).chat(json!({"text": "What is the capital of Peru?", "temperature": 0}));
    assert_eq!(answer, "The capital of Peru is Lima.");
}

#[test]
fn headers_that_stand_there_twice_are_refused() {
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
    // GET and DELETE know the session by the same header.
    for method in ["GET /mcp HTTP/1.1", "DELETE /mcp HTTP/1.1"] {
        let answer = answers(
            &server,
            with_token(method, &[&session, other], "").as_bytes(),
        );
        assert_eq!(statuses(&answer), [400], "{method}: {answer}");
    }
}

#[test]
fn no_route_and_no_method_is_open_without_the_token_or_from_elsewhere() {
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
            // A head that echoes what came would give a page the token of its user.
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
    // The session is still there.
    let ping = post(
        &[&session, &format!("Content-Length: {}", PING.len()), CLOSE],
        PING,
    );
    assert_eq!(statuses(&answers(&server, ping.as_bytes())), [200]);
}

#[test]
fn refusals_tell_nothing_that_was_sent_and_nothing_of_the_server() {
    let server = server();
    let mut thief = Client::new(server.url(), &[("authorization", "Bearer guessed-token")]);
    thief.header("mcp-session-id", "guessed-session");
    let mut answer = thief.post(&request(1, "ping", json!({})));
    assert_eq!(answer.status(), 401);
    let headers = format!("{:?}", answer.headers());
    let told = json_of(&mut answer);
    assert_eq!(told["id"], Value::Null);
    for text in [headers, told.to_string()] {
        assert!(
            !text.contains("guessed") && !text.contains("secret"),
            "{text}"
        );
    }
}

#[test]
fn over_stdio_no_number_of_subscriptions_keeps_what_follows_from_being_read() {
    let mut server = Server::tiny(&[]);
    let wanted = json!({"notifications": {}});
    // More than the requests that are handled at once.
    for id in 0..1500 {
        let id = format!("s{id}");
        server.send_line(&modern::request(id, "subscriptions/listen", wanted.clone()).to_string());
    }
    let ping = server.request("ping", json!({}));
    assert_eq!(server.response(ping)["result"], json!({}));
    server.notify("notifications/cancelled", json!({"requestId": "s7"}));
    server.close_stdin();
    assert!(server.wait().success());
    let ended = server.rest();
    let ended = ended.iter().filter(|message| message["id"].is_string());
    assert_eq!(ended.count(), 1499, "all but the cancelled one");
}
