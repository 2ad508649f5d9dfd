//! The configuration file: layers, texts, tools, reference.

use serde_json::{Value, json};

use crate::support::config::{Folder, ONE_MODEL, text};
use crate::support::example::repository;
use crate::support::{Server, program};

/// Returns the line of `key` in the table of model `a`.
fn line_of<'a>(shown: &'a str, key: &str) -> &'a str {
    let table = shown.split("[models.a]").nth(1).unwrap();
    table
        .lines()
        .find(|line| line.starts_with(&format!("{key} =")))
        .unwrap()
}

#[test]
fn every_source_takes_precedence_over_those_below_it() {
    let with_own = format!("{ONE_MODEL}n_ctx = 2\n");
    let sources = [
        ("built in", "[models.a]\npath = \"crab.gguf\"\n", None, None),
        ("2:9", ONE_MODEL, None, None),
        ("5:9", with_own.as_str(), None, None),
        (
            "LLAMA_MCP_N_CTX",
            &with_own,
            Some(("LLAMA_MCP_N_CTX", "3")),
            None,
        ),
        (
            "LLAMA_MCP_MODELS__A__N_CTX",
            &with_own,
            Some(("LLAMA_MCP_MODELS__A__N_CTX", "4")),
            None,
        ),
        (
            "--n_ctx",
            &with_own,
            Some(("LLAMA_MCP_MODELS__A__N_CTX", "4")),
            Some("--n_ctx=5"),
        ),
        (
            "--set models.a.n_ctx",
            &with_own,
            Some(("LLAMA_MCP_MODELS__A__N_CTX", "4")),
            Some("--set=models.a.n_ctx=6"),
        ),
    ];
    for (value, (origin, file, variable, flag)) in (0..).zip(sources) {
        let folder = Folder::new("layers", file);
        let variables: Vec<_> = variable.into_iter().collect();
        let arguments: Vec<_> = flag.into_iter().chain(["--origin"]).collect();
        let shown = folder.show(&arguments, &variables);
        let line = line_of(&shown, "n_ctx");
        let value = if value == 0 { 4096 } else { value };
        assert!(
            line.starts_with(&format!("n_ctx = {value} ")) && line.ends_with(origin),
            "{line}"
        );
    }
    // Within one layer, settings of a named model take precedence over settings for all models.
    let folder = Folder::new("layers", &with_own);
    let both = [
        ("LLAMA_MCP_N_CTX", "3"),
        ("LLAMA_MCP_MODELS__A__N_CTX", "4"),
    ];
    assert_eq!(line_of(&folder.show(&[], &both), "n_ctx"), "n_ctx = 4");
    let both = ["--set=models.a.n_ctx=6", "--n_ctx=5"];
    assert_eq!(line_of(&folder.show(&both, &[]), "n_ctx"), "n_ctx = 6");
    // A flag for all models takes precedence over a variable for one model.
    assert_eq!(
        line_of(
            &folder.show(&["--n_ctx=5"], &[("LLAMA_MCP_MODELS__A__N_CTX", "4")]),
            "n_ctx"
        ),
        "n_ctx = 5"
    );
}

