//! Commands as a reader of the documentation types them.

use std::path::Path;
use std::process::{Command, Stdio};

/// The first commands of a page.
pub(crate) fn first_block(markdown: &str) -> &str {
    let (_, rest) = markdown.split_once("```sh\n").unwrap();
    rest.split_once("```").unwrap().0
}

/// `words`, and bash for `script`: in `folder`, with the program under test on the path and nothing else of this process's
/// environment.
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
