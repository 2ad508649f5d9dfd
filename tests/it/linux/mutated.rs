//! A hundred thousand messages of both eras, most of them broken, against one server: each request is answered once, nothing
//! ends, and nothing grows.

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

/// The same messages in every run.
const SEED: &str = "a hundred thousand messages";

/// What is waited for, by what stands in the message alone.
#[derive(Debug, PartialEq)]
enum Expected {
    /// Nothing: it is a notification, a response, or an empty line.
    Silence,
    /// An answer with this id, or `null` where it cannot be read.
    Answer(String),
}

/// What JSON-RPC says of `line`.
fn expected(line: &[u8]) -> Expected {
    if line.trim_ascii().is_empty() {
        return Expected::Silence;
    }
    let null = || Expected::Answer("null".into());
    let message = match serde_json::from_slice(line) {
        Ok(Value::Object(message)) => message,
        Ok(_) => return null(),
        // What is found in a broken message has tests of its own; here each is to be answered once.
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

/// The id that `line` cancels.
fn cancelled(line: &[u8]) -> Option<String> {
    // Half a character in the id is read by the server, not by `serde_json`.
    let Ok(Message::Notification(cancel)) = Message::parse(line) else {
        return None;
    };
    let is_cancel = cancel.method == "notifications/cancelled";
    let id = cancel.request_id.filter(|_| is_cancel)?;
    Some(json!(id).to_string())
}

/// How often each id was answered. Clones share it.
#[derive(Debug, Clone, Default)]
struct Answers(Arc<(Mutex<HashMap<String, usize>>, Condvar)>);

impl Answers {
    /// Counts what comes until stdout ends; the whole lines are given to the test by the ids that it `keeps`.
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

/// The server, what it was sent, and what must come of it.
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

    /// Waits until the answers are almost as far as the messages.
    fn catch_up(&mut self) {
        self.turns += 1;
        let id = format!("turn {}", self.turns);
        let ping = json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
        self.send(ping.to_string().as_bytes());
        self.answers.wait_for(&json!(id).to_string());
    }

    /// Calls the model, waits for the answer, and gives the memory that server and worker take then.
    fn call(&mut self, id: &str) -> [u64; 2] {
        let arguments = json!({"text": "What is the capital of Peru?", "temperature": 0});
        let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "chat", "arguments": arguments}});
        self.send(call.to_string().as_bytes());
        self.stdin.flush().unwrap();
        self.answers.wait_for(&json!(id).to_string());
        let server = self.child.id();
        let [worker] = workers_of(server)[..] else {
            panic!("it has one worker")
        };
        [server, worker].map(|process| memory_of(process, "VmRSS"))
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "what was measured is for people")]
fn a_hundred_thousand_broken_messages_are_each_answered_once_and_leave_nothing_behind() {
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
    let mut messages = Mutation::of(SEED);
    let mut send = |talk: &mut Conversation, count: usize| {
        for number in 0..count {
            talk.send(&messages.line());
            // Not more ahead than this, so that what waits is as much in the beginning as at the end.
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
    // Memory is not given back to the last byte; a message that left something would have left it ninety thousand times.
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

/// What a client sends over HTTP with `message`: in the modern era, the headers that its body repeats.
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

/// Sends `line`; gives the status, and asserts that the answer is that of the message.
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
        // An empty line is none over HTTP.
        Expected::Silence => assert!(
            status == 202 || line.trim().is_empty(),
            "{status} {body}: {line}"
        ),
    }
    status
}

#[test]
fn over_http_each_broken_message_gets_a_status_and_its_connection_goes_on() {
    let server = HttpServer::tiny(&["--n_ctx", "512"]);
    let seen: HashSet<u16> = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|number| {
                // Its agent keeps one connection alive.
                let mut client = server.client();
                client.header("accept", "application/json");
                let mut messages = Mutation::of(&format!("{SEED} over HTTP, {number}"));
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
