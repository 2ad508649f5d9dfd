//! Calls that cannot go on, such as those with a slow template or a file on a drive that hangs, do not keep others from being answered.
//!
//! More calls stall at once than the server's runtime has threads.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::support::config::Folder;
use crate::support::http::{Client, Events, HttpServer, request};
use crate::support::{Server, program, signal_process, workers_of};

/// Number of calls that stall.
const STALLED: usize = 4;

/// Id of each call over HTTP, in a session of its own.
const CALL: u64 = 1000;

/// A tool whose template takes a large part of the steps that a prompt may take.
const SLOW: &str = r#"
[models.chat]
path = "crab.gguf"
n_threads = 1
[tools.title]
prompt = """
{% for i in range(10000) %}{% for j in range(10000) %}{% set _ = text | title %}{% endfor %}{% endfor %}
"""
[tools.title.arguments.text]
"#;

fn long_text() -> Value {
    json!({"text": "a".repeat(60_000)})
}

/// Sends a call of a client of its own.
fn send(server: &HttpServer, tool: &str, arguments: &Value) -> (Client, Events) {
    let client = server.client();
    let call = json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": CALL}});
    let mut sender = client.clone();
    sender.header("accept", "application/json, text/event-stream");
    let events = Events::new(sender.post(&request(CALL, "tools/call", call)));
    (client, events)
}

/// Sends a call of each of several clients, and waits until all are under way.
fn stall(server: &HttpServer, tool: &str, arguments: &Value) -> Vec<(Client, Events)> {
    let call = || {
        let (client, mut events) = send(server, tool, arguments);
        let first = events.next().unwrap();
        assert_eq!(first["method"], "notifications/progress", "{first}");
        (client, events)
    };
    thread::scope(|scope| {
        let calls: Vec<_> = (0..STALLED).map(|_| scope.spawn(call)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    })
}

/// Asserts that another client is answered, and that each of `calls`, which have no answer yet, ends when its client cancels it.
fn assert_served_over_http(server: &HttpServer, calls: Vec<(Client, Events)>) {
    let mut other = server.client();
    assert_eq!(other.request("ping", json!({}))["result"], json!({}));
    assert!(!other.tools().is_empty());
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": CALL}});
    for (client, events) in calls {
        assert_eq!(client.post(&cancel).status(), 202);
        let end = events.last().unwrap();
        assert_eq!(end["error"]["message"], "the request was cancelled");
    }
    assert_eq!(other.request("ping", json!({}))["result"], json!({}));
}

/// Sends several calls, and asserts that requests after them are answered first and that each call ends when it is cancelled.
fn assert_served_over_stdio(server: &mut Server, tool: &str, arguments: &Value) {
    let call = |_| server.call_tool(tool, arguments.clone());
    let calls: Vec<u64> = (0..STALLED).map(call).collect();
    for call in &calls {
        server.wait_for_progress(*call, |_| true);
    }
    for method in ["ping", "tools/list"] {
        let id = server.request(method, json!({}));
        assert!(server.response(id)["result"].is_object());
    }
    for call in &calls {
        server.cancel(*call);
    }
    // What is read after a cancel is answered once the call has ended.
    let ping = server.request("ping", json!({}));
    server.response(ping);
    assert!(!calls.iter().any(|call| server.has_answered(*call)));
}

#[test]
fn slow_templates_hold_up_no_other_request() {
    let folder = Folder::new("stalls-template", SLOW);
    let mut command = program();
    command.current_dir(&folder.0);
    let mut server = Server::spawn(command);
    // The prompts of one client are rendered one after the other, so the last call is not answered for a while.
    let call = |_| server.call_tool("title", long_text());
    let calls: Vec<u64> = (0..2 * STALLED).map(call).collect();
    for method in ["ping", "tools/list"] {
        let id = server.request(method, json!({}));
        assert!(server.response(id)["result"].is_object());
    }
    assert!(!server.has_answered(calls[calls.len() - 1]));
}

#[test]
fn a_stopped_process_with_a_full_pipe_holds_up_no_other_client() {
    let server = HttpServer::tiny(&["--set", "registry.stall_timeout=never"]);
    server.client().chat(json!({"text": "Hi", "max_tokens": 1}));
    signal_process(workers_of(server.child.id())[0], "STOP");
    let calls = stall(&server, "chat", &long_text());
    assert_served_over_http(&server, calls);
}

#[test]
fn a_stopped_process_with_a_full_pipe_holds_up_no_other_request_over_stdio() {
    let mut server = Server::tiny(&["--set", "registry.stall_timeout=never"]);
    signal_process(server.worker_pid(), "STOP");
    assert_served_over_stdio(&mut server, "chat", &long_text());
}

/// How long the kernel lets a lease hold up others (`/proc/sys/fs/lease-break-time`), less a margin.
const LEASE_TIME: Duration = Duration::from_secs(40);

/// Takes a lease on the file that it is given, which holds up whoever opens it, and prints `wanted` once somebody does.
const LEASE: &str = "
import fcntl, os, signal, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
signal.signal(signal.SIGIO, lambda *_: print('wanted', flush=True))
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
sys.stdin.read()
";

/// A file that cannot be opened, as on a drive that hangs.
struct Lease {
    holder: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Lease {
    fn take(file: &Path) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", LEASE]).arg(file);
        let mut holder = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(holder.stdout.take().unwrap());
        let mut lease = Self { holder, output };
        assert_eq!(lease.line(), "held\n");
        lease
    }

    /// Waits until somebody tries to open the file.
    fn wait_until_wanted(&mut self) {
        assert_eq!(self.line(), "wanted\n");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// Two models, of which `late` has a file that tests hold up.
const TWO: &str = "
[models.chat]
path = \"crab.gguf\"
n_threads = 1
[models.late]
path = \"late.gguf\"
n_threads = 1
";

#[test]
fn a_model_file_that_cannot_be_opened_holds_up_no_other_client() {
    // The kernel ends a lease after a while. On a very busy machine that may be too early.
    let is_served_in_time = || {
        let folder = Folder::new("stalls-file", TWO);
        let late = folder.0.join("late.gguf");
        std::fs::copy(folder.0.join("crab.gguf"), &late).unwrap();
        let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
        let mut other = server.client();
        other.chat(json!({"text": "Hi", "max_tokens": 1}));
        let file = File::options().append(true).open(&late).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        drop(file);
        let mut lease = Lease::take(&late);
        let started = Instant::now();
        // The reload reads the file, and so does each call.
        server.signal("HUP");
        lease.wait_until_wanted();
        let song = json!({"text": "Sing forever.", "repeat_penalty": 1, "max_tokens": 4000});
        let calls = stall(&server, "late", &song);
        other.chat(json!({"text": "Hi", "max_tokens": 1}));
        assert_served_over_http(&server, calls);
        started.elapsed() < LEASE_TIME
    };
    assert!((0..5).any(|_| is_served_in_time()));
}
