//! A hundred thousand messages of both eras, most of them broken, sent to one server: each request is answered once, nothing crashes, and
//! memory does not grow.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::http::{Client, HttpServer};
use crate::support::log::Log;
use llama_mcp_server::internals::jsonrpc::{Message, RequestId};

use crate::support::{LIMIT, memory_of, program, spawn_piped, tiny, workers_of};

mod mutation;

use mutation::Mutation;

/// Fixed, so that every run sends the same messages.
const SEED: &str = "a hundred thousand messages";

/// The expected reaction to a message.
#[derive(Debug, PartialEq)]
enum Expected {
    /// No response: the message is a notification, a response, or an empty line.
    Silence,
    /// A response with this id, or with `null` if the id cannot be read.
    Answer(String),
}

/// Returns the reaction to `line` that JSON-RPC requires.
fn expected(line: &[u8]) -> Expected {
    if line.trim_ascii().is_empty() {
        return Expected::Silence;
    }
    let null = || Expected::Answer("null".into());
    let message = match serde_json::from_slice(line) {
        Ok(Value::Object(message)) => message,
        Ok(_) => return null(),
        // Other tests check the errors of broken messages; this one checks that each is answered once.
        Err(_) => {
            let answer = |id: Option<RequestId>| Expected::Answer(json!(id).to_string());
            return match Message::parse(line) {
                Ok(Message::Request(request)) => answer(Some(request.id)),
                Ok(_) => Expected::Silence,
                Err(invalid) => answer(invalid.id),
            };
        }
    };
    let id = message.get("id");
    let readable = id.filter(|id| id.is_string() || id.is_number());
    let answer = || readable.map_or_else(null, |id| Expected::Answer(id.to_string()));
    let method = message.get("method");
    let is_response = message.contains_key("result") || message.contains_key("error");
    match (message.get("jsonrpc").and_then(Value::as_str), method) {
        (Some("2.0"), None) if is_response => Expected::Silence,
        (Some("2.0"), Some(Value::String(_))) if id.is_none() => Expected::Silence,
        _ => answer(),
    }
}

/// Returns the id that `line` cancels.
fn cancelled(line: &[u8]) -> Option<String> {
    // The server accepts an unpaired surrogate in the id, but `serde_json` does not.
    let Ok(Message::Notification(cancel)) = Message::parse(line) else {
        return None;
    };
    let is_cancel = cancel.method == "notifications/cancelled";
    let id = cancel.request_id.filter(|_| is_cancel)?;
    Some(json!(id).to_string())
}

/// Counts the responses to each id. Clones share the counts.
#[derive(Debug, Clone, Default)]
struct Answers(Arc<(Mutex<HashMap<String, usize>>, Condvar)>);

impl Answers {
    /// Counts responses until stdout ends. The thread returns the responses with the ids of calls that the test inspects.
    fn follow(stdout: ChildStdout) -> (Self, JoinHandle<HashMap<String, Value>>) {
        let answers = Self::default();
        let counted = answers.clone();
        let reader = thread::spawn(move || {
            let mut kept = HashMap::new();
            for line in BufReader::new(stdout).lines() {
                let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
                assert_eq!(message["jsonrpc"], "2.0", "{message}");
                let Some(id) = message.get("id") else {
                    assert!(message["method"].is_string(), "{message}");
                    continue;
                };
                assert!(
                    message.get("result").is_some() != message.get("error").is_some(),
                    "{message}"
                );
                let id = id.to_string();
                if id.contains("kept") {
                    kept.insert(id.clone(), message);
                }
                *counted.0.0.lock().unwrap().entry(id).or_default() += 1;
                counted.0.1.notify_all();
            }
            kept
        });
        (answers, reader)
    }

    fn wait_for(&self, id: &str) {
        let counts = self.0.0.lock().unwrap();
        let waited = self
            .0
            .1
            .wait_timeout_while(counts, LIMIT, |counts| !counts.contains_key(id));
        assert!(!waited.unwrap().1.timed_out(), "no answer to {id}");
    }
}

/// A server, the requests sent to it, and the responses expected from it.
struct Conversation {
    child: Child,
    stdin: ChildStdin,
    answers: Answers,
    wanted: HashMap<String, usize>,
    cancelled: HashSet<String>,
    turns: usize,
}

impl Conversation {
    fn send(&mut self, line: &[u8]) {
        if let Expected::Answer(id) = expected(line) {
            *self.wanted.entry(id).or_default() += 1;
        }
        self.cancelled.extend(cancelled(line));
        self.stdin.write_all(line).unwrap();
        self.stdin.write_all(b"\n").unwrap();
    }

    /// Waits until the server has almost caught up with the messages.
    fn catch_up(&mut self) {
        self.turns += 1;
        let id = format!("turn {}", self.turns);
        let ping = json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
        self.send(ping.to_string().as_bytes());
        self.answers.wait_for(&json!(id).to_string());
    }

