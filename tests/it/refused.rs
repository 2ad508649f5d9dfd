//! Refused requests are explained to the client, in the log and in the metrics.

use serde_json::{Value, json};

use crate::support::config::Folder;
use crate::support::http::{Client, HttpServer};

/// Sends a GET request for `path` with `headers`. Returns the status and the body.
fn get(server: &HttpServer, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let url = format!("http://{}{path}", server.address);
    let mut response = Client::new(url, headers).send("GET", None);
    let status = response.status().as_u16();
    (status, response.body_mut().read_to_string().unwrap())
}

#[test]
fn outside_the_endpoint_errors_have_the_form_of_oauth_and_a_hint() {
    let with_token = HttpServer::tiny(&["--auth", "secret123"]);
    let open = HttpServer::tiny(&[]);
    for (server, message) in [
        (
            &with_token,
            "unknown path; the endpoint is `/mcp`, which has no login: send the server's token as `Authorization: Bearer <token>`",
        ),
        (
            &open,
            "unknown path; the endpoint is `/mcp`, which has no login and requires no token",
        ),
    ] {
        for path in [
            "/register",
            "/token",
            "/authorize?response_type=code",
            "/.well-known/oauth-protected-resource",
            "/.well-known/oauth-protected-resource/mcp",
            "/.well-known/oauth-authorization-server",
            "/.well-known/openid-configuration",
            "/",
            "/sse",
            "/mcp/x",
        ] {
            for method in ["GET", "POST"] {
                let url = format!("http://{}{path}", server.address);
                let body = (method == "POST").then_some("{}");
                let mut response = Client::new(url, &[]).send(method, body);
                assert_eq!(response.status(), 404, "{method} {path}");
                assert_eq!(response.headers()["content-type"], "application/json");
                let body = response.body_mut().read_to_string().unwrap();
                let body: Value = serde_json::from_str(&body).unwrap();
                assert_eq!(
                    body,
                    json!({"error": "not_found", "error_description": message}),
                    "{method} {path}"
                );
            }
        }
    }
    // At the endpoint, refusals are JSON-RPC errors.
    let (status, body) = get(&with_token, "/mcp", &[]);
    assert!(status == 401 && body.contains("\"jsonrpc\""), "{body}");
}

#[cfg(target_os = "linux")] // The log is complete once a signal has ended the server.
#[test]
fn refusals_are_logged_once_for_each_cause_and_name_and_counted_by_status() {
    let mut server = HttpServer::tiny(&["--auth", "secret123"]);
    // More wrong tokens would be answered with a delay.
    for _ in 0..2 {
        for headers in [
            &[("host", "llama.example:8080")][..],
            &[("host", "LLAMA.example")],
            &[("host", "llama2.example")],
            &[("origin", "https://app.example")],
            &[],
            &[("authorization", "Bearer guessed-1")],
            &[("authorization", "Bearer guessed-2")],
        ] {
            let (status, _) = get(&server, "/mcp", headers);
            assert!([401, 403].contains(&status), "{headers:?}");
        }
    }
    assert_eq!(get(&server, "/nothing", &[]).0, 404);
    let (_, metrics) = get(
        &server,
        "/metrics",
        &[("authorization", "Bearer secret123")],
    );
    for (status, count) in [(401, 6), (403, 8), (404, 1)] {
        let series = format!("llama_mcp_http_refusals_total{{status=\"{status}\"}} {count}\n");
        assert!(metrics.contains(&series), "{series}{metrics}");
    }
    let log = server.end();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("refused: "))
        .collect();
    assert!(lines.iter().all(|line| line.contains(" WARN ")), "{log}");
    let causes: Vec<&str> = lines
        .iter()
        .map(|line| line.split_once("refused: ").unwrap().1)
        .collect();
    assert_eq!(
        causes,
        [
            "Host \"llama.example\" is not allowed; if clients reach the server by this name, add it to `allowed_hosts`",
            "Host \"llama2.example\" is not allowed; if clients reach the server by this name, add it to `allowed_hosts`",
            "Origin \"https://app.example\" is not allowed; if its pages may use the server, add it to `allowed_origins`",
            "127.0.0.1 sent no bearer token; set `Authorization: Bearer <token>` in the client",
            "127.0.0.1 sent an invalid bearer token; set a token of this server in the client",
        ]
    );
    assert!(!log.contains("guessed-"), "{log}");
}

#[test]
fn an_invalid_host_is_logged_verbatim() {
    let server = HttpServer::tiny(&[]);
    server.raw("GET /mcp HTTP/1.1\r\nHost: my server\r\nConnection: close\r\n\r\n");
    server.raw("GET /mcp HTTP/1.1\r\nHost: b\u{fc}ro\r\nConnection: close\r\n\r\n");
    for host in ["my server", "b\u{fc}ro"] {
        server.wait_for_log(&format!("Host \"{host}\" is"));
    }
}

#[cfg(target_os = "linux")] // The log is complete once a signal has ended the server.
#[test]
fn a_flood_of_host_names_adds_few_lines_to_the_log() {
    let mut server = HttpServer::tiny(&[]);
    for number in 0..300 {
        let host = format!("Host: h{number}.example");
        let answer = server.raw(&format!(
            "GET /mcp HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n"
        ));
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
    let log = server.end();
    assert_eq!(log.matches("refused: Host").count(), 64, "{log}");
    assert_eq!(log.matches("further names are not logged").count(), 1);
}

#[test]
fn containers_reach_the_server_by_their_names_for_the_host() {
    let server = HttpServer::tiny(&[]);
    for (host, expected) in [
        ("host.docker.internal:18472", 400),
        ("Host.Containers.Internal.", 400),
        ("docker.internal", 403),
        ("evil.host.docker.internal", 403),
        ("host.docker.internal.evil.com", 403),
    ] {
        let (status, body) = get(
            &server,
            "/mcp",
            &[("host", host), ("accept", "text/event-stream")],
        );
        assert_eq!(status, expected, "{host}: {body}");
    }
    // But not as an origin, which is where a page was loaded from.
    let origin = [("origin", "http://host.docker.internal:3000")];
    assert_eq!(get(&server, "/mcp", &origin).0, 403);
}

#[test]
fn a_page_of_an_allowed_origin_may_send_any_header() {
    let folder = Folder::new(
        "cors-headers",
        "[server]\ncors = true\nallowed_origins = [\"https://app.example\"]\n[models.crab]\npath = \"crab.gguf\"\n",
    );
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    let preflight = |origin: &str| {
        server.raw(&format!(
            "OPTIONS /mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type,traceparent,baggage,x-own\r\n\r\n"
        ))
    };
    let allowed = preflight("https://app.example");
    assert!(
        allowed
            .contains("access-control-allow-headers: content-type,traceparent,baggage,x-own\r\n"),
        "{allowed}"
    );
    assert!(
        !allowed.contains("access-control-allow-credentials"),
        "{allowed}"
    );
    let refused = preflight("https://evil.example");
    assert!(
        refused.starts_with("HTTP/1.1 403") && !refused.contains("access-control"),
        "{refused}"
    );
}
