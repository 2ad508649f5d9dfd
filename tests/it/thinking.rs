//! Reasoning, marked in every known way, before text and before JSON.

use serde_json::{Value, json};

use crate::support::config::{Folder, text};
use crate::support::tags::{CONTROL, USER_DEFINED, tiny_with_tags};
use crate::support::{Server, ToolResult, tiny, tiny_with_template};

/// Reasoning markers of model families, and the token type that they have in their vocabularies.
const FAMILIES: [(&str, [&str; 2], u32); 15] = [
    ("think", ["<think>", "</think>"], USER_DEFINED),
    ("think-control", ["<think>", "</think>"], CONTROL),
    ("magistral", ["[THINK]", "[/THINK]"], CONTROL),
    ("seed", ["<seed:think>", "</seed:think>"], CONTROL),
    ("gemma4", ["<|channel>", "<channel|>"], CONTROL),
    (
        "cohere",
        ["<|START_THINKING|>", "<|END_THINKING|>"],
        CONTROL,
    ),
    ("thinking", ["<thinking>", "</thinking>"], USER_DEFINED),
    ("minimax", ["<mm:think>", "</mm:think>"], USER_DEFINED),
    (
        "harmony",
        [
            "<|channel|>analysis<|message|>",
            "<|end|><|start|>assistant<|channel|>final<|message|>",
        ],
        CONTROL,
    ),
    ("apertus", ["<|inner_prefix|>", "<|inner_suffix|>"], CONTROL),
    (
        "hunyuan3",
        ["<think:opensource>", "</think:opensource>"],
        CONTROL,
    ),
    (
        "granite",
        ["Here is my thought process:", "Here is my response:"],
        USER_DEFINED,
    ),
    (
        "apriel",
        ["Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"],
        USER_DEFINED,
    ),
    (
        "solar",
        ["<|think|>", "<|end|><|begin|>assistant<|content|>"],
        CONTROL,
    ),
    (
        "unknown",
        ["<acme_reasoning>", "</acme_reasoning>"],
        CONTROL,
    ),
];

fn question() -> Value {
    json!({"text": "Think: what is the capital of Peru?", "temperature": 0, "repeat_penalty": 1})
}

fn question_with(key: &str, value: Value) -> Value {
    let mut arguments = question();
    arguments[key] = value;
    arguments
}

fn city() -> Value {
    json!({
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Lima", "Oslo"]}},
        "required": ["city"],
    })
}

