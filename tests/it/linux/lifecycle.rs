//! Startup, signals and shutdown of the server and its workers.

use std::io::{Read, Write};
use std::process::Stdio;

use serde_json::json;

use crate::support::{
    Server, program, signal_process, smollm2, spawn_piped, tiny, wait_for_end_of,
    wait_for_worker_of,
};

const SING: &str = "Sing forever.";

fn singing(server: &mut Server) -> u64 {
    let id = server
        .call(json!({"text": SING, "temperature": 0, "repeat_penalty": 1, "max_tokens": 4000}));
    server.wait_for_progress(id, |message| message.contains("la la"));
    id
}

#[test]
fn a_dead_worker_fails_its_calls_and_the_next_call_works() {
    let mut server = Server::tiny(&["--parallel", "1"]);
    let worker = server.worker_pid();
    let running = singing(&mut server);
    let waiting = server.call(json!({"text": "What is the capital of France?", "temperature": 0}));
    server.wait_for_progress(waiting, |message| message.starts_with("queued"));
    signal_process(worker, "KILL");
    let result = server.result(running);
    assert!(result.is_error);
    assert_eq!(
        result.text,
        "the model's process stopped unexpectedly (signal: 9 (SIGKILL): the system was probably out of memory); try again: the next call starts a new process"
    );
    // A call that has not started is sent to the next worker.
    assert_eq!(
        server.result(waiting).text,
        "The capital of France is Paris."
    );
    assert_ne!(server.worker_pid(), worker);
}

#[test]
fn an_abort_in_the_worker_is_reported_with_its_signal() {
    let mut server = Server::tiny(&[]);
    let worker = server.worker_pid();
    let running = singing(&mut server);
    signal_process(worker, "ABRT");
    let text = server.result(running).text;
    assert!(text.contains("SIGABRT"), "{text}");
    server.chat(json!({"text": "Hi"}));
}

#[test]
fn a_worker_ends_when_its_server_is_killed() {
    let mut server = Server::tiny(&[]);
    let worker = server.worker_pid();
    singing(&mut server);
    server.signal("KILL");
    server.wait();
    wait_for_end_of(worker);
}

#[test]
fn a_worker_that_is_loading_ends_when_its_server_is_killed() {
    let mut server = Server::start(&smollm2(), &[]);
    let id = server.request("ping", json!({}));
    server.response(id);
    let worker = wait_for_worker_of(server.child.id());
    server.signal("KILL");
    server.wait();
    wait_for_end_of(worker);
}

#[test]
fn sigterm_cancels_running_calls_at_once_and_the_exit_is_clean() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::tiny(&[]);
        let worker = server.worker_pid();
        singing(&mut server);
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0));
        wait_for_end_of(worker);
    }
}

#[test]
fn requests_read_before_the_end_of_stdin_are_answered() {
    let mut server = Server::tiny(&[]);
    let calls: Vec<u64> = (0..8)
        .map(|_| server.call(json!({"text": "What is the capital of France?", "temperature": 0})))
        .collect();
    server.close_stdin();
    for id in calls {
        assert_eq!(server.result(id).text, "The capital of France is Paris.");
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_server_ends_when_stdout_is_closed() {
    for keeps_stdin in [true, false] {
        let mut command = program();
        command
            .arg(tiny())
            .args(["--n_threads", "1", "--repeat_penalty", "1"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "chat", "arguments": {"text": SING, "temperature": 0, "max_tokens": 4000, "stop": ["never"]}}});
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(format!("{call}\n").as_bytes()).unwrap();
        let kept = keeps_stdin.then_some(stdin);
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(0));
        drop(kept);
    }
}

#[test]
fn the_handshake_does_not_wait_for_the_model_but_early_calls_do_with_progress() {
    // A large context takes a while to allocate.
    let mut server = Server::start(&smollm2(), &["--n_ctx", "8192", "--parallel", "16"]);
    let call = server.call(json!({"text": "Name the capital of France.", "temperature": 0}));
    let worker = wait_for_worker_of(server.child.id());
    signal_process(worker, "STOP");
    let list = server.request("tools/list", json!({}));
    server.response(list);
    assert!(!server.has_answered(call));
    server.wait_for_progress(call, |message| message.starts_with("loading "));
    signal_process(worker, "CONT");
    let result = server.result(call);
    assert_eq!(result.text, "The capital of France is Paris.");
    assert!(result.generation["load_ms"].as_u64().unwrap() > 0);
}

#[test]
fn a_model_that_llama_cpp_refuses_fails_each_call_but_not_the_server() {
    let model = crate::support::tiny_with_replaced("unknown.gguf", "llama", "lxama");
    let mut server = Server::start(&model.0, &[]);
    for _ in 0..2 {
        let text = server.refusal(json!({"text": "Hi"}));
        assert!(text.contains("unknown model architecture"), "{text}");
    }
}

#[test]
fn a_client_that_reads_nothing_does_not_delay_the_shutdown() {
    for closes_stdin in [true, false] {
        let mut command = program();
        command
            .arg(tiny())
            .args(["--n_threads", "1"])
            .env("RUST_LOG", "trace");
        // The test reads neither responses nor the log.
        let mut child = spawn_piped(&mut command);
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, r#"{{"jsonrpc":"2.0","id":"first","method":"ping"}}"#).unwrap();
        let mut first = [0];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut first)
            .unwrap();
        for id in 0..500 {
            writeln!(
                stdin,
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#
            )
            .unwrap();
        }
        let kept = (!closes_stdin).then_some(stdin);
        signal_process(child.id(), "TERM");
        wait_for_end_of(child.id());
        assert_eq!(child.wait().unwrap().code(), Some(0));
        drop(kept);
    }
}

#[test]
fn calls_that_a_stalled_worker_has_not_started_are_sent_to_the_next_one() {
    let mut server = Server::tiny(&[]);
    let worker = server.worker_pid();
    signal_process(worker, "STOP");
    let call = server.call(json!({"text": "Hi"}));
    server.wait_for_progress(call, |_| true);
    signal_process(worker, "KILL");
    assert!(!server.result(call).is_error);
}
