//! The built-in defaults.

use serde_json::{Value, json};

use crate::config::SamplingParams;
use crate::config::file::ConfigFile;
use crate::config::validate::plain;

/// Returns the built-in value of `key` of a server or a model, as a flag would spell it; `None` if there is none.
pub(crate) fn built_in_value(key: &str) -> Option<String> {
    let tree = defaults();
    let mut tables = ["server", "defaults"].iter();
    match tables.find_map(|table| tree[table].get(key)) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(number @ Value::Number(_)) => Some(plain(number)),
        Some(_) => None,
        None => sampling_default(key),
    }
}

/// Returns the default of the sampling parameter `key`, which depends on the answer; `None` if there is none.
fn sampling_default(key: &str) -> Option<String> {
    let value = |is_constrained| {
        let params = json!(SamplingParams::default().for_answer(is_constrained));
        let value = params.get(key).filter(|value| value.is_number());
        value.map(plain)
    };
    Some(format!("{}; {} with a schema", value(false)?, value(true)?))
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