#[test]
fn the_file_comes_from_a_flag_or_a_variable_or_is_found() {
    let folder = Folder::new("found", ONE_MODEL);
    let other = folder.0.join("other.toml");
    std::fs::write(&other, ONE_MODEL.replace("= 1", "= 7")).unwrap();
    let other = other.to_str().unwrap();
    let n_ctx = |arguments: &[&str], variables: &[(&str, &str)]| {
        line_of(&folder.show(arguments, variables), "n_ctx").to_owned()
    };
    assert_eq!(n_ctx(&[], &[]), "n_ctx = 1");
    assert_eq!(n_ctx(&[], &[("LLAMA_MCP_CONFIG", other)]), "n_ctx = 7");
    assert_eq!(
        n_ctx(
            &["--config", "llama-mcp-server.toml"],
            &[("LLAMA_MCP_CONFIG", other)]
        ),
        "n_ctx = 1"
    );
    let both = folder.run(&["--config", other, "--model", "crab.gguf"], &[]);
    assert_eq!(both.status.code(), Some(2));
    insta::assert_snapshot!(text(both.stderr), @r"
    error[command_line]: `--model` cannot be combined with `--config`

    hint: name the model in the file, under `[models.NAME]`
    ");
    let alone = folder.run(&["config", "check", "--model", "crab.gguf"], &[]);
    assert!(
        text(alone.stdout)
            .contains("note: `./llama-mcp-server.toml` is not read, since --model is given")
    );
}

#[test]
fn texts_expand_variables_and_files_and_secrets_are_not_shown() {
    let file = r#"
[server]
auth = "${env:TOKEN}"
[models.a]
path = "${env:MODEL:-crab}.gguf"
system = "${file:system.txt}"
prompt_suffix = "$${x}"
"#;
    let folder = Folder::new("texts", file);
    std::fs::write(folder.0.join("system.txt"), "Be brief.\n").unwrap();
    let shown = folder.show(&[], &[("TOKEN", "hidden-word")]);
    let path = folder
        .0
        .canonicalize()
        .unwrap()
        .join("${env:MODEL:-crab}.gguf");
    assert_eq!(
        line_of(&shown, "path"),
        format!("path = \"{}\"", path.display())
    );
    // A path that the text makes absolute stays as it is.
    let absolute = folder.0.join("crab");
    let variables = [("TOKEN", "x"), ("MODEL", absolute.to_str().unwrap())];
    assert_eq!(
        line_of(&folder.show(&[], &variables), "path"),
        "path = \"${env:MODEL:-crab}.gguf\""
    );
    assert_eq!(line_of(&shown, "system"), "system = \"${file:system.txt}\"");
    assert_eq!(
        line_of(&shown, "prompt_suffix"),
        "prompt_suffix = \"$${x}\""
    );
    assert!(
        shown.contains("auth = \"${env:TOKEN}\"") && !shown.contains("hidden-word"),
        "{shown}"
    );
}

#[test]
fn the_output_of_show_is_an_equivalent_file() {
    let folder = Folder::new(
        "again",
        "[server]\nauth = \"hidden-word\"\n[models.a]\npath = \"crab.gguf\"\nn_ctx = 512.0\nsystem = \"$${x}\"\nidle_ttl = \"1h 30m\"\n",
    );
    let shown = folder.show(&[], &[]);
    assert!(!shown.contains("hidden-word"), "{shown}");
    std::fs::write(folder.0.join("again.toml"), &shown).unwrap();
    assert_eq!(
        folder
            .show(&["again.toml"], &[])
            .replace("# auth = \"***\"\n", ""),
        shown.replace("# auth = \"***\"\n", "")
    );
}

#[test]
fn each_model_is_a_tool_and_is_started_by_its_first_call() {
    let file = r#"
[defaults]
n_threads = 1
temperature = 0
[models.capitals]
path = "crab.gguf"
description = "Knows capitals."
[models.loud]
path = "crab.gguf"
tool_name = "shout"
max_tokens = 3
cut_note = false
max_tokens_limit = 5
[models.hidden]
path = "crab.gguf"
tool = false
"#;
    let folder = Folder::new("tools", file);
    let mut server = folder.serve();
    let id = server.request("tools/list", json!({}));
    let listed = server.response(id);
    let tools = listed["result"]["tools"].as_array().unwrap();
    let names: Vec<_> = tools
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["capitals", "shout"]);
    let description = tools[0]["description"].as_str().unwrap();
    assert!(
        description.starts_with("Knows capitals.\n\n"),
        "{description}"
    );
    assert_eq!(
        tools[1]["inputSchema"]["properties"]["max_tokens"]["maximum"],
        5
    );
    assert!(crate::support::workers_of(server.child.id()).is_empty());
    let call = |server: &mut Server, tool: &str, arguments: Value| {
        let id = server.call_tool(tool, arguments);
        server.result(id).text
    };
    let france = json!({"text": "What is the capital of France?"});
    assert_eq!(
        call(&mut server, "capitals", france.clone()),
        "The capital of France is Paris."
    );
    assert_eq!(crate::support::workers_of(server.child.id()).len(), 1);
    assert!("The capital of France".starts_with(&call(&mut server, "shout", france)));
    assert_eq!(crate::support::workers_of(server.child.id()).len(), 2);
    let refusal = call(&mut server, "shout", json!({"text": "Hi", "max_tokens": 6}));
    assert_eq!(
        refusal,
        "`max_tokens`: must be a whole number from 1 to 5, found 6"
    );
}

#[test]
fn the_committed_reference_and_schema_match_the_program() {
    for (command, path) in [
        ("init", "config/llama-mcp-server.toml"),
        ("schema", "config/llama-mcp-server.schema.json"),
    ] {
        let output = program().args(["config", command]).output().unwrap();
        let committed = std::fs::read_to_string(repository(path)).unwrap();
        assert!(
            text(output.stdout) == committed,
            "run `llama-mcp-server config {command} > {path}`"
        );
    }
}

