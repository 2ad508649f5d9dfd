//! Tables and keys at the wrong place, and names that are not valid: one error each, with a way out that works.

use crate::foreign::problems;
use crate::support::config::{Folder, text};

const MODEL: &str = "[models.q]\npath = \"crab.gguf\"\n";

/// Asserts that the faulty `config` is reported with one error, which has this `hint`.
fn assert_one(config: &str, hint: &str) {
    let told = problems(config);
    assert_eq!(told.matches("error[").count(), 1, "{config}: {told}");
    assert!(told.contains(hint), "{config}: {told}");
}

#[test]
fn a_dot_in_a_name_is_reported_once_whatever_the_table_holds() {
    let renamed = "hint: write `[models.qwen2_5-7b]`, and keep the original name with `aliases = [\"qwen2.5-7b\"]`";
    for keys in ["path = \"crab.gguf\"\nn_ctx = 64\n", "n_ctx = 64\n", ""] {
        assert_one(&format!("[models.qwen2.5-7b]\n{keys}"), renamed);
        assert_one(&format!("{MODEL}[models.qwen2.5-7b]\n{keys}"), renamed);
    }
    assert_one(
        &format!("{MODEL}[tools.gpt-4.1-mini]\nprompt = \"x\"\nmodel = \"q\"\n"),
        "hint: write `[tools.gpt-4_1-mini]`",
    );
    // The key is a name of another program, too.
    assert_one(
        "[models.phi.c]\npath = \"crab.gguf\"\nn_ctx = 64\n",
        "hint: write `[models.phi_c]`",
    );
    assert_one(
        "[models.qwen2.5]\npath = \"crab.gguf\"\n[models.qwen2_5]\npath = \"crab.gguf\"\n",
        "hint: write `[models.qwen2_5_2]`",
    );
}

#[test]
fn a_table_that_groups_settings_is_no_dot_in_a_name() {
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
        assert_one(&format!("{MODEL}{config}"), hint);
    }
}

#[test]
fn another_name_of_path_is_one_error() {
    for key in ["model", "gguf", "filename", "hf_repo", "cmd"] {
        assert_one(&format!("[models.q]\n{key} = \"x\"\n"), "hint: use `path`");
    }
    assert_one(
        "[models.q]\nPath = \"crab.gguf\"\n",
        "hint: did you mean `path`?",
    );
    assert_one(
        &format!("{MODEL}[models.coder]\nmodel = \"q\"\n"),
        "write `[tools.coder]` with `kind = \"chat\"` and `model = \"q\"`",
    );
}

#[test]
fn a_table_outside_of_models_and_tools_is_reported_with_its_place() {
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
        assert_one(config, hint);
    }
}

#[test]
fn an_invalid_name_of_an_argument_is_one_error() {
    for (name, valid) in [("user-name", "user_name"), ("2nd", "_2nd"), ("Über", "ber")] {
        let config = format!(
            "{MODEL}[tools.a]\nprompt = \"{{{{ {name} }}}}\"\narguments.\"{name}\" = {{}}\n"
        );
        assert_one(&config, &format!("hint: write `{valid}`"));
        assert!(problems(&config).contains("letters, digits and `_`, not a digit first"));
    }
}

#[test]
fn a_key_of_another_table_is_reported_with_that_table() {
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
        assert_one(&format!("{MODEL}{config}"), hint);
    }
}

#[test]
fn a_misspelt_tool_or_model_outside_of_the_file_is_one_error() {
    let folder = Folder::new("stray", &format!("{MODEL}[tools.coder]\nkind = \"chat\"\n"));
    let variables = [
        ("LLAMA_MCP_TOOLS__CODR__SYSTEM", "hi"),
        ("LLAMA_MCP_TOOLS__CODR__TEMPERATURE", "1"),
        ("LLAMA_MCP_MODELS__QQ__N_CTX", "64"),
        ("LLAMA_MCP_MODELS__QQ__PARALLEL", "2"),
    ];
    let told = text(folder.run(&["config", "check"], &variables).stderr);
    assert_eq!(told.matches("error[").count(), 2, "{told}");
    for part in [
        "there is no tool `codr`\n  hint: did you mean the tool `coder`? If not, a new tool requires `prompt`, or `kind = \"chat\"`",
        "there is no model `qq`\n  hint: did you mean the model `q`? If not, a new model requires `path`",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let set = "--set=tools.codr.system=hi";
    let told = text(folder.run(&["config", "check", set], &[]).stderr);
    assert!(
        told.contains("`--set tools.codr.system`: there is no tool `codr`"),
        "{told}"
    );
}

#[test]
fn a_windows_path_in_double_quotes_is_one_error() {
    assert_one(
        "[models.q]\npath = \"C:\\Users\\me\\model.gguf\"\n",
        "write a Windows path in single quotes",
    );
}

#[test]
fn an_alias_that_looks_like_another_name_is_refused() {
    for alias in [" b", "a\\tb", "x\\u0000"] {
        assert_one(
            &format!("{MODEL}aliases = [\"{alias}\"]\n"),
            "clients cannot distinguish such a name",
        );
    }
}

#[cfg(unix)]
#[test]
fn a_tilde_that_stands_for_nothing_makes_no_folder() {
    let folder = Folder::new("no-home", &format!("[log]\nfile = \"~/a.log\"\n{MODEL}"));
    let told = |arguments: &[&str]| {
        let mut command = crate::support::program();
        command.current_dir(&folder.0).env_remove("HOME");
        text(command.args(arguments).output().unwrap().stderr)
    };
    let hint = "`~` stands for the home directory, and `HOME` is not set, or is not UTF-8: write the full path";
    let of_file = told(&["config", "check"]);
    assert!(of_file.contains(hint), "{of_file}");
    folder.write("llama-mcp-server.toml", MODEL);
    let of_flag = told(&["config", "check", "--set=log.file=~/x.log"]);
    assert!(of_flag.contains(hint), "{of_flag}");
    let of_user = told(&["config", "check", "--set=log.file=~joe/x.log"]);
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
        let told = text(output.stderr);
        assert!(
            told.contains(&format!("unknown command `{word}`")),
            "{told}"
        );
        assert!(told.contains(hint), "{told}");
    }
}
