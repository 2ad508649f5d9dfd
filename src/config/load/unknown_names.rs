//! Variables and `--set` that name a model or a tool which nobody has: a typing error would otherwise make a new one.

use std::collections::BTreeSet;

use super::Layers;
use super::overrides::{Said, Target};
use crate::config::address::Address;
use crate::config::problem::Origin;
use crate::config::validate::nearest;

/// The tables whose names can be mistyped, with the keys of which a new entry has at least one, and with these keys in words.
const KINDS: [Kind; 2] = [
    Kind {
        table: "models",
        word: "model",
        makes: &["path"],
        needs: "`path`",
    },
    Kind {
        table: "tools",
        word: "tool",
        makes: &["prompt", "kind"],
        needs: "`prompt`, or `kind = \"chat\"`",
    },
];

struct Kind {
    table: &'static str,
    word: &'static str,
    makes: &'static [&'static str],
    needs: &'static str,
}

impl Layers {
    /// Removes the values of models and tools that do not exist and that no value of `said` or `others` makes whole. Reports each of these
    /// models and tools once.
    pub(super) fn remove_strays(&mut self, said: &mut Vec<Said>, others: &[Said]) {
        let has_path = self.is_said(&Address::of(["defaults", "path"]));
        // Without a file, the check of the model has the hint about `path`.
        let is_checked = |kind: &&Kind| kind.table == "tools" || (self.file.is_some() && !has_path);
        let kinds: Vec<&Kind> = KINDS.iter().filter(is_checked).collect();
        if self.is_incomplete() {
            return;
        }
        for kind in kinds {
            let known = self.names_in(kind.table);
            let all = said.iter().chain(others);
            let made: BTreeSet<String> = all
                .filter_map(|said| {
                    let (name, key) = kind.entry(&said.target)?;
                    kind.makes.contains(&key).then(|| name.to_owned())
                })
                .collect();
            let is_stray = |said: &Said| {
                let entry = kind.entry(&said.target);
                entry.is_some_and(|(name, _)| !known.contains(name) && !made.contains(name))
            };
            let (strays, kept): (Vec<_>, Vec<_>) = said.drain(..).partition(is_stray);
            *said = kept;
            let names: Vec<&str> = known.iter().map(String::as_str).collect();
            let mut told = BTreeSet::new();
            for stray in strays {
                let entry = kind.entry(&stray.target);
                let name = entry.map_or("", |(name, _)| name);
                if told.insert(name.to_owned()) {
                    self.report_stray(stray.origin, name, kind, &names);
                }
            }
        }
    }

    fn report_stray(&mut self, origin: Origin, name: &str, kind: &Kind, known: &[&str]) {
        let address = Address::of([kind.table, name]);
        if self.is_refused(&address) {
            return;
        }
        let needs = format!("a new {} requires {}", kind.word, kind.needs);
        let hint = match nearest(name, known) {
            Some(near) => format!("did you mean the {} `{near}`? If not: {needs}", kind.word),
            None => needs,
        };
        let message = format!("there is no {} `{name}`", kind.word);
        self.problem(origin, Some(&address), message, Some(hint));
    }
}

impl Kind {
    /// Returns the name of the entry and the key that `target` is, if it is one of this kind.
    fn entry<'a>(&self, target: &'a Target) -> Option<(&'a str, &'a str)> {
        match target {
            Target::One(address) => match address.parts() {
                [table, name, key, ..] if table == self.table => Some((name, key)),
                _ => None,
            },
            Target::EveryModel(_) => None,
        }
    }
}
