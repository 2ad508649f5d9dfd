//! `config check` reports every error in one run, and each only once.

use std::io::Write as _;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::config_warnings::warnings;
use crate::support::config::{Folder, text};
use crate::support::program;

pub(crate) const MODEL: &str = "[models.a]\npath = \"crab.gguf\"\n";

/// Runs `config check` in `folder` with additional `arguments`. Returns the exit code and the JSON output.
pub(crate) fn checked(folder: &Folder, arguments: &[&str]) -> (Option<i32>, Value) {
    let arguments = [&["config", "check", "--format", "json"], arguments].concat();
    let output = folder.run(&arguments, &[]);
    let json = serde_json::from_slice(&output.stdout);
    (output.status.code(), json.unwrap())
}

/// Returns the messages of the problems of `file`.
pub(crate) fn problems(file: &str) -> Vec<String> {
    let folder = Folder::new("check", file);
    let (_, report) = checked(&folder, &[]);
    let problems = report["problems"].as_array().cloned().unwrap_or_default();
    let message = |problem: &Value| problem["message"].as_str().unwrap().to_owned();
    problems.iter().map(message).collect()
}

#[test]
fn errors_of_all_stages_are_reported_in_one_run() {
    let file = r#"
[log]
max_size = "1KiB"
[models.m]
path = "crab.gguf"
temperature = 9
[models.n]
path = "nothing.gguf"
chat_template = "{% if %}"
[tools.a]
prompt = "{{ x | upcase }} {{ x is odd_ }} {{ y }} {{ z() }} {{ x.uper() }}"
model = "m"
arguments.x.description = "A text."
[tools.b]
prompt = "{{ txet }}"
model = "m"
arguments.text.type = "strin"
[tools.c]
prompt = "{{ nothing }}"
model = "m"
output.type = "object"
output.properties.a = { type = "string", not = { pattern = "a" } }
output.properties.b = { type = "integer", minimun = 1 }
output.properties.c = { type = "string", pattern = "(?=a)b", minLength = 3, maxLength = 2 }
"#;
    let found = problems(file);
    let expected = [
        "`log.max_size`: must be at least 1.0 MiB",
        "`models.m.temperature`: must be a number from 0 to 5",
        "`models.n.path`: the model file `./nothing.gguf` does not exist",
        "`models.n.chat_template`: the model's chat template is not valid",
        "`tools.a.prompt`: there is no filter `upcase`",
        "`tools.a.prompt`: there is no test `odd_`",
        "`tools.a.prompt`: uses `y`, which is not an argument",
        "`tools.a.prompt`: uses `z`, which is not an argument",
        "`tools.a.prompt`: string has no method named uper",
        "`tools.b.prompt`: uses `txet`, which is not an argument",
        "`tools.b.arguments.text.type`: must be",
        "`tools.c.prompt`: uses `nothing`, which is not an argument",
        "`tools.c.output`: the schema cannot be enforced at `#/properties/a/not`",
        "`tools.c.output`: the schema cannot be enforced at `#/properties/b/minimun`",
        "`tools.c.output`: the schema cannot be enforced at `#/properties/c/minLength`",
        "`tools.c.output`: the schema cannot be enforced at `#/properties/c/pattern`",
    ];
    for expected in expected {
        let matching = found.iter().filter(|found| found.starts_with(expected));
        assert_eq!(matching.count(), 1, "{expected}: {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn a_refused_value_causes_no_further_error() {
    for (file, fault) in [
        (
            "[models.a]\npath = \"crab.gguf\"\n[tools.t]\nprompt = \"${file:handbook.md}\"\n",
            "`tools.t.prompt`: could not read",
        ),
        (
            "[models.a]\npath = 5\n[tools.t]\nmodel = \"a\"\nprompt = \"x\"\n",
            "`models.a.path`: must be",
        ),
        (
            "[models]\na = \"crab.gguf\"\n[tools.t]\nmodel = \"a\"\nprompt = \"x\"\n",
            "`models.a`: must be a table",
        ),
        (
            "models = 5\n[tools.t]\nprompt = \"x\"\n",
            "`models`: must be a table",
        ),
        (
            "[models.a]\npath = \"crab.gguf\"\n[tools.t]\nprompt = \"{{ x }}{{ x | upper }}\"\narguments.x = \"a text\"\n",
            "`tools.t.arguments.x`: must be a table",
        ),
        (
            "[models.a]\npath = \"crab.gguf\"\n[tools.t]\nprompt = \"{{ x + 1 }}\"\narguments.x.type = \"int\"\n",
            "`tools.t.arguments.x.type`: must be",
        ),
        (
            "[models.a]\npath = \"crab.gguf\"\n[tools.t]\nprompt = \"{{ x }}\"\narguments = []\n",
            "`tools.t.arguments`: must be a table",
        ),
        (
            "[models.a]\npath = \"crab.gguf\"\n[tools.t]\nprompt = \"{{ choices }}\"\nchoices = []\n",
            "`tools.t.choices`: must be",
        ),
        (
            "[registry]\nmemory_budget = \"52MiB\"\n[models.a]\npath = \"crab.gguf\"\nn_batch = \"16\"\n",
            "`models.a.n_batch`: must be",
        ),
        (
            "[models.a]\npath = \"crab.gguf\"\ntool = \"no\"\n",
            "`models.a.tool`: must be true or false",
        ),
        (
            "[server]\ntransport = \"http\"\n[server.tokens.x]\ntoken = \"0123456789abcdef\"\ntools = [\"t\"]\n[models.a]\npath = \"crab.gguf\"\n[tools]\nt = 5\n",
            "`tools.t`: must be a table",
        ),
    ] {
        let found = problems(file);
        assert!(
            found.len() == 1 && found[0].starts_with(fault),
            "{file}\n{found:#?}"
        );
    }
}

#[test]
fn an_error_in_the_defaults_is_reported_once() {
    let models = "[models.a]\npath = \"crab.gguf\"\n[models.b]\npath = \"crab.gguf\"\n[models.c]\npath = \"crab.gguf\"\n";
    for fault in [
        "deadline = \"0s\"",
        "temperature = 9",
        "thinking_tags = [\"a\", \"a\"]",
        "chat_template = \"{% if %}\"",
        "template_arguments = { messages = 1 }",
        "lora = { path = \"nothing.gguf\" }",
        "system = \"${file:nothing}\"",
        "max_tokens = 100\nmax_tokens_limit = 50",
    ] {
        let found = problems(&format!("[defaults]\n{fault}\n{models}"));
        assert_eq!(found.len(), 1, "{fault}: {found:#?}");
    }
    let capped = format!("[defaults]\nn_ctx = 131072\n{models}");
    assert_eq!(warnings(&capped), ["context_capped"]);
}

#[test]
fn type_and_range_errors_have_the_same_code_in_all_tables() {
    let file = r#"
[server]
transport = "http"
port = "8080"
idle_time = "2h"
auth = 5
[log]
keep = 0
[registry]
max_loaded = "2"
[models.a]
path = "crab.gguf"
n_ctx = "4096"
preload = "yes"
pin = 1
lora = "x"
[tools.t]
prompt = 5
temperature = 9
deadline = "0s"
arguments.x.type = "int"
"#;
    let folder = Folder::new("codes", file);
    let (code, report) = checked(&folder, &[]);
    assert_eq!(code, Some(2));
    let problems = report["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 13, "{report:#}");
    for problem in problems {
        assert_eq!(problem["code"], "config_value", "{problem}");
    }
}

/// Runs `config check` with `text` on stdin.
fn check_stdin(folder: &Folder, file: &str, text: &str) -> Output {
    let mut command = program();
    command
        .current_dir(&folder.0)
        .args(["config", "check", file])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn stdin_is_checked_with_paths_relative_to_the_current_folder() {
    let folder = Folder::new("stdin", "");
    let output = check_stdin(&folder, "-", MODEL);
    assert_eq!(output.status.code(), Some(0), "{}", text(output.stderr));
    let output = check_stdin(&folder, "-", &format!("{MODEL}n_ctx = -1\n"));
    let stderr = text(output.stderr);
    assert!(stderr.contains(" --> <stdin>:3:9"), "{stderr}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipe_is_checked_like_a_file() {
    let folder = Folder::new("pipe", "");
    let output = check_stdin(&folder, "/dev/fd/0", MODEL);
    assert_eq!(output.status.code(), Some(0), "{}", text(output.stderr));
}

#[test]
fn a_folder_as_file_and_a_server_reading_stdin_are_refused_with_a_hint() {
    let folder = Folder::new("folder", MODEL);
    std::fs::create_dir(folder.0.join("configs")).unwrap();
    for (arguments, message) in [
        (
            ["config", "check", "configs"],
            "could not read the configuration `configs`: it is a folder; name a file in it",
        ),
        (
            ["--config", "-", "--transport=stdio"],
            "only `config check`, `config show` and `doctor` read standard input",
        ),
    ] {
        let output = folder.run(&arguments, &[]);
        assert_eq!(output.status.code(), Some(2));
        let found = text(output.stderr);
        assert!(found.contains(message), "{found}");
    }
}

#[test]
fn blank_and_repeated_texts_are_refused() {
    for (keys, fault) in [
        (
            "title = \"\"",
            "`tools.t.title`: must be a string of 1 to 200 characters that is not blank",
        ),
        (
            "title = \" \"",
            "`tools.t.title`: must be a string of 1 to 200 characters that is not blank",
        ),
        (
            "choices = [\"a\", \"a\"]",
            "`tools.t.choices`: must be an array of strings, 1 to 1000, each only once",
        ),
        (
            "choices = [\"a\", \" \"]",
            "`tools.t.choices[1]`: must be a string of 1 to 1000 characters that is not blank",
        ),
    ] {
        let found = problems(&format!("{MODEL}[tools.t]\nprompt = \"a\"\n{keys}\n"));
        assert!(
            found.len() == 1 && found[0].starts_with(fault),
            "{found:#?}"
        );
    }
    let found = problems(&format!("{MODEL}title = \" \"\n[tools.t]\nprompt = \"\"\n"));
    assert!(
        found[0].starts_with("`models.a.title`: must be"),
        "{found:#?}"
    );
    assert!(
        found[1].starts_with("`tools.t.prompt`: must be a string that is not blank"),
        "{found:#?}"
    );
}

/// Returns the hints of the problems of `file`.
fn hints(file: &str) -> Vec<String> {
    let folder = Folder::new("hints", file);
    let (_, report) = checked(&folder, &[]);
    let problems = report["problems"].as_array().cloned().unwrap_or_default();
    let hint = |problem: &Value| problem["hint"].as_str().unwrap_or_default().to_owned();
    problems.iter().map(hint).collect()
}

#[test]
fn a_file_name_given_as_text_gets_a_hint() {
    let tool = |keys: &str| format!("{MODEL}[tools.t]\nprompt = \"a\"\n{keys}\n");
    for (file, hint) in [
        (
            format!("{MODEL}chat_template = \"template.jinja\"\n"),
            "write `\"${file:template.jinja}\"`",
        ),
        (
            format!("{MODEL}chat_template = \"chatml\"\n"),
            "remove it to use the template in the model's file",
        ),
        (
            tool("output = \"answer.schema.json\""),
            "write `\"${file:answer.schema.json}\"`",
        ),
        (
            tool("output = \"json\""),
            "write a JSON Schema with an object at its root",
        ),
        (
            format!(
                "{MODEL}[tools.t]\nprompt = \"Say ${{text}}\"\narguments.text.type = \"string\"\n"
            ),
            "write `{{ text }}` for the argument `text`",
        ),
        (
            format!("{MODEL}[tools.t]\nprompt = \"Say ${{text}}\"\n"),
            "write `${env:text}`",
        ),
    ] {
        let found = hints(&file);
        assert!(
            found.len() == 1 && found[0].starts_with(hint),
            "{file}: {found:#?}"
        );
    }
}

#[test]
fn a_contradictory_argument_and_an_invalid_value_are_each_reported_once() {
    let argument = |keys: &str| {
        format!("{MODEL}[tools.t]\nprompt = \"{{{{ x }}}}\"\narguments.x = {{ {keys} }}\n")
    };
    for (file, fault) in [
        (
            argument("enum = [], default = \"q\""),
            "`tools.t.arguments.x.enum`: leaves no allowed value",
        ),
        (
            argument("type = \"integer\", minimum = 5, maximum = 1, default = 3"),
            "`tools.t.arguments.x.minimum`: leaves no allowed value",
        ),
        (format!("{MODEL}stop = null\n"), "invalid float"),
    ] {
        let found = problems(&file);
        assert!(
            found.len() == 1 && found[0].starts_with(fault),
            "{file}: {found:#?}"
        );
    }
}

#[test]
fn a_prompt_that_fails_in_every_call_is_an_error_with_its_location() {
    let file = format!(
        "{MODEL}[tools.t]\nprompt = \"{{% include 'a' %}}\"\n[tools.u]\nprompt = \"a\\n{{{{ x.length }}}}\"\narguments.x.type = \"string\"\n"
    );
    let expected = [
        "`tools.t.prompt`: `include` is not supported: a prompt is a single template (line 1 of the template)",
        "`tools.u.prompt`: `x.length` is undefined (line 2 of the template)",
    ];
    assert_eq!(problems(&file), expected);
    assert!(hints(&file)[0].contains("`${file:…}`"));
}
