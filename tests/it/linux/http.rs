//! MCP over HTTP: sessions, streams, disconnects, shutdown.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::support::http::{
    Client, Events, HttpServer, parse_message, read_head, read_message, request,
};
use crate::support::schema::Conversation;
use crate::support::{CAPITALS, signal_processes, workers_of};

const FRANCE: &str = "What is the capital of France?";
const PARIS: &str = "The capital of France is Paris.";

fn france(client: &mut Client) -> String {
    client.chat(json!({"text": FRANCE, "temperature": 0}))
}

/// Asserts that request `id` was cancelled for this reason.
fn assert_cancelled(answer: &Value, id: u64, reason: &str) {
    assert_eq!(answer["id"], id, "{answer}");
    let expected = json!({"code": -32800, "message": reason});
    assert_eq!(answer["error"], expected);
}

#[test]
fn the_documented_session_works_with_curl() {
    let server = HttpServer::tiny(&["--auth", "secret123"]);
    // The documented commands, with their port and session id replaced.
    let script = r#"
        set -eu
        curl -s -D- -X POST http://127.0.0.1:8080/mcp \
          -H "Authorization: Bearer secret123" \
          -H "Content-Type: application/json" \
          -d '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}' >"$folder/initialize"
        cat "$folder/initialize"; echo
        session=$(sed -n 's/^mcp-session-id: \([^\r]*\)\r$/\1/Ip' "$folder/initialize")
        curl -s -X POST http://127.0.0.1:8080/mcp \
          -H "Authorization: Bearer secret123" \
          -H "Content-Type: application/json" \
          -H "Mcp-Session-Id: $session" \
          -d '{"jsonrpc":"2.0","id":2,"method":"tools/list"}'; echo
        curl -s -X POST http://127.0.0.1:8080/mcp \
          -H "Authorization: Bearer secret123" \
          -H "Content-Type: application/json" \
          -H "Mcp-Session-Id: $session" \
          -d '{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"chat","arguments":{"text":"What is the capital of France?","temperature":0}}}'; echo
        curl -s -X DELETE http://127.0.0.1:8080/mcp \
          -H "Authorization: Bearer secret123" \
          -H "Mcp-Session-Id: $session" -w '%{http_code}\n'
        curl -s -X POST http://127.0.0.1:8080/mcp \
          -H "Authorization: Bearer secret123" \
          -H "Content-Type: application/json" \
          -H "Mcp-Session-Id: $session" \
          -d '{"jsonrpc":"2.0","id":4,"method":"tools/list"}' -w '\n%{http_code}\n' | tail -1
    "#
    .replace("127.0.0.1:8080", &server.address.to_string());
    let folder = std::env::temp_dir().join(format!("llama-mcp-{}-curl", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let output = Command::new("bash")
        .args(["-c", &script])
        .env("folder", &folder)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    let [.., initialized, listed, called, deleted, afterwards] = lines[..] else {
        panic!("{text}")
    };
    assert_eq!(lines[0], "HTTP/1.1 200 OK");
    let mut conversation = Conversation::default();
    for (id, method) in [(1, "initialize"), (2, "tools/list"), (3, "tools/call")] {
        conversation.record_sent(&request(id, method, json!({})).to_string());
    }
    let mut json = |line| parse_message(line, &mut conversation);
    let result = &json(initialized)["result"];
    assert_eq!(result["protocolVersion"], "2024-11-05");
    assert_eq!(
        result["capabilities"],
        json!({"tools": {"listChanged": true}})
    );
    assert_eq!(json(listed)["result"]["tools"][0]["name"], "chat");
    assert_eq!(json(called)["result"]["content"][0]["text"], PARIS);
    assert_eq!((deleted, afterwards), ("204", "404"));
}

#[test]
fn the_response_is_json_unless_the_client_accepts_a_stream_and_there_is_progress() {
    let server = HttpServer::tiny(&[]);
    let client = server.client();
    let call = |id: u64, text: &str, max_tokens: u64| {
        let arguments =
            json!({"text": text, "temperature": 0, "repeat_penalty": 1, "max_tokens": max_tokens});
        let params =
            json!({"name": "chat", "arguments": arguments, "_meta": {"progressToken": id}});
        request(id, "tools/call", params)
    };
    let both = {
        let mut client = client.clone();
        client.header("accept", "application/json, text/event-stream");
        client
    };
    // Long enough for progress notifications, which the first client cannot receive and the second one can.
    let answer = read_message(&mut client.post(&call(1, "Sing forever.", 1500)));
    assert_eq!(answer["id"], 1);
    let messages: Vec<Value> = both.start_long_call(2500, 2).collect();
    assert_eq!(messages.last().unwrap()["id"], 2);
    assert!(
        messages[..messages.len() - 1]
            .iter()
            .all(|notification| notification["method"] == "notifications/progress")
    );
    // Too short for a progress notification.
    let arguments = json!({"text": FRANCE, "temperature": 0});
    let silent = request(
        3,
        "tools/call",
        json!({"name": "chat", "arguments": arguments}),
    );
    let answer = read_message(&mut both.post(&silent));
    assert_eq!(answer["result"]["content"][0]["text"], PARIS);
    // A client that accepts only event streams always gets one, even for its first request.
    let mut stream_only = client;
    stream_only.header("accept", "text/event-stream");
    let mut response = stream_only.post(&request(4, "ping", json!({})));
    let body = response.body_mut().read_to_string().unwrap();
    assert_eq!(
        body,
        "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":4,\"result\":{}}\n\n"
    );
    let first = stream_only.post(&request(5, "initialize", json!({})));
    assert_eq!(first.headers()["content-type"], "text/event-stream");
    let mut json_only = server.client();
    json_only.header("accept", "application/json");
    assert_eq!(json_only.send("GET", None).status(), 406);
}

#[test]
fn fifty_concurrent_clients_get_their_own_answers() {
    let server = HttpServer::tiny(&[]);
    thread::scope(|scope| {
        for n in 0..50 {
            let mut client = server.client();
            scope.spawn(move || {
                for turn in 0..3 {
                    let (country, capital) = CAPITALS[(n + turn) % CAPITALS.len()];
                    let text = format!("What is the capital of {country}?");
                    let answer = client.chat(json!({"text": text, "temperature": 0}));
                    assert_eq!(answer, format!("The capital of {country} is {capital}."));
                }
            });
        }
    });
}

/// Sends a request in a session of its own, and returns the connection without reading the response.
fn post_and_leave(server: &HttpServer, message: &Value) -> TcpStream {
    let mut stream = server.connect();
    let body = message.to_string();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nMcp-Session-Id: {}\r\nContent-Length: {}\r\n\r\n",
        server.client().session(),
        body.len()
    );
    stream
        .write_all(format!("{head}{body}").as_bytes())
        .unwrap();
    stream
}

#[test]
fn a_disconnected_client_frees_its_sequence() {
    let server = HttpServer::tiny(&["--parallel", "1"]);
    let mut next = server.client();
    // A client that reads events.
    drop(server.client().start_endless_call(1));
    assert_eq!(france(&mut next), PARIS);
    // Thirty clients that wait for JSON. If the server did not notice their disconnects, their songs would take minutes.
    let arguments =
        json!({"text": "Sing forever.", "temperature": 0, "repeat_penalty": 1, "max_tokens": 4000});
    let song = request(
        2,
        "tools/call",
        json!({"name": "chat", "arguments": arguments}),
    );
    let gone: Vec<_> = (0..30).map(|_| post_and_leave(&server, &song)).collect();
    let text = json!({"text": FRANCE, "temperature": 0});
    let call = json!({"name": "chat", "arguments": text, "_meta": {"progressToken": 1}});
    next.header("accept", "application/json, text/event-stream");
    let mut events = Events::new(next.post(&request(9, "tools/call", call)));
    // The first notification may come before the worker has seen the call.
    let queued = events.find(|notification| {
        let message = notification["params"]["message"].as_str();
        message.is_some_and(|message| message.starts_with("queued"))
    });
    assert!(queued.is_some());
    drop(gone);
    let answer = events.last().unwrap();
    assert_eq!(answer["result"]["content"][0]["text"], PARIS);
}

#[test]
fn ending_a_session_ends_only_its_own_calls_and_stream() {
    let server = HttpServer::tiny(&["--parallel", "2"]);
    let (mut first, second) = (server.client(), server.client());
    let (sung_first, mut sung_second) = (first.start_endless_call(1), second.start_endless_call(1));
    let mut stream = first.send("GET", None);
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert_eq!(first.send("DELETE", None).status(), 204);
    assert_cancelled(&sung_first.last().unwrap(), 1, "the session was ended");
    assert_eq!(stream.body_mut().read_to_string().unwrap(), "");
    assert_eq!(first.send("DELETE", None).status(), 404);
    let mut response = first.post(&request(2, "ping", json!({})));
    assert_eq!(response.status(), 404);
    insta::assert_snapshot!(read_message(&mut response)["error"]["message"].as_str().unwrap(),
        @"unknown or ended session in `Mcp-Session-Id`; send `initialize` to open one");
    // The call of the other session goes on until its client disconnects.
    assert_eq!(sung_second.next().unwrap()["params"]["progressToken"], 1);
    drop(sung_second);
    first = server.client();
    assert_eq!(france(&mut first), PARIS);
}

#[test]
fn a_cancelled_request_gets_an_error_so_that_its_client_does_not_wait() {
    let server = HttpServer::tiny(&["--parallel", "1"]);
    let mut client = server.client();
    let sung = client.start_endless_call(7);
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}});
    // The same id in another session is a different request.
    assert_eq!(server.client().post(&cancel).status(), 202);
    assert_eq!(client.request("ping", json!({}))["result"], json!({}));
    let response = client.post(&cancel);
    assert_eq!(response.status(), 202);
    assert_eq!(response.into_body().read_to_string().unwrap(), "");
    assert_cancelled(&sung.last().unwrap(), 7, "the request was cancelled");
    assert_eq!(france(&mut client), PARIS);
}

