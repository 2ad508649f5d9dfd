//! Workers that hang, are killed from outside, or crash repeatedly.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::thread;
use std::time::{Instant, SystemTime};

use serde_json::{Value, json};

use crate::support::config::Folder;
use crate::support::{
    LIMIT, Server, signal_process, smollm2, wait_for_end_of, wait_for_worker_of, workers_of,
};

const PARIS: &str = "The capital of France is Paris.";

fn france() -> Value {
    json!({"text": "What is the capital of France?", "temperature": 0})
}

/// An answer that never ends by itself.
fn song() -> Value {
    json!({"text": "Sing forever.", "temperature": 0, "repeat_penalty": 1, "max_tokens": 4000})
}

/// A prompt that takes seconds to decode in small batches, different for each `number`.
fn long_text(number: u32) -> Value {
    let text = format!("{number} {}", "word ".repeat(3500));
    json!({"text": text, "max_tokens": 1})
}

/// Starts a server with `limit` as `stall_timeout`.
fn server_with_stall_timeout(limit: &str) -> Server {
    Server::tiny(&["--set", &format!("registry.stall_timeout={limit}")])
}

fn worker_of(server: &Server) -> u32 {
    workers_of(server.child.id())[0]
}

/// Stops process `pid` and waits until all its threads have stopped.
fn stop_process(pid: u32) {
    signal_process(pid, "STOP");
    let is_running = || {
        let threads = fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten();
        let mut states = threads.filter_map(|thread| {
            let stat = fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
            Some(stat.rsplit_once(") ")?.1.starts_with('T'))
        });
        states.any(|is_stopped| !is_stopped)
    };
    let started = Instant::now();
    while is_running() {
        assert!(started.elapsed() < LIMIT, "{pid} does not stop");
        thread::yield_now();
    }
}

/// Returns the name that `ps` shows for process `pid`; `None` if no model runs in it.
fn name_of(pid: u32) -> Option<String> {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let mut parts = line.split('\0');
    parts.find_map(|part| Some(part.strip_prefix("--name=")?.to_owned()))
}

/// Returns the text and the code of the error with which call `id` ends.
fn error_of(server: &mut Server, id: u64) -> (String, String) {
    let result = server.response(id)["result"].clone();
    assert_eq!(result["isError"], true, "{result}");
    let text = result["content"][0]["text"].as_str().unwrap().to_owned();
    let code = &result["_meta"]["llama-mcp-server/error"]["code"];
    (text, code.as_str().unwrap().to_owned())
}

/// Starts a song and returns its call once it generates text.
fn begin(server: &mut Server) -> u64 {
    let call = server.call(song());
    server.wait_for_progress(call, |message| message.contains("la la"));
    call
}

/// Returns the first answer of a server with a short `stall_timeout`. On a busy machine a new worker may stall, too.
fn answer(server: &mut Server) -> String {
    let mut answers = (0..20).map(|_| {
        let id = server.call(france());
        server.result(id)
    });
    let answer = answers.find(|answer| !answer.is_error);
    answer.expect("one of twenty calls is answered").text
}

/// Asserts that call `id` fails because the worker `stopped` stalled, and that a new worker answers the next call.
fn assert_replaced(server: &mut Server, id: u64, stopped: u32) {
    let (text, code) = error_of(server, id);
    assert_eq!(code, "model_stuck", "{text}");
    let beginning = "the model's process finished no step for ";
    assert!(text.starts_with(beginning), "{text}");
    server.wait_for_log(&format!("pid={stopped}"));
    server.wait_for_log("(`stall_timeout`); it is killed");
    assert_eq!(answer(server), PARIS);
    wait_for_end_of(stopped);
    assert_ne!(worker_of(server), stopped);
}

#[test]
fn a_call_to_a_worker_stopped_while_idle_is_answered_by_a_new_one() {
    let mut server = server_with_stall_timeout("1s");
    let worker = server.worker_pid();
    stop_process(worker);
    assert_eq!(answer(&mut server), PARIS);
    server.wait_for_log(&format!("pid={worker}"));
    server.wait_for_log("(`stall_timeout`); it is killed");
    wait_for_end_of(worker);
    assert_ne!(worker_of(&server), worker);
}

