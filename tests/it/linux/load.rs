//! Two hundred concurrent connections: well-behaved clients next to clients that are slow, stall, or disconnect. Each call of a
//! well-behaved client is answered, and nothing is left behind. `scripts/load` runs this for longer.

mod heavy;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::{Client, Events, HttpServer, request};
use crate::support::modern;
use crate::support::{CAPITALS, LIMIT, memory_of, program, signal_process, tiny, workers_of};

/// Seconds of load, unless the environment sets them.
const SECONDS: u64 = 6;

/// Connections of each kind of client.
const EACH: usize = 50;

/// Limits of messages, sessions and queued calls: exactly enough for the load.
const ALLOWED: usize = 4 * EACH;

const PARALLEL: usize = 4;

fn server() -> HttpServer {
    let mut command = program();
    command.arg("--model").arg(tiny()).args([
        "--n_threads",
        "1",
        "--parallel",
        &PARALLEL.to_string(),
    ]);
    let allowed = ALLOWED.to_string();
    for (key, value) in [
        ("max_calls", allowed.as_str()),
        ("max_sessions", &allowed),
        ("max_queue", &allowed),
        // Short, so that stalled clients run into the timeout.
        ("header_time", "5s"),
        ("body_time", "5s"),
    ] {
        command.args(["--set", &format!("server.{key}={value}")]);
    }
    HttpServer::spawn(command)
}

/// The time at which the load ends.
#[derive(Clone, Copy)]
struct Deadline(Instant);

impl Deadline {
    fn is_ahead(self) -> bool {
        Instant::now() < self.0
    }
}

fn call(id: u64, country: &str) -> Value {
    let text = format!("What is the capital of {country}?");
    let arguments = json!({"text": text, "temperature": 0});
    request(
        id,
        "tools/call",
        json!({"name": "chat", "arguments": arguments}),
    )
}

/// Calls repeatedly in a session of its own, and returns the latency of each call.
fn honest(
    server: &HttpServer,
    number: usize,
    deadline: Deadline,
    served: &AtomicUsize,
) -> Vec<Duration> {
    let mut client = server.client();
    let mut times = Vec::new();
    while times.is_empty() || deadline.is_ahead() {
        let (country, capital) = CAPITALS[(number + times.len()) % CAPITALS.len()];
        let text = format!("What is the capital of {country}?");
        let started = Instant::now();
        let answer = client.chat(json!({"text": text, "temperature": 0}));
        if times.is_empty() {
            served.fetch_add(1, Ordering::Relaxed);
        }
        times.push(started.elapsed());
        assert_eq!(answer, format!("The capital of {country} is {capital}."));
    }
    assert_eq!(client.send("DELETE", None).status(), 204);
    times
}

fn head_of(body: &str, session: Option<&str>) -> String {
    let session = session.map_or_else(String::new, |session| {
        format!("Mcp-Session-Id: {session}\r\n")
    });
    format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{session}Content-Length: {}\r\n\r\n",
        body.len()
    )
}

