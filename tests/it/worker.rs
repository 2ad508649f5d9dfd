//! The worker by hand, without MCP.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::worker::{Answer, Worker};
use crate::support::{Server, program, spawn_piped, tiny};

fn run(commands: &[Value]) -> Output {
    let mut command = program();
    command.arg("worker").env("RUST_LOG", "debug");
    let mut child = spawn_piped(&mut command);
    let mut stdin = child.stdin.take().unwrap();
    // In one piece: the worker does nothing before the last command is there.
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
fn it_finishes_what_it_read_and_writes_nothing_but_events() {
    let output = run(&[
        load(&tiny()),
        generate(1, "What is the capital of France?"),
        generate(2, "What is the capital of Cuba?"),
        json!("stats"),
    ]);
    assert!(output.status.success());
    let events = events(&output);
    assert_eq!(events[0], json!({"hello": {"version": 3}}));
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
    // llama.cpp has logged, and all of it went to stderr.
    assert!(String::from_utf8_lossy(&output.stderr).contains("llama-cpp-2"));
}

#[test]
fn a_greedy_text_of_a_call_alone_is_the_same_right_after_the_load_and_later() {
    let words = [
        "river", "stone", "garden", "letter", "window", "morning", "harbour",
    ];
    // The model is sure of nothing here: read in other pieces, some of these prompts are continued by other words. It is so small that
    // no machine is too slow.
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
    // Before any speed is known, and then when it is.
    let backwards: Vec<Value> = stories.into_iter().rev().collect();
    let again = Worker::load(&load).ask_each(&backwards, 60);
    let texts = |answers: Vec<Answer>| answers.into_iter().map(|answer| answer.text);
    assert!(texts(answers).rev().eq(texts(again)));
}

/// A tool whose prompts begin with `system`.
fn fixed(system: &str) -> Value {
    let sample = |text: &str| json!({"messages": [{"role": "system", "content": system}, {"role": "user", "content": text}]});
    json!({"tool": "t", "samples": [sample("a"), sample("bb")]})
}

#[test]
fn fixed_prompts_are_kept_ready_beside_calls_and_what_of_them_cannot_be_is_left_out() {
    let long = "You are a crab and know all capitals. ".repeat(5);
    let empty = json!({"tool": "t", "samples": [{"messages": []}, {"messages": []}]});
    let prompts = [
        fixed(&long),
        fixed("short"),
        fixed(&"word ".repeat(600)),
        fixed(&long),
        empty,
    ];
    let output = run(&[
        load(&tiny()),
        json!({"warm": [fixed(&"A former one. ".repeat(20))]}),
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
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("caching shared prefixes"))
        .collect();
    let told = told.last().unwrap_or_else(|| panic!("no set: {log}"));
    let tokens = told
        .rsplit_once("tokens=[")
        .unwrap()
        .1
        .trim_end_matches(']');
    assert!(
        tokens.parse::<usize>().is_ok_and(|tokens| tokens >= 32),
        "{told}"
    );
}

#[test]
fn a_file_that_llama_cpp_refuses_is_told_with_its_reason() {
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
fn a_header_that_makes_a_library_panic_is_told_without_the_folders_of_the_build() {
    let mut bytes = std::fs::read(tiny()).unwrap();
    let key = b"llama.context_length";
    let mut windows = bytes.windows(key.len());
    // Behind it stand the type and the value, 4 bytes each.
    let at = windows.position(|window| window == key).unwrap() + key.len() + 4;
    bytes[at..at + 4].copy_from_slice(&(1_u32 << 31).to_le_bytes());
    let file = crate::support::TempFile::new("context-length.gguf", &bytes);
    let output = run(&[load(&file.0), generate(1, "Hi")]);
    assert_eq!(output.status.code(), Some(1));
    let events = events(&output);
    let failed = &events.last().unwrap()["load_failed"];
    assert_eq!(failed["text"], "could not serve the model", "{events:?}");
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("internal error: "), "{log}");
    assert!(
        !log.contains(".cargo") && !log.contains("panicked at"),
        "{log}"
    );
}

#[test]
fn the_limits_of_a_small_context_hold() {
    let output = run(&[load(&tiny()), generate(1, &"word ".repeat(600))]);
    let events = events(&output);
    let failed = &events.last().unwrap()["call"]["update"]["failed"];
    assert_eq!(failed["kind"], "context_overflow");
}

/// What every thread of a process says of itself in `/proc`.
#[cfg(target_os = "linux")]
fn threads_of(process: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    threads
        // One that has just ended has no status.
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("status")).ok())
        .collect()
}

#[test]
#[cfg(target_os = "linux")]
fn a_models_process_is_restricted_in_all_its_threads_or_one_line_says_that_it_is_not() {
    let mut command = program();
    command
        .arg(tiny())
        .args(["--n_threads", "2"])
        .env("RUST_LOG", "debug");
    let mut server = Server::spawn(command);
    let worker = server.worker_pid();
    let threads = threads_of(worker);
    // One reads, one prepares prompts, and what OpenMP adds: started by the first.
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
    // 1 stops the dumps into pipes too. Only root could raise a limit of 0 to it.
    let limits = core_limits(worker);
    let is_fixed = core_limits(server.child.id())[1] == "0" && limits == ["0", "0"];
    assert!(limits == ["1", "1"] || is_fixed, "{limits:?}");
    let log = server.log();
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("restricted"))
        .collect();
    let [told] = told[..] else {
        panic!("not one line: {told:?}")
    };
    let is_restricted = told.contains("DEBUG") && told.contains("yEnforced");
    assert!(
        is_restricted || told.contains("WARN") && told.contains("no Landlock"),
        "{told}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn with_the_sandbox_off_a_models_process_may_do_what_the_server_may() {
    let mut server = Server::tiny(&["--set", "registry.sandbox=off"]);
    let worker = server.worker_pid();
    let privileges = |threads: Vec<String>| -> Vec<String> {
        let lines = threads.iter().flat_map(|thread| thread.lines());
        let mut told: Vec<String> = lines
            .filter(|line| line.starts_with("NoNewPrivs:") || line.starts_with("Seccomp:"))
            .map(str::to_owned)
            .collect();
        told.sort();
        told.dedup();
        told
    };
    // A container may have restricted both.
    let of_server = privileges(threads_of(server.child.id()));
    assert_eq!(of_server.len(), 2, "{of_server:?}");
    assert_eq!(privileges(threads_of(worker)), of_server);
    assert!(!server.log().contains("restricted"));
}
