//! Commands as a reader of the documentation types them.

use std::path::Path;
use std::process::{Command, Stdio};

/// Returns the first shell block of a page.
pub(crate) fn first_block(markdown: &str) -> &str {
    let (_, rest) = markdown.split_once("```sh\n").unwrap();
    rest.split_once("```").unwrap().0
}

/// Returns a command that runs bash with `script` in `folder`, started by `words` (such as `timeout 10`). Of this process's environment it
/// gets only the path, with the program under test in front.
pub(crate) fn bash(words: &[&str], script: &str, folder: &Path, home: &Path) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_llama-mcp-server"));
    let mut path = program.parent().unwrap().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    let mut command = Command::new("env");
    command
        .args(words)
        .args(["bash", "-euo", "pipefail", "-c", script, "bash"])
        .current_dir(folder)
        .env_clear()
        .env("PATH", path)
        .env("HOME", home)
        .stdin(Stdio::null());
    command
}
