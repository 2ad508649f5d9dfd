//! MCP over HTTP: sessions, streams, disconnects, the end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::support::http::{Client, Events, HttpServer, json_of, message_of, read_head, request};
use crate::support::schema::Conversation;
use crate::support::{CAPITALS, signal_processes, workers_of};

const FRANCE: &str = "What is the capital of France?";
const PARIS: &str = "The capital of France is Paris.";

fn france(client: &mut Client) -> String {
    client.chat(json!({"text": FRANCE, "temperature": 0}))
}

/// A request of `id` that ended without a result, and why.
fn assert_cancelled(answer: &Value, id: u64, reason: &str) {
    assert_eq!(answer["id"], id, "{answer}");
    let expected = json!({"code": -32800, "message": reason});
    assert_eq!(answer["error"], expected);
}

#[test]
fn the_documented_session_works_with_curl() {
    let server = HttpServer::tiny(&["--auth", "secret123"]);
    // As documented, with the port and the id in their places.
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
        conversation.sends(&request(id, method, json!({})).to_string());
    }
    let mut json = |line| message_of(line, &mut conversation);
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
fn the_answer_is_json_unless_the_client_lists_a_stream_and_there_are_news() {
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
    // Long enough for news: for the first client they cannot be told, for the second they are.
    let answer = json_of(&mut client.post(&call(1, "Sing forever.", 1500)));
    assert_eq!(answer["id"], 1);
    let messages: Vec<Value> = both.sing_for(2500, 2).collect();
    assert_eq!(messages.last().unwrap()["id"], 2);
    assert!(
        messages[..messages.len() - 1]
            .iter()
            .all(|news| news["method"] == "notifications/progress")
    );
    // Short: no news before the answer.
    let arguments = json!({"text": FRANCE, "temperature": 0});
    let silent = request(
        3,
        "tools/call",
        json!({"name": "chat", "arguments": arguments}),
    );
    let answer = json_of(&mut both.post(&silent));
    assert_eq!(answer["result"]["content"][0]["text"], PARIS);
    // A client that reads nothing else gets a stream in any case, for its first request too.
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
fn fifty_clients_at_once_get_their_own_answers() {
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

/// A connection whose request is on its way, in a session of its own.
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
fn a_client_that_goes_away_frees_its_place() {
    let server = HttpServer::tiny(&["--parallel", "1"]);
    let mut next = server.client();
    // One that reads events.
    drop(server.client().sing(1));
    assert_eq!(france(&mut next), PARIS);
    // Thirty that wait for their JSON: were they not noticed, their songs would take minutes.
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
    let mut events = Events::of(next.post(&request(9, "tools/call", call)));
    // The first news may come before the model's process has looked at the call.
    let queued = events.find(|news| {
        let message = news["params"]["message"].as_str();
        message.is_some_and(|message| message.starts_with("queued"))
    });
    assert!(queued.is_some());
    drop(gone);
    let answer = events.last().unwrap();
    assert_eq!(answer["result"]["content"][0]["text"], PARIS);
}

#[test]
fn the_end_of_a_session_ends_its_calls_and_its_stream_and_no_others() {
    let server = HttpServer::tiny(&["--parallel", "2"]);
    let (mut first, second) = (server.client(), server.client());
    let (sung_first, mut sung_second) = (first.sing(1), second.sing(1));
    let mut stream = first.send("GET", None);
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert_eq!(first.send("DELETE", None).status(), 204);
    assert_cancelled(&sung_first.last().unwrap(), 1, "the session was ended");
    assert_eq!(stream.body_mut().read_to_string().unwrap(), "");
    assert_eq!(first.send("DELETE", None).status(), 404);
    let mut response = first.post(&request(2, "ping", json!({})));
    assert_eq!(response.status(), 404);
    insta::assert_snapshot!(json_of(&mut response)["error"]["message"].as_str().unwrap(),
        @"unknown or ended session in `Mcp-Session-Id`; send `initialize` to open one");
    // The other one goes on, until its client goes away.
    assert_eq!(sung_second.next().unwrap()["params"]["progressToken"], 1);
    drop(sung_second);
    first = server.client();
    assert_eq!(france(&mut first), PARIS);
}

#[test]
fn a_cancelled_request_ends_with_an_error_so_that_its_client_does_not_wait() {
    let server = HttpServer::tiny(&["--parallel", "1"]);
    let mut client = server.client();
    let sung = client.sing(7);
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}});
    // Another session's request of the same id is another request.
    assert_eq!(server.client().post(&cancel).status(), 202);
    assert_eq!(client.request("ping", json!({}))["result"], json!({}));
    let response = client.post(&cancel);
    assert_eq!(response.status(), 202);
    assert_eq!(response.into_body().read_to_string().unwrap(), "");
    assert_cancelled(&sung.last().unwrap(), 7, "the request was cancelled");
    assert_eq!(france(&mut client), PARIS);
}

#[test]
fn slow_and_half_sent_requests_hold_up_nobody() {
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
    // Byte by byte is a request too.
    for byte in body.as_bytes() {
        slow.write_all(&[*byte]).unwrap();
    }
    assert!(read_head(&mut slow).starts_with("HTTP/1.1 200 OK"));
    assert_eq!(france(&mut client), PARIS);
    // After half a minute the server has waited long enough.
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
fn at_its_end_the_server_lets_running_calls_end_and_takes_no_more() {
    let mut server = HttpServer::tiny(&["--drain_time", "170"]);
    let client = server.client();
    // Long enough to outlast the listener, short enough for a slow machine.
    let songs: Vec<_> = (1..=4).map(|id| client.sing_for(1500, id)).collect();
    let mut stream = client.send("GET", None);
    // Half a head asks for nothing, so nothing waits for it.
    let mut half = server.connect();
    half.write_all(b"POST /mcp HTTP/1.1\r\n").unwrap();
    let workers = workers_of(server.child.id());
    signal_processes(&[&workers[..], &[server.child.id()]].concat(), "TERM");
    // As a terminal's Ctrl-C does.
    signal_processes(&workers, "INT");
    assert_eq!(stream.body_mut().read_to_string().unwrap(), "");
    // The listener goes a moment after the signal; the songs go on.
    server.wait_until_refused();
    for (song, id) in songs.into_iter().zip(1..) {
        let answer = song.last().unwrap();
        assert_eq!(answer["id"], id);
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with("la la"), "{answer}");
    }
    let log = server.log();
    assert!(!log.contains("still run"), "{log}");
    assert!(server.wait().success());
}

#[test]
fn what_runs_longer_than_the_end_may_take_is_cancelled() {
    for (flags, signals) in [(&["--drain_time", "0.1"][..], 1), (&[], 2)] {
        let mut server = HttpServer::tiny(flags);
        let song = server.client().sing(1);
        for _ in 0..signals {
            server.signal("TERM");
            // The second is one of its own only after the first has been seen.
            server.wait_for_log("ending by a signal");
        }
        assert_cancelled(&song.last().unwrap(), 1, "the server is shutting down");
        assert!(server.wait().success());
    }
}

#[test]
fn a_dead_worker_is_an_error_of_its_calls_and_the_session_goes_on() {
    let server = HttpServer::tiny(&[]);
    let mut client = server.client();
    let song = client.sing(1);
    signal_processes(&workers_of(server.child.id()), "KILL");
    let answer = song.last().unwrap();
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    assert_eq!(france(&mut client), PARIS);
}
