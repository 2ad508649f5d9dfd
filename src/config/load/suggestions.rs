//! Suggestions for unknown environment variables. Pure.

use crate::config::VARIABLE_PREFIX;
use crate::config::address::Address;
use crate::config::file::OF_ONE_MODEL;
use crate::config::foreign;
use crate::config::validate::{ConfigSchema, nearest};

/// Names that other programs give to the variable with the path of the model.
const MODEL_NAMES: [&str; 7] = [
    "model",
    "models",
    "model_path",
    "models_path",
    "model_file",
    "gguf",
    "path",
];

/// Likely names of tables in variables, and the addresses of these tables.
const TABLES: [(&str, &[&str]); 4] = [
    ("model", &["models"]),
    ("tool", &["tools"]),
    ("token", &["server", "tokens"]),
    ("tokens", &["server", "tokens"]),
];

/// Maximum number of words of a variable. Longer ones get no suggestion, since the search is exponential.
const MAX_WORDS: usize = 32;

/// Returns the variable for `name`, which is a key of `[log]` or `[registry]` without its table.
pub(super) fn own_variable(schema: &ConfigSchema, name: &str) -> Option<String> {
    let name = name.to_lowercase();
    let tables = ["log", "registry"];
    let addresses = tables.map(|table| Address::new([table, &*name]));
    let address = addresses.iter().find(|address| schema.knows(address))?;
    Some(variable(address.parts()))
}

/// Returns the variable that was probably meant by the unknown one that ends in `name`.
pub(super) fn meant_variable(schema: &ConfigSchema, name: &str) -> Option<String> {
    let name = name.to_lowercase();
    if MODEL_NAMES.contains(&name.as_str()) {
        return Some(variable(["models", "name", "path"]));
    }
    let words: Vec<&str> = name.split('_').filter(|word| !word.is_empty()).collect();
    translated(&name)
        .or_else(|| separated(schema, &words))
        .or_else(|| similar(schema, &name))
}

/// Returns the variable for `name`, whose last part is a key of another program.
fn translated(name: &str) -> Option<String> {
    let (table, key) = name.rsplit_once("__").unwrap_or(("", name));
    let here = foreign::find(key)?.key?;
    Some(match here.split_once('.') {
        None if table.starts_with("models__") => variable([table, here]),
        None if OF_ONE_MODEL.contains(&here) => variable(["models", "name", here]),
        None => variable([here]),
        Some(("tools", key)) => variable(["tools", "name", key]),
        Some((table, key)) => variable([table, key]),
    })
}

/// Returns the variable for the key that `words` spell, with two underscores after each table.
fn separated(schema: &ConfigSchema, words: &[&str]) -> Option<String> {
    let (first, rest) = words.split_first()?;
    let alias = TABLES.iter().find(|(name, _)| name == first);
    let aliased =
        alias.and_then(|(_, table)| key_of(schema, &Address::new(table.iter().copied()), rest));
    let address = aliased.or_else(|| key_of(schema, &Address::default(), words))?;
    Some(variable(address.parts()))
}

/// Returns the key below `table` that `words` spell. The name of a model may have several words, so the first split that leads to a key wins.
fn key_of(schema: &ConfigSchema, table: &Address, words: &[&str]) -> Option<Address> {
    if words.len() > MAX_WORDS {
        return None;
    }
    if words.is_empty() {
        return schema.is_value(table).then(|| table.clone());
    }
    (1..=words.len()).find_map(|count| {
        let (name, rest) = words.split_at(count);
        let address = table.join(name.join("_"));
        let is_key = schema.is_table(table) && schema.knows(&address);
        is_key.then(|| key_of(schema, &address, rest)).flatten()
    })
}

/// Returns the known variable whose name is most similar to `name`.
fn similar(schema: &ConfigSchema, name: &str) -> Option<String> {
    let keys = |table: &str| schema.keys(&Address::new([table]));
    let is_for_all = |key: &&str| !OF_ONE_MODEL.contains(key);
    let for_all = keys("defaults").into_iter().filter(is_for_all);
    let mut known: Vec<String> = for_all.chain(keys("server")).map(str::to_owned).collect();
    for table in ["server", "log", "registry", "defaults"] {
        known.extend(keys(table).iter().map(|key| format!("{table}__{key}")));
    }
    let (table, key) = name.rsplit_once("__").unwrap_or(("", name));
    if table.starts_with("models__") {
        return Some(variable([table, nearest(key, &keys("defaults"))?]));
    }
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    Some(variable([nearest(name, &known)?]))
}

/// Returns the name of the variable for the key at `parts`.
fn variable<T: AsRef<str>>(parts: impl IntoIterator<Item = T>) -> String {
    let parts: Vec<String> = parts
        .into_iter()
        .map(|part| part.as_ref().to_uppercase())
        .collect();
    format!("{VARIABLE_PREFIX}{}", parts.join("__"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_even_if_its_underscores_are_wrong() {
        let schema = ConfigSchema::default();
        let meant = |name: &str| meant_variable(&schema, name).unwrap_or_default();
        for (name, expected) in [
            ("MODEL", "LLAMA_MCP_MODELS__NAME__PATH"),
            ("MODEL_PATH", "LLAMA_MCP_MODELS__NAME__PATH"),
            ("MODELS_SMALL_PATH", "LLAMA_MCP_MODELS__SMALL__PATH"),
            ("MODEL__SMALL__PATH", "LLAMA_MCP_MODELS__SMALL__PATH"),
            ("MODELS_MY_CODER_N_CTX", "LLAMA_MCP_MODELS__MY_CODER__N_CTX"),
            ("SERVER_PORT", "LLAMA_MCP_SERVER__PORT"),
            ("REGISTRY_MAX_LOADED", "LLAMA_MCP_REGISTRY__MAX_LOADED"),
            (
                "TOKEN_BOB_TOKEN_FILE",
                "LLAMA_MCP_SERVER__TOKENS__BOB__TOKEN_FILE",
            ),
            ("TOOLS_ASK_PROMPT", "LLAMA_MCP_TOOLS__ASK__PROMPT"),
            ("N__CTX", "LLAMA_MCP_N_CTX"),
            ("", ""),
        ] {
            assert_eq!(meant(name), expected, "{name}");
        }
        let long = ["MODELS", &"X_".repeat(MAX_WORDS), "PATH"].join("_");
        assert_eq!(meant(&long), "");
    }
}
