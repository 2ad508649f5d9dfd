//! Aliases of models, and titles of their tools.

use serde_json::{Value, json};

use crate::support::config::{Folder, text};
use crate::support::http::{Client, HttpServer};
use crate::support::program;

const LIMA: &str = "The capital of Peru is Lima.";

const CONFIG: &str = r#"
[server]
auth = "everything-is-allowed"
[server.tokens.alice]
token = "alices-long-token"
tools = ["qwen2.5:7b"]
[models.crab]
path = "crab.gguf"
n_threads = 1
title = "Quick answers"
aliases = ["qwen2.5:7b", "gpt-4o/mini"]
[models.other]
path = "crab.gguf"
aliases = ["spare"]
tool = false
[tools.ask]
model = "gpt-4o/mini"
prompt = "What is the capital of {{ country }}?"
arguments.country.description = "A country."
"#;

fn serve() -> (Folder, HttpServer) {
    let folder = Folder::new("aliases", CONFIG);
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    (folder, server)
}

fn call(client: &mut Client, tool: &str) -> Value {
    let arguments =
        json!({"text": "What is the capital of Peru?", "temperature": 0, "repeat_penalty": 1});
    client.request("tools/call", json!({"name": tool, "arguments": arguments}))
}

#[test]
fn an_alias_can_be_called_like_its_tool_and_is_not_listed() {
    let (_folder, server) = serve();
    let mut owner = server.client_with_token("everything-is-allowed");
    assert_eq!(owner.tools(), ["crab", "ask"]);
    let listed = owner.request("tools/list", json!({}));
    assert_eq!(listed["result"]["tools"][0]["title"], "Quick answers");
    // Permissions are those of the tool, also if the call uses an alias.
    let mut alice = server.client_with_token("alices-long-token");
    assert_eq!(alice.tools(), ["crab"]);
    for client in [&mut owner, &mut alice] {
        for name in ["crab", "qwen2.5:7b", "gpt-4o/mini"] {
            let answer = call(client, name);
            assert_eq!(answer["result"]["content"][0]["text"], LIMA, "{answer}");
        }
    }
    let hidden = call(&mut owner, "spare");
    let message = "unknown tool `spare`; available: `crab`, `ask`";
    assert_eq!(hidden["error"]["message"], message);
}

#[test]
fn a_model_can_be_unloaded_and_restarted_by_its_alias() {
    let (_folder, server) = serve();
    let url = format!("http://{}", server.address);
    let run = |arguments: &[&str]| {
        let mut command = program();
        command
            .args(arguments)
            .args(["--url", &url, "--auth", "everything-is-allowed"]);
        let output = command.output().unwrap();
        (text(output.stdout), text(output.stderr))
    };
    let (stdout, wrong) = run(&["unload", "gpt-4o/mini"]);
    assert_eq!(wrong, "");
    assert_eq!(
        stdout,
        "crab: no process was running; the next call starts a new process\n"
    );
    let (stdout, _) = run(&["restart", "spare"]);
    assert_eq!(stdout, "other: a new process is starting\n");
    let (_, wrong) = run(&["unload", "../crab"]);
    assert!(wrong.contains("has no model `../crab`"), "{wrong}");
}

#[test]
fn ambiguous_names_are_refused() {
    let config = r#"
[models.a]
path = "crab.gguf"
tool_name = "chat"
aliases = ["a", "b", "ask", "talk", "x", "x", "chat"]
[models.b]
path = "crab.gguf"
tool_name = "talk"
aliases = ["x"]
[tools.ask]
model = "x"
prompt = "x"
"#;
    let folder = Folder::new("clashes", config);
    let output = folder.run(&["config", "check"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(output.stderr);
    let problems: Vec<&str> = stderr
        .lines()
        .filter(|line| line.starts_with("error"))
        .collect();
    insta::assert_snapshot!(problems.join("\n"), @r##"
    error[config_value]: `models.a.aliases[0]`: `a` is the model's own name
    error[config_value]: `models.a.aliases[1]`: `b` is the name of another model
    error[config_value]: `models.a.aliases[2]`: `ask` is the name of another tool
    error[config_value]: `models.a.aliases[3]`: `talk` is the name of another tool
    error[config_value]: `models.a.aliases[5]`: `x` is already an alias of the model `a`
    error[config_value]: `models.b.aliases[0]`: `x` is already an alias of the model `a`
    "##);
}

#[test]
fn an_edit_of_aliases_and_titles_is_live() {
    let (folder, server) = serve();
    let mut owner = server.client_with_token("everything-is-allowed");
    let mut alice = server.client_with_token("alices-long-token");
    let edited = CONFIG
        .replace("Quick answers", "Answers")
        .replace("qwen2.5:7b", "llama3:8b");
    folder.write("llama-mcp-server.toml", &edited);
    server.wait_for_log("model crab: live (aliases, title)");
    for client in [&mut owner, &mut alice] {
        let answer = call(client, "llama3:8b");
        assert_eq!(answer["result"]["content"][0]["text"], LIMA, "{answer}");
        let former = call(client, "qwen2.5:7b");
        let message = former["error"]["message"].as_str().unwrap_or_default();
        assert!(message.starts_with("unknown tool `qwen2.5:7b`"), "{former}");
    }
    let listed = owner.request("tools/list", json!({}));
    assert_eq!(listed["result"]["tools"][0]["title"], "Answers");
}
