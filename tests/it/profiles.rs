//! Profiles: several chat tools over one loaded model, each with its own system prompt and sampling.

use serde_json::{Value, json};

use crate::support::config::{Folder, text};
use crate::support::http::HttpServer;
use crate::support::metrics::{get, integer, scrape, series};
use crate::support::{Server, smollm2, workers_of};

const PERU: &str = "What is the capital of Peru?";
const LIMA: &str = "The capital of Peru is Lima.";

/// The tiny model without its own tool, and two profiles.
const CRAB: &str = r#"
[models.crab]
path = "crab.gguf"
n_threads = 1
tool = false
repeat_penalty = 1.0

[tools.exact]
kind = "chat"
title = "Exact answers"
description = "Answers to the letter."
temperature = 0
max_tokens = 20
max_tokens_limit = 30

[tools.loose]
kind = "chat"
temperature = 1.5
cut_note = false
"#;

fn call(server: &mut Server, tool: &str, arguments: Value) -> Value {
    let id = server.call_tool(tool, arguments);
    server.response(id)["result"].clone()
}

fn text_of(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap()
}

fn prompt_tokens(result: &Value) -> u64 {
    let generation = &result["_meta"]["llama-mcp-server/generation"];
    generation["prompt_tokens"].as_u64().unwrap()
}

#[test]
fn two_profiles_share_one_process_and_have_their_own_system_prompts() {
    const PIRATE: &str = "You are a pirate. Every answer begins with Arr.";
    const TEACHER: &str =
        "You are a patient teacher who explains each thing to children of six, with an example.";
    let config = format!(
        "[models.small]\npath = '{}'\nn_ctx = 512\ntemperature = 0\nmax_tokens = 8\n\
         [tools.pirate]\nkind = \"chat\"\nsystem = \"{PIRATE}\"\n\
         [tools.teacher]\nkind = \"chat\"\nsystem = \"{TEACHER}\"\n",
        smollm2().display()
    );
    let folder = Folder::new("profiles", &config);
    let mut server = folder.serve();
    let question = json!({"role": "user", "content": PERU});
    for (tool, system) in [("pirate", PIRATE), ("teacher", TEACHER)] {
        let profile = call(&mut server, tool, json!({"messages": [question]}));
        // The model's own tool has the same prompt if the call contains the system prompt.
        let messages = json!([{"role": "system", "content": system}, question]);
        let own = call(&mut server, "small", json!({"messages": messages}));
        assert_eq!(profile.get("isError"), None, "{profile}");
        assert_eq!(prompt_tokens(&profile), prompt_tokens(&own));
    }
    let [pirate, teacher] = ["pirate", "teacher"].map(|tool| {
        let result = call(&mut server, tool, json!({"text": PERU}));
        prompt_tokens(&result)
    });
    assert!(pirate < teacher, "{pirate} {teacher}");
    assert_eq!(workers_of(server.child.id()).len(), 1);
}

#[test]
fn a_profile_accepts_all_arguments_of_the_models_own_tool() {
    let folder = Folder::new("profile-arguments", &CRAB.replace("tool = false\n", ""));
    let mut server = folder.serve();
    let id = server.request("tools/list", json!({}));
    let tools = server.response(id)["result"]["tools"].clone();
    let [own, exact, loose] = &tools.as_array().unwrap()[..] else {
        panic!("{tools}");
    };
    let arguments = |tool: &Value| -> Vec<String> {
        let properties = tool["inputSchema"]["properties"].as_object().unwrap();
        properties.keys().cloned().collect()
    };
    assert_eq!(arguments(exact), arguments(own));
    assert_eq!(
        (&exact["name"], &exact["title"]),
        (&json!("exact"), &json!("Exact answers"))
    );
    assert!(
        exact["description"]
            .as_str()
            .unwrap()
            .starts_with("Answers to the letter.\n\n")
    );
    let default = |tool: &Value, key: &str| tool["inputSchema"]["properties"][key].clone();
    assert_eq!(default(exact, "max_tokens")["maximum"], 30);
    assert_eq!(
        default(exact, "temperature")["description"],
        "Randomness; 0 takes the likeliest token. Default 0."
    );
    assert_eq!(
        default(loose, "temperature")["description"],
        "Randomness; 0 takes the likeliest token. Default 1.5."
    );

    let turns = json!({"messages": [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "The capital of France is Paris."},
        {"role": "user", "content": PERU},
    ]});
    assert_eq!(text_of(&call(&mut server, "exact", turns)), LIMA);
    // Without limits, the tiny model writes digits until `max_tokens`.
    let number = json!({"type": "integer", "minimum": 0, "maximum": 99});
    let schema = json!({"type": "object", "properties": {"n": number}, "required": ["n"]});
    let forced = call(
        &mut server,
        "exact",
        json!({"text": "Hi", "json_schema": schema}),
    );
    assert!(forced["structuredContent"]["n"].is_i64(), "{forced}");
    let refused = call(
        &mut server,
        "exact",
        json!({"text": "Hi", "max_tokens": 31}),
    );
    assert_eq!(
        text_of(&refused),
        "`max_tokens`: must be a whole number from 1 to 30, found 31"
    );
}

