//! Runs the blocks of a page.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use super::page::{Block, What, blocks};
use crate::support::config::Folder;
use crate::support::example::repository;
use crate::support::shell::bash;
use crate::support::{signal_process, tiny};

/// Ends a block that takes longer, and what it has started.
const TIMEOUT: [&str; 3] = ["timeout", "--kill-after=10", "600"];

/// Runs them one after the other, in a folder that is theirs.
///
/// # Errors
/// The first one that fails: where it stands, the block, and its output.
pub(super) fn run(name: &str, page: &str) -> Result<(), String> {
    let mut reader = Reader::new(name);
    for block in blocks(page) {
        reader.take(&block).map_err(|(cause, output)| {
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

/// A reader who does what a page says.
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

    /// The cause and the output, where it fails.
    fn take(&mut self, block: &Block) -> Result<(), (String, String)> {
        match &block.what {
            What::Run => self.run(&block.text),
            What::Server => {
                let server = Server::start(self.command(&block.text))?;
                self.servers.push(server);
                Ok(())
            }
            What::Check => {
                fs::write(self.path("here/checked.toml"), &block.text).unwrap();
                let checked = self.run("llama-mcp-server config check checked.toml");
                fs::remove_file(self.path("here/checked.toml")).unwrap();
                checked
            }
            What::Python => self.python("python3 -u", &block.text),
            What::CompilePython => self.python("python3 -m py_compile", &block.text),
            What::Wrong(why) => Err((why.clone(), String::new())),
        }
    }

    fn command(&self, script: &str) -> Command {
        let script = format!("exec 2>&1\n{script}");
        bash(&TIMEOUT, &script, &self.path("here"), &self.path("home"))
    }

    /// Gives `program` to `python`, with the packages of `scripts/get-python-packages`.
    fn python(&self, python: &str, program: &str) -> Result<(), (String, String)> {
        fs::write(self.path("block.py"), program).unwrap();
        let packages = repository("models/.python").display().to_string();
        self.run(&format!(
            "PYTHONPATH='{packages}' {python} ../block.py || \
             {{ echo 'If a package is missing: scripts/get-python-packages'; exit 1; }}"
        ))
    }

    fn run(&self, script: &str) -> Result<(), (String, String)> {
        // Not a pipe: what a block leaves running would hold it open.
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

/// One that a page has started, ended with it.
struct Server(Child);

impl Server {
    /// Waits until it listens.
    fn start(mut command: Command) -> Result<Self, (String, String)> {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let server = Self(child);
        let mut said = String::new();
        for line in lines.by_ref() {
            let line = line.unwrap();
            said = format!("{said}{line}\n");
            if line.contains("listening on http") {
                thread::spawn(|| lines.for_each(drop));
                return Ok(server);
            }
        }
        Err(("ended before it listened".into(), said))
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
