//! Requests that the HTTP server refuses before it reads their body.

use serde_json::json;

use crate::support::http::{Client, HttpServer, read_message, request};

/// Sends a request of these lines without a body and returns the head of the response.
fn head(server: &HttpServer, lines: &[&str]) -> String {
    server.raw(&format!("{}\r\n\r\n", lines.join("\r\n")))
}

fn status(server: &HttpServer, lines: &[&str]) -> u16 {
    let head = head(server, lines);
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

const JSON: &str = "Content-Type: application/json";
const HOST: &str = "Host: localhost";

#[test]
fn only_loopback_names_are_allowed_as_hosts_and_origins() {
    let server = HttpServer::tiny(&[]);
    let port = server.address.port();
    for host in [
        "localhost",
        "LocalHost.",
        "127.0.0.1",
        "127.9.9.9",
        "[::1]",
        "localhost:1",
    ] {
        let lines = ["GET /mcp HTTP/1.1", &format!("Host: {host}")];
        assert_eq!(
            status(&server, &lines),
            400,
            "{host}: the session is missing, no more"
        );
    }
    for host in [
        "evil.example.com",
        "localhost.evil.com",
        "10.0.0.1",
        "0.0.0.0",
        "",
        "a b",
        "localhost@evil.com",
        "user@localhost",
        "localhost:port",
        "localhost:99999",
    ] {
        let lines = ["GET /mcp HTTP/1.1", &format!("Host: {host}")];
        assert_eq!(status(&server, &lines), 403, "{host}");
    }
    assert_eq!(
        status(&server, &["GET /mcp HTTP/1.1", HOST, "Host: evil.com"]),
        403
    );
    assert_eq!(
        status(&server, &["GET http://evil.com/mcp HTTP/1.1", HOST]),
        403
    );
    assert_eq!(status(&server, &["GET /mcp HTTP/1.0"]), 403);
    for origin in [
        &format!("http://localhost:{port}"),
        "https://127.0.0.1",
        "http://[::1]:3000",
    ] {
        let lines = ["GET /mcp HTTP/1.1", HOST, &format!("Origin: {origin}")];
        assert_eq!(status(&server, &lines), 400, "{origin}");
    }
    for origin in [
        "https://evil.example.com",
        "null",
        "http://localhost.evil.com",
        "ftp://localhost",
        "localhost",
    ] {
        let lines = ["GET /mcp HTTP/1.1", HOST, &format!("Origin: {origin}")];
        assert_eq!(status(&server, &lines), 403, "{origin}");
    }
    // Foreign origins are refused on every path, also in preflight requests.
    for line in [
        "GET /.well-known/oauth-protected-resource HTTP/1.1",
        "OPTIONS /mcp HTTP/1.1",
    ] {
        assert_eq!(
            status(&server, &[line, HOST, "Origin: https://evil.com"]),
            403
        );
    }
    let preflight = head(
        &server,
        &["OPTIONS /mcp HTTP/1.1", HOST, "Origin: http://localhost"],
    );
    assert!(
        preflight.starts_with("HTTP/1.1 405") && !preflight.contains("access-control"),
        "{preflight}"
    );
}

#[test]
fn more_hosts_and_origins_can_be_allowed() {
    let server = HttpServer::tiny(&[
        "--allowed_hosts",
        "llama.lan,gpu.lan",
        "--allowed_origins",
        "https://app.example.com",
    ]);
    for host in ["llama.lan", "GPU.lan:8080"] {
        assert_eq!(
            status(&server, &["GET /mcp HTTP/1.1", &format!("Host: {host}")]),
            400,
            "{host}"
        );
    }
    let origin = |origin: &str| {
        status(
            &server,
            &["GET /mcp HTTP/1.1", HOST, &format!("Origin: {origin}")],
        )
    };
    assert_eq!(origin("https://app.example.com"), 400);
    assert_eq!(origin("http://app.example.com"), 403);
}

#[test]
fn a_server_on_all_addresses_accepts_each_of_them_as_host_but_no_unknown_name() {
    let server = HttpServer::tiny(&["--host", "0.0.0.0", "--allow_unauthenticated"]);
    let host = |host: &str| status(&server, &["GET /mcp HTTP/1.1", &format!("Host: {host}")]);
    assert_eq!(
        (host("10.1.2.3:8080"), host("localhost"), host("evil.com")),
        (400, 400, 403)
    );
}

#[test]
fn without_the_token_no_body_is_read_and_nothing_is_revealed() {
    let server = HttpServer::tiny(&["--auth", "secret123"]);
    for (line, status) in [
        ("Authorization: Bearer secret123", 400),
        ("authorization: bearer  secret123 ", 400),
    ] {
        let lines = ["GET /mcp HTTP/1.1", HOST, line];
        assert_eq!(self::status(&server, &lines), status, "{line}");
    }
    for line in [
        "X: y",
        "Authorization: Bearer secret12",
        "Authorization: Bearer secret1234",
        "Authorization: Bearer SECRET123",
        "Authorization: Bearer",
        "Authorization: Basic secret123",
        "Authorization: secret123",
        "Authorization: Bearer secret123\r\nAuthorization: Bearer other",
    ] {
        // The body never arrives, but the response does.
        for first in [
            "POST /mcp HTTP/1.1",
            "GET /mcp?token=secret123 HTTP/1.1",
            "DELETE /mcp HTTP/1.1",
            "PUT /mcp HTTP/1.1",
        ] {
            let head = head(&server, &[first, HOST, line, JSON, "Content-Length: 1000"]);
            assert!(
                head.starts_with("HTTP/1.1 401 Unauthorized\r\n"),
                "{line}: {head}"
            );
            assert!(
                head.contains("\r\nwww-authenticate: Bearer"),
                "{line}: {head}"
            );
        }
    }
    // Pages of a login are missing, not locked: otherwise clients would keep looking for a login.
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
        "/",
    ] {
        assert_eq!(
            status(&server, &[&format!("GET {path} HTTP/1.1"), HOST]),
            404
        );
    }
}