#[test]
fn slow_and_incomplete_requests_do_not_block_others() {
    let server = HttpServer::tiny(&[]);
    let mut client = server.client();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nMcp-Session-Id: {}\r\n",
        client.session()
    );
    let body = request(1, "ping", json!({})).to_string();
    let half = |text: &str| {
        let mut stream = server.connect();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let whole_head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
    let mut slow = half(&whole_head);
    let half_head = half(&head);
    let half_body = half(&format!("{whole_head}{}", &body[..10]));
    let given_up = half(&format!("{whole_head}{}", &body[..10]));
    drop(given_up);
    // A request that arrives byte by byte is served.
    for byte in body.as_bytes() {
        slow.write_all(&[*byte]).unwrap();
    }
    assert!(read_head(&mut slow).starts_with("HTTP/1.1 200 OK"));
    assert_eq!(france(&mut client), PARIS);
    // After half a minute the server stops waiting.
    let rest = |mut stream: TcpStream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    assert!(rest(half_body).starts_with("HTTP/1.1 408 Request Timeout"));
    assert_eq!(rest(half_head), "");
    assert_eq!(france(&mut client), PARIS);
}

#[test]
fn a_graceful_shutdown_finishes_running_calls_and_accepts_no_new_ones() {
    let mut server = HttpServer::tiny(&["--drain_time", "170"]);
    let client = server.client();
    // Long enough to outlast the listener, short enough for a slow machine.
    let songs: Vec<_> = (1..=4).map(|id| client.start_long_call(1500, id)).collect();
    let mut stream = client.send("GET", None);
    // Half a head is not a request, so the shutdown does not wait for it.
    let mut half = server.connect();
    half.write_all(b"POST /mcp HTTP/1.1\r\n").unwrap();
    let workers = workers_of(server.child.id());
    signal_processes(&[&workers[..], &[server.child.id()]].concat(), "TERM");
    // Like Ctrl-C in a terminal, which signals all processes.
    signal_processes(&workers, "INT");
    assert_eq!(stream.body_mut().read_to_string().unwrap(), "");
    // The listener closes shortly after the signal; the songs go on.
    server.wait_until_refused();
    for (song, id) in songs.into_iter().zip(1..) {
        let answer = song.last().unwrap();
        assert_eq!(answer["id"], id);
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with("la la"), "{answer}");
    }
    let log = server.end();
    assert!(!log.contains("still run"), "{log}");
    assert!(server.wait().success());
}

#[test]
fn calls_that_outlast_the_drain_time_are_cancelled() {
    for (flags, signals) in [(&["--drain_time", "0.1"][..], 1), (&[], 2)] {
        let mut server = HttpServer::tiny(flags);
        let song = server.client().start_endless_call(1);
        for _ in 0..signals {
            server.signal("TERM");
            // The second signal counts only once the first one has been handled.
            server.wait_for_log("ending by a signal");
        }
        assert_cancelled(&song.last().unwrap(), 1, "the server is shutting down");
        assert!(server.wait().success());
    }
}

#[test]
fn a_dead_worker_fails_its_calls_and_the_session_is_ahead() {
    let server = HttpServer::tiny(&[]);
    let mut client = server.client();
    let song = client.start_endless_call(1);
    signal_processes(&workers_of(server.child.id()), "KILL");
    let answer = song.last().unwrap();
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    assert_eq!(france(&mut client), PARIS);
}
