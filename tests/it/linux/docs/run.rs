//! Runs the blocks of a page.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use super::page::{Action, Block, blocks};
use crate::support::config::Folder;
use crate::support::example::repository;
use crate::support::shell::bash;
use crate::support::{signal_process, tiny};

/// Kills a block that takes too long, together with its child processes.
const TIMEOUT: [&str; 3] = ["timeout", "--kill-after=10", "600"];

/// Runs the blocks one after another, in a folder of their own.
///
/// # Errors
/// Returns the first failure: its location, the block, and its output.
pub(super) fn run(name: &str, page: &str) -> Result<(), String> {
    let mut reader = Reader::new(name);
    for block in blocks(page) {
        reader.run_block(&block).map_err(|(cause, output)| {
            let (text, output) = (indented(&block.text), indented(&output));
            format!(
                "{name}:{}: {cause}\n{text}Its output:\n{output}",
                block.line
            )
        })?;
    }
    Ok(())
}

fn indented(text: &str) -> String {
    let lines = text.lines();
    lines.flat_map(|line| ["    ", line, "\n"]).collect()
}

/// Follows the instructions of a page, like a reader.
struct Reader {
    servers: Vec<Server>,
    folder: Folder,
}

impl Reader {
    fn new(name: &str) -> Self {
        let folder = Folder::empty(&name.replace('/', "-"));
        let reader = Self {
            servers: Vec::new(),
            folder,
        };
        for own in ["here", "home"] {
            fs::create_dir(reader.path(own)).unwrap();
        }
        fs::copy(tiny(), reader.path("here/model.gguf")).unwrap();
        reader
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    /// Runs or checks a block. Returns the cause and the output of a failure.
    fn run_block(&mut self, block: &Block) -> Result<(), (String, String)> {
        match &block.action {
            Action::Run => self.run(&block.text),
            Action::Server => {
                let server = Server::start(self.command(&block.text))?;
                self.servers.push(server);
                Ok(())
            }
            Action::Check => {
                fs::write(self.path("here/checked.toml"), &block.text).unwrap();
                let checked = self.run("llama-mcp-server config check checked.toml");
                fs::remove_file(self.path("here/checked.toml")).unwrap();
                checked
            }
            Action::Python => self.python("python3 -u", &block.text),
            Action::CompilePython => self.python("python3 -m py_compile", &block.text),
            Action::Wrong(why) => Err((why.clone(), String::new())),
        }
    }

    fn command(&self, script: &str) -> Command {
        let script = format!("exec 2>&1\n{script}");
        bash(&TIMEOUT, &script, &self.path("here"), &self.path("home"))
    }

    /// Runs `program` with `python`, with the packages of `scripts/get-python-packages`.
    fn python(&self, python: &str, program: &str) -> Result<(), (String, String)> {
        fs::write(self.path("block.py"), program).unwrap();
        let packages = repository("models/.python").display().to_string();
        self.run(&format!(
            "PYTHONPATH='{packages}' {python} ../block.py || \
             {{ echo 'If a package is missing: scripts/get-python-packages'; exit 1; }}"
        ))
    }

    fn run(&self, script: &str) -> Result<(), (String, String)> {
        // A file, not a pipe: background processes of the block would keep a pipe open.
        let output = self.path("output");
        let mut command = self.command(script);
        let status = command
            .stdout(File::create(&output).unwrap())
            .status()
            .unwrap();
        if status.success() {
            return Ok(());
        }
        let output = String::from_utf8_lossy(&fs::read(output).unwrap()).into_owned();
        Err((format!("ended with {status}"), output))
    }
}

/// A server that a page has started. Dropping it ends the process.
struct Server(Child);

impl Server {
    /// Starts a server and waits until it listens.
    fn start(mut command: Command) -> Result<Self, (String, String)> {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let server = Self(child);
        let mut output = String::new();
        for line in lines.by_ref() {
            let line = line.unwrap();
            output = format!("{output}{line}\n");
            if line.contains("listening on http") {
                thread::spawn(|| lines.for_each(drop));
                return Ok(server);
            }
        }
        Err(("ended before it listened".into(), output))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.0.try_wait().unwrap().is_none() {
            signal_process(self.0.id(), "TERM");
            self.0.wait().unwrap();
        }
    }
}