#[test]
fn a_profile_marks_a_truncated_answer() {
    let prompts = "[tools.plain]\nprompt = \"Sing forever.\"\ntemperature = 0\nmax_tokens = 3\n\
                   [tools.noted]\nprompt = \"Sing forever.\"\ntemperature = 0\nmax_tokens = 3\ncut_note = true\n";
    let folder = Folder::new("profile-cut", &format!("{CRAB}{prompts}"));
    let mut server = folder.serve();
    let long = json!({"text": "Sing forever.", "temperature": 0, "max_tokens": 3});
    let exact = call(&mut server, "exact", long.clone());
    assert!(
        text_of(&exact).contains("[truncated after 3 tokens"),
        "{exact}"
    );
    let loose = call(&mut server, "loose", long);
    assert!(!text_of(&loose).contains("[cut"), "{loose}");
    // The default for a tool with a prompt is `false`.
    let [plain, noted] = ["plain", "noted"].map(|tool| call(&mut server, tool, json!({})));
    assert!(!text_of(&plain).contains("[cut"), "{plain}");
    assert!(
        text_of(&noted).contains("[truncated after 3 tokens"),
        "{noted}"
    );
}

#[test]
fn tokens_metrics_and_status_name_profiles() {
    let tokens = "[server.tokens.alice]\ntoken = \"alices-long-token-here\"\ntools = [\"exact\"]\n";
    let folder = Folder::new("profile-tokens", &format!("{tokens}{CRAB}"));
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    let bearer = [("authorization", "Bearer alices-long-token-here")];
    let answered = r#"calls_total{tool="exact",model="crab",outcome="stop",code=""}"#;
    let counted = || series(&scrape(&server, &bearer));
    assert_eq!(integer(&counted(), answered), 0);
    let mut alice = server.client_with_token("alices-long-token-here");
    assert_eq!(alice.tools(), ["exact"]);
    let call = json!({"name": "exact", "arguments": {"text": PERU}});
    let answer = alice.request("tools/call", call);
    assert_eq!(text_of(&answer["result"]), LIMA);
    let counted = counted();
    assert_eq!(integer(&counted, answered), 1);
    assert_eq!(counted.keys().find(|series| series.contains("loose")), None);
    let status: Value = serde_json::from_str(&get(&server, "/status", &bearer).body).unwrap();
    assert_eq!(status["tools"], json!([{"name": "exact", "model": "crab"}]));
}

