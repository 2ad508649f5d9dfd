//! Chat templates are checked together with the configurations that use them.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Server, TempFile, program, tiny, tiny_with_template};

const WANTS_LANGUAGE: &str = "{% if not lang %}{{ raise_exception('no lang') }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}";

/// Checks a model `a` with the chat template `template`, the typed tools `t` and `u`, and additional settings. Returns problems and
/// warnings.
fn check(template: &str, set: &[&str]) -> (Vec<String>, Vec<String>) {
    let template = format!("models.a.chat_template={template}");
    let always = [
        "models.a.path=tests/models/tiny-crab-chat.Q8_0.gguf",
        &template,
        "tools.t.prompt=Hi",
        "tools.u.prompt=Hello",
    ];
    check_settings([&always[..], set].concat())
}

/// Checks the settings `set`. Returns the problems as `KEY: MESSAGE`, and the warnings.
fn check_settings(set: Vec<&str>) -> (Vec<String>, Vec<String>) {
    let mut check = program();
    check.args(["config", "check", "--format", "json"]);
    let check = set
        .iter()
        .fold(&mut check, |check, set| check.args(["--set", set]));
    let report: Value = serde_json::from_slice(&check.output().unwrap().stdout).unwrap();
    let text = |problem: &Value, key: &str| problem[key].as_str().unwrap().to_owned();
    let problem = |problem: &Value| {
        // The message starts with the flag that set the key.
        let flag = format!("`{}`: ", text(problem, "flag"));
        let message = text(problem, "message");
        let message = message.strip_prefix(&flag).unwrap_or(&message);
        format!("{}: {message}", text(problem, "key"))
    };
    let list = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    (
        list("problems").iter().map(problem).collect(),
        list("warnings")
            .iter()
            .map(|warning| text(warning, "message"))
            .collect(),
    )
}

const REFUSED: &str = "the model's chat template refused the messages: no lang";

#[test]
fn a_typed_tool_whose_calls_all_fail_is_a_problem_even_if_other_tools_of_the_model_work() {
    let given = "models.a.template_arguments.lang=es";
    let cleared = "tools.t.template_arguments.lang=";
    assert_eq!(check(WANTS_LANGUAGE, &[given]).0, [""; 0]);
    let fails = format!("tools.t.template_arguments: every call fails: {REFUSED}");
    let (problems, _) = check(WANTS_LANGUAGE, &[given, cleared]);
    assert_eq!(problems, [fails.as_str()]);
    let (problems, _) = check(WANTS_LANGUAGE, &[given, cleared, "models.a.tool=false"]);
    assert_eq!(problems, [fails.as_str()]);
}

#[test]
fn variables_of_a_model_without_its_own_tool_are_not_tried() {
    let set = [
        "models.a.tool=false",
        "models.a.system=Be brief.",
        "tools.t.template_arguments.lang=es",
        "tools.u.template_arguments.lang=en",
    ];
    assert_eq!(check(WANTS_LANGUAGE, &set).0, [""; 0]);
    let cleared = [
        "models.a.tool=false",
        "models.a.template_arguments.lang=es",
        "tools.t.template_arguments.lang=",
        "tools.u.template_arguments.lang=",
    ];
    let (problems, _) = check(WANTS_LANGUAGE, &cleared);
    assert_eq!(problems, [format!("models.a.chat_template: {REFUSED}")]);
}

#[test]
fn the_tool_of_a_model_may_require_variables_that_its_calls_set() {
    let set = [
        "tools.t.template_arguments.lang=es",
        "tools.u.template_arguments.lang=en",
    ];
    assert_eq!(check(WANTS_LANGUAGE, &set).0, [""; 0]);
    assert_eq!(
        check(WANTS_LANGUAGE, &[]).0,
        [format!("models.a.chat_template: {REFUSED}")]
    );
}

