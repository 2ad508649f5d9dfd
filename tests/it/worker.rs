//! The worker process without MCP.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::worker::{Answer, OTHER_CACHE, Worker};
use crate::support::{Server, program, spawn_piped, tiny};

fn run(commands: &[Value]) -> Output {
    let mut command = program();
    command.arg("worker").env("RUST_LOG", "debug");
    let mut child = spawn_piped(&mut command);
    let mut stdin = child.stdin.take().unwrap();
    // All commands in one write: the worker starts only once the last command has arrived.
    let mut lines = String::new();
    for command in commands {
        writeln!(lines, "{command}").unwrap();
    }
    stdin.write_all(lines.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn events(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no event: {line}")))
        .collect()
}

fn load(path: &std::path::Path) -> Value {
    json!({"load": {"settings": {"path": path, "n_gpu_layers": 0, "n_ctx": 512, "n_batch": 64, "n_threads": 1, "parallel": 2, "max_queue": 8}}})
}

fn generate(id: u64, text: &str) -> Value {
    let messages = json!([{"role": "user", "content": text}]);
    crate::support::worker::generate(id, &messages, 40)
}

#[test]
fn the_worker_finishes_its_calls_and_writes_nothing_but_events() {
    let output = run(&[
        load(&tiny()),
        generate(1, "What is the capital of France?"),
        generate(2, "What is the capital of Cuba?"),
        json!("stats"),
    ]);
    assert!(output.status.success());
    let events = events(&output);
    assert_eq!(events[0], json!({"hello": {"version": 6}}));
    let answer = |id: u64| {
        let done = events.iter().find_map(|event| {
            (event["call"]["id"] == id)
                .then(|| event["call"]["update"]["done"]["generated"]["text"].as_str())
                .flatten()
        });
        done.unwrap().to_owned()
    };
    assert_eq!(answer(1), "The capital of France is Paris.");
    assert_eq!(answer(2), "The capital of Cuba is Havana.");
    // llama.cpp has logged, and all of its log went to stderr.
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("llama-cpp-2"));
    assert!(!log.contains(OTHER_CACHE), "{log}");
}

#[test]
fn a_lone_greedy_call_has_the_same_answer_right_after_the_load_and_later() {
    let words = [
        "river", "stone", "garden", "letter", "window", "morning", "harbour",
    ];
    // The model has no confidence here: decoded in different batches, some of these prompts are continued differently. The model is so
    // small that no machine is too slow.
    let stories = [40, 100, 200, 340, 420].map(|length| {
        let of_story = (0..length).map(|at: usize| words[(at * at / 3 + at + length) % 7]);
        let text = format!(
            "Tell me a story: {}",
            of_story.collect::<Vec<_>>().join(" ")
        );
        json!([{"role": "user", "content": text}])
    });
    let load = json!({"path": tiny(), "n_gpu_layers": 0, "n_ctx": 2048, "n_batch": 1024, "n_threads": 1, "parallel": 2,
        "max_queue": 8, "cache_prompt": false});
    let answers = Worker::load(&load).ask_each(&stories, 60);
    // Before the speed is measured, and after.
    let backwards: Vec<Value> = stories.into_iter().rev().collect();
    let again = Worker::load(&load).ask_each(&backwards, 60);
    let texts = |answers: Vec<Answer>| answers.into_iter().map(|answer| answer.text);
    assert!(texts(answers).rev().eq(texts(again)));
}

/// Returns a tool whose prompts begin with `system`.
fn tool_with_system(system: &str) -> Value {
    let sample = |text: &str| json!({"messages": [{"role": "system", "content": system}, {"role": "user", "content": text}]});
    json!({"tool": "t", "samples": [sample("a"), sample("bb")]})
}

#[test]
fn shared_prefixes_are_cached_next_to_calls_and_those_that_do_not_fit_are_skipped() {
    let long = "You are a crab and know all capitals. ".repeat(5);
    let empty = json!({"tool": "t", "samples": [{"messages": []}, {"messages": []}]});
    let prompts = [
        tool_with_system(&long),
        tool_with_system("short"),
        tool_with_system(&"word ".repeat(600)),
        tool_with_system(&long),
        empty,
    ];
    let output = run(&[
        load(&tiny()),
        json!({"warm": [tool_with_system(&"A former one. ".repeat(20))]}),
        json!({"warm": prompts}),
        generate(1, "What is the capital of France?"),
    ]);
    assert!(output.status.success());
    let events = events(&output);
    let update = |event: &Value| {
        event["call"]["update"]["done"]["generated"]["text"]
            .as_str()
            .map(str::to_owned)
    };
    let answer = events.iter().find_map(update);
    assert_eq!(answer.as_deref(), Some("The capital of France is Paris."));
    let log = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("caching shared prefixes"))
        .collect();
    let line = lines.last().unwrap_or_else(|| panic!("no set: {log}"));
    let tokens = line
        .rsplit_once("tokens=[")
        .unwrap()
        .1
        .trim_end_matches(']');
    assert!(
        tokens.parse::<usize>().is_ok_and(|tokens| tokens >= 32),
        "{line}"
    );
}