#[test]
fn a_call_to_a_worker_stopped_during_the_answer_fails_and_the_next_one_gets_a_new_worker() {
    let mut server = server_with_stall_timeout("1s");
    let call = begin(&mut server);
    let worker = worker_of(&server);
    signal_process(worker, "STOP");
    assert_replaced(&mut server, call, worker);
}

#[test]
fn a_call_to_a_worker_stopped_during_the_load_fails_and_the_next_one_gets_a_new_worker() {
    let limit = ["--set", "registry.stall_timeout=1s"];
    // On a busy machine the load may be over before the signal arrives; then the test starts over.
    let (mut server, worker) = loop {
        let mut server = Server::start(&smollm2(), &limit);
        let call = server.call(json!({"text": "Hi", "max_tokens": 1}));
        let worker = wait_for_worker_of(server.child.id());
        signal_process(worker, "STOP");
        let result = server.response(call)["result"].clone();
        if result["isError"] == true {
            // The call is resent. It is refused because the load failed, or because the next load stalls on a busy machine, too.
            assert!(result.to_string().contains("finished no step"), "{result}");
            break (server, worker);
        }
    };
    wait_for_end_of(worker);
    loop {
        let call = server.call(json!({"text": "Hi", "max_tokens": 1}));
        let result = server.result(call);
        if !result.is_error {
            return;
        }
        // A failed load is retried only after a pause.
        let text = result.text;
        let is_paused = text.contains("finished no step") && !text.contains("in a row");
        assert!(is_paused, "{text}");
    }
}

#[test]
fn calls_that_reach_their_deadlines_do_not_keep_a_stopped_worker_alive() {
    let mut server = server_with_stall_timeout("5s");
    let worker = server.worker_pid();
    signal_process(worker, "STOP");
    let call = server.call(json!({"text": "Hi", "deadline": 0.1}));
    let (text, code) = error_of(&mut server, call);
    assert_eq!(code, "model_stuck", "{text}");
    server.wait_for_log(&format!("pid={worker}"));
    server.wait_for_log("the model's process is stuck");
    wait_for_end_of(worker);
    assert_eq!(server.chat(france()).text, PARIS);
}

#[test]
fn without_a_limit_the_log_names_the_process_to_kill_once() {
    let mut server = server_with_stall_timeout("never");
    let worker = server.worker_pid();
    signal_process(worker, "STOP");
    for _ in 0..2 {
        let call = server.call(json!({"text": "Hi", "deadline": 0.1}));
        assert_eq!(error_of(&mut server, call).1, "model_stuck");
    }
    server.wait_for_log(&format!("end it with `kill -9 {worker}`"));
    signal_process(worker, "KILL");
    assert_eq!(server.chat(france()).text, PARIS);
    assert_eq!(
        server.end().matches("the model's process is stuck").count(),
        1
    );
}

#[test]
fn a_long_prompt_in_short_steps_is_not_a_stall() {
    let mut server = Server::tiny(&["--set", "registry.stall_timeout=1s", "--n_batch", "8"]);
    let call = server.call(long_text(1));
    assert!(!server.result(call).is_error);
    assert_eq!(server.chat(france()).text, PARIS);
}

#[test]
fn sigterm_ends_a_worker_and_its_calls_but_not_the_server() {
    let mut server = Server::tiny(&[]);
    let call = begin(&mut server);
    let worker = worker_of(&server);
    signal_process(worker, "TERM");
    wait_for_end_of(worker);
    let (text, code) = error_of(&mut server, call);
    assert_eq!(code, "model_died");
    assert!(text.contains("was ended by SIGTERM"), "{text}");
    assert_eq!(server.chat(france()).text, PARIS);
}

#[test]
fn sigterm_does_not_count_as_a_crash_of_the_model_or_the_prompt() {
    let mut server = Server::tiny(&[]);
    for _ in 0..4 {
        let call = begin(&mut server);
        signal_process(worker_of(&server), "TERM");
        assert_eq!(error_of(&mut server, call).1, "model_died");
    }
    let call = begin(&mut server);
    server.cancel(call);
}

