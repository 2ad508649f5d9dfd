//! Misplaced tables and keys, and invalid names: one error each, with a hint that works.

use crate::foreign::problems;
use crate::support::config::{Folder, text};

const MODEL: &str = "[models.q]\npath = \"crab.gguf\"\n";

/// Asserts that `config` causes a single error, with this `hint`.
fn assert_one_error(config: &str, hint: &str) {
    let reported = problems(config);
    assert_eq!(
        reported.matches("error[").count(),
        1,
        "{config}: {reported}"
    );
    assert!(reported.contains(hint), "{config}: {reported}");
}

#[test]
fn a_dot_in_a_name_is_reported_once_whatever_the_table_contains() {
    let renamed = "hint: write `[models.qwen2_5-7b]`, and keep the original name with `aliases = [\"qwen2.5-7b\"]`";
    for keys in ["path = \"crab.gguf\"\nn_ctx = 64\n", "n_ctx = 64\n", ""] {
        assert_one_error(&format!("[models.qwen2.5-7b]\n{keys}"), renamed);
        assert_one_error(&format!("{MODEL}[models.qwen2.5-7b]\n{keys}"), renamed);
    }
    assert_one_error(
        &format!("{MODEL}[tools.gpt-4.1-mini]\nprompt = \"x\"\nmodel = \"q\"\n"),
        "hint: write `[tools.gpt-4_1-mini]`",
    );
    // The key is also a key of another program.
    assert_one_error(
        "[models.phi.c]\npath = \"crab.gguf\"\nn_ctx = 64\n",
        "hint: write `[models.phi_c]`",
    );
    assert_one_error(
        "[models.qwen2.5]\npath = \"crab.gguf\"\n[models.qwen2_5]\npath = \"crab.gguf\"\n",
        "hint: write `[models.qwen2_5_2]`",
    );
}

#[test]
fn a_table_that_groups_settings_is_not_mistaken_for_a_dot_in_a_name() {
    for (config, hint) in [
        (
            "options = { temperature = 0.3 }\n",
            "hint: write its keys in `[models.q]` itself: `temperature`",
        ),
        (
            "[models.q.options]\nnum_ctx = 64\n",
            "hint: write its keys in `[models.q]` itself: `n_ctx`",
        ),
        (
            "[tools.a]\nprompt = \"{{ x }}\"\ninputs.x = \"A text.\"\n",
            "hint: use `arguments`, with a table for each argument: `[tools.a.arguments.x]`",
        ),
        (
            "[tools.a]\nprompt = \"{{ x }}\"\n[tools.a.args.x]\ndescription = \"A text.\"\n",
            "hint: use `arguments`",
        ),
        (
            "[tools.a]\nprompt = \"{{ x }}\"\nparameters = { type = \"object\", properties = { x = {} } }\n",
            "`[tools.a.arguments.x]`",
        ),
        (
            "[tools.a]\nprompt = \"x\"\nstructured = { type = \"object\" }\n",
            "hint: use `output`",
        ),
    ] {
        assert_one_error(&format!("{MODEL}{config}"), hint);
    }
}

#[test]
fn another_programs_name_for_path_is_one_error() {
    for key in ["model", "gguf", "filename", "hf_repo", "cmd"] {
        assert_one_error(&format!("[models.q]\n{key} = \"x\"\n"), "hint: use `path`");
    }
    assert_one_error(
        "[models.q]\nPath = \"crab.gguf\"\n",
        "hint: did you mean `path`?",
    );
    assert_one_error(
        &format!("{MODEL}[models.coder]\nmodel = \"q\"\n"),
        "write `[tools.coder]` with `kind = \"chat\"` and `model = \"q\"`",
    );
}

#[test]
fn a_model_or_tool_table_at_the_top_level_is_reported_with_the_correct_path() {
    for (config, hint) in [
        ("[model.q]\npath = \"crab.gguf\"\n", "write `[models.q]`"),
        ("[tool.x]\nprompt = \"x\"\n", "write `[tools.x]`"),
        (
            "[[models]]\nname = \"q\"\npath = \"crab.gguf\"\n",
            "write a table `[models.q]`",
        ),
        (
            "[[tools]]\nprompt = \"x\"\n",
            "write a table `[tools.NAME]`",
        ),
        ("models = [\"x.gguf\"]\n", "write a table `[models.NAME]`"),
        ("[qwen]\nmodel = \"crab.gguf\"\n", "write `[models.qwen]`"),
        ("[mcpServers.x]\ncommand = \"x\"\n", "write `[models.NAME]`"),
    ] {
        assert_one_error(config, hint);
    }
}

