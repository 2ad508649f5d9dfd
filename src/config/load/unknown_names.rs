//! Reports variables and `--set` that name an unknown model, tool or token. A typing error would otherwise define a new one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Layers;
use super::overrides::{Override, Target};
use crate::config::address::Address;
use crate::config::problem::Origin;
use crate::config::validate::nearest;

/// The kinds of tables whose names can be mistyped.
const KINDS: [Kind; 3] = [
    Kind {
        table: &["models"],
        word: "model",
        defining_keys: &["path"],
        also_requires: None,
        requires: "`path`",
    },
    Kind {
        table: &["tools"],
        word: "tool",
        defining_keys: &["prompt", "kind"],
        also_requires: None,
        requires: "`prompt`, or `kind = \"chat\"`",
    },
    Kind {
        table: &["server", "tokens"],
        word: "token",
        defining_keys: &["token", "token_file"],
        // A secret whose table was removed from the file must not become a token for all tools.
        also_requires: Some("tools"),
        requires: "`token` or `token_file`, and `tools`",
    },
];

/// A kind of named tables, such as models.
struct Kind {
    table: &'static [&'static str],
    word: &'static str,
    /// Keys of which a new entry must have at least one.
    defining_keys: &'static [&'static str],
    /// Another key that a new entry must have; `None` if there is none.
    also_requires: Option<&'static str>,
    /// The required keys in words.
    requires: &'static str,
}

impl Layers {
    /// Removes from `overrides` those for unknown models, tools and tokens, unless `overrides` or `others` define them. Reports each unknown name
    /// once.
    pub(super) fn remove_strays(&mut self, overrides: &mut Vec<Override>, others: &[Override]) {
        let has_path = self.is_set(&Address::new(["defaults", "path"]));
        // Without a file, the check of the model reports the missing `path`.
        let is_checked = |kind: &&Kind| kind.word != "model" || (self.file.is_some() && !has_path);
        let kinds: Vec<&Kind> = KINDS.iter().filter(is_checked).collect();
        if self.is_incomplete() {
            return;
        }
        for kind in kinds {
            let known = self.names_in(&kind.address());
            let all = overrides.iter().chain(others);
            let mut keys: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
            for (name, key) in all.flat_map(|setting| kind.keys(setting)) {
                keys.entry(name.to_owned()).or_default().insert(key);
            }
            let is_definition = |keys: &BTreeSet<&str>| {
                let has = |key: &&str| keys.contains(*key);
                kind.defining_keys.iter().any(has) && kind.also_requires.iter().all(has)
            };
            keys.retain(|_, keys| is_definition(keys));
            let defined: BTreeSet<String> = keys.into_keys().collect();
            let is_stray = |setting: &Override| {
                let name = kind.name(&setting.target);
                name.is_some_and(|name| !known.contains(name) && !defined.contains(name))
            };
            let (strays, kept): (Vec<_>, Vec<_>) = overrides.drain(..).partition(is_stray);
            *overrides = kept;
            let names: Vec<&str> = known.iter().map(String::as_str).collect();
            let mut reported = BTreeSet::new();
            for stray in strays {
                let name = kind.name(&stray.target).unwrap_or_default();
                if reported.insert(name.to_owned()) {
                    self.report_stray(stray.origin, name, kind, &names);
                }
            }
        }
    }

    fn report_stray(&mut self, origin: Origin, name: &str, kind: &Kind, known: &[&str]) {
        let address = kind.address().join(name);
        if self.is_refused(&address) {
            return;
        }
        let requirement = format!("a new {} requires {}", kind.word, kind.requires);
        let hint = match nearest(name, known) {
            Some(near) => format!(
                "did you mean the {} `{near}`? If not, {requirement}",
                kind.word
            ),
            None => requirement,
        };
        let message = format!("there is no {} `{name}`", kind.word);
        self.add_error(origin, Some(&address), message, Some(hint));
    }
}

impl Kind {
    /// Returns the address of the table with all entries of this kind.
    fn address(&self) -> Address {
        Address::new(self.table.iter().copied())
    }

    /// Returns the name of the entry that `target` sets, or sets a key of.
    fn name<'a>(&self, target: &'a Target) -> Option<&'a str> {
        self.path(target)?.first().map(String::as_str)
    }

    /// Returns the keys that `setting` gives an entry, each with the name of the entry.
    fn keys<'a>(&self, setting: &'a Override) -> Vec<(&'a str, &'a str)> {
        match (self.path(&setting.target), &setting.value) {
            (Some([name, key, ..]), _) => vec![(name, key)],
            (Some([name]), Value::Object(table)) => table
                .keys()
                .map(|key| (name.as_str(), key.as_str()))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Returns the parts of the address of `target` below this kind's table.
    fn path<'a>(&self, target: &'a Target) -> Option<&'a [String]> {
        match target {
            Target::Key(address) => address.parts().strip_prefix(self.address().parts()),
            Target::EveryModel(_) => None,
        }
    }
}
