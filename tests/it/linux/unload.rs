//! Models that are unloaded and restarted on request.

use std::process::Output;
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::config::{Folder, text};
use crate::support::http::{Client, HttpServer};
use crate::support::{LIMIT, program, signal_process, wait_for_end_of, workers_of};

const MODELS: &str = "[models.small]\npath = 'crab.gguf'\nn_threads = 1\n[models.chat]\npath = 'crab.gguf'\nn_threads = 1\n";

fn server(name: &str, keys: &str) -> (Folder, HttpServer) {
    let folder = Folder::new(name, &format!("{keys}{MODELS}"));
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    (folder, server)
}

/// Runs `llama-mcp-server` with `arguments` and the URL of `server`.
fn run(server: &HttpServer, arguments: &[&str]) -> Output {
    let mut program = program();
    let url = format!("http://{}", server.address);
    let output = program.args(arguments).args(["--url", &url]).output();
    output.unwrap()
}

/// Runs a command that must succeed. Returns its output.
fn printed(server: &HttpServer, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    assert_eq!(text(output.stderr), "");
    text(output.stdout)
}

/// Runs a command that must fail. Returns its exit code and stderr.
fn failed(server: &HttpServer, arguments: &[&str]) -> (i32, String) {
    let output = run(server, arguments);
    (output.status.code().unwrap(), text(output.stderr))
}

/// Waits until `condition` holds for the models in `status`, and returns them.
fn models_when(server: &HttpServer, condition: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let started = Instant::now();
    loop {
        let report: Value =
            serde_json::from_str(&printed(server, &["status", "--format", "json"])).unwrap();
        let models = report["models"].as_array().unwrap().clone();
        if condition(&models) {
            return models;
        }
        assert!(started.elapsed() < LIMIT, "{models:?}");
    }
}

fn is_in_state(models: &[Value], name: &str, state: &str) -> bool {
    let condition = |model: &Value| model["name"] == name && model["state"] == state;
    models.iter().any(condition)
}

fn capital(client: &mut Client, model: &str) -> String {
    let arguments = json!({"text": "What is the capital of Peru?", "temperature": 0});
    let call = json!({"name": model, "arguments": arguments});
    let answer = client.request("tools/call", call);
    let answer = &answer["result"]["content"][0]["text"];
    answer.as_str().unwrap().to_owned()
}

const LIMA: &str = "The capital of Peru is Lima.";

#[test]
fn an_unloaded_model_has_no_worker_until_its_next_call_and_others_keep_theirs() {
    let (_folder, server) = server("unload", "");
    let mut client = server.client();
    let mut workers = Vec::new();
    for model in ["small", "chat"] {
        assert_eq!(capital(&mut client, model), LIMA);
        let all = workers_of(server.child.id());
        workers.extend(all.into_iter().find(|worker| !workers.contains(worker)));
    }
    assert_eq!(
        printed(&server, &["unload", "small"]),
        "small: unloaded; the next call starts a new process\n"
    );
    wait_for_end_of(workers[0]);
    models_when(&server, |models| {
        is_in_state(models, "small", "unloaded") && is_in_state(models, "chat", "loaded")
    });
    assert_eq!(
        printed(&server, &["unload", "small"]),
        "small: no process was running; the next call starts a new process\n"
    );
    assert_eq!(workers_of(server.child.id()), [workers[1]]);
    assert_eq!(capital(&mut client, "small"), LIMA);
}