    /// Calls the model, waits for the answer, and returns the memory of server and worker.
    fn call(&mut self, id: &str) -> [u64; 2] {
        let arguments = json!({"text": "What is the capital of Peru?", "temperature": 0});
        let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "chat", "arguments": arguments}});
        self.send(call.to_string().as_bytes());
        self.stdin.flush().unwrap();
        self.answers.wait_for(&json!(id).to_string());
        let server = self.child.id();
        let [worker] = workers_of(server)[..] else {
            panic!("the server has not exactly one worker")
        };
        [server, worker].map(|process| memory_of(process, "VmRSS"))
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "prints measurements for people")]
fn a_hundred_thousand_broken_messages_are_each_answered_once_and_leak_nothing() {
    let mut command = program();
    command
        .arg("--model")
        .arg(tiny())
        .args(["--n_threads", "1", "--n_ctx", "512"]);
    let mut child = spawn_piped(&mut command);
    let mut log = Log::follow(child.stderr.take().unwrap());
    let (answers, reader) = Answers::follow(child.stdout.take().unwrap());
    let mut talk = Conversation {
        stdin: child.stdin.take().unwrap(),
        child,
        answers,
        wanted: HashMap::new(),
        cancelled: HashSet::new(),
        turns: 0,
    };
    let started = Instant::now();
    let mut messages = Mutation::new(SEED);
    let mut send = |talk: &mut Conversation, count: usize| {
        for number in 0..count {
            talk.send(&messages.line());
            // Limits how far the messages run ahead, so that the same number of them is queued at both measurements.
            if number % 500 == 0 {
                talk.catch_up();
            }
        }
    };
    send(&mut talk, 10_000);
    let early = talk.call("kept 1");
    send(&mut talk, 90_000);
    let late = talk.call("kept 2");
    let elapsed = started.elapsed();
    drop(talk.stdin);
    let kept = reader.join().unwrap();
    assert!(talk.child.wait().unwrap().success());
    let log = log.all();
    assert!(!log.contains("panicked"), "{log}");
    for id in ["\"kept 1\"", "\"kept 2\""] {
        let text = &kept[id]["result"]["content"][0]["text"];
        assert_eq!(text, "The capital of Peru is Lima.");
    }
    let counts = std::mem::take(&mut *talk.answers.0.0.lock().unwrap());
    let strict = |id: &&String| !talk.cancelled.contains(*id);
    let mut requests = 0;
    for (id, wanted) in talk.wanted.iter().filter(|(id, _)| strict(id)) {
        assert_eq!(counts.get(id), Some(wanted), "{id} was sent {wanted} times");
        requests += wanted;
    }
    for (id, count) in &counts {
        assert!(
            talk.wanted.get(id).is_some_and(|wanted| count <= wanted),
            "{id}"
        );
    }
    assert!(requests > 70_000, "{requests} messages are requests");
    assert!(talk.cancelled.len() > 100 && counts["null"] > 10_000);
    // Memory use is not exact to the byte, but a leak of every message would have occurred ninety thousand times.
    for (name, early, late) in [("server", early[0], late[0]), ("worker", early[1], late[1])] {
        assert!(
            late < early + (8 << 20),
            "the {name} had {early} bytes, then {late}"
        );
    }
    println!(
        "100000 messages, {requests} answers that must come, in {elapsed:?}; bytes of server and worker: {early:?}, {late:?}"
    );
}

/// Returns the headers that a client sends over HTTP with `message`: in the modern era they repeat parts of the body.
fn headers_of(message: &Value) -> Option<[(&'static str, String); 2]> {
    let meta = &message["params"]["_meta"];
    let revision = meta["io.modelcontextprotocol/protocolVersion"].as_str()?;
    let method = message["method"].as_str()?;
    let is_sendable = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b'/')
    };
    (is_sendable(revision) && is_sendable(method)).then(|| {
        [
            ("mcp-protocol-version", revision.to_owned()),
            ("mcp-method", method.to_owned()),
        ]
    })
}

/// Sends `line`, asserts that the response belongs to it, and returns the status.
fn exchange(client: &Client, line: &str) -> u16 {
    let mut client = client.clone();
    let message: Value = serde_json::from_str(line).unwrap_or_default();
    for (name, value) in headers_of(&message).into_iter().flatten() {
        client.header(name, &value);
    }
    if let Some(name) = message["params"]["name"]
        .as_str()
        .filter(|name| *name == "chat")
    {
        client.header("mcp-name", name);
    }
    let mut response = client.send("POST", Some(line));
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_string().unwrap();
    match expected(line.as_bytes()) {
        Expected::Answer(id) if status != 406 => {
            let answer: Value =
                serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} {body:?}: {line}"));
            assert_eq!(answer["id"].to_string(), id, "{status} {body}: {line}");
        }
        Expected::Answer(_) => {}
        // An empty line is not a message over HTTP.
        Expected::Silence => assert!(
            status == 202 || line.trim().is_empty(),
            "{status} {body}: {line}"
        ),
    }
    status
}

#[test]
fn over_http_each_broken_message_gets_a_status_and_keeps_its_connection() {
    let server = HttpServer::tiny(&["--n_ctx", "512"]);
    let seen: HashSet<u16> = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|number| {
                // The client's agent keeps one connection alive.
                let mut client = server.client();
                client.header("accept", "application/json");
                let mut messages = Mutation::new(&format!("{SEED} over HTTP, {number}"));
                scope.spawn(move || {
                    let lines =
                        (0..1000).map(|_| String::from_utf8_lossy(&messages.line()).into_owned());
                    lines
                        .map(|line| exchange(&client, &line))
                        .collect::<HashSet<u16>>()
                })
            })
            .collect();
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    });
    let known = HashSet::from([200, 202, 400, 404, 406]);
    assert_eq!(seen, known, "each of them comes, and no other");
    assert_eq!(
        server
            .client()
            .chat(json!({"text": "What is the capital of Peru?", "temperature": 0})),
        "The capital of Peru is Lima."
    );
}
