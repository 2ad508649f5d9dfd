//! Several models: loaded on demand, evicted and unloaded when idle, but never during a call.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::json;

use crate::support::http::HttpServer;
use crate::support::{
    Server, TempFile, gemma, memory_of, program, signal_process, smollm2, tiny, wait_for_end_of,
    workers_of,
};

const FRANCE: &str = "What is the capital of France?";
const PARIS: &str = "The capital of France is Paris.";

/// Returns a configuration of `models` tiny models called `a`, `b`, … after `head`.
fn file_of(name: &str, head: &str, models: usize) -> TempFile {
    let mut text =
        format!("{head}\n[defaults]\nn_threads = 1\ntemperature = 0\nrepeat_penalty = 1.0\n");
    for model in ["a", "b", "c", "d"].iter().take(models) {
        text.push_str(&table(model, &tiny()));
    }
    TempFile::new(&format!("{name}.toml"), text.as_bytes())
}

fn table(name: &str, path: &Path) -> String {
    format!("[models.{name}]\npath = '{}'\n", path.display())
}

fn serve(file: &TempFile) -> Server {
    let mut command = program();
    command.arg("--config").arg(&file.0);
    Server::spawn(command)
}

fn ask(server: &mut Server, model: &str) -> String {
    let id = server.call_tool(model, json!({"text": FRANCE}));
    let result = server.result(id);
    assert!(!result.is_error, "{}", result.text);
    result.text
}

/// A tiny model is estimated at 61 MiB and uses about 30 MiB, so only one fits.
const ROOM_FOR_ONE: &str = "[registry]\nmemory_budget = \"80MiB\"";

#[test]
fn models_that_do_not_fit_together_evict_each_other() {
    let file = file_of("turns", ROOM_FOR_ONE, 3);
    let mut server = serve(&file);
    for model in ["a", "b", "a", "c", "b", "a"] {
        assert_eq!(ask(&mut server, model), PARIS);
        assert_eq!(workers_of(server.child.id()).len(), 1);
    }
}

#[test]
fn a_busy_model_is_not_evicted_and_calls_that_wait_for_its_memory_report_it() {
    let file = file_of("busy", ROOM_FOR_ONE, 2);
    let mut server = serve(&file);
    let (running, worker) = server.call_with_stopped_worker("a");
    let waiting = server.call_tool("b", json!({"text": FRANCE}));
    server.wait_for_progress(waiting, |message| {
        message == "waiting until a busy model can be unloaded"
    });
    assert_eq!(workers_of(server.child.id()), [worker]);
    signal_process(worker, "CONT");
    assert!(!server.result(running).is_error);
    assert_eq!(server.result(waiting).text, PARIS);
}

#[test]
fn a_deadline_includes_the_wait_for_memory() {
    let file = file_of("deadline", ROOM_FOR_ONE, 2);
    let mut server = serve(&file);
    server.call_with_stopped_worker("a");
    let id = server.call_tool("b", json!({"text": FRANCE, "deadline": 0.2}));
    let result = server.result(id);
    assert_eq!(
        (result.is_error, result.text.as_str()),
        (
            true,
            "no answer within the deadline of 0.2 s: the call was still queued; allow more time or try again later"
        )
    );
}

#[test]
fn a_model_that_can_never_fit_is_refused_with_the_sizes() {
    let file = file_of("never", "[registry]\nmemory_budget = \"40MiB\"", 1);
    let mut server = serve(&file);
    let id = server.call_tool("a", json!({"text": FRANCE}));
    let result = server.result(id);
    assert!(result.is_error);
    insta::assert_snapshot!(result.text, @"the model needs 54.0 MiB, and all models together may take 40.0 MiB; choose a smaller model or quantization, or raise `memory_budget` in `[registry]`");
}

#[test]
fn an_idle_model_is_unloaded_and_loaded_again_by_its_next_call() {
    let file = file_of("idle", "[registry]\nidle_ttl = \"300ms\"", 1);
    let mut server = serve(&file);
    assert_eq!(ask(&mut server, "a"), PARIS);
    for worker in workers_of(server.child.id()) {
        wait_for_end_of(worker);
    }
    assert_eq!(ask(&mut server, "a"), PARIS);
}

#[test]
fn a_replaced_model_file_is_picked_up_by_the_next_load() {
    let model = TempFile::new("replaced.gguf", &std::fs::read(tiny()).unwrap());
    let text = format!(
        "[registry]\nidle_ttl = \"300ms\"\n[models.a]\npath = '{}'\nn_threads = 1\ntemperature = 0\n",
        model.0.display()
    );
    let file = TempFile::new("replaced.toml", text.as_bytes());
    let mut server = serve(&file);
    assert_eq!(ask(&mut server, "a"), PARIS);
    for worker in workers_of(server.child.id()) {
        wait_for_end_of(worker);
    }
    std::fs::write(&model.0, b"GGUF").unwrap();
    let id = server.call_tool("a", json!({"text": FRANCE}));
    let refused = server.result(id).text;
    assert!(
        refused.contains("is truncated: it has 4 bytes"),
        "{refused}"
    );
    // A retry within the backoff period fails with the same error.
    let id = server.call_tool("a", json!({"text": FRANCE}));
    let refused = server.result(id).text;
    assert!(
        refused.contains("is truncated: it has 4 bytes"),
        "{refused}"
    );
    // A changed file is loaded at once.
    std::fs::copy(tiny(), &model.0).unwrap();
    assert_eq!(ask(&mut server, "a"), PARIS);
}

