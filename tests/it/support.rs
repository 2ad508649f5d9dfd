//! Shared test support: server processes and their clients.

#[cfg(target_os = "linux")]
pub(crate) mod cgroup;
pub(crate) mod config;
mod edited_model;
pub(crate) mod example;
pub(crate) mod http;
#[cfg(target_os = "linux")]
mod linux;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod modern;
pub(crate) mod process;
pub(crate) mod random_model;
pub(crate) mod schema;
pub(crate) mod shell;
pub(crate) mod tags;
pub(crate) mod worker;

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) use edited_model::{
    tiny_with_replaced, tiny_with_template, tiny_with_text, with_tensor_type,
};
#[cfg(target_os = "linux")]
pub(crate) use linux::{memory_of, signal_process, signal_processes, wait_for_end_of};
use log::Log;
pub(crate) use process::{spawn_piped, wait_for_child_of, wait_for_worker_of, workers_of};
use schema::Conversation;

/// How long tests wait for a state. Loaded machines are slow, so this is generous; reaching it fails the test.
pub(crate) const LIMIT: Duration = Duration::from_mins(3);

/// The program under test.
pub(crate) fn program() -> Command {
    #[cfg(target_os = "linux")]
    linux::stop_ignoring_signals();
    let mut command = Command::new(env!("CARGO_BIN_EXE_llama-mcp-server"));
    command.env_remove("RUST_LOG").env_remove("LLAMA_MCP_AUTH");
    command
}

/// The tiny model, whose answers are known.
pub(crate) fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/tiny-crab-chat.Q8_0.gguf")
}

/// Countries and capitals that the tiny model knows.
pub(crate) const CAPITALS: [(&str, &str); 5] = [
    ("France", "Paris"),
    ("Peru", "Lima"),
    ("Cuba", "Havana"),
    ("Kenya", "Nairobi"),
    ("Japan", "Tokyo"),
];

/// The model `SmolLM2` 135M Instruct.
pub(crate) fn smollm2() -> PathBuf {
    downloaded_model("SmolLM2-135M-Instruct.Q4_1.gguf")
}

/// The model Gemma 3 270M: a base model with sliding-window attention.
pub(crate) fn gemma() -> PathBuf {
    downloaded_model("gemma-3-270m-q4_k_m.gguf")
}

fn downloaded_model(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("models")
        .join(name);
    assert!(
        path.exists(),
        "{} is missing: scripts/get-model gets `smollm2` and `gemma`",
        path.display()
    );
    path
}

/// A temporary file, deleted when dropped. Tests run in parallel, so each file needs a name of its own.
#[derive(Debug)]
pub(crate) struct TempFile(pub PathBuf);

impl TempFile {
    pub(crate) fn new(name: &str, content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("llama-mcp-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// A running server that is spoken to over stdio. Dropping it kills the process.
pub(crate) struct Server {
    pub child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    log: Log,
    conversation: Conversation,
    answers: HashMap<String, Value>,
    answered: HashSet<String>,
    /// Whether the test reuses ids, so that an id may be answered twice.
    pub(crate) expects_reuse: bool,
    pub notifications: Vec<Value>,
    next_id: u64,
}

impl Server {
    /// Starts a server with the tiny model, one compute thread, and `flags`.
    pub(crate) fn tiny(flags: &[&str]) -> Self {
        Self::start(&tiny(), flags)
    }

    pub(crate) fn start(model: &Path, flags: &[&str]) -> Self {
        let mut command = program();
        command
            .arg("--model")
            .arg(model)
            .args(["--n_threads", "1"])
            .args(flags);
        Self::spawn(command)
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = spawn_piped(&mut command);
        let stdout = child.stdout.take().unwrap();
        let (tx, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let line = line.unwrap();
                let value: Value =
                    serde_json::from_str(&line).unwrap_or_else(|_| json!({"not a message": line}));
                if tx.send(value).is_err() {
                    return;
                }
            }
        });
        let log = Log::follow(child.stderr.take().unwrap());
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
            log,
            conversation: Conversation::default(),
            answers: HashMap::new(),
            answered: HashSet::new(),
            expects_reuse: false,
            notifications: Vec::new(),
            next_id: 1,
        }
    }

    pub(crate) fn send_line(&mut self, line: &str) {
        self.conversation.record_sent(line);
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(line.as_bytes()).unwrap();
        stdin.write_all(b"\n").unwrap();
        stdin.flush().unwrap();
    }

    pub(crate) fn request(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send_line(
            &json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string(),
        );
        id
    }

    /// Performs the `initialize` handshake.
    pub(crate) fn initialize(&mut self) {
        let id = self.request("initialize", json!({}));
        self.response(id);
        self.notify("notifications/initialized", json!({}));
    }

    pub(crate) fn notify(&mut self, method: &str, params: Value) {
        self.send_line(&json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string());
    }

    pub(crate) fn cancel(&mut self, id: u64) {
        self.notify(
            "notifications/cancelled",
            json!({"requestId": id, "reason": "a test"}),
        );
    }

    /// Sends a call of the tool `chat` and returns its id, which is also its progress token.
    pub(crate) fn call(&mut self, arguments: Value) -> u64 {
        self.call_tool("chat", arguments)
    }

    /// Sends a call of the tool `name` and returns its id, which is also its progress token.
    pub(crate) fn call_tool(&mut self, name: &str, arguments: Value) -> u64 {
        let token = self.next_id;
        self.request(
            "tools/call",
            json!({"name": name, "arguments": arguments, "_meta": {"progressToken": token}}),
        )
    }

