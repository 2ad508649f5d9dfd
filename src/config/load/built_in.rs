//! The built-in defaults.

use serde_json::Value;

use crate::config::file::ConfigFile;
use crate::config::validate::plain;

/// Returns the built-in value of `key` of a server or a model, as a flag would spell it; `None` if there is none.
pub(crate) fn built_in_value(key: &str) -> Option<String> {
    let tree = defaults();
    let mut tables = ["server", "defaults"].iter();
    match tables.find_map(|table| tree[table].get(key))? {
        Value::String(text) => Some(text.clone()),
        number @ Value::Number(_) => Some(plain(number)),
        _ => None,
    }
}

/// Returns the tree of the built-in defaults. Keys without a default are missing.
pub(super) fn defaults() -> Value {
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
