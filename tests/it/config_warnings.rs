//! Warnings: settings that work but are probably a mistake.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};
use strum::IntoEnumIterator as _;

use crate::config_check::{MODEL, checked};
use crate::support::config::{Folder, text};
use crate::support::example::repository;
use crate::support::gemma;
use llama_mcp_server::internals::WarningKind;

/// Returns the kinds of the warnings of `file`.
pub(crate) fn warnings(file: &str) -> Vec<String> {
    let folder = Folder::new("warn", file);
    let (code, report) = checked(&folder, &[]);
    assert_eq!(code, Some(0), "{file}: {report}");
    kinds(&report["warnings"])
}

fn kinds(warnings: &Value) -> Vec<String> {
    let kind = |warning: &Value| warning["code"].as_str().unwrap().to_owned();
    warnings.as_array().unwrap().iter().map(kind).collect()
}

/// Returns a configuration without warnings, with additional keys for the `model` and the `tool`.
fn config_with(model: &str, tool: &str) -> String {
    let tool = format!(
        "description = \"Says hello.\"\nprompt = \"Hello {{{{ x }}}}\"\narguments.x.description = \"A name.\"\n{tool}"
    );
    format!("[models.a]\npath = \"crab.gguf\"\n{model}\n[tools.t]\n{tool}\n")
}

/// Returns a configuration whose only warning is of this kind.
fn example(kind: WarningKind) -> String {
    let tool = |text: &str| format!("{MODEL}[tools.t]\n{text}\n");
    let described = "description = \"Says hello.\"\n";
    match kind {
        WarningKind::BaseModel => format!("[models.a]\npath = '{}'\n", gemma().display()),
        WarningKind::ContextCapped => config_with("n_ctx = 131072", ""),
        WarningKind::ThreadsCapped => config_with("n_threads = 4096", ""),
        WarningKind::MaxTokensAboveContext => config_with("n_ctx = 512\nmax_tokens = 512", ""),
        WarningKind::MaxTokensCapped => config_with("max_tokens_limit = 100", "max_tokens = 200"),
        WarningKind::ThinkingBudgetUnused => {
            config_with("", "max_tokens = 100\nthinking_budget = 100")
        }
        WarningKind::PenaltiesUnused => config_with("repeat_penalty = 1.2\nrepeat_last_n = 0", ""),
        WarningKind::LogitBiasUnused => config_with("logit_bias = { 999999 = -1, Hello = -1 }", ""),
        WarningKind::UnloadedAfterEachCall => config_with("idle_ttl = 0", ""),
        WarningKind::TinySize => config_with("cache_ram = 256", ""),
        WarningKind::UnusedModel => {
            config_with("", "model = \"a\"") + "[models.b]\npath = \"crab.gguf\"\ntool = false\n"
        }
        WarningKind::UnusedTemplateArgument => {
            config_with("template_arguments = { reasoning_efort = \"low\" }", "")
        }
        WarningKind::EarlierTurnsRefused => config_with(
            "chat_template = \"{% if messages | length > 2 %}{{ raise_exception('no') }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}\"",
            "",
        ),
        WarningKind::SystemPromptMerged => config_with(
            "system = \"Be brief.\"\nchat_template = \"{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}\"",
            "",
        ),
        WarningKind::UnknownThinkingTags => config_with(
            "chat_template = \"{% for m in messages %}{{ m.content }}{% endfor %}<ponder></ponder>\"",
            "",
        ),
        WarningKind::UnusedArgument => {
            config_with("", "arguments.y.description = \"Another name.\"")
        }
        WarningKind::ChoicesNotShown => tool(&format!(
            "{described}prompt = \"Is it good?\"\nchoices = [\"good\", \"bad\"]"
        )),
        WarningKind::OutputNotShown => tool(&format!(
            "{described}prompt = \"Who?\"\noutput = {{ type = \"object\", properties = {{ first_name = {{ type = \"string\" }} }}, required = [\"first_name\"] }}"
        )),
        WarningKind::NoDescription => tool("prompt = \"Hello\""),
        WarningKind::NotRendered => config_with("", "system = \"You greet {{ x }}.\""),
        WarningKind::PathAsText => config_with("", "system = \"~/greeting.txt\""),
        WarningKind::PromptAboveContext => {
            let system = "Greet them well. ".repeat(200);
            config_with("n_ctx = 512", &format!("system = \"{system}\""))
        }
        WarningKind::SchemaNotEnforced => tool(&format!(
            "{described}prompt = \"Find the phone number as JSON.\"\noutput = {{ type = \"object\", properties = {{ phone = {{ type = \"string\", format = \"phone\" }} }}, required = [\"phone\"] }}"
        )),
        WarningKind::BudgetAboveMemory => {
            config_with("", "") + "[registry]\nmemory_budget = \"900TiB\"\n"
        }
        WarningKind::HttpKeysUnused => config_with("", "") + "[server]\nport = 9000\n",
        WarningKind::LogKeysUnused => config_with("", "") + "[log]\nkeep = 3\n",
        WarningKind::ShortToken => {
            config_with("", "") + "[server]\ntransport = \"http\"\nauth = \"short\"\n"
        }
        // These kinds require more than a file.
        WarningKind::UnknownVariable
        | WarningKind::AmbiguousVariable
        | WarningKind::StaleMount
        | WarningKind::NoChatTemplate => String::new(),
    }
}

