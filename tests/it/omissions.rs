//! Messages that a chat template drops: they reach the model in another way, or the call fails and names them.

use serde_json::{Value, json};

use crate::support::config::{Folder, text};
use crate::support::{Server, tiny_with_template};

/// Like the template of Phi-3: drops system messages.
const NO_SYSTEM: &str = r"{% for m in messages %}{% if m.role != 'system' %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}{{ '<|im_start|>assistant\n' }}";

/// Like the template of `SmolVLM`: reads text from lists of parts.
const PARTS: &str = r"{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}{{ '<|im_start|>assistant\n' }}";

const NO_ANSWERS: &str =
    "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}";

fn prompt_tokens(server: &mut Server, messages: &Value) -> u64 {
    let arguments = json!({"messages": messages, "max_tokens": 1, "temperature": 0});
    let answer = server.chat(arguments);
    answer.generation["prompt_tokens"].as_u64().unwrap()
}

#[test]
fn a_dropped_system_message_reaches_the_model_in_the_user_message() {
    let model = tiny_with_template("no-system.gguf", NO_SYSTEM);
    let question = json!({"role": "user", "content": "Peru?"});
    let merged = json!({"role": "user", "content": "Name the capital.\n\nPeru?"});
    let answer = |server: &mut Server, messages: Value| {
        let answer = server.chat(json!({"messages": messages, "temperature": 0, "max_tokens": 20}));
        (answer.text, answer.generation["prompt_tokens"].clone())
    };
    let mut server = Server::start(&model.0, &[]);
    let system = json!({"role": "system", "content": "Name the capital."});
    assert_eq!(
        answer(&mut server, json!([system, question])),
        answer(&mut server, json!([merged]))
    );
    let earlier = json!({"role": "assistant", "content": "Lima."});
    let with = json!([question, earlier, system, question]);
    let without = json!([question, earlier, question]);
    assert!(prompt_tokens(&mut server, &with) > prompt_tokens(&mut server, &without));
}

#[test]
fn a_template_that_reads_lists_of_parts_gets_the_question() {
    let model = tiny_with_template("parts.gguf", PARTS);
    let mut server = Server::start(&model.0, &[]);
    let mut tokens =
        |text: &str| prompt_tokens(&mut server, &json!([{"role": "user", "content": text}]));
    let short = tokens("a");
    assert!(tokens(&"word ".repeat(40)) >= short + 40);
}

#[test]
fn an_error_names_the_dropped_message_and_a_way_out() {
    let model = tiny_with_template("no-answers.gguf", NO_ANSWERS);
    let mut server = Server::start(&model.0, &[]);
    let mut turns = json!([
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Peru?"},
    ]);
    let id = server.call(json!({ "messages": turns }));
    let result = server.response(id)["result"].clone();
    assert_eq!(result["isError"], true);
    assert_eq!(
        result["content"][0]["text"],
        "the chat template leaves out message 2 (assistant); put the text into another message, or give the model a `chat_template` that prints it"
    );
    let error = &result["_meta"]["llama-mcp-server/error"];
    assert_eq!(error["code"], "template_failed");
    // An empty answer does not count as dropped.
    turns[1]["content"] = "".into();
    assert!(prompt_tokens(&mut server, &turns) > 1);
}

#[test]
fn config_check_tries_system_prompts() {
    let file = |template: &str| {
        let template = json!(template);
        format!(
            "[models.a]\npath = \"crab.gguf\"\nsystem = \"Be brief.\"\nchat_template = {template}\n[tools.t]\nprompt = \"Hi\"\nsystem = \"Be kind.\"\n"
        )
    };
    let folder = Folder::new("system-merged", &file(NO_SYSTEM));
    let output = folder.run(&["config", "check"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let stdout = text(output.stdout);
    for place in ["models.a.system", "tools.t.system"] {
        let note = format!(
            "warning[system_prompt_merged]: `{place}`: the chat template of `a` does not print a system prompt; its text is merged into the first user message\n"
        );
        assert!(stdout.contains(&note), "{stdout}");
    }
    let folder = Folder::new("system-lost", &file("{{ messages[0].content }}"));
    let output = folder.run(&["config", "check"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(output.stderr);
    let problem = "`models.a.system`: the chat template leaves out message 2 (user)";
    assert!(stderr.contains(problem), "{stderr}");
}

/// Checks a configuration with the chat template `template`, set in the configuration or in the model's file.
fn check(name: &str, template: &str, is_own: bool, more: &str) -> (Option<i32>, String) {
    let model = tiny_with_template(&format!("{name}.gguf"), template);
    let own = if is_own {
        format!("chat_template = {}\n", json!(template))
    } else {
        String::new()
    };
    let path = model.0.display();
    let folder = Folder::new(name, &format!("[models.a]\npath = \"{path}\"\n{own}{more}"));
    let output = folder.run(&["config", "check"], &[]);
    (
        output.status.code(),
        text(output.stdout) + &text(output.stderr),
    )
}

const TOOL: &str = "[tools.t]\nprompt = \"Hi\"\n";

const WANTS_LANGUAGE: &str = "{% if not lang %}{{ raise_exception('no lang') }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}";

#[test]
fn config_check_reports_a_template_that_drops_the_question_and_names_its_source() {
    for (template, cause) in [
        (
            "{{ 'Hello' }}",
            "the chat template leaves out message 1 (user)",
        ),
        (
            WANTS_LANGUAGE,
            "the model's chat template refused the messages: no lang",
        ),
    ] {
        for (is_own, key) in [(false, "path"), (true, "chat_template")] {
            for more in ["", "system = \"Be brief.\"\n"] {
                let (code, output) = check("cannot-print", template, is_own, more);
                assert_eq!(code, Some(2), "{output}");
                let problem = format!("`models.a.{key}`: {cause}");
                assert!(output.contains(&problem), "{output}");
                assert!(!output.contains("models.a.system"), "{output}");
            }
        }
    }
}

#[test]
fn config_check_tries_templates_with_the_variables_of_the_model_and_its_tools() {
    let given = "template_arguments = { lang = \"es\" }\n";
    for more in [
        given.to_owned(),
        format!("tool = false\n{TOOL}{given}"),
        format!("{given}system = \"Be brief.\"\n"),
    ] {
        let (code, output) = check("wants-language", WANTS_LANGUAGE, false, &more);
        assert_eq!(code, Some(0), "{output}");
        assert!(!output.contains("lang"), "{output}");
    }
}

#[test]
fn config_check_warns_about_a_template_that_drops_earlier_turns() {
    let note = "warning[earlier_turns_refused]: `models.a.path`: calls with earlier turns in `messages` fail: the chat template leaves out message 2 (assistant)\n";
    let (code, output) = check("no-turns", NO_ANSWERS, false, "");
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains(note), "{output}");
    // Calls of typed tools have no earlier turns.
    let (_, output) = check(
        "no-turns",
        NO_ANSWERS,
        false,
        &format!("tool = false\n{TOOL}"),
    );
    assert!(!output.contains("earlier turns"), "{output}");
}