#[test]
fn an_inherited_system_prompt_is_reported_once_and_tried_with_the_variables_of_each_tool() {
    let merges = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}";
    let (_, notes) = check(merges, &["models.a.system=Be brief."]);
    let of_system: Vec<&String> = notes
        .iter()
        .filter(|note| note.contains("does not print a system prompt"))
        .collect();
    assert_eq!(of_system.len(), 1, "{notes:?}");
    assert!(
        of_system[0].starts_with("`--set models.a.system`: "),
        "{notes:?}"
    );
    let cuts = "{% for m in messages %}{{ m.content[:5] if lang else m.content }}{% endfor %}";
    let set = [
        "models.a.system=Be brief.",
        "tools.t.template_arguments.lang=es",
    ];
    let (problems, _) = check(cuts, &set);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("models.a.system: "), "{problems:?}");
}

/// A value that looks 2⁶⁰ times as large as it is: comparing it never ends.
pub(crate) const SHARED: &str = "{% set n=namespace(a=[1]) %}{% for i in range(60) %}{% set n.a=[n.a,n.a] %}{% endfor %}{{ {n.a: 1} }}";

#[test]
fn an_endless_template_is_a_problem_of_its_model_only() {
    let model = tiny_with_template("hostile.gguf", SHARED);
    let path = format!("models.a.path={}", model.0.display());
    let other = "models.b.path=tests/models/tiny-crab-chat.Q8_0.gguf";
    let problem =
        "models.a.path: the model's chat template takes more than 2 s to render a short message";
    assert_eq!(check_settings(vec![&path, other]).0, [problem]);
}

#[test]
fn errors_of_a_template_are_one_printable_line() {
    let template = "{{ raise_exception('no\x1b[31m\nwarning: \u{202e}') }}";
    let model = tiny_with_template("speaking.gguf", template);
    let path = format!("models.a.path={}", model.0.display());
    let problem = "models.a.path: the model's chat template refused the messages: no [31m warning:";
    assert_eq!(check_settings(vec![&path]).0, [problem]);
}

#[test]
fn an_edit_with_a_malicious_template_stops_neither_calls_nor_the_server() {
    let hostile = tiny_with_template("brought.gguf", SHARED);
    let table = |name: &str, path: &Path| {
        format!(
            "[models.{name}]\npath = '{}'\nn_threads = 1\n",
            path.display()
        )
    };
    let before = table("a", &tiny());
    let file = TempFile::new("brought.toml", before.as_bytes());
    let mut command = program();
    command.arg("--config").arg(&file.0);
    let mut server = Server::spawn(command);
    let id = server.request("initialize", json!({}));
    server.response(id);
    let song =
        json!({"text": "Sing forever.", "temperature": 0, "max_tokens": 4000, "repeat_penalty": 1});
    let song = server.call_tool("a", song);
    server.wait_for_progress(song, |message| message.starts_with("la la"));
    std::fs::write(&file.0, before + &table("b", &hostile.0)).unwrap();
    // The check reaches a limit: of CPU time or, on a busy machine, of wall-clock time.
    server.wait_for_log("render a short message");
    assert!(!server.result(song).is_error);
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn a_template_that_allocates_endlessly_only_kills_its_own_process() {
    let prints = SHARED.replace("{{ {n.a: 1} }}", "{% set text = n.a ~ '' %}");
    let text = "{% for m in messages %}{{ m.content }}{% endfor %}";
    let hidden = format!("{{% if messages[-1].content[0] == '!' %}}{prints}{{% endif %}}{text}");
    let model = tiny_with_template("grows.gguf", &hidden);
    let mut server = Server::start(&model.0, &[]);
    assert!(!server.chat(json!({"text": "Hi", "max_tokens": 1})).is_error);
    // Messages give the template more time, because memory grows slowly on a busy machine. If it grows too slowly, the time limit ends the
    // process.
    let messages = vec![json!({"role": "user", "content": "!"}); 1000];
    let check = server.refusal(json!({"messages": messages}));
    let cause =
        "the model's chat template takes more than 211 MiB of memory to render; configure another";
    let is_too_slow = check.contains("the model's chat template does not finish");
    assert!(check.contains(cause) || is_too_slow, "{check}");
    assert!(!server.chat(json!({"text": "Hi", "max_tokens": 1})).is_error);
}
