//! Translates names of other programs: llama.cpp's server, Ollama, llama-swap, LM Studio and vLLM. People who move from them use these
//! names in files, flags and variables. Pure.

mod table;
mod value;

use super::address::Address;
use super::shape::Shape;
use table::TABLE;
pub(super) use value::{hint as value_hint, switch};

/// The names of one setting in other programs, and its key here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// The names; spellings with `-`, with `_` and in camel case are equivalent.
    names: &'static [&'static str],
    /// The key here, with its table unless it is a key of models; `None` if there is no such key.
    pub key: Option<&'static str>,
    /// The difference to the other programs, or the reason why there is no key.
    pub note: &'static str,
}

/// Returns the meaning of `name`, if other programs use this name.
pub fn find(name: &str) -> Option<&'static Meaning> {
    let name = plain(name);
    let called = |meaning: &&Meaning| meaning.names.iter().any(|known| plain(known) == name);
    TABLE.iter().find(called)
}

impl Meaning {
    /// Returns the hint for an unknown key in a table that has the `keys`.
    pub(super) fn hint(&self, keys: &[&str]) -> String {
        let Some(key) = self.key else {
            return self.note.to_owned();
        };
        let here = match key.split_once('.') {
            _ if keys.contains(&key) => format!("use `{key}`"),
            Some((_, key)) if keys.contains(&key) => format!("use `{key}`"),
            Some((table, key)) => format!("use `{key}` in `[{table}]`"),
            None => format!("use `{key}` in `[models.NAME]` or `[defaults]`"),
        };
        join(&here, self.note)
    }

    /// Returns the address of the key (in `[defaults]` for a key of models); `None` if there is no key.
    pub fn address(&self) -> Option<Address> {
        let key = self.key?;
        let (table, key) = key.split_once('.').unwrap_or(("defaults", key));
        Some(Address::of([table, key]))
    }
}

/// Joins what to use here and the note about it.
pub fn join(here: &str, note: &str) -> String {
    if note.is_empty() {
        here.to_owned()
    } else {
        format!("{here}: {note}")
    }
}

/// Returns `name` in lower case and without separators, to compare spellings.
fn plain(name: &str) -> String {
    let letters = name.chars().filter(|letter| !"-_ .".contains(*letter));
    letters.flat_map(char::to_lowercase).collect()
}

/// Returns the hint for the unknown `key` of the table at `table`, if it is a name of another program or a key of another table.
pub(super) fn key_hint(shape: &Shape, table: &Address, key: &str) -> Option<String> {
    let keys = shape.keys(table);
    if let Some(meaning) = find(key) {
        return Some(meaning.hint(&keys));
    }
    let tables = [
        ("server", "[server]"),
        ("log", "[log]"),
        ("registry", "[registry]"),
        ("defaults", "[models.NAME]` or `[defaults]"),
    ];
    let key = key.replace('-', "_");
    let home = tables.iter().find(|(name, _)| {
        let other = Address::of([*name]);
        other != *table && !keys.contains(&&*key) && shape.knows(&other.join(&*key))
    })?;
    Some(format!("`{key}` is a key of `{}`", home.1))
}

#[cfg(test)]
mod tests;