#[test]
fn every_kind_of_warning_has_a_name_and_an_example() {
    assert_eq!(warnings(&config_with("", "")), [""; 0]);
    for kind in WarningKind::iter() {
        let file = example(kind);
        if !file.is_empty() {
            assert_eq!(warnings(&file), [kind.name()], "{file}");
        }
    }
}

#[test]
fn prompts_that_name_the_possible_answers_have_no_warning() {
    let output =
        "output = { type = \"object\", properties = { first_name = { type = \"string\" } } }";
    for (prompt, answer) in [
        ("Is it Good, or bad?", "choices = [\"good\", \"bad\"]"),
        ("Say one of {{ choices }}.", "choices = [\"good\", \"bad\"]"),
        ("What is the first name?", output),
        ("Follow this schema: {{ output_schema }}", output),
    ] {
        let tool =
            format!("[tools.t]\ndescription = \"Says it.\"\nprompt = \"{prompt}\"\n{answer}\n");
        assert_eq!(warnings(&format!("{MODEL}{tool}")), [""; 0], "{prompt}");
    }
}

#[test]
fn variables_that_match_no_key_or_several_models_are_warnings() {
    let file = "[models.a-b]\npath = \"crab.gguf\"\n[models.a_b]\npath = \"crab.gguf\"\n";
    let folder = Folder::new("variables", file);
    let variables = [
        ("LLAMA_MCP_NCTX", "1"),
        ("LLAMA_MCP_MODELS__A_B__N_CTX", "64"),
    ];
    let output = folder.run(&["config", "check", "--format", "json"], &variables);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found: BTreeSet<String> = kinds(&report["warnings"]).into_iter().collect();
    let expected = ["ambiguous_variable", "unknown_variable"].map(str::to_owned);
    assert_eq!(found, expected.into());
    let variables = [("LLAMA_MCP_MODELS__A_B__N_CTX", "64")];
    folder.write("llama-mcp-server.toml", &file.replace("a_b", "a-B"));
    let output = folder.run(&["config", "check", "--format", "json"], &variables);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(kinds(&report["warnings"]), ["ambiguous_variable"]);
}

#[test]
fn warnings_have_a_location_and_a_hint_and_are_errors_when_strict() {
    let folder = Folder::new("strict", &config_with("idle_ttl = 0", ""));
    let (code, report) = checked(&folder, &[]);
    let expected = json!([{
        "code": "unloaded_after_each_call",
        "message": "`models.a.idle_ttl`: unloads a model after each call, and the next call loads it again",
        "hint": "write a time such as `\"15m\"`, or `\"never\"` to keep it loaded",
        "key": "models.a.idle_ttl",
        "file": "./llama-mcp-server.toml",
        "line": 3,
        "column": 12,
    }]);
    assert_eq!(
        (code, &report["ok"], &report["warnings"]),
        (Some(0), &json!(true), &expected)
    );
    let (code, report) = checked(&folder, &["--strict"]);
    assert_eq!(
        (code, &report["ok"], &report["problems"]),
        (Some(2), &json!(false), &expected)
    );
    assert_eq!(report["warnings"], json!([]));
    let output = folder.run(&["config", "check", "--strict"], &[]);
    let stderr = text(output.stderr);
    assert!(
        stderr.starts_with("error[unloaded_after_each_call]: `models.a.idle_ttl`"),
        "{stderr}"
    );
    let output = folder.run(&["config", "check"], &[]);
    let stdout = text(output.stdout);
    assert!(
        stdout.contains("\nwarning[unloaded_after_each_call]: `models.a.idle_ttl`"),
        "{stdout}"
    );
}

