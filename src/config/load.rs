//! Loads the layers of the configuration: built-in defaults < file < environment variables < flags and `--set`. Each layer is checked by
//! the schema, and then the layers are merged key by key.
//!
//! A variable or a flag without the name of a model (`LLAMA_MCP_N_CTX`, `--n_ctx`) applies to all models and overrides the file. Within
//! its layer, a setting that names a model takes precedence. Keys of a model that no layer sets come from `[defaults]`:
//!
//! ```text
//! file        [models.small]                      n_ctx of `small`    n_ctx of `big`
//!             n_ctx = 1024                        1024                4096 (built-in default)
//! variable    LLAMA_MCP_N_CTX=2048                2048                2048
//! flags       --set models.small.n_ctx=8192       8192                2048
//! ```
//!
//! A value that is wrong is reported and left out, so that all problems are found in one run. [`Layers::read`] never fails: callers look
//! at [`Layers::problems`].

mod built_in;
mod complete;
mod effective;
mod overrides;
mod report;
mod service;
mod spelling;
mod suggestions;
mod syntax;
mod unknown_names;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::address::Address;
use super::interpolate::{Scope, read_text};
use super::paths;
use super::problem::{Origin, Problem};
use super::source_text::SourceText;
use super::validate::{ConfigSchema, Fault};
use super::{DEFAULT_MODEL, Overrides};
use crate::error_code::ErrorCode;
pub(crate) use built_in::built_in_value;
use overrides::{Override, Target};

/// The layers of a configuration. Every value in them has passed the checks of the schema.
#[derive(Debug)]
pub(crate) struct Layers {
    /// Schema of the file.
    pub schema: ConfigSchema,
    /// The configuration file; `None` if there is none.
    pub file: Option<Arc<SourceText>>,
    /// Other files whose content is part of the configuration.
    pub files: Vec<PathBuf>,
    /// Those of `files` that `[server]` names. Rights over HTTP depend on them.
    pub server_files: Vec<PathBuf>,
    /// Environment variables that secrets in the file refer to.
    pub secret_variables: Vec<String>,
    /// Errors. The values that they concern were left out.
    pub problems: Vec<Problem>,
    /// Errors that do not keep the rest of the configuration from being used, such as a model whose file is missing.
    pub tolerated_faults: Vec<Problem>,
    /// Warnings about settings that work but are probably a mistake.
    pub warnings: Vec<Problem>,
    /// Notes for the log.
    pub notes: Vec<String>,
    /// Home directory, which `~` stands for; `None` if the environment does not name one.
    home: Option<String>,
    /// Addresses of values that were left out, because they are wrong or refer to something that does not exist.
    refused: Vec<Address>,
    /// Strings with `${…}`, as written in the file. The layer has their resolved values.
    written: BTreeMap<Address, String>,
    /// The layers, lowest precedence first.
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    origin: Origin,
    tree: Value,
}

/// Content of the configuration file.
struct FileText<'path> {
    path: &'path Path,
    /// Folder that relative paths in the file start from.
    folder: &'path Path,
    text: io::Result<String>,
}