    /// Receives one message, checks that it is valid, and stores it. Returns `None` at the end of the stream.
    fn take(&mut self) -> Option<Value> {
        let message = self.lines.recv_timeout(LIMIT).ok()?;
        let checked = self.conversation.check_received(&message);
        assert_eq!(checked, Ok(()), "{message}");
        match message.get("id") {
            Some(id) => {
                let is_first = self.answered.insert(id.to_string());
                assert!(
                    is_first || id.is_null() || self.expects_reuse,
                    "{id} was answered twice"
                );
                self.answers.insert(id.to_string(), message.clone());
            }
            None => self.notifications.push(message.clone()),
        }
        Some(message)
    }

    /// Waits for the response to `id`.
    pub(crate) fn response(&mut self, id: impl Into<Value>) -> Value {
        let id = id.into().to_string();
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                return answer;
            }
            assert!(self.take().is_some(), "no answer to {id}");
        }
    }

    /// Returns whether the response to `id` has been received.
    pub(crate) fn has_answered(&self, id: u64) -> bool {
        self.answers.contains_key(&id.to_string())
    }

    /// Waits for a progress notification of call `id` that `wanted` accepts.
    pub(crate) fn wait_for_progress(&mut self, id: u64, wanted: impl Fn(&str) -> bool) {
        loop {
            let found = self.notifications.iter().any(|notification| {
                let params = &notification["params"];
                params["progressToken"] == id && params["message"].as_str().is_some_and(&wanted)
            });
            if found {
                return;
            }
            assert!(
                self.take().is_some(),
                "no such progress of {id}: {:?}",
                self.notifications
            );
        }
    }

    /// Waits until the server has logged `text`.
    pub(crate) fn wait_for_log(&self, text: &str) {
        self.log.wait_for(text);
    }

    /// Waits until the server has logged `text` at least `times` times.
    pub(crate) fn wait_for_log_times(&self, text: &str, times: usize) {
        self.log.wait_for_times(text, times);
    }

    /// Waits for a notification of `method` and removes it.
    pub(crate) fn wait_for_notification(&mut self, method: &str) {
        self.take_notification(method);
    }

    /// Waits for a notification of `method`, removes it, and returns it.
    pub(crate) fn take_notification(&mut self, method: &str) -> Value {
        loop {
            let mut notifications = self.notifications.iter();
            if let Some(at) =
                notifications.position(|notification| notification["method"] == method)
            {
                return self.notifications.remove(at);
            }
            assert!(self.take().is_some(), "no notification: {method}");
        }
    }

    /// Waits for the result of the tool call `id`.
    pub(crate) fn result(&mut self, id: u64) -> ToolResult {
        let response = self.response(id);
        let result = response
            .get("result")
            .unwrap_or_else(|| panic!("an error: {response}"));
        assert_eq!(result["content"].as_array().unwrap().len(), 1);
        assert_eq!(result["content"][0]["type"], "text");
        assert!(result.get("structuredContent").is_none());
        ToolResult {
            text: result["content"][0]["text"].as_str().unwrap().to_owned(),
            is_error: result["isError"] == true,
            generation: result["_meta"]["llama-mcp-server/generation"].clone(),
        }
    }

    /// Calls the tool `chat` and waits for the result, which must not be an error.
    pub(crate) fn chat(&mut self, arguments: Value) -> ToolResult {
        let id = self.call(arguments);
        let result = self.result(id);
        assert!(!result.is_error, "{}", result.text);
        result
    }

    /// Calls the tool `chat`, which must fail, and returns the error.
    pub(crate) fn refusal(&mut self, arguments: Value) -> String {
        let id = self.call(arguments);
        let result = self.result(id);
        assert!(result.is_error, "not refused: {}", result.text);
        result.text
    }

    /// Returns the process id of the server's worker, which it starts if necessary.
    pub(crate) fn worker_pid(&mut self) -> u32 {
        // Any answer of a model proves that its worker runs.
        self.chat(json!({"text": "Hi", "temperature": 0}));
        workers_of(self.child.id())[0]
    }

    /// Starts a call of `tool`, whose model must be loaded, and stops its worker, so that the call runs until it is cancelled. Returns the
    /// call's id and the worker's process id.
    #[cfg(target_os = "linux")]
    pub(crate) fn call_with_stopped_worker(&mut self, tool: &str) -> (u64, u32) {
        let id = self.call_tool(tool, json!({"text": "Hi", "max_tokens": 1}));
        assert!(!self.result(id).is_error);
        let worker = workers_of(self.child.id())[0];
        signal_process(worker, "STOP");
        let call = self.call_tool(tool, json!({"text": "Hi", "max_tokens": 1}));
        self.wait_for_progress(call, |_| true);
        (call, worker)
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn signal(&self, signal: &str) {
        signal_process(self.child.id(), signal);
    }

    /// Waits for the server to exit. Its output so far can still be read.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        #[cfg(target_os = "linux")]
        wait_for_end_of(self.child.id());
        self.child.wait().unwrap()
    }

    /// Returns all remaining messages, until stdout ends.
    pub(crate) fn remaining_messages(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.take()).collect()
    }

    /// Shuts the server down and returns its log.
    pub(crate) fn end(&mut self) -> String {
        self.close_stdin();
        self.wait();
        self.log.all()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolResult {
    pub text: String,
    pub is_error: bool,
    pub generation: Value,
}
