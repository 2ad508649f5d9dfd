//! A configuration in a temporary folder.

use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Server, program, tiny};

/// A temporary folder, removed when dropped.
pub(crate) struct Folder(pub PathBuf);

impl Folder {
    pub(crate) fn empty(name: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("llama-mcp-{}-{number}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        // A killed run with the same process id may have left such a folder.
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// Creates a folder with the tiny model as `crab.gguf`, and with `text` as the configuration file that the program finds.
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let folder = Self::empty(name);
        std::fs::copy(tiny(), folder.0.join("crab.gguf")).unwrap();
        folder.write("llama-mcp-server.toml", text);
        folder
    }

    /// Writes `text` to the file `name`.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    /// Runs the program in the folder, where it finds the configuration.
    pub(crate) fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = program();
        command
            .current_dir(&self.0)
            .args(arguments)
            .envs(variables.iter().copied());
        command.output().unwrap()
    }

    /// Starts a server in the folder, where it finds the configuration.
    pub(crate) fn serve(&self) -> Server {
        let mut command = program();
        command.current_dir(&self.0);
        Server::spawn(command)
    }

    /// Returns the output of `config show`.
    pub(crate) fn show(&self, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let output = self.run(&[&["config", "show"], arguments].concat(), variables);
        assert_eq!(text(output.stderr), "");
        text(output.stdout)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub(crate) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// A configuration of one model that inherits a default.
pub(crate) const ONE_MODEL: &str = "[defaults]\nn_ctx = 1\n[models.a]\npath = \"crab.gguf\"\n";