/// Which city such a model names is random.
fn is_city(text: &str) -> bool {
    let cities = ["Paris", "Lima", "Oslo"];
    let mut cities = cities.iter().map(|city| format!(r#"{{"city":"{city}"}}"#));
    cities.any(|city| city == text)
}

/// Calls with a schema. The answer must have structured content.
fn structured(server: &mut Server, arguments: Value) -> ToolResult {
    let id = server.call(arguments);
    let result = server.response(id)["result"].clone();
    ToolResult {
        text: result["content"][0]["text"].as_str().unwrap().to_owned(),
        is_error: result["isError"] == true,
        generation: result["_meta"]["llama-mcp-server/generation"].clone(),
    }
}

fn thinking_tokens(result: &ToolResult) -> u64 {
    result.generation["thinking_tokens"].as_u64().unwrap()
}

#[test]
fn the_reasoning_of_every_family_is_removed_and_counted_and_reported_if_truncated() {
    for (name, tags, class) in FAMILIES {
        let model = tiny_with_tags(&format!("tags-{name}.gguf"), tags, class);
        let mut server = Server::start(&model.0, &[]);
        let answer = server.chat(question());
        assert_eq!(answer.text, "The capital of Peru is Lima.", "{name}");
        assert!(thinking_tokens(&answer) > 10, "{name}");
        let text = server.refusal(question_with("max_tokens", json!(12)));
        assert_eq!(
            text,
            "no answer: the model was still thinking after 12 tokens, when `max_tokens` was reached; raise `max_tokens`",
            "{name}"
        );
    }
}

#[test]
fn json_follows_the_reasoning_of_every_family() {
    for (name, tags, class) in FAMILIES {
        let model = tiny_with_tags(&format!("json-{name}.gguf"), tags, class);
        let mut server = Server::start(&model.0, &[]);
        let answer = structured(&mut server, question_with("json_schema", city()));
        assert!(!answer.is_error, "{name}: {}", answer.text);
        assert!(thinking_tokens(&answer) > 10, "{name}");
        assert!(is_city(&answer.text), "{name}: {}", answer.text);
    }
}

#[test]
fn a_block_that_the_template_opens_precedes_the_json_or_is_closed_without_reasoning() {
    let opened = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n<think>\n";
    let model = tiny_with_template("opened-before-json.gguf", opened);
    let mut server = Server::start(&model.0, &[]);
    let answer = structured(&mut server, question_with("json_schema", city()));
    assert!(is_city(&answer.text), "{}", answer.text);
    assert!(thinking_tokens(&answer) > 10);
    let prompt = answer.generation["prompt_tokens"].as_u64().unwrap();
    for arguments in [question_with("json_schema", city()), question()] {
        let mut server = Server::start(&model.0, &["--set=models.default.thinking=off"]);
        let closed = structured(&mut server, arguments);
        assert!(
            !closed.is_error && !closed.text.contains('<'),
            "{}",
            closed.text
        );
        assert_eq!(thinking_tokens(&closed), 0);
        // The prompt contains `\n</think>\n\n`.
        assert!(closed.generation["prompt_tokens"].as_u64().unwrap() > prompt);
    }
}

#[test]
fn an_exhausted_budget_closes_the_block_and_the_answer_follows() {
    let mut server = Server::start(&tiny(), &[]);
    let free = server.chat(question_with("thinking_budget", json!(5)));
    assert!(!free.is_error && !free.text.trim().is_empty());
    assert!(
        (5..12).contains(&thinking_tokens(&free)),
        "{}",
        free.generation
    );
    let mut arguments = question_with("thinking_budget", json!(5));
    arguments["json_schema"] = city();
    let json = structured(&mut server, arguments.clone());
    assert!(
        (5..12).contains(&thinking_tokens(&json)),
        "{}",
        json.generation
    );
    let value: Value = serde_json::from_str(&json.text).unwrap();
    assert!(value["city"].is_string(), "{value}");
    assert_eq!(structured(&mut server, arguments).text, json.text);
    // Without a budget, part of `max_tokens` is reserved for the JSON.
    let mut arguments = question_with("json_schema", city());
    arguments["max_tokens"] = json!(30);
    let halved = structured(&mut server, arguments);
    assert!(!halved.is_error, "{}", halved.text);
    assert!(
        (15..22).contains(&thinking_tokens(&halved)),
        "{}",
        halved.generation
    );
}

#[test]
fn a_budget_of_zero_and_off_leave_no_reasoning() {
    let mut server = Server::start(&tiny(), &[]);
    let mut off = Server::start(&tiny(), &["--set=models.default.thinking=off"]);
    for answer in [
        server.chat(question_with("thinking_budget", json!(0))),
        off.chat(question()),
    ] {
        assert!(!answer.is_error, "{}", answer.text);
        assert_eq!(thinking_tokens(&answer), 0);
    }
}

#[test]
fn kept_reasoning_is_counted_and_never_part_of_json() {
    let mut server = Server::start(&tiny(), &["--set=models.default.thinking=keep"]);
    let kept = server.chat(question());
    assert!(kept.text.starts_with("<think>\n"), "{}", kept.text);
    assert!(thinking_tokens(&kept) > 10);
    let answer = structured(&mut server, question_with("json_schema", city()));
    assert!(is_city(&answer.text), "{}", answer.text);
}

#[test]
fn kept_and_truncated_reasoning_is_an_answer_that_says_so() {
    let mut server = Server::start(&tiny(), &["--set=models.default.thinking=keep"]);
    let answer = server.chat(question_with("max_tokens", json!(12)));
    assert!(!answer.is_error, "{}", answer.text);
    assert!(answer.text.starts_with("<think>\n"), "{}", answer.text);
    let note = "\n\n[truncated after 12 tokens, when `max_tokens` was reached; raise `max_tokens`]";
    assert!(answer.text.ends_with(note), "{}", answer.text);
    assert_eq!(answer.generation["finish_reason"], "length");
    assert_eq!(thinking_tokens(&answer), 12);
}

#[test]
fn a_stop_string_that_begins_kept_reasoning_is_named_as_the_cause() {
    let mut server = Server::start(&tiny(), &["--set=models.default.thinking=keep"]);
    let error = server.refusal(question_with("stop", json!(["<think>"])));
    assert!(error.contains("change `stop`"), "{error}");
}

#[test]
fn template_variables_come_from_the_model_the_tool_and_the_call() {
    let text = r#"
[models.small]
path = "crab.gguf"
chat_template = "<|im_start|>system\nYou are a helpful assistant. The secret word is {{ word }}.<|im_end|>\n{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
template_arguments = { word = "mirabo" }

[tools.asks]
prompt = "What is the secret word?"
temperature = 0
template_arguments = { word = "zanuko" }
"#;
    let folder = Folder::new("variables", text);
    let mut command = crate::support::program();
    command.current_dir(&folder.0);
    let mut server = Server::spawn(command);
    let ask = json!({"text": "What is the secret word?", "temperature": 0});
    let id = server.call_tool("small", ask.clone());
    assert_eq!(server.result(id).text.trim(), "The secret word is mirabo.");
    let id = server.call_tool("asks", json!({}));
    assert_eq!(server.result(id).text.trim(), "The secret word is zanuko.");
    let mut given = ask;
    given["template_arguments"] = json!({"word": "tolemu"});
    let id = server.call_tool("small", given);
    assert_eq!(server.result(id).text.trim(), "The secret word is tolemu.");
}

#[test]
fn a_variable_that_every_template_gets_is_refused() {
    let mut server = Server::start(&tiny(), &[]);
    let refusal = server.refusal(question_with("template_arguments", json!({"messages": []})));
    assert_eq!(
        refusal,
        "`template_arguments.messages`: `messages` is reserved: the server sets it; use another name"
    );
    let refusal = server.refusal(question_with("thinking_budget", json!(-1)));
    assert_eq!(
        refusal,
        "`thinking_budget`: must be a whole number from 0 to 1000000000, found -1"
    );
}

#[test]
fn undetected_markers_cause_a_warning_and_can_be_configured() {
    let model = tiny_with_tags("ponder.gguf", ["<ponder>", "<done>"], USER_DEFINED);
    let file = |more: &str| format!("[models.small]\npath = \"{}\"\n{more}", model.0.display());
    let folder = Folder::new("ponder", &file(""));
    let checked = folder.run(&["config", "check"], &[]);
    let printed = text(checked.stdout) + &text(checked.stderr);
    assert!(
        printed.contains("warning[unknown_thinking_tags]: `models.small.path`: the chat template has `<ponder>`, which looks like a marker of reasoning: the reasoning stays in answers"),
        "{printed}"
    );
    folder.write(
        "llama-mcp-server.toml",
        &file("thinking_tags = [\"<ponder>\", \"<done>\"]"),
    );
    let checked = folder.run(&["config", "check"], &[]);
    let printed = text(checked.stdout) + &text(checked.stderr);
    assert!(!printed.contains("ponder"), "{printed}");
    let mut command = crate::support::program();
    command.current_dir(&folder.0);
    let mut server = Server::spawn(command);
    let id = server.call_tool("small", question());
    let answer = server.result(id);
    assert_eq!(answer.text, "The capital of Peru is Lima.");
    assert!(thinking_tokens(&answer) > 10);
}

#[test]
fn markers_that_are_not_removed_cause_a_warning_even_if_others_are() {
    let template =
        "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}<ponder></ponder>";
    let model = tiny_with_template("think-and-ponder.gguf", template);
    let path = model.0.display();
    let folder = Folder::new(
        "think-and-ponder",
        &format!("[models.a]\npath = \"{path}\"\n"),
    );
    let checked = folder.run(&["config", "check"], &[]);
    let printed = text(checked.stdout) + &text(checked.stderr);
    let note = "hint: set `thinking_tags = [\"<ponder>\", \"</ponder>\"]` to remove it";
    assert!(printed.contains(note), "{printed}");
    assert!(!printed.contains("`<think>`"), "{printed}");
}
