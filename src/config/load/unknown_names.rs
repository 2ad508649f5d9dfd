//! Reports variables and `--set` that name an unknown model, tool or token. A typing error would otherwise define a new one.

use std::collections::BTreeSet;

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
        requires: "`path`",
    },
    Kind {
        table: &["tools"],
        word: "tool",
        defining_keys: &["prompt", "kind"],
        requires: "`prompt`, or `kind = \"chat\"`",
    },
    Kind {
        table: &["server", "tokens"],
        word: "token",
        defining_keys: &["token", "token_file"],
        requires: "`token` or `token_file`",
    },
];

/// A kind of named tables, such as models.
struct Kind {
    table: &'static [&'static str],
    word: &'static str,
    /// Keys of which a new entry has at least one.
    defining_keys: &'static [&'static str],
    /// The defining keys in words.
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
            let defined: BTreeSet<String> = all
                .filter_map(|setting| {
                    let (name, key) = kind.entry(&setting.target)?;
                    kind.defining_keys.contains(&key).then(|| name.to_owned())
                })
                .collect();
            let is_stray = |setting: &Override| {
                let entry = kind.entry(&setting.target);
                entry.is_some_and(|(name, _)| !known.contains(name) && !defined.contains(name))
            };
            let (strays, kept): (Vec<_>, Vec<_>) = overrides.drain(..).partition(is_stray);
            *overrides = kept;
            let names: Vec<&str> = known.iter().map(String::as_str).collect();
            let mut reported = BTreeSet::new();
            for stray in strays {
                let entry = kind.entry(&stray.target);
                let name = entry.map_or("", |(name, _)| name);
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

    /// Returns the name of the entry and the key that `target` sets, if it is an entry of this kind.
    fn entry<'a>(&self, target: &'a Target) -> Option<(&'a str, &'a str)> {
        let Target::Key(address) = target else {
            return None;
        };
        match address.parts().strip_prefix(self.address().parts())? {
            [name, key, ..] => Some((name, key)),
            _ => None,
        }
    }
}