#[test]
fn running_calls_of_a_restarted_model_are_answered_and_new_ones_get_a_new_worker() {
    let registry = "[registry]\nstall_timeout = 'never'\n";
    let (folder, server) = server("restart", registry);
    let mut client = server.client();
    let song = client.start_long_call(3000, 7);
    let former = workers_of(server.child.id())[0];
    // A stopped worker keeps the song running in the meantime.
    signal_process(former, "STOP");
    assert_eq!(
        printed(&server, &["restart", "chat"]),
        "chat: a new process is starting; the old one ends after its running call\n"
    );
    // The new worker loads without a call.
    let models = models_when(&server, |models| {
        is_in_state(models, "chat", "loaded") && is_in_state(models, "chat", "replaced")
    });
    let pid = |state: &str| {
        let mut models = models.iter();
        let model = models.find(|model| model["name"] == "chat" && model["state"] == state);
        model.unwrap()["pid"].as_u64().unwrap()
    };
    assert_eq!(pid("replaced"), u64::from(former));
    assert_ne!(pid("loaded"), u64::from(former));
    assert_eq!(capital(&mut client, "chat"), LIMA);
    signal_process(former, "CONT");
    let answer = song.last().unwrap();
    let text = answer["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("la la"), "{answer}");
    wait_for_end_of(former);
    // An edit does not restart the new worker.
    folder.write(
        "llama-mcp-server.toml",
        &format!("{registry}{MODELS}temperature = 0.1\n"),
    );
    server.wait_for_log("model chat: live (temperature)");
    assert_eq!(capital(&mut client, "chat"), LIMA);
    assert_eq!(
        workers_of(server.child.id()),
        [u32::try_from(pid("loaded")).unwrap()]
    );
}

#[test]
fn calls_that_wait_for_a_load_are_answered_although_the_model_is_restarted_meanwhile() {
    let (_folder, server) = server("restart-load", "");
    let mut client = server.client();
    let asking = std::thread::spawn(move || capital(&mut client, "small"));
    models_when(&server, |models| !is_in_state(models, "small", "unloaded"));
    printed(&server, &["restart", "small"]);
    assert_eq!(asking.join().unwrap(), LIMA);
}

#[test]
fn a_preloaded_model_stays_unloaded_after_edits_of_other_settings() {
    let file = format!("{MODELS}preload = true\n");
    let folder = Folder::new("unload-preload", &file);
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    models_when(&server, |models| is_in_state(models, "chat", "loaded"));
    printed(&server, &["unload", "chat"]);
    models_when(&server, |models| is_in_state(models, "chat", "unloaded"));
    folder.write(
        "llama-mcp-server.toml",
        &format!("{file}temperature = 0.1\n"),
    );
    server.wait_for_log("model chat: live (temperature)");
    models_when(&server, |models| is_in_state(models, "chat", "unloaded"));
    assert_eq!(workers_of(server.child.id()), [0_u32; 0]);
    folder.write("llama-mcp-server.toml", &format!("{file}n_ctx = 2048\n"));
    models_when(&server, |models| is_in_state(models, "chat", "loaded"));
}

#[test]
fn an_unknown_model_is_an_error() {
    let (_folder, server) = server("unload-unknown", "");
    for name in ["smal", "../x"] {
        let (code, error) = failed(&server, &["unload", name]);
        assert_eq!(code, 1);
        let expected = format!(
            "error[unknown_model]: the server at http://{} has no model `{name}`; `llama-mcp-server status` lists its models\n",
            server.address
        );
        assert_eq!(error, expected);
    }
}

#[test]
fn only_admin_tokens_can_unload_models() {
    let keys = "[server]\nauth = 'everything'\n[server.tokens.ops]\ntoken = 'ops'\nadmin = true\n[server.tokens.user]\ntoken = 'user'\n";
    let (_folder, server) = server("unload-tokens", keys);
    for token in ["everything", "ops"] {
        let stdout = printed(&server, &["unload", "small", "--auth", token]);
        assert!(stdout.starts_with("small: "), "{stdout}");
    }
    let (code, error) = failed(&server, &["unload", "small", "--auth", "user"]);
    assert_eq!(code, 1);
    assert!(
        error.starts_with("error[not_allowed]: this token cannot unload"),
        "{error}"
    );
    let (_, error) = failed(&server, &["unload", "small", "--auth", "wrong"]);
    assert!(error.contains("requires a valid bearer token"), "{error}");
}

#[test]
fn a_web_page_cannot_unload_a_model_of_a_server_without_tokens() {
    let (_folder, server) = server("unload-page", "");
    let url = format!("http://{}/admin/models/small/unload", server.address);
    let status = |method: &str, headers: &[(&str, &str)]| {
        let body = (method == "POST").then_some("{}");
        let response = Client::new(url.clone(), headers).send(method, body);
        response.status().as_u16()
    };
    let origin = [("origin", "http://localhost:3000")];
    assert_eq!(status("POST", &origin), 403);
    assert_eq!(status("POST", &[("host", "rebound.example")]), 403);
    assert_eq!(status("GET", &[]), 405);
    assert_eq!(status("POST", &[]), 200);
}

#[test]
fn restarting_a_model_whose_file_is_missing_is_an_error() {
    let (folder, server) = server("restart-gone", "");
    std::fs::remove_file(folder.0.join("crab.gguf")).unwrap();
    let (code, error) = failed(&server, &["restart", "small"]);
    assert_eq!(code, 1, "{error}");
    assert!(
        error.starts_with("error[load_failed]: `small` cannot be loaded: the model file `"),
        "{error}"
    );
    let stdout = printed(&server, &["unload", "chat"]);
    assert!(
        stdout.starts_with(
            "chat: no process was running; the next call cannot load it: the model file `"
        ),
        "{stdout}"
    );
}
