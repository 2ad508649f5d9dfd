//! A server process and its client.

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

pub(crate) use edited_model::{tiny_saying, tiny_with, tiny_with_template, with_tensor_type};
#[cfg(target_os = "linux")]
pub(crate) use linux::{memory_of, signal_process, signal_processes, wait_for_end_of};
use log::Log;
pub(crate) use process::{spawn_piped, wait_for_child_of, wait_for_worker_of, workers_of};
use schema::Conversation;

/// How long a state may take to come: a loaded machine is slow, and a test that waits longer has failed.
pub(crate) const LIMIT: Duration = Duration::from_mins(3);

/// The program under test.
pub(crate) fn program() -> Command {
    #[cfg(target_os = "linux")]
    linux::stop_ignoring_signals();
    let mut command = Command::new(env!("CARGO_BIN_EXE_llama-mcp-server"));
    command.env_remove("RUST_LOG").env_remove("LLAMA_MCP_AUTH");
    command
}

/// A tiny model whose answers are known.
pub(crate) fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/tiny-crab-chat.Q8_0.gguf")
}

/// Countries that it knows, and their capitals.
pub(crate) const CAPITALS: [(&str, &str); 5] = [
    ("France", "Paris"),
    ("Peru", "Lima"),
    ("Cuba", "Havana"),
    ("Kenya", "Nairobi"),
    ("Japan", "Tokyo"),
];

/// `SmolLM2` 135M Instruct.
pub(crate) fn smollm2() -> PathBuf {
    real("SmolLM2-135M-Instruct.Q4_1.gguf")
}

/// Gemma 3 270M, a base model with sliding windows.
pub(crate) fn gemma() -> PathBuf {
    real("gemma-3-270m-q4_k_m.gguf")
}

fn real(name: &str) -> PathBuf {
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

/// A file that is gone with the test.
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

/// A running server, spoken to over stdio. Killed with its test.
pub(crate) struct Server {
    pub child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    log: Log,
    conversation: Conversation,
    answers: HashMap<String, Value>,
    answered: HashSet<String>,
    /// A test that uses an id twice gets two answers.
    pub(crate) expects_reuse: bool,
    pub notifications: Vec<Value>,
    next_id: u64,
}

impl Server {
    /// The tiny model, one compute thread, and `flags`.
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
        self.conversation.sends(line);
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

    /// Shakes hands.
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

    /// Sends a call of the chat tool; its progress token is its id.
    pub(crate) fn call(&mut self, arguments: Value) -> u64 {
        self.call_tool("chat", arguments)
    }

    /// The same of another tool.
    pub(crate) fn call_tool(&mut self, name: &str, arguments: Value) -> u64 {
        let token = self.next_id;
        self.request(
            "tools/call",
            json!({"name": name, "arguments": arguments, "_meta": {"progressToken": token}}),
        )
    }

    /// Takes one message, which must be a valid one; notifications are kept aside.
    fn take(&mut self) -> Option<Value> {
        let message = self.lines.recv_timeout(LIMIT).ok()?;
        let checked = self.conversation.hears(&message);
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

    /// The response to `id`.
    pub(crate) fn response(&mut self, id: impl Into<Value>) -> Value {
        let id = id.into().to_string();
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                return answer;
            }
            assert!(self.take().is_some(), "no answer to {id}");
        }
    }

    /// Whether the answer to `id` has come already.
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

    /// Waits until the server has logged `text` so often.
    pub(crate) fn wait_for_log_times(&self, text: &str, times: usize) {
        self.log.wait_for_times(text, times);
    }

    /// Waits for a notification of `method`, and takes it.
    pub(crate) fn wait_for_notification(&mut self, method: &str) {
        self.take_notification(method);
    }

    /// The same, and gives it.
    pub(crate) fn take_notification(&mut self, method: &str) -> Value {
        loop {
            let mut notifications = self.notifications.iter();
            if let Some(at) = notifications.position(|told| told["method"] == method) {
                return self.notifications.remove(at);
            }
            assert!(self.take().is_some(), "not told: {method}");
        }
    }

    /// The tool's result.
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

    /// Calls and waits; the answer must not be an error.
    pub(crate) fn chat(&mut self, arguments: Value) -> ToolResult {
        let id = self.call(arguments);
        let result = self.result(id);
        assert!(!result.is_error, "{}", result.text);
        result
    }

    /// Calls and waits; the answer must be an error.
    pub(crate) fn refusal(&mut self, arguments: Value) -> String {
        let id = self.call(arguments);
        let result = self.result(id);
        assert!(result.is_error, "not refused: {}", result.text);
        result.text
    }

    /// The running worker of this server.
    pub(crate) fn worker_pid(&mut self) -> u32 {
        // Any answer of a model shows that its worker runs.
        self.chat(json!({"text": "Hi", "temperature": 0}));
        workers_of(self.child.id())[0]
    }

    /// Begins a call of `tool`, whose model is loaded, and stops the model's process: the call runs until it is cancelled. Returns the
    /// call and the process.
    #[cfg(target_os = "linux")]
    pub(crate) fn hold(&mut self, tool: &str) -> (u64, u32) {
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

    /// Waits for the end; what it wrote until then can still be read.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        #[cfg(target_os = "linux")]
        wait_for_end_of(self.child.id());
        self.child.wait().unwrap()
    }

    /// All messages until stdout ends.
    pub(crate) fn rest(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.take()).collect()
    }

    /// Ends the server and gives its log.
    pub(crate) fn log(&mut self) -> String {
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