#[test]
fn every_key_of_the_reference_is_valid_once_uncommented() {
    let reference = std::fs::read_to_string(repository("config/llama-mcp-server.toml")).unwrap();
    let is_key = |line: &str| {
        line.strip_prefix("# ")
            .and_then(|line| line.split_once(" = "))
            .is_some_and(|(key, _)| !key.contains([' ', '`']))
    };
    let mut all: Vec<&str> = reference
        .lines()
        .map(|line| {
            let is_said = is_key(line) || line.starts_with("# [");
            if is_said { &line[2..] } else { line }
        })
        .filter(|line| {
            !line.starts_with("auth_file")
                && !line.starts_with("token_file")
                && !line.starts_with("lora")
                && !line.starts_with("max_tokens_limit")
                && !line.starts_with("choices")
                && !line.starts_with("items")
        })
        // The arguments below have other types.
        .take_while(|line| !line.starts_with("enum ="))
        .collect();
    // Keys of tools that conflict with `output`.
    let stop = all.iter().rposition(|line| line.starts_with("stop ="));
    all.remove(stop.unwrap());
    assert!(
        all.iter().filter(|line| line.contains(" = ")).count() >= 50,
        "{all:?}"
    );
    let folder = Folder::new(
        "reference",
        &all.join("\n").replace("model.gguf", "crab.gguf"),
    );
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}";
    folder.write("template.jinja", template);
    let variables = ["MCP_TOKEN", "ALICE_TOKEN", "SESSION_SECRET"];
    let variables = variables.map(|name| (name, [name; 4].concat()));
    let variables = variables
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let output = folder.run(&["config", "check"], &variables);
    assert_eq!(text(output.stderr), "");
}

#[test]
fn a_variable_for_all_models_applies_to_models_that_only_flags_name() {
    let folder = Folder::new("for-all", ONE_MODEL);
    let arguments = ["--set=models.b.path=crab.gguf"];
    let shown = folder.show(&arguments, &[("LLAMA_MCP_N_CTX", "77")]);
    let table = shown.split("[models.b]").nth(1).unwrap();
    assert!(table.contains("n_ctx = 77"), "{table}");
}

#[test]
fn a_misspelled_variable_is_reported_with_the_intended_name() {
    let folder = Folder::new("variables", ONE_MODEL);
    for (variable, meant) in [
        ("LLAMA_MCP_NCTX", "LLAMA_MCP_N_CTX"),
        ("LLAMA_MCP_SERVER__PROT", "LLAMA_MCP_SERVER__PORT"),
        (
            "LLAMA_MCP_MODELS__A__TEMPRATURE",
            "LLAMA_MCP_MODELS__A__TEMPERATURE",
        ),
    ] {
        let stdout = text(folder.run(&["config", "check"], &[(variable, "1")]).stdout);
        let expected = format!(
            "warning[unknown_variable]: `{variable}`: unknown environment variable, which is ignored\n  hint: did you mean {meant}?\n"
        );
        assert!(stdout.contains(&expected), "{stdout}");
    }
}

#[test]
fn only_the_name_of_the_source_of_a_secret_is_shown() {
    for (written, shown) in [
        ("${env:TOKEN}", "auth = \"${env:TOKEN}\""),
        ("${env:TOKEN:-hidden-word}", "# auth = \"***\""),
        ("hidden-word${env:TOKEN}", "# auth = \"***\""),
        ("hidden-word", "# auth = \"***\""),
    ] {
        let folder = Folder::new(
            "shown",
            &format!("[server]\nauth = \"{written}\"\n{ONE_MODEL}"),
        );
        let effective = folder.show(&[], &[("TOKEN", "x")]);
        assert!(effective.lines().any(|line| line == shown), "{effective}");
    }
    let hosts = "[server]\nallowed_hosts = [\"${env:WORD}.lan\", \"b\"]\n";
    let folder = Folder::new("shown", &format!("{hosts}{ONE_MODEL}"));
    let effective = folder.show(&[], &[("WORD", "hidden-word")]);
    assert!(
        effective.contains("allowed_hosts = [\"${env:WORD}.lan\", \"b\"]"),
        "{effective}"
    );
}

#[test]
fn the_output_of_show_can_be_read_from_any_folder() {
    let folder = Folder::new("again", ONE_MODEL);
    let shown = folder.show(&[], &[]);
    let elsewhere = Folder::new("elsewhere", &shown);
    std::fs::remove_file(elsewhere.0.join("crab.gguf")).unwrap();
    assert_eq!(elsewhere.show(&[], &[]), shown);
}

#[test]
fn the_page_of_all_keys_matches_the_program() {
    let output = program().args(["config", "reference"]).output().unwrap();
    let page = repository("docs/configuration-reference.md");
    let page = std::fs::read_to_string(page).unwrap();
    let hint = "`llama-mcp-server config reference > docs/configuration-reference.md` writes it";
    assert_eq!(text(output.stdout), page, "{hint}");
}
