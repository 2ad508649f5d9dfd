//! Unknown keys and invalid names, and what was probably meant.

use serde_json::Value;

use super::words::{NAME, nearest, similar};
use super::{Fault, Shape};
use crate::config::address::Address;
use crate::config::foreign;

/// Longest suggested name, in characters.
const MAX_NAME: usize = 64;

impl Shape {
    /// Returns the fault of the unknown `key` in the table `written` at `address`.
    pub(super) fn unknown_key(&self, address: &Address, key: &str, written: &Value) -> Fault {
        let keys = self.keys(address);
        let known = foreign::key_hint(self, address, key)
            .or_else(|| nearest(key, &keys).map(|name| format!("did you mean `{name}`?")));
        let fault = |allowed, meant, hint| Fault {
            address: address.join(key),
            is_key: true,
            meant,
            allowed,
            found: None,
            hint: Some(hint),
        };
        let unknown = |hint| fault(format!("unknown key `{key}`"), None, hint);
        if let Some(hint) = known {
            return unknown(hint);
        }
        let Some(name) = dotted_name(address, key, &written[key]) else {
            return unknown(similar(key, &keys));
        };
        let message =
            format!("TOML reads the dot in `{name}` as a table `{key}` inside `[{address}]`");
        let meant = address.parent().map(|tables| tables.join(&name));
        fault(message, meant, rename(address, &name))
    }

    /// Returns the fault of the `name` of a table in the table of tables at `address`.
    pub(super) fn wrong_name(address: &Address, name: &str) -> Fault {
        Fault {
            allowed: format!("the name must be {NAME}, without `__`"),
            found: Some(format!("`{name}`")),
            hint: Some(rename(&address.join(name), name)),
            address: address.join(name),
            is_key: true,
            meant: None,
        }
    }
}

/// Returns the intended name of a table such as `[models.qwen2.5]`: the name of the table at `address`, `key`, and the names of the tables in
/// `value`, joined with dots. Returns `None` if `key` is not part of a name.
fn dotted_name(address: &Address, key: &str, value: &Value) -> Option<String> {
    let [table, name] = address.parts() else {
        return None;
    };
    if !["models", "tools"].contains(&table.as_str()) || !value.is_object() {
        return None;
    }
    let mut name = format!("{name}.{key}");
    let mut inner = value.as_object();
    // `[models.llama3.2.1]` is a table in a table, too.
    while let Some((key, value)) = inner.filter(|keys| keys.len() == 1)?.iter().next()
        && value.is_object()
    {
        name = format!("{name}.{key}");
        inner = value.as_object();
    }
    Some(name)
}

/// Returns how to write the invalid `name` of the table at `address`.
fn rename(address: &Address, name: &str) -> String {
    let table = address.parts().first().map_or("", String::as_str);
    let proposed = allowed_name(name);
    match table {
        _ if proposed.is_empty() => "choose another name".to_owned(),
        "models" => format!(
            "write `[models.{proposed}]`, and keep the original name with `aliases = [{}]`",
            Value::from(name)
        ),
        "tools" if address.parts().len() == 2 => format!("write `[tools.{proposed}]`"),
        // A wrong name among the tokens may be a secret.
        "server" => "choose another name".to_owned(),
        _ => format!("write `{proposed}`"),
    }
}

/// Returns the allowed name that is most like `name`.
fn allowed_name(name: &str) -> String {
    let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let words = name.split(|letter: char| !is_allowed(letter));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join("_").chars().take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowed_name_is_made_of_any_name() {
        let names = ["qwen2.5:7b", "org/repo (new)", "a__b", "größe", "日本"].map(allowed_name);
        assert_eq!(names, ["qwen2_5_7b", "org_repo_new", "a_b", "gr_e", ""]);
    }
}
