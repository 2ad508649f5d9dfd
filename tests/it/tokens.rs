//! Who may do what over HTTP, and how much: tokens by name, limits.

use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::support::config::{Folder, text};
use crate::support::http::{HttpServer, json_of, read_head, request};
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
fn each_token_has_its_tools_and_its_sessions() {
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
        "unknown tool `shout`; known here: `chat`"
    );
    let called = bob.request("tools/call", json!({"name": "shout", "arguments": {}}));
    assert!(
        called["result"]["content"][0]["text"]
            .as_str()
            .unwrap()
            .starts_with("la la")
    );
    // Another's session is none.
    for method in ["POST", "GET", "DELETE"] {
        let mut thief = server.with_token("bobs");
        thief.header("mcp-session-id", alice.session());
        let ping = request(1, "ping", json!({})).to_string();
        let body = (method == "POST").then_some(ping.as_str());
        assert_eq!(thief.send(method, body).status(), 404, "{method}");
    }
    assert_eq!(alice.tools(), ["chat"], "it is still there");
    assert_eq!(server.with_token("alice").send("GET", None).status(), 401);
    // What one is told is not for others.
    let mut listed = modern::post(
        &server.with_token("alices"),
        &modern::request(1, "tools/list", json!({})),
    );
    assert_eq!(json_of(&mut listed)["result"]["cacheScope"], "private");
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
    let mut news = crate::support::http::Events::of(stream);
    let edited = ALICE_AND_BOB.replace("[\"chat\"]", "[\"shout\"]");
    folder.write("llama-mcp-server.toml", &format!("{edited}{TOOLS}"));
    assert_eq!(
        news.next().unwrap()["method"],
        "notifications/tools/list_changed"
    );
    assert_eq!(alice.tools(), ["shout"]);
    let mut bob = server.with_token("bobs");
    bob.header("accept", "text/event-stream");
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    let listening = modern::post(&bob, &modern::request("s", "subscriptions/listen", wanted));
    let mut bobs_news = crate::support::http::Events::of(listening);
    assert!(bobs_news.next().is_some());
    folder.write("bob.token", "another");
    server.wait_for_log("live (tokens)");
    server.wait_for_logs("the new configuration is active", 2);
    assert_eq!(server.with_token("bobs").send("GET", None).status(), 401);
    assert_eq!(server.with_token("another").send("GET", None).status(), 400);
    // Its streams end, and those of the others do not.
    let told: Vec<Value> = bobs_news.collect();
    let last = told.last().unwrap();
    assert_eq!(last["error"]["message"], "the token is no longer valid");
    assert_eq!(
        news.next().unwrap()["method"],
        "notifications/tools/list_changed"
    );
    assert_eq!(alice.tools(), ["shout"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_token_makes_no_more_calls_than_it_may() {
    use crate::support::{signal_process, workers_of};

    let (_folder, server) = server(
        "token-limits",
        "[server.tokens.few]\ntoken = \"few\"\nmax_calls = 1\n[server.tokens.slow]\ntoken = \"slow\"\ncalls_per_minute = 2\n[server.tokens.free]\ntoken = \"free\"\n",
    );
    let mut few = server.client_with_token("few");
    assert_eq!(few.chat(json!({"text": PERU})), LIMA);
    let worker = workers_of(server.child.id())[0];
    signal_process(worker, "STOP");
    let running = few.hold(7);
    let mut second = few.post(&request(
        8,
        "tools/call",
        json!({"name": "chat", "arguments": {"text": PERU}}),
    ));
    assert_eq!(second.status(), 429);
    assert_eq!(second.headers()["retry-after"], "5");
    assert_eq!(
        json_of(&mut second),
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
fn what_is_wrong_with_tokens_is_told_and_no_token_is_shown() {
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
    let told = text(output.stderr);
    for part in [
        "`server.tokens.none`: has no token",
        "`server.tokens.auth`: is the reserved name of the token of `auth`",
        "`server.tokens.same`: has the same token as `auth`",
        "`server.tokens.both.token_file`: conflicts with `token`",
        "`server.tokens.tools.tools[0]`: there is no tool `chet`",
        "did you mean `chat`?",
        "the token must be printable ASCII without spaces",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("secret"), "{told}");
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
fn beyond_the_messages_that_may_be_under_way_clients_are_told_to_come_back() {
    use crate::support::{signal_process, workers_of};

    let (_folder, server) = server("messages", "[server]\nmax_calls = 1\n");
    let mut client = server.client();
    assert_eq!(client.chat(json!({"text": PERU})), LIMA);
    signal_process(workers_of(server.child.id())[0], "STOP");
    let mut running = client.hold(7);
    let refused = client.post(&request(8, "ping", json!({})));
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "10");
    assert!(running.next().is_some());
}

#[test]
fn beyond_the_connections_that_may_be_clients_are_told_to_come_back() {
    // Nobody else has one, which would be free again at some time.
    let (_folder, server) = server("connections", "[server]\nmax_connections = 3\n");
    // Connections that say nothing hold all places.
    let silent: Vec<_> = (0..8).map(|_| server.connect()).collect();
    let mut turned_away = server.connect();
    let mut told = String::new();
    turned_away.write_all(b"POST /mcp HTTP/1.1\r\n").unwrap();
    turned_away.read_to_string(&mut told).unwrap();
    assert!(
        told.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{told}"
    );
    assert!(told.contains("retry-after: 10\r\n"), "{told}");
    assert!(
        told.contains("too many connections (`max_connections`)"),
        "{told}"
    );
    drop(silent);
}

#[test]
fn a_connection_is_closed_when_it_idles_or_its_head_takes_too_long() {
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
fn cors_is_for_the_origins_that_are_allowed_and_only_where_it_is_asked_for() {
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