impl<'path> FileText<'path> {
    /// Reads the file at `path`. If `text` was read from a pipe there, uses it; relative paths then start from the current folder.
    fn read(path: &'path Path, text: Option<&str>) -> Self {
        match text {
            Some(text) => Self {
                path,
                folder: Path::new(""),
                text: Ok(text.to_owned()),
            },
            None => Self {
                path,
                folder: folder_of(path),
                text: read_text(path),
            },
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

impl Layers {
    /// Reads `file`, if there is one, and adds the layers of environment variables and flags.
    pub(crate) fn read(
        typed: &Overrides,
        variables: &BTreeMap<String, String>,
        file: Option<&Path>,
    ) -> Self {
        let file = file.map(|path| FileText::read(path, typed.config_text.as_deref()));
        Self::read_file_text(typed, variables, file)
    }

    /// Reads the layers like [`Self::read`], but with `text` as the content of the file at `path`.
    pub(crate) fn read_as(
        typed: &Overrides,
        variables: &BTreeMap<String, String>,
        path: &Path,
        text: String,
    ) -> Self {
        let file = FileText {
            path,
            folder: folder_of(path),
            text: Ok(text),
        };
        Self::read_file_text(typed, variables, Some(file))
    }

    fn read_file_text(
        typed: &Overrides,
        variables: &BTreeMap<String, String>,
        file: Option<FileText<'_>>,
    ) -> Self {
        let mut layers = Self {
            schema: ConfigSchema::default(),
            file: None,
            files: Vec::new(),
            server_files: Vec::new(),
            secret_variables: Vec::new(),
            problems: Vec::new(),
            tolerated_faults: Vec::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
            home: paths::home(variables).map(str::to_owned),
            refused: Vec::new(),
            written: BTreeMap::new(),
            layers: Vec::new(),
        };
        layers.add_layer(Origin::BuiltIn, built_in::defaults());
        if let Some(file) = file {
            layers.add_file(file, variables);
        }
        if let Some(model) = typed.models.first() {
            // The only model is loaded at once, so that the first call need not wait.
            let model = json!({"path": model, "tool_name": "chat", "preload": true});
            layers.add_layer(
                Origin::Flag("--model".into()),
                json!({"models": {DEFAULT_MODEL: model}}),
            );
        }
        let mut from_variables = layers.overrides_from_variables(variables);
        let mut from_flags = layers.overrides_from_flags(typed);
        layers.remove_strays(&mut from_variables, &from_flags);
        layers.remove_strays(&mut from_flags, &from_variables);
        // Variables and flags may define further models.
        let mut names = layers.model_names();
        let targets = from_variables.iter().chain(&from_flags);
        names.extend(targets.filter_map(|setting| match &setting.target {
            Target::Key(address) => address.model_name(),
            Target::EveryModel(_) => None,
        }));
        layers.add_overrides(from_variables, &names);
        layers.add_overrides(from_flags, &names);
        layers
    }

    /// Adds the layer of `file`. If the file could not be read, adds an error.
    fn add_file(&mut self, file: FileText<'_>, variables: &BTreeMap<String, String>) {
        let FileText { path, folder, text } = file;
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                let message = format!(
                    "could not read the configuration `{}`: {error}",
                    path.display()
                );
                let hint = (path == Path::new("-")).then(|| {
                    "only `config check`, `config show` and `doctor` read standard input".into()
                });
                return self.add_error(Origin::BuiltIn, None, message, hint);
            }
        };
        let source = SourceText::parse(path, text);
        let mut tree = source.tree.clone();
        for address in &source.broken {
            address.remove(&mut tree);
        }
        self.refused.extend(source.broken.iter().cloned());
        let source = Arc::new(source);
        self.file = Some(Arc::clone(&source));
        if !self.report_syntax(&source) {
            // The parser guessed values that are not there.
            tree = json!({});
        }
        let mut scope = Scope {
            variables,
            folder,
            files: Vec::new(),
            read: Vec::new(),
        };
        let mut unresolved = Vec::new();
        self.complete(
            &Address::default(),
            &mut tree,
            &source,
            &mut scope,
            &mut unresolved,
        );
        // Their errors are already reported.
        for address in &unresolved {
            address.remove(&mut tree);
        }
        self.refused.extend(unresolved);
        self.files = scope.files;
        self.secret_variables = scope.read;
        self.add_layer(Origin::File(source), tree);
    }

    /// Checks the values of `tree`, and adds a layer of those that are valid. The others are reported.
    fn add_layer(&mut self, origin: Origin, mut tree: Value) {
        self.expand_home(&origin, &Address::default(), &mut tree);
        self.schema
            .normalize_integers(&Address::default(), &mut tree);
        // A removed value may be required by another one, so the check repeats until it finds nothing.
        loop {
            let faults = self.schema.faults(&tree);
            if faults.is_empty() {
                break;
            }
            for fault in faults {
                self.refuse(&origin, &fault);
                fault.address.remove(&mut tree);
                self.ignore_meant(&fault, &mut tree);
            }
        }
        self.layers.push(Layer { origin, tree });
    }

    /// Suppresses further errors about the key that `fault` probably meant. Removes a table from `tree` that exists only because of a dot in a
    /// name.
    fn ignore_meant(&mut self, fault: &Fault, tree: &mut Value) {
        let Some(meant) = &fault.meant else { return };
        self.refused.push(meant.clone());
        let Some(table) = fault.address.parent() else {
            return;
        };
        let is_inside = meant.parts().starts_with(table.parts());
        if !is_inside && table.get(tree) == Some(&json!({})) {
            table.remove(tree);
            self.refused.push(table);
        }
    }

    /// Returns the position of the highest layer that sets the value at `address`.
    fn highest(&self, address: &Address) -> Option<usize> {
        let mut layers = self.layers.iter();
        layers.rposition(|layer| address.get(&layer.tree).is_some())
    }

    /// Returns the origin of the value at `address` in the highest layer that sets it. Returns `None` if only the built-in defaults have it.
    fn highest_origin(&self, address: &Address) -> Option<Origin> {
        let origin = &self.layers[self.highest(address)?].origin;
        (*origin != Origin::BuiltIn).then(|| origin.clone())
    }

    /// Returns whether parts of the file are unknown, because it could not be read or is not TOML.
    pub(crate) fn is_incomplete(&self) -> bool {
        let mut problems = self.problems.iter();
        let is_of_file = |code| {
            code == ErrorCode::ConfigUnreadable.name() || code == ErrorCode::ConfigSyntax.name()
        };
        problems.any(|problem| is_of_file(problem.code))
    }

    /// Adds a layer for each of `overrides`. Those for every model set the key of all models in `names`. They come first, so that the others take
    /// precedence.
    fn add_overrides(&mut self, overrides: Vec<Override>, names: &BTreeSet<String>) {
        let (for_all, for_one): (Vec<_>, Vec<_>) = overrides
            .into_iter()
            .partition(|setting| matches!(setting.target, Target::EveryModel(_)));
        for setting in for_all {
            let mut tree = json!({});
            let address = setting.target.schema_address();
            address.set(&mut tree, setting.value);
            let found = self.problems.len();
            self.add_layer(setting.origin, tree);
            if found < self.problems.len() {
                continue;
            }
            let layer = self.layers.last_mut().expect("one was just added");
            let value = address.get(&layer.tree).cloned().unwrap_or_default();
            layer.tree = json!({});
            for name in names {
                let key = address
                    .parts()
                    .last()
                    .expect("the address of a key is not empty");
                Address::of_model(name, key).set(&mut layer.tree, value.clone());
            }
        }
        for Override {
            origin,
            target,
            value,
        } in for_one
        {
            let mut tree = json!({});
            target.schema_address().set(&mut tree, value);
            self.add_layer(origin, tree);
        }
    }

    /// Returns the names of the models in all layers.
    pub(crate) fn model_names(&self) -> BTreeSet<String> {
        self.names_in(&Address::new(["models"]))
    }

    /// Returns the names of the entries of `table`, in all layers.
    fn names_in(&self, table: &Address) -> BTreeSet<String> {
        let tables = self
            .layers
            .iter()
            .filter_map(|layer| table.get(&layer.tree)?.as_object());
        tables.flat_map(|tables| tables.keys().cloned()).collect()
    }

    /// Quotes `text`, the value at `address`, for a message. A value with `${…}` is not shown, since it may contain a secret.
    pub(crate) fn quoted(&self, address: &Address, text: &str) -> String {
        if self
            .written
            .keys()
            .any(|known| known == address || known.parent().as_ref() == Some(address))
        {
            "the interpolated value".into()
        } else {
            format!("`{text}`")
        }
    }

    /// Returns the origin and the address of the setting that gives the value at `address`: that of the highest layer. For a key of a model
    /// that no layer sets, this is the key in `[defaults]`.
    pub(crate) fn origin_of(&self, address: &Address) -> (Origin, Address) {
        let set_at = |address: &Address| {
            let layer = &self.layers[self.highest(address)?];
            Some((layer.origin.clone(), address.clone()))
        };
        set_at(address)
            .or_else(|| set_at(&address.in_defaults()?))
            // A missing value is located at the lowest layer with the table around it.
            .or_else(|| {
                let table = address.parent()?;
                let mut layers = self.layers.iter();
                let layer = layers.find(|layer| table.get(&layer.tree).is_some())?;
                Some((layer.origin.clone(), address.clone()))
            })
            .unwrap_or((Origin::BuiltIn, address.clone()))
    }

    /// Returns whether the layer that sets the value at `address` is higher than the one that sets the value at `other`.
    pub(crate) fn is_above(&self, address: &Address, other: &Address) -> bool {
        self.highest(address) > self.highest(other)
    }
}