#[test]
fn calls_queued_in_a_stalled_worker_go_to_the_next_one() {
    for _ in 0..20 {
        let arguments = ["--set", "registry.stall_timeout=1s", "--parallel", "1"];
        let mut server = Server::tiny(&arguments);
        let song = begin(&mut server);
        let waiting = server.call(france());
        server.wait_for_progress(waiting, |message| message.starts_with("queued"));
        signal_process(worker_of(&server), "STOP");
        assert_eq!(error_of(&mut server, song).1, "model_stuck");
        let result = server.response(waiting)["result"].clone();
        if result["isError"] != true {
            assert_eq!(result["content"][0]["text"], PARIS);
            return;
        }
        // The prompt was being prepared when the signal arrived.
        let code = &result["_meta"]["llama-mcp-server/error"]["code"];
        assert_eq!(code, "model_stuck", "{result}");
    }
    panic!("no call is sent to the next process");
}

#[test]
fn ps_and_the_log_identify_workers_by_model() {
    let folder = Folder::new("names", "");
    let models = "[models.-s]\npath = 'crab.gguf'\n[models.other]\npath = 'crab.gguf'\n";
    folder.write("llama-mcp-server.toml", models);
    let mut command = crate::support::program();
    let file = folder.0.join("llama-mcp-server.toml");
    command.arg("--config").arg(file);
    let mut server = Server::spawn(command);
    for model in ["-s", "other"] {
        let call = server.call_tool(model, france());
        assert!(!server.result(call).is_error);
    }
    let mut names = BTreeSet::new();
    for worker in workers_of(server.child.id()) {
        let name = name_of(worker).unwrap();
        server.wait_for_log(&format!("loading model=\"{name}\" pid={worker} "));
        server.wait_for_log(&format!("model loaded model=\"{name}\" pid={worker} "));
        names.insert(name);
    }
    assert_eq!(names, BTreeSet::from(["-s".to_owned(), "other".to_owned()]));
}

#[test]
fn a_prompt_that_crashed_its_worker_twice_is_refused_and_others_are_answered() {
    let mut server = Server::tiny(&[]);
    assert_eq!(server.chat(france()).text, PARIS);
    for _ in 0..2 {
        let call = begin(&mut server);
        signal_process(worker_of(&server), "KILL");
        assert_eq!(error_of(&mut server, call).1, "model_died");
    }
    let call = server.call(song());
    let (text, code) = error_of(&mut server, call);
    assert_eq!(code, "prompt_refused", "{text}");
    assert!(text.contains("the prompt is refused for "), "{text}");
    assert_eq!(server.chat(france()).text, PARIS);
}

#[test]
fn one_crash_during_several_calls_with_the_same_prompt_counts_once() {
    let mut server = Server::tiny(&["--parallel", "2"]);
    let calls = [begin(&mut server), begin(&mut server)];
    signal_process(worker_of(&server), "KILL");
    for call in calls {
        assert_eq!(error_of(&mut server, call).1, "model_died");
    }
    let call = begin(&mut server);
    server.cancel(call);
}

#[test]
fn a_model_that_crashes_three_times_without_an_answer_is_not_started_until_its_file_changes() {
    let folder = Folder::new("given-up", "");
    let model = folder.0.join("crab.gguf");
    let mut server = Server::start(&model, &["--n_batch", "8"]);
    for death in 1..=3 {
        let call = server.call(long_text(death));
        server.wait_for_progress(call, |message| message.starts_with("processing the prompt"));
        signal_process(worker_of(&server), "KILL");
        let (text, code) = error_of(&mut server, call);
        let expected = if death < 3 {
            "model_died"
        } else {
            "load_given_up"
        };
        assert_eq!(code, expected, "{text}");
        assert!(!text.contains("try again"), "{text}");
    }
    let call = server.call(france());
    let (text, code) = error_of(&mut server, call);
    assert_eq!(code, "load_given_up");
    let beginning = "the model's process died 3 times in a row without finishing a call (signal: 9 (SIGKILL): the system was probably out of memory); to start it again, change its file";
    assert!(text.starts_with(beginning), "{text}");
    let file = File::options().append(true).open(model).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(server.chat(france()).text, PARIS);
}