#[test]
fn warnings_are_reported_next_to_errors() {
    let folder = Folder::new("both", &config_with("idle_ttl = 0\nn_ctx = -1", ""));
    let (code, report) = checked(&folder, &[]);
    assert_eq!(
        (code, kinds(&report["problems"])),
        (Some(2), vec!["config_value".to_owned()])
    );
    assert_eq!(kinds(&report["warnings"]), ["unloaded_after_each_call"]);
    let output = folder.run(&["config", "check"], &[]);
    let stderr = text(output.stderr);
    assert!(
        stderr.contains("\n\nwarning[unloaded_after_each_call]"),
        "{stderr}"
    );
}

#[test]
fn a_server_logs_each_warning_once() {
    let folder = Folder::new("logged", &config_with("idle_ttl = 0", ""));
    let mut server = folder.serve();
    let tools = server.request("tools/list", json!({}));
    server.response(tools);
    server.close_stdin();
    server.wait();
    let log = server.end();
    let lines = log
        .lines()
        .filter(|line| line.contains("unloaded_after_each_call"));
    assert_eq!(lines.count(), 1, "{log}");
}

#[test]
fn a_thousand_warnings_are_found_in_one_run() {
    let mut text = String::from("[models.a]\npath = 'crab.gguf'\n");
    for tool in 0..200 {
        writeln!(
            text,
            "[tools.t{tool}]\nprompt = '{{{{ a }}}}{{{{ b }}}}{{{{ c }}}}{{{{ d }}}}'"
        )
        .unwrap();
        for argument in ["a", "b", "c", "d"] {
            writeln!(text, "[tools.t{tool}.arguments.{argument}]").unwrap();
        }
    }
    let folder = Folder::new("thousand", &text);
    let (_, report) = checked(&folder, &[]);
    assert_eq!(report["warnings"].as_array().unwrap().len(), 1000);
}

#[test]
fn the_examples_have_no_warning() {
    let folder = Folder::new("deploy", "");
    let deployed = std::fs::read_to_string(repository("deploy/config/llama-mcp-server.toml"));
    let model = folder.0.join("crab.gguf").display().to_string();
    let deployed = deployed
        .unwrap()
        .replace("/models/SmolLM2-135M-Instruct.Q4_1.gguf", &model);
    folder.write("llama-mcp-server.toml", &deployed);
    let (_, report) = checked(&folder, &[]);
    assert_eq!(report["warnings"], json!([]), "{report:#}");
    for name in ["typed-tools", "team"] {
        let folder = Folder::new("example", "");
        let example = repository("examples").join(name);
        for file in std::fs::read_dir(example).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.0.join(file.file_name())).unwrap();
        }
        std::fs::rename(folder.0.join("crab.gguf"), folder.0.join("model.gguf")).unwrap();
        let (_, report) = checked(&folder, &[]);
        assert_eq!(report["warnings"], json!([]), "{name}: {report:#}");
    }
}

#[test]
fn the_pages_document_exactly_the_existing_warnings() {
    let page = std::fs::read_to_string(repository("docs/warnings.md")).unwrap();
    let explained: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .collect();
    let kinds: BTreeSet<&str> = WarningKind::iter().map(WarningKind::name).collect();
    assert_eq!(explained, kinds);
}

#[test]
fn every_setting_without_effect_is_a_warning_in_every_table() {
    let file = config_with("", "")
        + "[server]\nhost = \"0.0.0.0\"\nport = 8080\n[log]\nkeep = 3\nrotation = \"daily\"\n";
    let http = WarningKind::HttpKeysUnused.name();
    let log = WarningKind::LogKeysUnused.name();
    let mut found = warnings(&file);
    found.sort();
    assert_eq!(found, [http, http, log, log]);
    let folder = Folder::new("without-effect", &config_with("", ""));
    let arguments = ["config", "check", "--format", "json", "--host", "0.0.0.0"];
    let output = folder.run(&arguments, &[("LLAMA_MCP_PORT", "8080")]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(kinds(&report["warnings"]), [http, http]);
    let hints: BTreeSet<&str> = report["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|warning| warning["hint"].as_str().unwrap())
        .collect();
    let expected = [
        "add `--transport http`, or remove the flag",
        "set `LLAMA_MCP_TRANSPORT=http`, or unset the variable",
    ];
    assert_eq!(hints, expected.into());
}
