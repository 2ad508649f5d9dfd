//! Prompts and answers never reach a log, at any level, unless `log_prompts` is set.

use serde_json::{Value, json};

use crate::support::config::Folder;
use crate::support::http::{HttpServer, request};
use crate::support::{Server, program, signal_process, wait_for_end_of, workers_of};

/// Part of every prompt, in names and in values.
const ASKED: &str = "qwxmarker";

/// A word that the model is asked to say.
const ANSWERED: &str = "zanuko";

/// A model, a tool with free answers, and a tool with structured answers.
fn folder(name: &str, log: &str) -> Folder {
    let text = format!(
        r#"
[log]
{log}
[models.chat]
path = "crab.gguf"
n_threads = 1
temperature = 0
repeat_penalty = 1.0
[tools.capital]
prompt = "What is the capital of {{{{ country }}}}?"
[tools.capital.arguments.country]
max_length = 200
[tools.json]
prompt = "Give me {{{{ country }}}} as JSON."
max_tokens = 60
output = {{ type = "object", properties = {{ capital = {{ type = "string", maxLength = 20 }} }}, required = ["capital"] }}
[tools.json.arguments.country]
"#
    );
    Folder::new(name, &text)
}

fn command(folder: &Folder) -> std::process::Command {
    let mut command = program();
    command
        .arg("--config")
        .arg(folder.0.join("llama-mcp-server.toml"))
        .env("RUST_LOG", "trace");
    command
}

/// Returns successful calls, and calls that are refused, each for a different reason.
fn calls() -> Vec<(&'static str, Value)> {
    let schema = |properties: Value| json!({"type": "object", "properties": properties, "required": [ASKED]});
    vec![
        (
            "chat",
            json!({"text": format!("Hi {ASKED}"), "max_tokens": 9}),
        ),
        (
            "chat",
            json!({"text": format!("Think: what is {ASKED}?"), "max_tokens": 8, "stop": [ASKED]}),
        ),
        (
            "chat",
            json!({"text": "Hi", "prompt_suffix": ASKED, "deadline": 0.05}),
        ),
        ("chat", json!({"text": format!("{ASKED} ").repeat(3000)})),
        ("chat", json!({"text": ASKED, ASKED: 1})),
        ("chat", json!({"text": {ASKED: ASKED}})),
        ("chat", json!({"text": ASKED, "temperature": ASKED})),
        (
            "chat",
            json!({"messages": [{"role": ASKED, "content": ASKED}]}),
        ),
        (
            "chat",
            json!({"messages": [{"role": "user", "content": [{"type": ASKED}]}]}),
        ),
        (
            "chat",
            json!({"text": "Give me Cuba as JSON.", "max_tokens": 90, "json_schema": schema(json!({ASKED: {"type": "string", "maxLength": 9}}))}),
        ),
        (
            "chat",
            json!({"text": ASKED, "max_tokens": 2, "json_schema": schema(json!({ASKED: {"type": "string", "pattern": format!("{ASKED}*")}}))}),
        ),
        (
            "chat",
            json!({"text": ASKED, "json_schema": schema(json!({ASKED: {"type": ASKED}}))}),
        ),
        (
            "chat",
            json!({"text": ASKED, "json_schema": {"type": "object", "minProperties": 1, "description": ASKED}}),
        ),
        ("capital", json!({"country": ASKED})),
        ("capital", json!({"country": ASKED.repeat(99)})),
        ("capital", json!({"country": [ASKED]})),
        ("capital", json!({ASKED: ASKED})),
        ("json", json!({"country": ASKED})),
        (ASKED, json!({"text": ASKED})),
    ]
}

/// A call whose answer is known.
fn secret() -> Value {
    let system = format!("The secret word is {ANSWERED}.");
    json!({"messages": [{"role": "system", "content": system}, {"role": "user", "content": "What is the secret word?"}]})
}

/// A call that lasts longer than the events under test.
fn song() -> Value {
    json!({"text": "Sing forever.", "max_tokens": 4000, "stop": [ASKED]})
}

fn assert_silent(log: &str) {
    for marker in [ASKED, ANSWERED] {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(marker)).collect();
        assert!(lines.is_empty(), "{lines:#?}");
    }
    // Both processes have logged.
    assert!(
        log.contains("context planned") && log.contains("TRACE"),
        "{log}"
    );
}

#[test]
fn over_stdio_no_log_contains_prompts_or_answers() {
    let folder = folder("secrecy-stdio", "");
    let mut server = Server::spawn(command(&folder));
    for (tool, arguments) in calls() {
        let id = server.call_tool(tool, arguments);
        server.response(id);
    }
    server.send_line(&format!("{{not json {ASKED}"));
    server.response(Value::Null);
    let cancelled = server.call(json!({"text": ASKED, "max_tokens": 4000}));
    server.cancel(cancelled);
    assert!(server.chat(secret()).text.contains(ANSWERED));
    // One worker dies during a call.
    let is_error = (0..10).any(|_| {
        let dying = server.call(song());
        server.wait_for_progress(dying, |message| message.contains("la la"));
        signal_process(workers_of(server.child.id())[0], "ABRT");
        server.result(dying).is_error
    });
    assert!(is_error);
    assert!(server.chat(secret()).text.contains(ANSWERED));
    assert_silent(&server.end());
}

#[test]
fn over_http_no_log_contains_prompts_or_answers() {
    let folder = folder("secrecy-http", "");
    let mut server = HttpServer::spawn(command(&folder));
    let mut client = server.client();
    for (tool, arguments) in calls() {
        client.request("tools/call", json!({"name": tool, "arguments": arguments}));
    }
    client.send("POST", Some(&format!("{{not json {ASKED}")));
    client.post(&json!([request(1, ASKED, json!({"text": ASKED}))]));
    assert!(client.chat(secret()).contains(ANSWERED));
    let is_error = (0..10).any(|turn| {
        let singing = client.start_endless_call(1000 + turn);
        let worker = workers_of(server.child.id())[0];
        signal_process(worker, "ABRT");
        let answer = singing.last().unwrap();
        wait_for_end_of(worker);
        answer["result"]["isError"] == true
    });
    assert!(is_error);
    drop(client.start_endless_call(2000));
    assert!(client.chat(secret()).contains(ANSWERED));
    assert_silent(&server.end());
}

#[test]
fn prompts_and_answers_are_logged_if_log_prompts_is_set() {
    let folder = folder("secrecy-wanted", "log_prompts = true");
    let mut server = Server::spawn(command(&folder));
    assert!(server.chat(secret()).text.contains(ANSWERED));
    let log = server.end();
    assert!(
        log.contains("asked") && log.contains("What is the secret word?"),
        "{log}"
    );
    assert!(
        log.contains("answered") && log.matches(ANSWERED).count() >= 2,
        "{log}"
    );
}
