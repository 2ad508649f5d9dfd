//! Errors of the configuration: their wording, location and hint.

use serde_json::{Value, json};

use crate::config_check::problems;
use crate::support::config::{Folder, ONE_MODEL, text};

#[test]
fn lines_that_may_contain_a_secret_are_not_shown() {
    for file in [
        "server = { auth = \"hidden-word\", port = \"x\" }",
        "[server]\nauth = \"hidden-word",
        "[server]\nauth = \"hidden-word\" x",
        "[server]\nauth = hidden-word",
        "[server]\nauht = \"hidden-word\"",
        "[server]\ntokn = \"hidden-word\"",
        "[server]\nauth = [\"hidden-word\"]",
        "[server]\nauth = \"\"\"\nhidden-word\n",
        "[server]\nauth = \"\"\"\nhidden-word\\q\"\"\"",
        "[server]\nauth = \"\"\"\nfoo\"\"\" hidden-word",
        "[server]\nport = \"${env:WORD}\"",
        "[server]\ntransport = \"http\"\nauth_file = \"${env:WORD}\"",
        "[server]\ntransport = \"http\"\nallowed_hosts = [\"${env:WORD}:1\"]",
    ] {
        let folder = Folder::new("secret", &format!("{file}\n{ONE_MODEL}"));
        for format in ["text", "json"] {
            let output = folder.run(
                &["config", "check", "--format", format],
                &[("WORD", "hidden-word")],
            );
            assert_eq!(output.status.code(), Some(2), "{file}");
            let printed = text([output.stdout, output.stderr].concat());
            assert!(!printed.contains("hidden-word"), "{printed}");
        }
    }
}

#[test]
fn a_numeric_secret_is_not_shown_either() {
    let folder = Folder::new(
        "number",
        &format!("[server]\nauth = 4815162342\n{ONE_MODEL}"),
    );
    let stderr = text(folder.run(&["config", "check"], &[]).stderr);
    assert!(
        stderr.contains("`server.auth`: must be a string") && !stderr.contains("4815"),
        "{stderr}"
    );
}

#[test]
fn all_problems_are_reported_at_once_with_location_and_hint() {
    let file = r#"
[server]
port = "8080"
hots = "x"
auth = ["hidden-word"]

[registry]
memory_budget = "lots"

[defaults]
temperature = 9

[models.small]
path = "nothing.gguf"
n_ctx = -1
flash_attn = "onn"
stop = "a"
preload = "true"
cache_type_v = "q4_0"
max_tokens = 100
max_tokens_limit = 50
system = "${env:NOT_SET}"

[models.big]
description = "hm"
idle_ttl = "soon"

[models."b c"]
path = "crab.gguf"
tool_name = "big"

[models.off]
path = "crab.gguf"
tool_name = "big"
deadline = "0s"
lora = { path = "crab.gguf" }

[modles.x]
path = "y"
"#;
    let folder = Folder::new("wrong", file);
    let variables = [
        ("LLAMA_MCP_MODELS__BIG__SEED", "x"),
        ("LLAMA_MCP_SERVER__PROT", "1"),
    ];
    let output = folder.run(
        &[
            "config",
            "check",
            "--top_k",
            "many",
            "--set",
            "models.big.nctx=1",
            "--set",
            "x",
        ],
        &variables,
    );
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(output.stderr);
    assert!(!stderr.contains("hidden-word"), "{stderr}");
    insta::assert_snapshot!(stderr);
}