#[test]
fn bodies_that_are_not_json_or_too_long_are_refused_unread() {
    let server = HttpServer::tiny(&[]);
    let post = |lines: &[&str]| status(&server, &[&["POST /mcp HTTP/1.1", HOST], lines].concat());
    for line in [
        "X: y",
        "Content-Type: text/plain",
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Type: application/jsonp",
    ] {
        assert_eq!(post(&[line, "Content-Length: 1000"]), 415, "{line}");
    }
    assert_eq!(
        post(&[JSON, "Content-Encoding: gzip", "Content-Length: 1000"]),
        415
    );
    assert_eq!(post(&[JSON, "Content-Length: 4194305"]), 413);
    assert_eq!(post(&[JSON, "Content-Length: 99999999999999999999"]), 400);
    // A body without a length is read up to the limit.
    let client = server.client();
    let long = json!({"text": "x".repeat(4 * 1024 * 1024)}).to_string();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let response = agent
        .post(server.url())
        .header("content-type", "application/json; charset=utf-8")
        .send(ureq::SendBody::from_reader(&mut long.as_bytes()))
        .unwrap();
    assert_eq!(response.status(), 413);
    // A body of exactly the limit is accepted.
    let text = "x".repeat(4 * 1024 * 1024 - 100);
    let fits = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{text}"}}"#);
    assert_eq!(
        read_message(&mut client.send("POST", Some(&fits)))["error"]["code"],
        -32601
    );
}

#[test]
fn all_other_statuses_are_as_documented() {
    let server = HttpServer::tiny(&[]);
    let client = server.client();
    let nobody = Client::new(server.url(), &[]);
    let stranger = Client::new(
        server.url(),
        &[("mcp-session-id", "5233db20-66e9-4674-916a-6370fe7589ca")],
    );
    let ping = request(1, "ping", json!({})).to_string();
    let statuses = |client: &Client| {
        let of = |method, body| client.send(method, body).status().as_u16();
        [
            of("POST", Some(ping.as_str())),
            of("GET", None),
            of("DELETE", None),
        ]
    };
    assert_eq!(statuses(&nobody), [400, 400, 400]);
    assert_eq!(statuses(&stranger), [404, 404, 404]);

    for (body, status, code) in [
        ("{", 400, -32700),
        ("", 400, -32700),
        ("[]", 400, -32600),
        (r#"{"jsonrpc":"2.0","id":1}"#, 400, -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, 400, -32600),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"no/such"}"#,
            200,
            -32601,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#,
            200,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#,
            200,
            -32602,
        ),
    ] {
        let mut response = client.send("POST", Some(body));
        assert_eq!(response.status(), status, "{body}");
        assert_eq!(read_message(&mut response)["error"]["code"], code, "{body}");
    }
    for body in [
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","method":"no/such"}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
    ] {
        let mut response = client.send("POST", Some(body));
        assert_eq!(response.status(), 202, "{body}");
        assert_eq!(response.body_mut().read_to_string().unwrap(), "");
    }
    let put = client.send("PUT", Some("{}"));
    assert_eq!(
        (
            put.status().as_u16(),
            put.headers()["allow"].to_str().unwrap()
        ),
        (405, "GET, POST, DELETE")
    );

    for (revision, status) in [
        ("2025-03-26", 200),
        ("2025-11-25", 200),
        ("2026-07-28", 400),
        ("1", 400),
    ] {
        let mut client = client.clone();
        client.header("mcp-protocol-version", revision);
        assert_eq!(
            client.send("POST", Some(ping.as_str())).status(),
            status,
            "{revision}"
        );
    }
    // A second request with the id of a running one has its own error.
    let mut song = client.start_endless_call(7);
    let mut twice = client.post(&request(7, "ping", json!({})));
    assert_eq!(
        (
            twice.status().as_u16(),
            read_message(&mut twice)["error"]["code"].clone()
        ),
        (400, json!(-32600))
    );
    assert_eq!(song.next().unwrap()["params"]["progressToken"], 7);
}
