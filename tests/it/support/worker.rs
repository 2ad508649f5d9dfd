//! A worker process that the test drives directly, over its pipes.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};

use super::log::Log;
use super::{LIMIT, program, spawn_piped};

/// A running worker. Dropping it kills the process.
pub(crate) struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    events: Receiver<Value>,
    log: Log,
    calls: u64,
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub text: String,
    /// Tokens of the prompt, and how many of them came from the cache.
    pub prompt: u64,
    pub cached: u64,
}

/// Returns the command of a call with greedy sampling.
pub(crate) fn generate(id: u64, messages: &Value, max_tokens: u32) -> Value {
    let sampling = json!({"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "seed": 1});
    let request =
        json!({"messages": messages, "max_tokens": max_tokens, "sampling": sampling, "stop": []});
    json!({"call": {"id": id, "client": "test", "request": {"generate": request}}})
}

/// Text of the warning of a worker whose model has another KV cache than its header says.
pub(crate) const OTHER_CACHE: &str = "the planned KV cache differs from that of llama.cpp";

impl Worker {
    /// Starts a worker with the model settings `settings`.
    pub(crate) fn load(settings: &Value) -> Self {
        Self::launch(settings, &json!({}))
    }

    /// Starts a worker with the model settings `settings` and a grant.
    pub(crate) fn launch(settings: &Value, grant: &Value) -> Self {
        Self::start_with(program(), settings, grant)
    }

    /// Starts a worker of the program that `command` runs.
    pub(crate) fn start(command: Command, settings: &Value) -> Self {
        Self::start_with(command, settings, &json!({}))
    }

    fn start_with(mut command: Command, settings: &Value, grant: &Value) -> Self {
        command.arg("worker").env("RUST_LOG", "info");
        let mut child = spawn_piped(&mut command);
        let stdout = child.stdout.take().unwrap();
        let (tx, events) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let event = serde_json::from_str(&line.unwrap()).unwrap();
                if tx.send(event).is_err() {
                    return;
                }
            }
        });
        let mut worker = Self {
            stdin: child.stdin.take(),
            log: Log::follow(child.stderr.take().unwrap()),
            child,
            events,
            calls: 0,
        };
        let launch = json!({"load": {"settings": settings, "grant": grant}});
        worker.send(&format!("{launch}\n"));
        worker
    }

    /// Sends commands, one a line.
    fn send(&mut self, lines: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(lines.as_bytes()).unwrap();
    }

    /// Sends `conversations` as concurrent calls with greedy sampling, and returns the answers in the same order.
    pub(crate) fn ask(&mut self, conversations: &[Value], max_tokens: u32) -> Vec<Answer> {
        let first = self.calls;
        // All commands in one write: the worker starts no call before the last one has arrived.
        let mut lines = String::new();
        for messages in conversations {
            writeln!(lines, "{}", generate(self.calls, messages, max_tokens)).unwrap();
            self.calls += 1;
        }
        self.send(&lines);
        let mut answers = vec![None; conversations.len()];
        while answers.contains(&None) {
            let event = self.events.recv_timeout(LIMIT);
            let event = event.unwrap_or_else(|_| panic!("no answer: {}", self.end()));
            assert!(event.get("load_failed").is_none(), "{event}");
            let call = &event["call"];
            assert!(call["update"].get("failed").is_none(), "{event}");
            let done = &call["update"]["done"]["generated"];
            if let Some(text) = done["text"].as_str() {
                let at = usize::try_from(call["id"].as_u64().unwrap() - first).unwrap();
                let tokens = |key: &str| done["usage"][key].as_u64().unwrap();
                answers[at] = Some(Answer {
                    text: text.to_owned(),
                    prompt: tokens("prompt_tokens"),
                    cached: tokens("cached_tokens"),
                });
            }
        }
        answers.into_iter().flatten().collect()
    }

    /// Calls with one conversation after another and returns the answers.
    pub(crate) fn ask_each(&mut self, conversations: &[Value], max_tokens: u32) -> Vec<Answer> {
        let answers = conversations
            .iter()
            .flat_map(|conversation| self.ask(std::slice::from_ref(conversation), max_tokens));
        answers.collect()
    }

    /// Returns the statistics of the worker, which has no call.
    #[cfg(target_os = "linux")]
    pub(crate) fn stats(&mut self) -> Value {
        self.send("\"stats\"\n");
        loop {
            let event = self.events.recv_timeout(LIMIT);
            let mut event = event.unwrap_or_else(|_| panic!("no statistics: {}", self.end()));
            if event.get("stats").is_some() {
                return event["stats"].take();
            }
        }
    }

    /// Returns whether the worker has logged `text`.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_logged(&self, text: &str) -> bool {
        self.log.has(text)
    }

    /// Shuts the worker down and returns its log. Asserts that server and llama.cpp agree on the model's KV cache.
    pub(crate) fn end(&mut self) -> String {
        self.stdin = None;
        self.child.wait().unwrap();
        let log = self.log.all();
        assert!(!log.contains(OTHER_CACHE), "{log}");
        log
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