/// Sends one byte every 100 ms, of the head or, after a whole head, of the body.
fn slow(server: &HttpServer, number: usize, deadline: Deadline) {
    let body = modern::request(1, "tools/list", json!({})).to_string();
    let head = head_of(&body, None);
    while deadline.is_ahead() {
        let mut stream = server.connect();
        let rest = if number.is_multiple_of(2) {
            format!("{head}{body}")
        } else {
            stream.write_all(head.as_bytes()).unwrap();
            body.clone()
        };
        for byte in rest.bytes() {
            // The server gives up first.
            if !deadline.is_ahead() || stream.write_all(&[byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Sends half a head or half a body, and waits for the server's timeout.
fn stalled(server: &HttpServer, number: usize, deadline: Deadline) {
    let body = call(1, "Peru").to_string();
    let head = head_of(&body, None);
    while deadline.is_ahead() {
        let mut stream = server.connect();
        let connected = Instant::now();
        let half = if number.is_multiple_of(2) {
            head[..head.len() / 2].to_owned()
        } else {
            format!("{head}{}", &body[..body.len() / 2])
        };
        let sent = stream.write_all(half.as_bytes());
        if connected.elapsed() > Duration::from_secs(2) {
            // On a busy machine the timeout may already have passed.
            continue;
        }
        sent.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let expected: &[u8] = if number.is_multiple_of(2) {
            b""
        } else {
            b"HTTP/1.1 408"
        };
        assert!(answer.starts_with(expected), "{}", answer.escape_ascii());
    }
}

/// Starts a song and disconnects in the middle of it.
fn closing(server: &HttpServer, number: usize, deadline: Deadline) {
    let client = server.client();
    let arguments =
        json!({"text": "Sing forever.", "temperature": 0, "repeat_penalty": 1, "max_tokens": 4000});
    let song = json!({"name": "chat", "arguments": arguments});
    let body = request(1, "tools/call", song).to_string();
    while deadline.is_ahead() {
        let mut stream: TcpStream = server.connect();
        let head = head_of(&body, Some(client.session()));
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .unwrap();
        // Before the song has started, or in the middle of it.
        thread::sleep(Duration::from_millis(50 * (1 + number as u64 % 10)));
    }
    assert_eq!(client.send("DELETE", None).status(), 204);
}

fn descriptors(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .count()
}

/// Returns the memory of the server and its worker, in bytes.
fn memory(server: &HttpServer) -> [u64; 2] {
    let id = server.child.id();
    let [worker] = workers_of(id)[..] else {
        panic!("the server has not exactly one worker")
    };
    [id, worker].map(|process| memory_of(process, "VmRSS"))
}

/// Uses every permit, session and sequence, so that a leak of one would show.
fn assert_nothing_leaked(server: &HttpServer) {
    let clients: Vec<Client> = (0..ALLOWED).map(|_| server.client()).collect();
    let (singing, asking) = clients.split_at(PARALLEL);
    // Each song starts only when it generates text, so all sequences are in use.
    let songs: Vec<Events> = singing
        .iter()
        .map(|client| client.start_endless_call(1))
        .collect();
    // The songs last until all other calls have queued.
    let worker = workers_of(server.child.id())[0];
    signal_process(worker, "STOP");
    thread::scope(|scope| {
        let calls: Vec<_> = asking
            .iter()
            .map(|client| {
                let mut client = client.clone();
                client.header("accept", "application/json, text/event-stream");
                scope.spawn(move || Events::new(client.post(&with_progress(&call(1, "Peru")))))
            })
            .collect();
        // The first event of each call states its position in the queue, while the songs are still running.
        let mut waiting: Vec<Events> = calls.into_iter().map(|call| call.join().unwrap()).collect();
        let refused = asking[0].post(&request(2, "ping", json!({})));
        assert_eq!(
            refused.status(),
            503,
            "there are {ALLOWED} places and no more"
        );
        drop(songs);
        signal_process(worker, "CONT");
        for events in &mut waiting {
            let answer = events.last().unwrap();
            assert_eq!(
                answer["result"]["content"][0]["text"],
                "The capital of Peru is Lima."
            );
        }
    });
    for client in clients {
        assert_eq!(client.send("DELETE", None).status(), 204);
    }
}

fn with_progress(call: &Value) -> Value {
    let mut call = call.clone();
    call["params"]["_meta"]["progressToken"] = 1.into();
    call
}

#[test]
#[expect(clippy::print_stdout, reason = "prints measurements for people")]
fn every_honest_call_is_answered_among_misbehaving_clients_and_nothing_leaks() {
    let seconds = std::env::var("LOAD_SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let server = server();
    {
        let mut client = server.client();
        client.chat(json!({"text": "Hi", "temperature": 0}));
        assert_eq!(client.send("DELETE", None).status(), 204);
    }
    let process = server.child.id();
    let before = settled_descriptors(process, 0);
    let started = Instant::now();
    let deadline = Deadline(started + Duration::from_secs(seconds));
    let times = Mutex::new(Vec::new());
    let served = AtomicUsize::new(0);
    let (times, server, served) = (&times, &server, &served);
    let mut early = [0; 2];
    thread::scope(|scope| {
        for number in 0..EACH {
            scope.spawn(move || {
                let taken = honest(server, number, deadline, served);
                times.lock().unwrap().extend(taken);
            });
            scope.spawn(move || slow(server, number, deadline));
            scope.spawn(move || stalled(server, number, deadline));
            scope.spawn(move || closing(server, number, deadline));
        }
        // By then, every client has connected several times.
        thread::sleep(Duration::from_secs(seconds) / 2);
        while served.load(Ordering::Relaxed) < EACH && started.elapsed() < LIMIT {
            thread::sleep(Duration::from_millis(10));
        }
        early = memory(server);
    });
    let late = memory(server);
    let elapsed = started.elapsed();
    assert_nothing_leaked(server);
    let after = settled_descriptors(process, before);
    assert!(after <= before, "{before} open files, then {after}");
    let mut times = std::mem::take(&mut *times.lock().unwrap());
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    println!(
        "{} honest calls in {elapsed:?}: p50 {:?}, p99 {:?}; bytes of server and worker: {early:?}, {late:?}; {after} open files",
        times.len(),
        at(50),
        at(99)
    );
    assert!(times.len() >= EACH, "each was served");
    for (name, early, late) in [("server", early[0], late[0]), ("worker", early[1], late[1])] {
        assert!(
            late < early + (16 << 20),
            "the {name} had {early} bytes, then {late}"
        );
    }
}

/// Returns the number of open files of `process` once it is at most `wanted` or stops falling.
fn settled_descriptors(process: u32, wanted: usize) -> usize {
    let started = Instant::now();
    let limit = if wanted == 0 {
        Duration::from_secs(1)
    } else {
        LIMIT
    };
    loop {
        let count = descriptors(process);
        if count <= wanted || started.elapsed() > limit {
            return count;
        }
        thread::yield_now();
    }
}