#[test]
fn an_invalid_name_of_an_argument_is_one_error() {
    for (name, valid) in [("user-name", "user_name"), ("2nd", "_2nd"), ("Über", "ber")] {
        let config = format!(
            "{MODEL}[tools.a]\nprompt = \"{{{{ {name} }}}}\"\narguments.\"{name}\" = {{}}\n"
        );
        assert_one_error(&config, &format!("hint: write `{valid}`"));
        assert!(
            problems(&config).contains("letters, digits or `_`, and must not begin with a digit")
        );
    }
}

#[test]
fn a_key_that_belongs_to_another_table_is_reported_with_that_table() {
    for (config, hint) in [
        (
            "[tools.a]\nprompt = \"{{ x }}\"\n[tools.a.arguments.x]\nmax_tokens = 5\n",
            "`max_tokens` is a key of `[tools.a]`: move it above `[tools.a.arguments.x]`",
        ),
        (
            "[tools.a]\nkind = \"chat\"\nidle_ttl = \"5m\"\n",
            "`idle_ttl` is a key of `[registry]`, `[models.NAME]` or `[defaults]`",
        ),
        ("kind = \"chat\"\n", "`kind` is a key of `[tools.NAME]`"),
        (
            "[server]\nprompt = \"x\"\n",
            "`prompt` is a key of `[tools.NAME]`",
        ),
        ("[server]\nkeep = 3\n", "`keep` is a key of `[log]`"),
    ] {
        assert_one_error(&format!("{MODEL}{config}"), hint);
    }
}

#[test]
fn a_misspelled_tool_or_model_in_a_variable_or_flag_is_one_error() {
    let folder = Folder::new("stray", &format!("{MODEL}[tools.coder]\nkind = \"chat\"\n"));
    let variables = [
        ("LLAMA_MCP_TOOLS__CODR__SYSTEM", "hi"),
        ("LLAMA_MCP_TOOLS__CODR__TEMPERATURE", "1"),
        ("LLAMA_MCP_MODELS__QQ__N_CTX", "64"),
        ("LLAMA_MCP_MODELS__QQ__PARALLEL", "2"),
    ];
    let stderr = text(folder.run(&["config", "check"], &variables).stderr);
    assert_eq!(stderr.matches("error[").count(), 2, "{stderr}");
    for part in [
        "there is no tool `codr`\n  hint: did you mean the tool `coder`? If not, a new tool requires `prompt`, or `kind = \"chat\"`",
        "there is no model `qq`\n  hint: did you mean the model `q`? If not, a new model requires `path`",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
    let set = "--set=tools.codr.system=hi";
    let stderr = text(folder.run(&["config", "check", set], &[]).stderr);
    assert!(
        stderr.contains("`--set tools.codr.system`: there is no tool `codr`"),
        "{stderr}"
    );
}

#[test]
fn a_windows_path_in_double_quotes_is_one_error() {
    assert_one_error(
        "[models.q]\npath = \"C:\\Users\\me\\model.gguf\"\n",
        "write a Windows path in single quotes",
    );
}

#[test]
fn an_alias_that_looks_like_another_name_is_refused() {
    for alias in [" b", "a\\tb", "x\\u0000"] {
        assert_one_error(
            &format!("{MODEL}aliases = [\"{alias}\"]\n"),
            "clients cannot distinguish such a name",
        );
    }
}

#[cfg(unix)]
#[test]
fn an_unresolvable_tilde_creates_no_folder() {
    let folder = Folder::new("no-home", &format!("[log]\nfile = \"~/a.log\"\n{MODEL}"));
    let run = |arguments: &[&str]| {
        let mut command = crate::support::program();
        command.current_dir(&folder.0).env_remove("HOME");
        text(command.args(arguments).output().unwrap().stderr)
    };
    let hint = "`~` stands for the home directory, and `HOME` is not set, or is not UTF-8: write the full path";
    let of_file = run(&["config", "check"]);
    assert!(of_file.contains(hint), "{of_file}");
    folder.write("llama-mcp-server.toml", MODEL);
    let of_flag = run(&["config", "check", "--set=log.file=~/x.log"]);
    assert!(of_flag.contains(hint), "{of_flag}");
    let of_user = run(&["config", "check", "--set=log.file=~joe/x.log"]);
    assert!(of_user.contains("only `~/` at the beginning"), "{of_user}");
    assert!(!folder.0.join("~").exists());
}

#[test]
fn a_command_of_another_program_is_translated() {
    let folder = Folder::empty("commands");
    for (word, hint) in [
        ("serve", "run `llama-mcp-server` without a command"),
        ("check", "`llama-mcp-server config check`"),
        ("help", "`llama-mcp-server --help`"),
        ("pull", "download a .gguf file"),
    ] {
        let output = folder.run(&[word], &[]);
        assert_eq!(output.status.code(), Some(2), "{word}");
        let stderr = text(output.stderr);
        assert!(
            stderr.contains(&format!("unknown command `{word}`")),
            "{stderr}"
        );
        assert!(stderr.contains(hint), "{stderr}");
    }
}