#[test]
fn a_toml_syntax_error_is_reported_by_line_next_to_other_problems() {
    let folder = Folder::new(
        "syntax",
        "[models.a]\npath = crab.gguf\nn_ctx = -1\n[models.a\n",
    );
    let output = folder.run(&["config", "check"], &[]);
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(text(output.stderr), @r"
    error[config_syntax]: string values must be quoted, expected literal string
     --> ./llama-mcp-server.toml:2:8
      |
    2 | path = crab.gguf
      |        ^^^^^^^^^

    error[config_value]: `models.a.n_ctx`: must be a whole number from 0 to 100000000, found -1
     --> ./llama-mcp-server.toml:3:9
      |
    3 | n_ctx = -1
      |         ^^
      |
      = hint: write `0` for the context that the model was trained for

    error[config_syntax]: duplicate key
     --> ./llama-mcp-server.toml:4:9
      |
    4 | [models.a
      |         ^

    error[config_syntax]: unclosed table, expected `]`
     --> ./llama-mcp-server.toml:4:10
      |
    4 | [models.a
      |          ^
    ");
}

#[test]
fn problems_are_available_as_json() {
    let folder = Folder::new("json", &format!("{ONE_MODEL}n_batch = 0\n"));
    let output = folder.run(
        &["config", "check", "--format", "json"],
        &[("LLAMA_MCP_PORT", "x")],
    );
    assert_eq!(output.status.code(), Some(2));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = json!({"ok": false, "problems": [
        {"code": "config_value", "message": "`LLAMA_MCP_PORT`: must be a whole number from 0 to 65535, found the string \"x\"", "key": "server.port", "variable": "LLAMA_MCP_PORT"},
        {"code": "config_value", "message": "`models.a.n_batch`: must be a whole number from 1 to 65536, found 0", "key": "models.a.n_batch", "file": "./llama-mcp-server.toml", "line": 5, "column": 11},
    ], "warnings": []});
    assert_eq!(report, expected);
}

#[test]
fn a_model_that_can_never_fit_is_reported_with_the_line_to_change() {
    let file = "[registry]\nmemory_budget = \"52MiB\"\n[models.a]\npath = \"crab.gguf\"\n[models.b]\npath = \"crab.gguf\"\nn_ctx = 256\n";
    let folder = Folder::new("memory", file);
    let output = folder.run(&["config", "check"], &[]);
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(text(output.stderr), @r#"
    error[config_value]: `models.a.n_ctx`: the model `a` needs 54.0 MiB, of which its buffers take 51.4 MiB; the limit for all models together is 52.0 MiB
     --> ./llama-mcp-server.toml:3:9
      |
    3 | [models.a]
      |         ^
      |
      = hint: choose a smaller `n_ctx` or quantization, or raise `memory_budget` in `[registry]`

    error[config_value]: `models.b.n_batch`: the model `b` needs 52.0 MiB, of which its buffers take 51.4 MiB; the limit for all models together is 52.0 MiB
     --> ./llama-mcp-server.toml:5:9
      |
    5 | [models.b]
      |         ^
      |
      = hint: choose a smaller `n_batch`, or raise `memory_budget` in `[registry]`
    "#);
    let output = folder.run(
        &[
            "config",
            "check",
            "--set",
            "registry.memory_budget=100MiB",
            "--set",
            "models.a.parallel=64",
            "--format",
            "json",
        ],
        &[],
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    // Calls of full length would not all fit; one does.
    assert_eq!(
        (&report["ok"], &report["models"][1]["kv_cells"]),
        (&json!(true), &json!(1024))
    );
    assert!(
        report["models"][0]["kv_cells"].as_u64() < report["models"][0]["wanted_cells"].as_u64(),
        "{report}"
    );
}

#[test]
fn the_check_finds_errors_that_would_occur_later() {
    let file = r#"
[log]
file = "crab.gguf/server.log"

[registry]
memory_budget = "100MiB"

[models.broken]
path = "crab.gguf"
chat_template = "{% if %}"
"#;
    let folder = Folder::new("template", file);
    insta::assert_snapshot!(text(folder.run(&["config", "check"], &[]).stderr), @r#"
    error[config_value]: `log.file`: `./crab.gguf` cannot be written: not a directory
     --> ./llama-mcp-server.toml:3:8
      |
    3 | file = "crab.gguf/server.log"
      |        ^^^^^^^^^^^^^^^^^^^^^^

    error[config_model]: `models.broken.chat_template`: the model's chat template is not valid: unexpected end of block
      --> ./llama-mcp-server.toml:10:17
       |
    10 | chat_template = "{% if %}"
       |                 ^^^^^^^^^^
    "#);

    let file = r#"
[log]
file = "crab.gguf/server.log"

[registry]
memory_budget = "100MiB"

[models.first]
path = "crab.gguf"
pin = true
tool = false

[models.second]
path = "crab.gguf"
pin = true
tool = false
"#;
    let folder = Folder::new("tolerated", file);
    insta::assert_snapshot!(text(folder.run(&["config", "check"], &[]).stderr), @r#"
    error[config_value]: `log.file`: `./crab.gguf` cannot be written: not a directory
     --> ./llama-mcp-server.toml:3:8
      |
    3 | file = "crab.gguf/server.log"
      |        ^^^^^^^^^^^^^^^^^^^^^^

    error[config_model]: `models`: nothing to call: all models are hidden, and no other tool is configured
     --> ./llama-mcp-server.toml:8:2
      |
    8 | [models.first]
      |  ^^^^^^
      |
      = hint: remove `tool = false` from one of them

    error[config_model]: `models.first.pin`: `first` does not fit next to the pinned models: the model needs 60.7 MiB, and all models together may take 100.0 MiB, of which pinned models hold 53.7 MiB
      --> ./llama-mcp-server.toml:10:7
       |
    10 | pin = true
       |       ^^^^
       |
       = hint: choose a smaller model or quantization, or pin fewer models, or raise `memory_budget` in `[registry]`

    error[config_model]: `models.second.pin`: `second` does not fit next to the pinned models: the model needs 54.0 MiB, and all models together may take 100.0 MiB, of which pinned models hold 60.4 MiB
      --> ./llama-mcp-server.toml:15:7
       |
    15 | pin = true
       |       ^^^^
       |
       = hint: choose a smaller model or quantization, or pin fewer models, or raise `memory_budget` in `[registry]`
    "#);
}

#[test]
fn two_sources_of_the_token_conflict() {
    let head = "[server]\ntransport = \"http\"\nauth = \"one\"\nauth_file = \"two\"\n";
    let folder = Folder::new("tokens", &format!("{head}{ONE_MODEL}"));
    std::fs::write(folder.0.join("two"), "two").unwrap();
    let stderr = text(folder.run(&["config", "check"], &[]).stderr);
    assert!(
        stderr.starts_with("error[config_token]: `server.auth_file`: conflicts with `auth`"),
        "{stderr}"
    );
    // A higher layer takes precedence.
    let output = folder.run(&["config", "check"], &[("LLAMA_MCP_AUTH", "three")]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_duration_out_of_range_is_reported_as_a_number_and_as_a_text() {
    for (times, message) in [
        (
            "idle_time = 5000\n",
            "`server.idle_time`: must be a time span such as `90s` or `15m`, from 1 to 3600 seconds, found 5000",
        ),
        (
            "idle_time = \"2h\"\n",
            "`server.idle_time`: must be from 1 to 3600 seconds, found `2h`",
        ),
        (
            "[tools.x]\nprompt = \"x\"\ndeadline = \"0s\"\n",
            "`tools.x.deadline`: must be from 0.001 to 604800 seconds, found `0s`",
        ),
    ] {
        let head = "[server]\ntransport = \"http\"\n";
        let folder = Folder::new("time", &format!("{head}{times}{ONE_MODEL}"));
        let output = folder.run(&["config", "check"], &[]);
        let found = text(output.stderr);
        assert!(found.contains(message), "{found}");
    }
}

#[test]
fn a_file_in_another_format_has_one_error() {
    let json = "{\n  \"models\": {\n    \"a\": {\"path\": \"crab.gguf\"}\n  }\n}\n";
    let yaml = "# Models\nmodels:\n  a:\n    path: crab.gguf\n    n_ctx: 4096\n";
    for (text, format) in [(json, "JSON"), (yaml, "YAML")] {
        let message = format!("the file is in {format}, but the configuration is in TOML");
        assert_eq!(problems(text), [message]);
    }
}
