//! Translates names of other programs: llama.cpp's server, Ollama, llama-swap, LM Studio and vLLM. People who move from them use these
//! names in files, flags and variables. Pure.

mod table;
mod value;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::address::Address;
use super::file::OF_ONE_MODEL;
use table::TABLE;
pub(super) use value::{hint as value_hint, switch};

/// The names of one setting in other programs, and its key here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meaning {
    /// Names in other programs. Spellings with `-`, with `_` and in camel case are equivalent.
    names: &'static [&'static str],
    /// Key in this program, with its table unless it is a key of models; `None` if there is none.
    pub key: Option<&'static str>,
    /// Difference to the other programs, or the reason why there is no key.
    pub note: &'static str,
}

/// The rows of the table by the normalized spelling of each name.
static ROWS: LazyLock<HashMap<String, &Meaning>> = LazyLock::new(|| {
    let names = |row: &'static Meaning| row.names.iter().map(move |name| (normalized(name), row));
    TABLE.iter().flat_map(names).collect()
});

/// Returns the meaning of `name` in other programs; `None` if they do not use it. Variables of llama.cpp are flags with a prefix.
pub(crate) fn find(name: &str) -> Option<&'static Meaning> {
    let name = normalized(name);
    let of_flag = || ROWS.get(name.strip_prefix("llamaarg")?);
    ROWS.get(&name).or_else(of_flag).copied()
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
            Some(("tools", key)) => format!("use `{key}` in `[tools.NAME]`"),
            Some((table, key)) => format!("use `{key}` in `[{table}]`"),
            None if OF_ONE_MODEL.contains(&key) => format!("use `{key}` in `[models.NAME]`"),
            None => format!("use `{key}` in `[models.NAME]` or `[defaults]`"),
        };
        join(&here, self.note)
    }

    /// Returns the address of the key (in `[defaults]` for a key of all models); `None` if there is no key.
    pub(crate) fn address(&self) -> Option<Address> {
        let key = self.key?;
        Some(match key.split_once('.') {
            Some(("tools", key)) => Address::new(["tools", "NAME", key]),
            Some((table, key)) => Address::new([table, key]),
            None if OF_ONE_MODEL.contains(&key) => Address::of_model("NAME", key),
            None => Address::new(["defaults", key]),
        })
    }
}

/// Joins the instruction `here` and the note about it.
pub(crate) fn join(here: &str, note: &str) -> String {
    if note.is_empty() {
        here.to_owned()
    } else {
        format!("{here}: {note}")
    }
}

/// Returns `name` in lower case and without separators, to compare spellings.
fn normalized(name: &str) -> String {
    let letters = name.chars().filter(|letter| !"-_ .".contains(*letter));
    letters.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests;