#[test]
fn probable_mistakes_in_profiles_are_warnings() {
    let profile = "[tools.mistaken]\nkind = \"chat\"\nsystem = \"Today is {{ date }}.\"\n\
                   prompt_suffix = \"{{ x }}\"\nmax_tokens = 100000000\nthinking_budget = 100000000\n\
                   template_arguments = { mood = \"good\" }\n";
    let folder = Folder::new("profile-warnings", &format!("{CRAB}{profile}"));
    let output = folder.run(&["config", "check", "--format", "json"], &[]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let warnings = report["warnings"].as_array().unwrap().iter();
    let mut warnings: Vec<String> = warnings
        .filter(|warning| warning["key"].as_str().unwrap().contains("mistaken"))
        .map(|warning| format!("{} {}", warning["code"], warning["key"]).replace('"', ""))
        .collect();
    warnings.sort();
    let expected = [
        "max_tokens_above_context tools.mistaken.max_tokens",
        "no_description tools.mistaken.description",
        "not_rendered tools.mistaken.prompt_suffix",
        "not_rendered tools.mistaken.system",
        "thinking_budget_unused tools.mistaken.thinking_budget",
        "unused_template_argument tools.mistaken.template_arguments.mood",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn settings_that_a_profile_makes_useless_are_warnings() {
    let model = "[models.crab]\npath = \"crab.gguf\"\nthinking_budget = 1000\n";
    let profile = |keys: &str| {
        format!("{model}[tools.p]\nkind = \"chat\"\ndescription = \"Chats.\"\n{keys}\n")
    };
    for (file, code, key) in [
        (
            profile("repeat_last_n = 0\nrepeat_penalty = 1.2"),
            "penalties_unused",
            "tools.p.repeat_last_n",
        ),
        (
            profile("logit_bias = { 999999 = -1 }"),
            "logit_bias_unused",
            "tools.p.logit_bias.999999",
        ),
        (
            profile("max_tokens = 50"),
            "thinking_budget_unused",
            "tools.p.max_tokens",
        ),
        (
            profile("thinking = \"off\"\nthinking_budget = 10"),
            "thinking_budget_unused",
            "tools.p.thinking_budget",
        ),
        (
            format!("{model}[models.hidden]\npath = \"crab.gguf\"\ntool = false\n"),
            "unused_model",
            "models.hidden.tool",
        ),
    ] {
        let folder = Folder::new("useless", &file);
        let output = folder.run(&["config", "check", "--format", "json"], &[]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let warnings = report["warnings"].as_array().unwrap();
        let found: Vec<_> = warnings
            .iter()
            .map(|one| (&one["code"], &one["key"]))
            .collect();
        assert_eq!(found, [(&json!(code), &json!(key))], "{file}");
    }
}

#[test]
fn the_error_of_a_too_long_system_prompt_names_the_profile() {
    let system = "Greet them well. ".repeat(2000);
    let profile = format!("[tools.long]\nkind = \"chat\"\nsystem = \"{system}\"\n");
    let small = CRAB.replace("n_threads = 1", "n_threads = 1\nn_ctx = 512");
    let folder = Folder::new("long-system", &format!("{small}{profile}"));
    let mut server = folder.serve();
    let result = call(&mut server, "long", json!({"text": "hi"}));
    let error = &result["_meta"]["llama-mcp-server/error"];
    assert_eq!(error["code"], "prompt_too_long", "{result}");
    let refusal = text_of(&result);
    assert!(
        refusal.contains("most of it is the own text of the tool `long`"),
        "{refusal}"
    );
    assert!(
        refusal.contains("shorten `system` or `prompt` in the configuration"),
        "{refusal}"
    );
    let long = json!({"text": "hi ".repeat(20_000)});
    let refusal = call(&mut server, "exact", long);
    assert!(text_of(&refusal).contains("shorten the text"), "{refusal}");
}

#[test]
fn an_edit_of_a_profile_is_live_without_a_new_worker() {
    let folder = Folder::new("profile-edit", CRAB);
    let mut server = folder.serve();
    server.initialize();
    let before = call(&mut server, "exact", json!({"text": PERU}));
    let workers = workers_of(server.child.id());
    let edited = CRAB.replace("title = \"Exact answers\"", "system = \"You are a crab.\"");
    folder.write("new.toml", &edited);
    let plan = folder.run(
        &["config", "diff", "llama-mcp-server.toml", "new.toml"],
        &[],
    );
    assert_eq!(text(plan.stdout), "tool exact: live (system, title)\n");
    folder.write("llama-mcp-server.toml", &edited);
    server.wait_for_notification("notifications/tools/list_changed");
    let after = call(&mut server, "exact", json!({"text": PERU}));
    assert!(prompt_tokens(&after) > prompt_tokens(&before));
    assert_eq!(workers_of(server.child.id()), workers);
}

#[test]
fn the_weights_of_a_model_count_once_for_all_its_profiles() {
    let folder = Folder::new("profile-memory", CRAB);
    let checked = folder.run(&["config", "check", "--format", "json"], &[]);
    let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(report["models"].as_array().unwrap().len(), 1);
    assert_eq!(report["together_bytes"], report["models"][0]["total_bytes"]);
    let shown = folder.show(&[], &[]);
    assert!(shown.contains("kind = \"chat\"\n"), "{shown}");
}

#[test]
fn keys_of_another_kind_of_tool_are_refused() {
    let tools = r#"
[tools.talk]
kind = "chat"
prompt = "x"
choices = ["a"]
max_tokens = 9
max_tokens_limit = 8
[tools.talk.arguments.text]

[tools.ask]
cut_note = true

[tools.other]
kind = "completion"
"#;
    let folder = Folder::new(
        "profile-wrong",
        &format!("[models.crab]\npath = \"crab.gguf\"\n{tools}"),
    );
    let output = folder.run(&["config", "check"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(output.stderr);
    let problems: Vec<&str> = stderr
        .lines()
        .filter(|line| line.starts_with("error"))
        .collect();
    insta::assert_snapshot!(problems.join("\n"), @r#"
    error[config_tool]: `tools.talk.prompt`: cannot be combined with `kind = "chat"`
    error[config_tool]: `tools.talk.choices`: cannot be combined with `kind = "chat"`
    error[config_tool]: `tools.talk.max_tokens`: must be at most `max_tokens_limit`, which is 8, found 9
    error[config_tool]: `tools.talk.arguments`: cannot be combined with `kind = "chat"`
    error[config_tool]: `tools.ask.prompt`: is missing
    error[config_value]: `tools.other.kind`: must be `prompt` or `chat`, found the string "completion"
    "#);
}
