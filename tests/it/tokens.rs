//! Permissions and limits of tokens over HTTP.

use std::io::{Read, Write};

use serde_json::json;

use crate::support::config::{Folder, text};
use crate::support::http::{HttpServer, read_head, read_message, request};
use crate::support::modern;

const PERU: &str = "What is the capital of Peru?";
const LIMA: &str = "The capital of Peru is Lima.";

const TOOLS: &str = "
[models.chat]
path = \"crab.gguf\"
n_threads = 1
temperature = 0
repeat_penalty = 1.0
[tools.shout]
prompt = \"Sing forever.\"
max_tokens = 20
";

fn server(name: &str, keys: &str) -> (Folder, HttpServer) {
    let folder = Folder::new(name, &format!("{keys}{TOOLS}"));
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    (folder, server)
}

const ALICE_AND_BOB: &str = "
[server]
auth = \"everything\"
[server.tokens.alice]
token = \"alices\"
tools = [\"chat\"]
[server.tokens.bob]
token_file = \"bob.token\"
";

#[test]
fn each_token_has_its_own_tools_and_sessions() {
    let folder = Folder::new("tokens", &format!("{ALICE_AND_BOB}{TOOLS}"));
    folder.write("bob.token", "bobs\n");
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    let (mut alice, mut bob, mut all) = (
        server.client_with_token("alices"),
        server.client_with_token("bobs"),
        server.client_with_token("everything"),
    );
    assert_eq!(alice.tools(), ["chat"]);
    assert_eq!(bob.tools(), ["chat", "shout"]);
    assert_eq!(all.tools(), ["chat", "shout"]);
    assert_eq!(alice.chat(json!({"text": PERU})), LIMA);
    let refused = alice.request("tools/call", json!({"name": "shout", "arguments": {}}));
    assert_eq!(refused["error"]["code"], -32602);
    assert_eq!(
        refused["error"]["message"],
        "unknown tool `shout`; available: `chat`"
    );
    let called = bob.request("tools/call", json!({"name": "shout", "arguments": {}}));
    assert!(
        called["result"]["content"][0]["text"]
            .as_str()
            .unwrap()
            .starts_with("la la")
    );
    // Sessions of another token do not exist for this one.
    for method in ["POST", "GET", "DELETE"] {
        let mut thief = server.with_token("bobs");
        thief.header("mcp-session-id", alice.session());
        let ping = request(1, "ping", json!({})).to_string();
        let body = (method == "POST").then_some(ping.as_str());
        assert_eq!(thief.send(method, body).status(), 404, "{method}");
    }
    assert_eq!(alice.tools(), ["chat"], "it is still there");
    assert_eq!(server.with_token("alice").send("GET", None).status(), 401);
    // Responses of one token must not be cached for others.
    let mut listed = modern::post(
        &server.with_token("alices"),
        &modern::request(1, "tools/list", json!({})),
    );
    assert_eq!(read_message(&mut listed)["result"]["cacheScope"], "private");
}

#[test]
fn tokens_are_live() {
    let folder = Folder::new("tokens-live", &format!("{ALICE_AND_BOB}{TOOLS}"));
    folder.write("bob.token", "bobs");
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    let mut alice = server.client_with_token("alices");
    let stream = {
        let mut listening = alice.clone();
        listening.header("accept", "text/event-stream");
        listening.send("GET", None)
    };
    let mut notifications = crate::support::http::Events::new(stream);
    let edited = ALICE_AND_BOB.replace("[\"chat\"]", "[\"shout\"]");
    folder.write("llama-mcp-server.toml", &format!("{edited}{TOOLS}"));
    assert_eq!(
        notifications.next().unwrap()["method"],
        "notifications/tools/list_changed"
    );
    assert_eq!(alice.tools(), ["shout"]);
    let mut bob = server.with_token("bobs");
    bob.header("accept", "text/event-stream");
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    let listening = modern::post(&bob, &modern::request("s", "subscriptions/listen", wanted));
    let mut bobs_notifications = crate::support::http::Events::new(listening);
    assert!(bobs_notifications.next().is_some());
    folder.write("bob.token", "another");
    server.wait_for_log("live (tokens)");
    server.wait_for_log_times("the new configuration is active", 2);
    assert_eq!(server.with_token("bobs").send("GET", None).status(), 401);
    assert_eq!(server.with_token("another").send("GET", None).status(), 400);
    // The streams of the changed token end; those of others do not.
    let last = bobs_notifications.last().unwrap();
    assert_eq!(last["error"]["message"], "the token is no longer valid");
    assert_eq!(
        notifications.next().unwrap()["method"],
        "notifications/tools/list_changed"
    );
    assert_eq!(alice.tools(), ["shout"]);
}

#[cfg(target_os = "linux")]
#[test]
fn calls_of_a_token_are_limited() {
    use crate::support::{signal_process, workers_of};

    let (_folder, server) = server(
        "token-limits",
        "[server.tokens.few]\ntoken = \"few\"\nmax_calls = 1\n[server.tokens.slow]\ntoken = \"slow\"\ncalls_per_minute = 2\n[server.tokens.free]\ntoken = \"free\"\n",
    );
    let mut few = server.client_with_token("few");
    assert_eq!(few.chat(json!({"text": PERU})), LIMA);
    let worker = workers_of(server.child.id())[0];
    signal_process(worker, "STOP");
    let running = few.call_with_stopped_worker(7);
    let mut second = few.post(&request(
        8,
        "tools/call",
        json!({"name": "chat", "arguments": {"text": PERU}}),
    ));
    assert_eq!(second.status(), 429);
    assert_eq!(second.headers()["retry-after"], "5");
    assert_eq!(
        read_message(&mut second),
        json!({"jsonrpc": "2.0", "id": 8, "error": {"code": 429, "message": "the token `few` has reached its limit of concurrent calls (`max_calls`, 1); try again when a call has ended"}})
    );
    signal_process(worker, "CONT");
    let mut free = server.client_with_token("free");
    assert_eq!(free.chat(json!({"text": PERU})), LIMA);
    assert_eq!(
        few.post(&request(9, "ping", json!({}))).status(),
        200,
        "what is no call"
    );
    assert!(running.last().is_some());

    let mut slow = server.client_with_token("slow");
    for _ in 0..2 {
        assert_eq!(slow.chat(json!({"text": PERU})), LIMA);
    }
    let third = slow.post(&request(
        10,
        "tools/call",
        json!({"name": "chat", "arguments": {"text": PERU}}),
    ));
    assert_eq!(third.status(), 429);
    let wait: u64 = third.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
}

#[test]
fn problems_with_tokens_are_reported_without_showing_a_token() {
    let keys = "
[server]
transport = \"http\"
auth = \"first-secret\"
[server.tokens.none]
[server.tokens.auth]
token = \"second-secret\"
[server.tokens.same]
token = \"first-secret\"
[server.tokens.both]
token = \"third-secret\"
token_file = \"missing.token\"
[server.tokens.tools]
token = \"fourth secret\"
tools = [\"chet\"]
";
    let folder = Folder::new("wrong-tokens", &format!("{keys}{TOOLS}"));
    let output = folder.run(&["config", "check"], &[]);
    let stderr = text(output.stderr);
    for part in [
        "`server.tokens.none`: has no token",
        "`server.tokens.auth`: is the reserved name of the token of `auth`",
        "`server.tokens.same`: has the same token as `auth`",
        "`server.tokens.both.token_file`: conflicts with `token`",
        "`server.tokens.tools.tools[0]`: there is no tool `chet`",
        "did you mean `chat`?",
        "the token must be printable ASCII without spaces",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    assert!(!stderr.contains("secret"), "{stderr}");
    let shown =
        Folder::new("shown-tokens", &format!("{ALICE_AND_BOB}{TOOLS}")).show(&["--origin"], &[]);
    assert!(
        shown.contains("[server.tokens.alice]\n# token = \"***\""),
        "{shown}"
    );
    assert!(!shown.contains("alices"), "{shown}");
}

#[cfg(target_os = "linux")]
#[test]
fn beyond_the_limit_of_concurrent_messages_clients_are_asked_to_retry() {
    use crate::support::{signal_process, workers_of};

    let (_folder, server) = server("messages", "[server]\nmax_calls = 1\n");
    let mut client = server.client();
    assert_eq!(client.chat(json!({"text": PERU})), LIMA);
    signal_process(workers_of(server.child.id())[0], "STOP");
    let mut running = client.call_with_stopped_worker(7);
    let refused = client.post(&request(8, "ping", json!({})));
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "10");
    assert!(running.next().is_some());
}

#[test]
fn beyond_the_limit_of_connections_clients_are_asked_to_retry() {
    // No other client has a connection that could become free.
    let (_folder, server) = server("connections", "[server]\nmax_connections = 3\n");
    // Idle connections occupy the limit.
    let silent: Vec<_> = (0..8).map(|_| server.connect()).collect();
    let mut turned_away = server.connect();
    let mut response = String::new();
    turned_away.write_all(b"POST /mcp HTTP/1.1\r\n").unwrap();
    turned_away.read_to_string(&mut response).unwrap();
    assert!(
        response.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{response}"
    );
    assert!(response.contains("retry-after: 10\r\n"), "{response}");
    assert!(
        response.contains("too many connections (`max_connections`)"),
        "{response}"
    );
    drop(silent);
}

#[test]
fn a_connection_is_closed_if_it_idles_or_its_head_takes_too_long() {
    let (_folder, server) = server(
        "times",
        "[server]\nheader_time = \"4s\"\nidle_time = \"6s\"\nbody_time = \"1s\"\n",
    );
    let mut half = server.connect();
    half.write_all(b"GET /mcp HTTP/1.1\r\nHost: local").unwrap();
    let mut rest = Vec::new();
    assert_eq!(
        half.read_to_end(&mut rest).unwrap(),
        0,
        "closed without a word"
    );
    let started = std::time::Instant::now();
    let mut idle = server.connect();
    idle.write_all(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let head = read_head(&mut idle);
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    idle.read_to_end(&mut rest).unwrap();
    assert!(
        started.elapsed().as_secs_f64() > 5.0,
        "it may idle longer than a head may take"
    );
    let slow = server.raw("POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{");
    assert!(slow.starts_with("HTTP/1.1 408"), "{slow}");
}

#[test]
fn cors_applies_to_allowed_origins_and_only_if_enabled() {
    let (_folder, server) = server(
        "cors",
        "[server]\ncors = true\nauth = \"secret\"\nallowed_origins = [\"https://app.example\"]\n",
    );
    let ask = |origin: &str| {
        server.raw(&format!(
            "OPTIONS /mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,mcp-session-id\r\n\r\n"
        ))
    };
    let allowed = ask("https://app.example");
    assert!(allowed.starts_with("HTTP/1.1 200"), "{allowed}");
    assert!(
        allowed.contains("access-control-allow-origin: https://app.example\r\n"),
        "{allowed}"
    );
    assert!(allowed.contains("mcp-session-id"), "{allowed}");
    assert!(ask("https://evil.example").starts_with("HTTP/1.1 403"));
    let answer =
        server.raw("GET /mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(
        answer.contains("access-control-allow-origin: https://app.example\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("access-control-expose-headers:"),
        "{answer}"
    );
}
