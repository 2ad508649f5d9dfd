//! What other programs call things: llama.cpp's server, Ollama, llama-swap, LM Studio and vLLM. People bring their names along, in
//! files, as flags and in variables. Pure.

mod table;
mod value;

use super::address::Address;
use super::shape::Shape;
use table::TABLE;
pub(super) use value::{hint as value_hint, switch};

/// Names of one thing in other programs, and what it is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// The names; spelling with `-`, with `_` and in camel case is the same.
    names: &'static [&'static str],
    /// The key here, with its table unless that is a model's; `None` if there is none.
    pub key: Option<&'static str>,
    /// What differs, or why there is no key.
    pub note: &'static str,
}

/// Returns what `name`, which another program knows, is here.
pub fn find(name: &str) -> Option<&'static Meaning> {
    let name = plain(name);
    let called = |meaning: &&Meaning| meaning.names.iter().any(|known| plain(known) == name);
    TABLE.iter().find(called)
}

impl Meaning {
    /// Returns the hint for the unknown key of a table that has the `keys`.
    pub(super) fn hint(&self, keys: &[&str]) -> String {
        let Some(key) = self.key else {
            return self.note.to_owned();
        };
        let here = match key.split_once('.') {
            _ if keys.contains(&key) => format!("here it is `{key}`"),
            Some((_, key)) if keys.contains(&key) => format!("here it is `{key}`"),
            Some((table, key)) => format!("here it is `{key}` in `[{table}]`"),
            None => format!("here it is `{key}` of a model, in `[models.NAME]` or `[defaults]`"),
        };
        join(&here, self.note)
    }

    /// Returns the address of the key, for a model's in `[defaults]`; `None` if there is no key.
    pub fn address(&self) -> Option<Address> {
        let key = self.key?;
        let (table, key) = key.split_once('.').unwrap_or(("defaults", key));
        Some(Address::of([table, key]))
    }
}

/// Joins what is to be written and what differs.
pub fn join(here: &str, note: &str) -> String {
    if note.is_empty() {
        here.to_owned()
    } else {
        format!("{here}: {note}")
    }
}

/// A name without its spelling.
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