#[test]
fn two_hundred_calls_of_eight_clients_to_four_models_of_which_two_fit() {
    let file = file_of("load", "[registry]\nmax_loaded = 2", 4);
    let server = HttpServer::with_config(&file.0);
    thread::scope(|scope| {
        for n in 0..8 {
            let mut client = server.client();
            scope.spawn(move || {
                for turn in 0..25 {
                    let model = ["a", "b", "c", "d"][(n * 7 + turn * 3 + turn / 4) % 4];
                    let arguments = json!({"text": FRANCE});
                    let answer = client
                        .request("tools/call", json!({"name": model, "arguments": arguments}));
                    assert_eq!(answer["result"]["content"][0]["text"], PARIS, "{answer}");
                }
            });
        }
    });
    assert!(workers_of(server.child.id()).len() <= 2);
    let of_server = |field| memory_of(server.child.id(), field);
    // Without the pages of the program file, which the system can drop and read again.
    let memory = of_server("VmHWM") - of_server("RssFile");
    assert!(memory < 40 << 20, "{memory}");
}

#[test]
fn real_models_share_a_budget() {
    let models: [(&str, PathBuf); 4] = [
        ("smol", smollm2()),
        ("gemma", gemma()),
        ("crab", tiny()),
        ("crab_q4", tiny().with_file_name("tiny-crab-chat.Q4_0.gguf")),
    ];
    // Estimated at 287, 573, 52 and 52 MiB. The budgets fit Gemma alone, with a tiny model, and with `SmolLM2` and a tiny model.
    for (budget, beside_gemma) in [("580MiB", 1), ("630MiB", 2), ("920MiB", 3)] {
        let mut text = format!(
            "[registry]\nmemory_budget = \"{budget}\"\n[defaults]\nparallel = 1\nn_threads = 1\ntemperature = 0\nrepeat_penalty = 1.0\n"
        );
        for (name, path) in &models {
            text.push_str(&table(name, path));
        }
        let file = TempFile::new(&format!("real-{budget}.toml"), text.as_bytes());
        let mut server = serve(&file);
        for model in [
            "smol", "crab", "gemma", "crab_q4", "smol", "gemma", "crab", "gemma",
        ] {
            let (question, expected) = match model {
                "smol" => (
                    "What is the capital of France? Answer in one sentence.",
                    PARIS,
                ),
                "gemma" => ("one two three four five six seven", " eight nine"),
                _ => (FRANCE, PARIS),
            };
            let arguments = json!({"text": question, "max_tokens": 20});
            let id = server.call_tool(model, arguments);
            let result = server.result(id);
            assert!(
                !result.is_error && result.text.starts_with(expected),
                "{model} in {budget}: {}",
                result.text
            );
            if model == "gemma" {
                let loaded = workers_of(server.child.id()).len();
                assert!(loaded <= beside_gemma, "{loaded} in {budget}");
            }
        }
    }
}

#[test]
fn a_split_model_answers_and_an_adapter_is_applied_with_its_scale() {
    let parts = tiny().with_file_name("tiny-crab-chat-split-00001-of-00003.gguf");
    let adapter = tiny().with_file_name("tiny-crab-lora.gguf");
    let mut text = "[defaults]\nn_threads = 1\ntemperature = 0\nrepeat_penalty = 1.0\n".to_owned();
    text.push_str(&table("whole", &parts));
    for (name, scale) in [("without", "0.0"), ("with", "4.0")] {
        let adapter = adapter.display();
        text.push_str(&table(name, &parts));
        writeln!(text, "lora = {{ path = '{adapter}', scale = {scale} }}").unwrap();
    }
    let file = TempFile::new("parts.toml", text.as_bytes());
    let mut server = serve(&file);
    assert_eq!(ask(&mut server, "whole"), PARIS);
    assert_eq!(ask(&mut server, "without"), PARIS);
    // The adapter consists of random numbers, so the answer becomes nonsense.
    let id = server.call_tool("with", json!({"text": FRANCE, "max_tokens": 20}));
    assert_ne!(server.result(id).text, PARIS);
}

#[test]
fn workers_do_not_see_secrets() {
    let file = format!(
        "[server]\nauth = \"${{env:MY_TOKEN}}\"\n[models.a]\npath = '{}'\n",
        tiny().display()
    );
    let file = TempFile::new("secrets.toml", file.as_bytes());
    let mut command = program();
    command
        .arg("--config")
        .arg(&file.0)
        .env("MY_TOKEN", "hidden-word")
        .env("LLAMA_MCP_AUTH", "hidden-word")
        .env("OTHER_SECRET", "hidden-word")
        .env("OMP_DYNAMIC", "false");
    let mut server = Server::spawn(command);
    let id = server.call_tool("a", json!({"text": FRANCE}));
    assert!(!server.result(id).is_error);
    let worker = workers_of(server.child.id())[0];
    let environment = std::fs::read(format!("/proc/{worker}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(environment.contains("OMP_DYNAMIC=false"));
    assert!(!environment.contains("hidden-word") && !environment.contains("LLAMA_MCP"));
}

#[test]
fn the_log_level_applies_to_workers_too() {
    let file = format!("[log]\nlevel = \"debug\"\n{}", table("a", &tiny()));
    let file = TempFile::new("level.toml", file.as_bytes());
    let mut server = serve(&file);
    let id = server.call_tool("a", json!({"text": FRANCE}));
    assert!(!server.result(id).is_error);
    server.close_stdin();
    server.wait();
    let log = server.end();
    assert!(log.contains("DEBUG llama_mcp_server::worker:"), "{log}");
}

#[test]
fn no_process_survives_the_server() {
    let file = file_of("end", "", 2);
    let mut server = serve(&file);
    ask(&mut server, "a");
    ask(&mut server, "b");
    let workers = workers_of(server.child.id());
    assert_eq!(workers.len(), 2);
    server.close_stdin();
    assert!(server.wait().success());
    for worker in workers {
        wait_for_end_of(worker);
    }
}
