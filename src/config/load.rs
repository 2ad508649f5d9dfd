//! The layers: file < environment < flags and `--set`, each checked by itself, then merged key by key.
//!
//! A variable or a flag without a model's name (`LLAMA_MCP_N_CTX`, `--n_ctx`) counts for all models, whatever the file says
//! of them; within its layer one that names a model goes before. What no layer says of a model comes from `[defaults]`.

mod complete;
mod effective;
mod overrides;
mod report;
mod service;
mod suggestions;
mod syntax;
mod unknown_names;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::address::Address;
use super::file::ConfigFile;
use super::interpolate::{Names, read_text};
use super::paths;
use super::problem::{Origin, Problem};
use super::source::Source;
use super::validate::{Fault, Shape, plain};
use super::{DEFAULT_MODEL, Overrides};
use crate::error_code::ErrorCode;
use overrides::{Said, Target};

/// All layers; every value that is kept is of the right type and in its range.
#[derive(Debug)]
pub(crate) struct Layers {
    /// What may be said.
    pub shape: Shape,
    /// The file, where there is one.
    pub file: Option<Arc<Source>>,
    /// Files whose content is part of the configuration.
    pub files: Vec<PathBuf>,
    /// Those of `files` that `[server]` names: rights over HTTP depend on them.
    pub server_files: Vec<PathBuf>,
    /// Variables of which secrets are made.
    pub secret_variables: Vec<String>,
    /// What was wrong; those values were left out.
    pub problems: Vec<Problem>,
    /// Parts that do not work now, such as a model whose file is missing; the rest of the configuration can be used.
    pub doubts: Vec<Problem>,
    /// Settings that work and are probably a mistake.
    pub warnings: Vec<Problem>,
    /// What is worth a line in the log.
    pub notes: Vec<String>,
    /// Home directory, which `~` stands for; `None` if the environment does not name one.
    home: Option<String>,
    /// Values that were left out, because they are wrong or name what is not there.
    refused: Vec<Address>,
    /// Texts that something was put into, as they were written.
    made: BTreeMap<Address, String>,
    /// Lowest first.
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    origin: Origin,
    tree: Value,
}

/// The configuration file, as it was read.
struct FileText<'path> {
    path: &'path Path,
    /// Folder at which relative paths in the file start.
    folder: &'path Path,
    text: io::Result<String>,
}

impl<'path> FileText<'path> {
    /// Reads the file at `path`, or takes the `text` that was read from a pipe there: relative paths then start at the current folder.
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
    /// Reads `file`, where there is one, and lays what was said elsewhere over it.
    pub(crate) fn read(
        typed: &Overrides,
        variables: &BTreeMap<String, String>,
        file: Option<&Path>,
    ) -> Self {
        let file = file.map(|path| FileText::read(path, typed.config_text.as_deref()));
        Self::read_file_text(typed, variables, file)
    }