#[test]
fn a_file_that_llama_cpp_refuses_is_reported_with_the_reason() {
    let mut bytes = std::fs::read(tiny()).unwrap();
    let at = bytes
        .windows(5)
        .position(|window| window == b"llama")
        .unwrap();
    bytes[at..at + 5].copy_from_slice(b"lxama");
    let file = crate::support::TempFile::new("unknown-architecture.gguf", &bytes);
    let output = run(&[load(&file.0), generate(1, "Hi")]);
    assert_eq!(output.status.code(), Some(1));
    let events = events(&output);
    let text = events.last().unwrap()["load_failed"]["text"]
        .as_str()
        .unwrap();
    assert!(text.contains("unknown model architecture"), "{text}");
    let hint = &events.last().unwrap()["load_failed"]["hint"];
    assert_eq!(hint, "update this server, or choose another model");
}

#[test]
fn a_worker_refuses_a_header_that_would_make_a_library_panic() {
    let mut bytes = std::fs::read(tiny()).unwrap();
    let key = b"llama.context_length";
    let mut windows = bytes.windows(key.len());
    // The type (4 bytes) and the value (4 bytes) follow.
    let at = windows.position(|window| window == key).unwrap() + key.len() + 4;
    bytes[at..at + 4].copy_from_slice(&(1_u32 << 31).to_le_bytes());
    let file = crate::support::TempFile::new("context-length.gguf", &bytes);
    let output = run(&[load(&file.0), generate(1, "Hi")]);
    assert_eq!(output.status.code(), Some(1));
    let events = events(&output);
    let failed = &events.last().unwrap()["load_failed"];
    let text = failed["text"].as_str().unwrap();
    assert!(
        text.contains("`llama.context_length` is out of range"),
        "{events:?}"
    );
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(!log.contains("internal error: "), "{log}");
}

#[test]
fn the_limits_of_a_small_context_apply() {
    let output = run(&[load(&tiny()), generate(1, &"word ".repeat(600))]);
    let events = events(&output);
    let failed = &events.last().unwrap()["call"]["update"]["failed"];
    assert_eq!(failed["kind"], "context_overflow");
}

/// Returns the status of every thread of a process, from `/proc`.
#[cfg(target_os = "linux")]
fn threads_of(process: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    threads
        // A thread that has just ended has no status.
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("status")).ok())
        .collect()
}

#[test]
#[cfg(target_os = "linux")]
fn a_worker_is_sandboxed_in_all_its_threads_or_logs_one_warning() {
    let mut command = program();
    command
        .arg(tiny())
        .args(["--n_threads", "2"])
        .env("RUST_LOG", "debug");
    let mut server = Server::spawn(command);
    let worker = server.worker_pid();
    let threads = threads_of(worker);
    // One thread reads, one prepares prompts, and OpenMP adds others, which the first one starts.
    assert!(threads.len() >= 3, "{threads:?}");
    for thread in &threads {
        assert!(thread.contains("NoNewPrivs:\t1"), "{thread}");
    }
    let core_limits = |process: u32| {
        let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
        let mut lines = limits.lines();
        let core = lines.find(|line| line.starts_with("Max core")).unwrap();
        let fields: Vec<String> = core.split_whitespace().map(str::to_owned).collect();
        [fields[4].clone(), fields[5].clone()]
    };
    // A limit of 1 disables core dumps into pipes, too. Only root could raise a limit of 0 to it.
    let limits = core_limits(worker);
    let is_fixed = core_limits(server.child.id())[1] == "0" && limits == ["0", "0"];
    assert!(limits == ["1", "1"] || is_fixed, "{limits:?}");
    let log = server.end();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("restricted"))
        .collect();
    let [line] = lines[..] else {
        panic!("not one line: {lines:?}")
    };
    let is_restricted = line.contains("DEBUG") && line.contains("yEnforced");
    assert!(
        is_restricted || line.contains("WARN") && line.contains("no Landlock"),
        "{line}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn without_the_sandbox_a_worker_has_the_permissions_of_the_server() {
    let mut server = Server::tiny(&["--set", "registry.sandbox=off"]);
    let worker = server.worker_pid();
    let privileges = |threads: Vec<String>| -> Vec<String> {
        let lines = threads.iter().flat_map(|thread| thread.lines());
        let mut found: Vec<String> = lines
            .filter(|line| line.starts_with("NoNewPrivs:") || line.starts_with("Seccomp:"))
            .map(str::to_owned)
            .collect();
        found.sort();
        found.dedup();
        found
    };
    // A container may have restricted both processes.
    let of_server = privileges(threads_of(server.child.id()));
    assert_eq!(of_server.len(), 2, "{of_server:?}");
    assert_eq!(privileges(threads_of(worker)), of_server);
    assert!(!server.end().contains("restricted"));
}
