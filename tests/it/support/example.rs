//! The folders of `examples/`, started as their READMEs say.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::config::Folder;
use super::shell::{bash, first_block};
use super::{smollm2, tiny};

/// A copy of a folder of `examples/`, with models at the paths that it expects.
pub(crate) struct Example {
    folder: Folder,
    flags: Vec<String>,
}

impl Example {
    /// Copies the example `name` and puts the tiny model at each path of `models`.
    pub(crate) fn new(name: &str, models: &[&str]) -> Self {
        let folder = Folder::empty(name);
        for entry in std::fs::read_dir(repository("examples").join(name)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), folder.0.join(entry.file_name())).unwrap();
            }
        }
        for model in models {
            let path = folder.0.join(model);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::copy(tiny(), path).unwrap();
        }
        Self {
            folder,
            flags: Vec::new(),
        }
    }

    pub(crate) fn single_model() -> Self {
        Self::new("single-model", &["model.gguf"])
    }

    pub(crate) fn typed_tools() -> Self {
        Self::with_small_model("typed-tools")
    }

    pub(crate) fn profiles() -> Self {
        Self::with_small_model("profiles")
    }

    /// Copies the example `name` and makes its model's path absolute, because the relative path does not resolve in the copy.
    fn with_small_model(name: &str) -> Self {
        let mut example = Self::new(name, &[]);
        let model = format!("models.small.path={}", smollm2().display());
        example.flags = vec!["--set".into(), model];
        example
    }

    pub(crate) fn team() -> Self {
        Self::new("team", &["models/chat.gguf", "models/coder.gguf"])
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.0.join(file)
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    /// Returns the first commands of the README as one process that becomes the server, with additional `flags`.
    pub(crate) fn command(&self, flags: &[&str]) -> Command {
        let readme = self.read("README.md");
        let script =
            first_block(&readme).replace("llama-mcp-server", "exec llama-mcp-server \"$@\"");
        let mut command = bash(&[], &script, &self.folder.0, &self.folder.0);
        command.args(&self.flags).args(flags);
        command
    }
}

pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