    /// Does what [`Self::read`] does, but with `text` in place of what the file at `path` holds.
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
            shape: Shape::default(),
            file: None,
            files: Vec::new(),
            server_files: Vec::new(),
            secret_variables: Vec::new(),
            problems: Vec::new(),
            doubts: Vec::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
            home: paths::home(variables).map(str::to_owned),
            refused: Vec::new(),
            made: BTreeMap::new(),
            layers: Vec::new(),
        };
        layers.add(Origin::BuiltIn, built_in());
        if let Some(file) = file {
            layers.add_file(file, variables);
        }
        if let Some(model) = typed.models.first() {
            // One model, for whoever starts the server: it is loaded before the first call.
            let model = json!({"path": model, "tool_name": "chat", "preload": true});
            layers.add(
                Origin::Flag("--model".into()),
                json!({"models": {DEFAULT_MODEL: model}}),
            );
        }
        let mut from_variables = layers.variables(variables);
        let mut from_flags = layers.flags(typed);
        layers.remove_strays(&mut from_variables, &from_flags);
        layers.remove_strays(&mut from_flags, &from_variables);
        // Models that only these name are there, too.
        let mut names = layers.model_names();
        let targets = from_variables.iter().chain(&from_flags);
        names.extend(targets.filter_map(|said| match &said.target {
            Target::One(address) => address.model_name(),
            Target::EveryModel(_) => None,
        }));
        layers.say(from_variables, &names);
        layers.say(from_flags, &names);
        layers
    }

    /// Adds the layer of `file`, or an error if it could not be read.
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
                return self.problem(Origin::BuiltIn, None, message, hint);
            }
        };
        let source = Source::parse(path, text);
        let mut tree = source.tree.clone();
        for address in &source.broken {
            address.remove(&mut tree);
        }
        self.refused.extend(source.broken.iter().cloned());
        let source = Arc::new(source);
        self.file = Some(Arc::clone(&source));
        self.report_syntax(&source);
        let mut names = Names {
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
            &mut names,
            &mut unresolved,
        );
        // What is wrong with them is told.
        for address in &unresolved {
            address.remove(&mut tree);
        }
        self.refused.extend(unresolved);
        self.files = names.files;
        self.secret_variables = names.read;
        self.add(Origin::File(source), tree);
    }

    /// Checks what one source says and keeps what is right.
    fn add(&mut self, origin: Origin, mut tree: Value) {
        self.expand_home(&origin, &Address::default(), &mut tree);
        self.shape.make_whole(&Address::default(), &mut tree);
        // Again until nothing is wrong: what was taken away may be missing to what is left.
        loop {
            let faults = self.shape.faults(&tree);
            if faults.is_empty() {
                break;
            }
            for fault in faults {
                self.refuse(&origin, &fault);
                fault.address.remove(&mut tree);
                self.settle(&fault, &mut tree);
            }
        }
        self.layers.push(Layer { origin, tree });
    }

    /// Reports no further errors for what `fault` meant. Removes a table from `tree` that exists only because of a dot in a name.
    fn settle(&mut self, fault: &Fault, tree: &mut Value) {
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

    /// Who said the value at `address`, in the highest layer that has it; the program's own does not count.
    fn said_highest(&self, address: &Address) -> Option<Origin> {
        let mut layers = self.layers.iter().rev();
        let layer = layers.find(|layer| address.get(&layer.tree).is_some())?;
        Some(layer.origin.clone()).filter(|origin| *origin != Origin::BuiltIn)
    }

    /// Returns whether parts of the file are unknown: it could not be read, or is not TOML.
    pub(crate) fn is_incomplete(&self) -> bool {
        let mut problems = self.problems.iter();
        let is_of_file = |code| {
            code == ErrorCode::ConfigUnreadable.name() || code == ErrorCode::ConfigSyntax.name()
        };
        problems.any(|problem| is_of_file(problem.code))
    }

    /// Adds values as layers of their own, those for every model of `names` first: what names a model goes before.
    fn say(&mut self, said: Vec<Said>, names: &BTreeSet<String>) {
        let (for_all, for_one): (Vec<_>, Vec<_>) = said
            .into_iter()
            .partition(|said| matches!(said.target, Target::EveryModel(_)));
        for said in for_all {
            let mut tree = json!({});
            let address = said.target.example();
            address.set(&mut tree, said.value);
            let found = self.problems.len();
            self.add(said.origin, tree);
            if found < self.problems.len() {
                continue;
            }
            let layer = self.layers.last_mut().expect("one was just added");
            let value = address.get(&layer.tree).cloned().unwrap_or_default();
            layer.tree = json!({});
            for name in names {
                let key = address.parts().last().expect("an example has a key");
                Address::of_model(name, key).set(&mut layer.tree, value.clone());
            }
        }
        for Said {
            origin,
            target,
            value,
        } in for_one
        {
            let mut tree = json!({});
            target.example().set(&mut tree, value);
            self.add(origin, tree);
        }
    }

    /// Returns the models that any layer names.
    pub(crate) fn model_names(&self) -> BTreeSet<String> {
        self.names_in("models")
    }

    /// Returns the names of the tables in `table` that any layer has.
    fn names_in(&self, table: &str) -> BTreeSet<String> {
        let tables = self
            .layers
            .iter()
            .filter_map(|layer| layer.tree.get(table)?.as_object());
        tables.flat_map(|tables| tables.keys().cloned()).collect()
    }

    /// `text`, as it may be shown: what a text took from elsewhere may be a secret.
    pub(crate) fn quoted(&self, address: &Address, text: &str) -> String {
        if self
            .made
            .keys()
            .any(|made| made == address || made.parent().as_ref() == Some(address))
        {
            "what it was made of".into()
        } else {
            format!("`{text}`")
        }
    }

    /// Who said the value at `address`, and where: in the highest layer that has it, for a model else in `[defaults]`.
    pub(crate) fn origin_of(&self, address: &Address) -> (Origin, Address) {
        let said = |address: &Address| {
            let layer = self
                .layers
                .iter()
                .rev()
                .find(|layer| address.get(&layer.tree).is_some());
            layer.map(|layer| (layer.origin.clone(), address.clone()))
        };
        said(address)
            .or_else(|| said(&address.in_defaults()?))
            // What nobody said is missing in the table around it, where that begins.
            .or_else(|| {
                let table = address.parent()?;
                let mut layers = self.layers.iter();
                let layer = layers.find(|layer| table.get(&layer.tree).is_some())?;
                Some((layer.origin.clone(), address.clone()))
            })
            .unwrap_or((Origin::BuiltIn, address.clone()))
    }

    /// Whether the value at `address` was said by a higher layer than the one at `other`.
    pub(crate) fn is_above(&self, address: &Address, other: &Address) -> bool {
        let height = |address: &Address| {
            self.layers.iter().rposition(|layer| {
                address
                    .get(&layer.tree)
                    .is_some_and(|value| !value.is_null())
            })
        };
        height(address) > height(other)
    }
}

/// Returns the built-in value of `key` of a server or a model, as a flag would spell it; `None` if there is none.
pub(crate) fn built_in_value(key: &str) -> Option<String> {
    let tree = built_in();
    let mut tables = ["server", "defaults"].iter();
    match tables.find_map(|table| tree[table].get(key))? {
        Value::String(text) => Some(text.clone()),
        number @ Value::Number(_) => Some(plain(number)),
        _ => None,
    }
}

/// What counts where nobody says; keys without a default are not there.
fn built_in() -> Value {
    let mut tree = serde_json::to_value(ConfigFile::default()).expect("settings are plain values");
    for table in tree
        .as_object_mut()
        .into_iter()
        .flat_map(|tables| tables.values_mut())
    {
        if let Some(table) = table.as_object_mut() {
            table.retain(|_, value| !value.is_null());
        }
    }
    tree
}
