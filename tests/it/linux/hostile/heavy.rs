//! Oversized messages: in bytes, in values, in queued calls. They cost their sender, and nobody else.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{HOST, JSON, read_until_closed, statuses};
use crate::support::config::Folder;
use crate::support::http::{Client, HttpServer, read_head, read_message, request};
use crate::support::{LIMIT, memory_of};

/// One of two clients may hold 32 MiB: four messages of maximum length.
const SETTINGS: &str = "
[server]
max_held = \"64MiB\"
body_time = \"10m\"
[server.tokens.alice]
token = \"alices-secret-0123\"
[server.tokens.bob]
token = \"bobs-secret-0123456\"
calls_per_minute = 1
[models.chat]
path = \"crab.gguf\"
n_threads = 1
temperature = 0
[tools.count]
prompt = \"{{ tags | length }}\"
max_tokens = 1
[tools.count.arguments.tags]
type = \"array\"
max_items = 5
[tools.total]
prompt = \"{{ tags | length }}\"
max_tokens = 1
[tools.total.arguments.tags]
type = \"array\"
";

const ALICE: &str = "alices-secret-0123";
const BOB: &str = "bobs-secret-0123456";
const LONGEST: usize = 4 << 20;

fn server(name: &str) -> (Folder, HttpServer) {
    let folder = Folder::new(name, SETTINGS);
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    (folder, server)
}

/// Sends the head of a request with `token` that announces `length` bytes, and no body.
fn announce(server: &HttpServer, token: &str, length: usize) -> TcpStream {
    let mut stream = server.connect();
    let head = [
        "POST /mcp HTTP/1.1",
        HOST,
        JSON,
        &format!("Authorization: Bearer {token}"),
        &format!("Content-Length: {length}"),
        "Expect: 100-continue",
    ];
    write!(stream, "{}\r\n\r\n", head.join("\r\n")).unwrap();
    stream
}

fn call(client: &Client, tool: &str, arguments: serde_json::Value) -> (u16, String) {
    let message = request(
        1,
        "tools/call",
        json!({"name": tool, "arguments": arguments}),
    );
    let mut response = client.post(&message);
    (
        response.status().as_u16(),
        read_message(&mut response).to_string(),
    )
}

#[test]
fn bodies_that_never_arrive_reserve_half_of_the_message_memory_and_others_are_served() {
    let (_folder, server) = server("heavy-announced");
    let held = || {
        let mut stream = announce(&server, ALICE, LONGEST);
        // The server asks for the body, so its bytes are reserved.
        assert_eq!(statuses(&read_head(&mut stream)), [100]);
        stream
    };
    let held: Vec<TcpStream> = (0..4).map(|_| held()).collect();
    // A refused client gets the response before it sends the body.
    let refused = read_head(&mut announce(&server, ALICE, LONGEST));
    assert_eq!(statuses(&refused), [429], "{refused}");
    let mut bob = server.client_with_token(BOB);
    assert_eq!(bob.tools().len(), 3);
    drop(held);
}

#[test]
fn a_message_whose_parsed_form_is_too_large_is_refused_before_it_is_parsed() {
    let (_folder, server) = server("heavy-tree");
    let client = server.client_with_token(ALICE);
    let before = memory_of(server.child.id(), "VmHWM");
    let objects = vec![json!({"": 0}); 400_000];
    let (status, answer) = call(&client, "chat", json!({ "x": objects }));
    assert_eq!(status, 413, "{answer}");
    assert!(answer.contains("half of `max_held`"), "{answer}");
    let peak = memory_of(server.child.id(), "VmHWM");
    assert!(peak < before + (32 << 20), "{before} {peak}");
}

#[test]
fn a_large_message_counts_as_a_call_of_its_token_before_it_is_read() {
    let (_folder, server) = server("heavy-rate");
    let bob = server.client_with_token(BOB);
    let (status, answer) = call(&bob, "chat", json!({"text": "Hi", "max_tokens": 1}));
    assert_eq!(status, 200, "{answer}");
    let refused = read_until_closed(&mut announce(&server, BOB, 100_000));
    assert_eq!(statuses(&refused), [429], "{refused}");
    assert!(refused.contains("(`calls_per_minute`, 1)"), "{refused}");
    // A small message is read, because it may not be a call.
    let mut small = announce(&server, BOB, 2);
    assert_eq!(statuses(&read_head(&mut small)), [100]);
    small.write_all(b"{}").unwrap();
    assert_eq!(statuses(&read_head(&mut small)), [400]);
}

#[test]
fn the_number_of_items_is_checked_before_the_items() {
    let (_folder, server) = server("heavy-items");
    let client = server.client_with_token(ALICE);
    let tags: Vec<_> = (0..100_000).map(|n| json!(n)).collect();
    let (status, answer) = call(&client, "count", json!({ "tags": tags }));
    assert_eq!(status, 200);
    let expected = "`tags`: must be an array of strings, at most 5, found 100000 items";
    assert!(answer.contains(expected), "{answer}");
    let (_, answer) = call(&client, "total", json!({ "tags": tags }));
    assert!(
        answer.contains("`tags[0]`: must be a string, found 0"),
        "{answer}"
    );
}

#[test]
fn after_a_burst_memory_is_returned_to_the_system() {
    let (_folder, server) = server("heavy-burst");
    let parts = vec![json!({"type": "text", "text": "a"}); 18_000];
    let arguments = json!({"messages": [{"role": "user", "content": &parts}], "max_tokens": 1});
    let clients: Vec<_> = (0..8).map(|_| server.client_with_token(ALICE)).collect();
    let burst = || -> Vec<u16> {
        thread::scope(|scope| {
            let calls: Vec<_> = clients
                .iter()
                .map(|client| scope.spawn(|| call(client, "chat", arguments.clone()).0))
                .collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        })
    };
    let peak = || memory_of(server.child.id(), "VmHWM") - memory_of(server.child.id(), "RssFile");
    // On a busy machine the calls may come one after another.
    for _ in 0..20 {
        let statuses = burst();
        assert!(statuses.contains(&200), "{statuses:?}");
        if peak() > 40 << 20 {
            break;
        }
    }
    let peak = peak();
    assert!(peak > 40 << 20, "{peak}");
    let started = Instant::now();
    while memory_of(server.child.id(), "RssAnon") > 40 << 20 {
        assert!(started.elapsed() < LIMIT, "peak {peak}");
        thread::park_timeout(Duration::from_millis(100));
    }
}
