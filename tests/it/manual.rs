//! Shell completions and the man page.

use std::process::{Command, Stdio};

use crate::support::config::text;
use crate::support::program;

fn printed(arguments: &[&str]) -> String {
    let output = program().args(arguments).output().unwrap();
    assert!(output.status.success());
    text(output.stdout)
}

/// Returns whether the machine has `tool`.
fn has(tool: &str) -> bool {
    let status = Command::new(tool)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Returns what bash completes for the last of `words`.
fn completions(words: &str) -> String {
    let script = format!(
        "source <({} completions bash) && COMP_WORDS=({words}) && COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)) && \
         _llama__mcp__server llama-mcp-server \"${{COMP_WORDS[-1]}}\" && echo \"${{COMPREPLY[@]}}\"",
        env!("CARGO_BIN_EXE_llama-mcp-server")
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(text(output.stderr), "");
    text(output.stdout).trim().to_owned()
}

#[test]
fn shells_complete_flags_and_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(
            printed(&["completions", shell]).contains("n_gpu_layers"),
            "{shell}"
        );
    }
    if cfg!(unix) && has("bash") {
        assert_eq!(completions("llama-mcp-server --n_g"), "--n_gpu_layers");
        assert_eq!(completions("llama-mcp-server config sch"), "schema");
        assert_eq!(
            completions("llama-mcp-server install claude-d"),
            "claude-desktop"
        );
    }
}

#[test]
fn the_man_page_lists_every_flag_and_command_without_warnings() {
    let manual = printed(&["man"]);
    let plain = manual.replace("\\-", "-");
    let help = printed(&["--help"]);
    let flags = help
        .split_whitespace()
        .filter(|word| word.starts_with("--"));
    for flag in flags {
        assert!(plain.contains(flag.trim_end_matches([',', '>'])), "{flag}");
    }
    for command in ["CONFIG CHECK", "HEALTH", "INSTALL", "COMPLETIONS", "MAN"] {
        let title = format!(".SH \"LLAMA-MCP-SERVER {command}\"");
        assert!(plain.contains(&title), "{command}");
    }
    if has("groff") {
        let mut groff = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = groff.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, manual.as_bytes()).unwrap();
        drop(stdin);
        let output = groff.wait_with_output().unwrap();
        assert_eq!(text(output.stderr), "");
    }
}
