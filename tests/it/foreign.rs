//! Hints for users of other programs, who write their keys, flags, values, paths and model names.

use std::process::Output;

use crate::support::config::{Folder, text};
use crate::support::{program, tiny};

const MODEL: &str = "[models.a]\npath = \"crab.gguf\"\n";

/// Runs `config check` for a file. Returns the first line and the hint of each problem.
pub(crate) fn problems(config: &str) -> String {
    let folder = Folder::new("foreign", config);
    let output = folder.run(&["config", "check"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(output.stderr);
    // Warnings follow the errors.
    let errors = stderr.split("\nwarning[").next().unwrap();
    let lines = errors
        .lines()
        .filter(|line| line.starts_with("error") || line.contains("hint: "));
    let lines: Vec<&str> = lines
        .map(|line| line.trim_start_matches([' ', '|', '=']))
        .collect();
    lines.join("\n")
}

#[test]
fn keys_of_other_programs_are_translated() {
    let reported = problems(&format!(
        "[server]\napi-key = \"x\"\n[groups]\n{MODEL}\
         ctx-size = 1\nttl = 300\nmmproj = \"x\"\nn_ubatch = 512\nchat_template_kwargs = {{}}\n\
         models_max = 2\ndraft = \"x\"\njinja = true\npredict = 5\nmax_loaded = 1\nid = \"x\"\npoll = 50\n\
         [tools.t]\nprompt = \"x\"\nn_predict = 1\nn_ctx = 1\n"
    ));
    insta::assert_snapshot!(reported, @r##"
    error[config_unknown_key]: unknown key `api-key` (./llama-mcp-server.toml:2:1)
    hint: use `auth`: clients send it as a bearer token
    error[config_unknown_key]: unknown key `groups`
    hint: not supported as such: `max_loaded` in `[registry]` limits how many models are loaded, and a model with `pin = true` is never evicted
    error[config_unknown_key]: unknown key `ctx-size`
    hint: use `n_ctx`: the context of one call, not of all calls together
    error[config_unknown_key]: unknown key `ttl`
    hint: use `idle_ttl`: `"15m"`, or `"never"`
    error[config_unknown_key]: unknown key `mmproj`
    hint: not supported: models read text only, neither images nor audio
    error[config_unknown_key]: unknown key `n_ubatch`
    hint: not needed: the physical batch size is chosen automatically
    error[config_unknown_key]: unknown key `chat_template_kwargs`
    hint: use `template_arguments`: for example `template_arguments = { reasoning_effort = "low" }`
    error[config_unknown_key]: unknown key `models_max`
    hint: use `max_loaded` in `[registry]`
    error[config_unknown_key]: unknown key `draft`
    hint: not supported: draft models; `speculative` drafts tokens from the prompt instead
    error[config_unknown_key]: unknown key `jinja`
    hint: not needed: chat templates are always rendered as Jinja
    error[config_unknown_key]: unknown key `predict`
    hint: use `max_tokens`
    error[config_unknown_key]: unknown key `max_loaded`
    hint: `max_loaded` is a key of `[registry]`
    error[config_unknown_key]: unknown key `id`
    hint: use `aliases`: a list of further names
    error[config_unknown_key]: unknown key `poll`
    hint: use `spin_count`: a number of iterations for prefill and generation, not a level from 0 to 100; `"auto"` measures the machine
    error[config_unknown_key]: unknown key `n_predict`
    hint: use `max_tokens`
    error[config_unknown_key]: unknown key `n_ctx`
    hint: `n_ctx` is a key of `[models.NAME]` or `[defaults]`
    "##);
}

#[test]
fn an_unknown_key_is_reported_with_similar_keys() {
    let reported = problems(&format!(
        "{MODEL}temprature = 1\nthinking_stuff = 1\nzzz = 1\n"
    ));
    insta::assert_snapshot!(reported, @r##"
    error[config_unknown_key]: unknown key `temprature`
    hint: did you mean `temperature`?
    error[config_unknown_key]: unknown key `thinking_stuff`
    hint: did you mean `thinking`?
    error[config_unknown_key]: unknown key `zzz`
    hint: `llama-mcp-server config reference` lists all keys
    "##);
}

#[test]
fn values_of_other_programs_are_translated() {
    let reported = problems(&format!(
        "[registry]\nmax_loaded = 0\nidle_ttl = \"1d\"\n{MODEL}\
         n_gpu_layers = -1\nn_ctx = -1\nmax_tokens = -1\nflash_attn = true\ncache_ram = -1\n\
         idle_ttl = -1\nthinking = false\npreload = \"yes\"\nlora = \"adapter.gguf\"\n\
         [models.b]\npath = \"crab.gguf\"\nn_gpu_layers = \"all\"\nmmap = 0\nspin_count = \"infinite\"\n"
    ));
    insta::assert_snapshot!(reported, @r##"
    error[config_value]: `registry.max_loaded`: must be a whole number from 1 to 10000, found 0
    hint: leave it out for no limit
    error[config_value]: `registry.idle_ttl`: must be an idle time such as `15m` or `never`, found the string "1d"
    hint: hours are the largest unit: write `"24h"`
    error[config_value]: `models.a.n_gpu_layers`: must be a number of layers such as `20` or `auto`, found -1
    hint: write `99` to put all layers on the GPU, or `"auto"` for as many as fit
    error[config_value]: `models.a.n_ctx`: must be a whole number from 0 to 100000000, found -1
    hint: write `0` for the context that the model was trained for
    error[config_value]: `models.a.max_tokens`: must be a whole number from 1 to 1000000000, found -1
    hint: an answer always has a limit: write a number below `n_ctx`, so that the prompt also fits
    error[config_value]: `models.a.flash_attn`: must be `auto`, `on` or `off`, found true
    hint: write `"on"`
    error[config_value]: `models.a.cache_ram`: must be a size such as `512KiB` or `4MiB`, found -1
    hint: the cache always has a limit: write a size such as `"8GiB"`
    error[config_value]: `models.a.idle_ttl`: must be an idle time such as `15m` or `never`, found -1
    hint: write `"never"`
    error[config_value]: `models.a.thinking`: must be `strip`, `keep`, `before` or `off`, found false
    hint: write `"off"`
    error[config_value]: `models.a.preload`: must be true or false, found the string "yes"
    hint: write `true`
    error[config_value]: `models.a.lora`: must be a table, found the string "adapter.gguf"
    hint: write a table: `{ path = "adapter.gguf" }`
    error[config_value]: `models.b.n_gpu_layers`: must be a number of layers such as `20` or `auto`, found the string "all"
    hint: write `99` to put all layers on the GPU, or `"auto"` for as many as fit
    error[config_value]: `models.b.mmap`: must be true or false, found 0
    hint: write `false`
    error[config_value]: `models.b.spin_count`: must be a number of iterations such as `2000` or `auto`, found the string "infinite"
    "##);
}

#[test]
fn an_invalid_name_is_reported_with_a_valid_one() {
    let reported = problems(
        "[models.qwen2.5]\npath = \"crab.gguf\"\n\
         [models.llama3.2.1]\npath = \"crab.gguf\"\n\
         [models.\"org/repo:7b (new)\"]\npath = \"crab.gguf\"\n\
         [models.ok]\npath = \"crab.gguf\"\n\
         [tools.\"a b\"]\nprompt = \"x\"\nmodel = \"ok\"\n\
         [server.tokens.\"a@b.c\"]\ntoken = \"x\"\n\
         [tools.t]\nprompt = \"x\"\nmodel = \"qwen2.5\"\n",
    );
    insta::assert_snapshot!(reported, @r##"
    error[config_unknown_key]: TOML reads the dot in `qwen2.5` as a table `5` inside `[models.qwen2]`
    hint: write `[models.qwen2_5]`, and keep the original name with `aliases = ["qwen2.5"]`
    error[config_unknown_key]: TOML reads the dot in `llama3.2.1` as a table `2` inside `[models.llama3]`
    hint: write `[models.llama3_2_1]`, and keep the original name with `aliases = ["llama3.2.1"]`
    error[config_unknown_key]: the name must be 1 to 64 letters, digits, `_` or `-`, without `__`, found `org/repo:7b (new)`
    hint: write `[models.org_repo_7b_new]`, and keep the original name with `aliases = ["org/repo:7b (new)"]`
    error[config_unknown_key]: the name must be 1 to 64 letters, digits, `_` or `-`, without `__`, found `a b`
    hint: write `[tools.a_b]`
    error[config_unknown_key]: the name must be 1 to 64 letters, digits, `_` or `-`, without `__`, found another value (./llama-mcp-server.toml:12:16)
    hint: choose another name
    "##);
}

/// Runs the program with these arguments.
fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

#[test]
fn flags_of_other_programs_are_translated() {
    let first_error = |flags: &[&str]| {
        let output = run(&[&["--model", tiny().to_str().unwrap()], flags].concat());
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert_eq!(text(output.stdout), "");
        let stderr = text(output.stderr);
        stderr.lines().next().unwrap().to_owned()
    };
    let all: Vec<String> = [
        &["-m", "x.gguf"][..],
        &["-c", "4096"],
        &["-ngl", "99"],
        &["-t=8"],
        &["-hf", "org/repo"],
        &["--ctx-size", "4096"],
        &["--flash-attn", "on"],
        &["--idle_ttl", "5m"],
        &["--mmproj", "x"],
        &["--api-key", "x"],
        &["--jinja"],
    ]
    .iter()
    .map(|flags| first_error(flags))
    .collect();
    insta::assert_snapshot!(all.join("\n"), @r##"
    error: unknown flag `-m`; use `--model`
    error: unknown flag `-c`; use `--n_ctx`: the context of one call, not of all calls together
    error: unknown flag `-ngl`; use `--n_gpu_layers`
    error: unknown flag `-t`; use `--n_threads`
    error: unknown flag `-hf`; use `--model`: nothing is downloaded; download the .gguf file and give its path
    error: unknown flag `--ctx-size`; use `--n_ctx`: the context of one call, not of all calls together
    error: unknown flag `--flash-attn`; use `--set defaults.flash_attn=…`
    error: unknown flag `--idle_ttl`; use `--set defaults.idle_ttl=…`
    error: unknown flag `--mmproj`; not supported: models read text only, neither images nor audio
    error: unknown flag `--api-key`; use `--auth`: clients send it as a bearer token
    error: unknown flag `--jinja`; not needed: chat templates are always rendered as Jinja
    "##);
    // Help and clap's errors about the program's own flags are unaffected.
    assert_eq!(run(&["-h"]).status.code(), Some(0));
    assert!(first_error(&["--port"]).contains("a value is required for '--port <PORT>'"));
    assert!(first_error(&["--n_ctxx", "1"]).contains("unexpected argument '--n_ctxx'"));
}

#[test]
fn a_variable_of_another_program_is_translated_in_its_warning() {
    let folder = Folder::new("foreign-variable", MODEL);
    let variables = [("LLAMA_MCP_CTX_SIZE", "1"), ("LLAMA_MCP_MMPROJ", "x")];
    let output = folder.run(&["config", "check"], &variables);
    let stdout = text(output.stdout);
    for warning in [
        "warning[unknown_variable]: `LLAMA_MCP_CTX_SIZE`: unknown environment variable, which is ignored\n  hint: did you mean LLAMA_MCP_N_CTX?",
        "`LLAMA_MCP_MMPROJ`: unknown environment variable, which is ignored\n  hint: not supported: models read text only",
    ] {
        assert!(stdout.contains(warning), "{stdout}");
    }
}

#[cfg(unix)]
#[test]
fn a_tilde_is_the_home_directory_in_every_path() {
    let folder = Folder::new(
        "tilde",
        "[log]\nfile = \"~/server.log\"\n[server]\ntransport = \"http\"\nauth_file = \"~/token\"\n\
         [models.a]\npath = \"~/crab.gguf\"\nsystem = \"${file:~/system.txt}\"\n",
    );
    folder.write("token", "a-token-of-some-length\n");
    folder.write("system.txt", "Be brief.");
    let home = folder.0.to_str().unwrap();
    let elsewhere = Folder::empty("elsewhere");
    let config = folder.0.join("llama-mcp-server.toml");
    let shown = |arguments: &[&str]| {
        let mut command = program();
        command
            .current_dir(&elsewhere.0)
            .env("HOME", home)
            .args(arguments);
        let output = command.output().unwrap();
        assert_eq!(text(output.stderr), "");
        text(output.stdout)
    };
    for config in [
        "--config=~/llama-mcp-server.toml",
        &format!("--config={}", config.display()),
    ] {
        shown(&["config", "check", config]);
        let shown = shown(&["config", "show", config, "--set=models.b.path=~/crab.gguf"]);
        for line in [
            format!("file = \"{home}/server.log\""),
            format!("auth_file = \"{home}/token\""),
            format!("path = \"{home}/crab.gguf\""),
        ] {
            assert!(shown.contains(&line), "{shown}");
        }
        assert_eq!(
            shown
                .matches(&format!("path = \"{home}/crab.gguf\""))
                .count(),
            2
        );
    }
    shown(&["config", "check", "--model=~/crab.gguf"]);
}

#[test]
fn an_invalid_model_path_gets_a_hint() {
    for (path, hint) in [
        (
            "$HOME/m.gguf",
            "write `${env:HOME}/…`, or `~/…` in the file",
        ),
        (
            "%USERPROFILE%/m.gguf",
            "write `${env:USERPROFILE}/…`, or `~/…` in the file",
        ),
        ("hf:org/repo:Q4_K_M", "download the .gguf file"),
        ("https://example.com/m.gguf", "download the .gguf file"),
        (
            "llama3.2:3b",
            "`ollama show --modelfile llama3.2:3b` prints the path",
        ),
        (
            "${HOME}/m.gguf",
            "write `${env:HOME}` for the variable `HOME`",
        ),
    ] {
        let reported = problems(&format!("[models.a]\npath = \"{path}\"\n"));
        assert!(reported.contains(hint), "{reported}");
    }
}

#[test]
fn a_shell_variable_in_another_path_creates_no_folder() {
    let reported = problems(&format!("[log]\nfile = \"$HOME/server.log\"\n{MODEL}"));
    insta::assert_snapshot!(reported, @r##"
    error[config_value]: `log.file`: `$HOME/server.log` does not exist
    hint: shell variables are not expanded: write `${env:HOME}/…`, or `~/…` in the file
    "##);
}

#[test]
fn a_git_lfs_pointer_or_web_page_instead_of_a_model_is_recognized() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 135\n";
    for (content, message) in [
        (pointer, "is a Git LFS pointer, not the model itself"),
        (
            "<!DOCTYPE html>\n<html>",
            "is a web page, not the model itself",
        ),
        (
            "version 2",
            "is not a GGUF model file: it begins with `vers`",
        ),
    ] {
        let folder = Folder::new("substitute", "[models.a]\npath = \"other.gguf\"\n");
        folder.write("other.gguf", content);
        let stderr = text(folder.run(&["config", "check"], &[]).stderr);
        assert!(stderr.contains(message), "{stderr}");
    }
}
