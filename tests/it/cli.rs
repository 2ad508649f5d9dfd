//! Flags, help, exit codes.

use std::path::Path;

use serde_json::json;

use crate::support::{Server, TempFile, program, smollm2, tiny};

/// Returns the exit code and stderr of a start that fails.
fn failed(arguments: &[&str]) -> (i32, String) {
    let output = program().args(arguments).output().unwrap();
    assert!(output.stdout.is_empty());
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn help_is_grouped_and_names_the_documented_flags_with_their_defaults() {
    let output = program()
        .arg("--help")
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    insta::assert_snapshot!(help);
}

#[test]
fn the_version_is_printed() {
    let output = program().arg("--version").output().unwrap();
    let version = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        version,
        format!("llama-mcp-server {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_start_without_a_model_explains_how_to_name_one() {
    insta::assert_snapshot!(failed(&[]).1, @r#"
    error[no_model]: no model is configured

    hint: run `llama-mcp-server --model /path/to/model.gguf`, or declare models in a file: `llama-mcp-server config init > llama-mcp-server.toml` creates one
    "#);
    assert_eq!(failed(&[]).0, 2);
}

#[test]
fn a_file_that_is_not_a_model_is_reported_before_anything_starts() {
    let text = TempFile::new("text.gguf", b"hello world");
    let empty = TempFile::new("empty.gguf", b"");
    let whole = std::fs::read(tiny()).unwrap();
    let cut = TempFile::new("cut.gguf", &whole[..whole.len() - 1000]);
    let head = TempFile::new("head.gguf", &whole[..1000]);
    let error_of = |path: &Path| {
        let (code, error) = failed(&["--model", shown(path)]);
        assert_eq!(code, 2);
        error.replace(shown(path), "FILE")
    };
    insta::assert_snapshot!(error_of(Path::new("/no/such/model.gguf")), @r"
    error[config_model]: `--model`: the model file `FILE` does not exist
      hint: check the path; in a configuration file, paths are relative to its folder
    ");
    insta::assert_snapshot!(error_of(Path::new("/tmp")), @r"
    error[config_model]: `--model`: `FILE` is not a file
      hint: give the path of the .gguf file itself
    ");
    insta::assert_snapshot!(error_of(&text.0), @r"
    error[config_model]: `--model`: `FILE` is not a GGUF model file: it begins with `hell`
      hint: choose a model file in GGUF format, the format of llama.cpp (usually named *.gguf)
    ");
    insta::assert_snapshot!(error_of(&empty.0), @r"
    error[config_model]: `--model`: `FILE` is not a GGUF model file: it is empty
      hint: choose a model file in GGUF format, the format of llama.cpp (usually named *.gguf)
    ");
    insta::assert_snapshot!(error_of(&cut.0), @r"
    error[config_model]: `--model`: the model file `FILE` is truncated: it has 334008 bytes, but its tensors need 335008
      hint: wait until the download is complete, or download the file again
    ");
    insta::assert_snapshot!(error_of(&head.0), @r"
    error[config_model]: `--model`: the model file `FILE` is truncated: it has 1000 bytes, but its header is longer
      hint: wait until the download is complete, or download the file again
    ");
}

#[test]
fn a_second_model_flag_is_refused_with_a_hint() {
    let model = tiny();
    let model = shown(&model);
    for arguments in [
        &["--model", model, "--model", model][..],
        &["--model", model, model],
        &[model, model],
    ] {
        let (code, error) = failed(arguments);
        assert_eq!(code, 2);
        insta::allow_duplicates! {
            insta::assert_snapshot!(error, @r"
            error[command_line]: the command line must name one model, found 2

            hint: declare them in a file: `llama-mcp-server config init > llama-mcp-server.toml` creates one
            ");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_path_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let path = std::env::temp_dir().join(std::ffi::OsStr::from_bytes(b"llama-\xff.gguf"));
    let output = program().arg(path).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not valid UTF-8"));
}

#[test]
fn invalid_flags_are_usage_errors() {
    let model = tiny();
    let model = shown(&model);
    for arguments in [
        &["--model", model, "--no_such_flag"][..],
        &["--model", model, "--n_ctx", "many"],
        &["--model", model, "--temperature", "-1"],
        &["--model", model, "--seed", "-2"],
        &["--model", model, "--tool_name", "a tool"],
        &["--model", model, "--transport", "pigeon"],
    ] {
        let (code, error) = failed(arguments);
        assert_eq!(code, 2, "{arguments:?}");
        assert!(
            error.starts_with("error: ") || error.starts_with("error[config_"),
            "{error}"
        );
    }
}

#[test]
fn all_values_out_of_range_are_reported_at_once() {
    let model = tiny();
    let (_, error) = failed(&[shown(&model), "--top_p", "7", "--max_tokens", "0"]);
    insta::assert_snapshot!(error, @r"
    error[config_value]: `--max_tokens`: must be a whole number from 1 to 1000000000, found 0

    error[config_value]: `--top_p`: must be a number from 0 to 1, found 7
    ");
}

#[test]
fn a_bare_path_and_hyphenated_flags_are_accepted() {
    let mut command = program();
    command.arg(tiny()).args([
        "--n-threads",
        "1",
        "--n-gpu-layers",
        "0",
        "--repeat-penalty",
        "1.0",
        "--top-k",
        "5",
    ]);
    let mut server = Server::spawn(command);
    server.chat(json!({"text": "Hi"}));
}

#[test]
fn more_threads_than_cpus_are_capped_and_logged() {
    let mut command = program();
    command.arg(tiny()).args(["--n_threads", "4096"]);
    let log = Server::spawn(command).end();
    assert!(
        log.contains("the CPUs that this process may use, not 4096"),
        "{log}"
    );
}

#[test]
fn a_context_beyond_the_trained_one_is_capped_and_logged() {
    let mut server = Server::start(&smollm2(), &["--n_ctx", "9000", "--parallel", "1"]);
    server.chat(json!({"text": "Hi", "max_tokens": 1}));
    let log = server.end();
    assert!(
        log.contains("`n_ctx` is capped at 8192, the context that the model was trained for (configured: 9000)"),
        "{log}"
    );
}

#[test]
fn rust_log_sets_the_log_level() {
    let log_with = |filter: &str| {
        let mut command = program();
        command
            .arg(tiny())
            .args(["--n_threads", "1"])
            .env("RUST_LOG", filter);
        let mut server = Server::spawn(command);
        server.chat(json!({"text": "Hi", "max_tokens": 1}));
        server.end()
    };
    assert_eq!(log_with("off"), "");
    assert!(log_with("llama-cpp-2=debug").contains("llama-cpp-2"));
}
