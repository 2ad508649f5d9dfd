//! Suggestions for unknown environment variables. Pure.

use crate::config::VARIABLE_PREFIX;
use crate::config::address::Address;
use crate::config::file::OF_ONE_MODEL;
use crate::config::foreign;
use crate::config::validate::{Shape, nearest};

/// Names of variables for the model's file in other programs.
const MODEL_NAMES: [&str; 7] = [
    "model",
    "models",
    "model_path",
    "models_path",
    "model_file",
    "gguf",
    "path",
];

/// Other names of tables in variables, and the addresses of these tables.
const TABLES: [(&str, &[&str]); 4] = [
    ("model", &["models"]),
    ("tool", &["tools"]),
    ("token", &["server", "tokens"]),
    ("tokens", &["server", "tokens"]),
];

/// Most words of a variable that are tried as tables and names.
const MOST_WORDS: usize = 32;

/// Returns the variable for the key of `[log]` or `[registry]` that `name` is, without its table.
pub(super) fn own_variable(shape: &Shape, name: &str) -> Option<String> {
    let name = name.to_lowercase();
    let tables = ["log", "registry"];
    let addresses = tables.map(|table| Address::of([table, &*name]));
    let address = addresses.iter().find(|address| shape.knows(address))?;
    Some(variable(address.parts()))
}

/// Returns the variable that was probably meant by the one that ends in `name`.
pub(super) fn meant_variable(shape: &Shape, name: &str) -> Option<String> {
    let name = name.to_lowercase();
    if MODEL_NAMES.contains(&name.as_str()) {
        return Some(variable(["models", "name", "path"]));
    }
    let words: Vec<&str> = name.split('_').filter(|word| !word.is_empty()).collect();
    translated(&name)
        .or_else(|| separated(shape, &words))
        .or_else(|| similar(shape, &name))
}

/// Returns the variable for the key that the last part of `name` is in another program.
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

/// Returns the variable of a key whose tables and name are `words`, with two underscores after each table.
fn separated(shape: &Shape, words: &[&str]) -> Option<String> {
    let (first, rest) = words.split_first()?;
    let alias = TABLES.iter().find(|(name, _)| name == first);
    let aliased =
        alias.and_then(|(_, table)| key_of(shape, &Address::of(table.iter().copied()), rest));
    let address = aliased.or_else(|| key_of(shape, &Address::default(), words))?;
    Some(variable(address.parts()))
}

/// Returns the key below `table` that `words` spell. A model's name may have several words, so the first split that leads to a key wins.
fn key_of(shape: &Shape, table: &Address, words: &[&str]) -> Option<Address> {
    if words.len() > MOST_WORDS {
        return None;
    }
    if words.is_empty() {
        return shape.is_value(table).then(|| table.clone());
    }
    (1..=words.len()).find_map(|count| {
        let (name, rest) = words.split_at(count);
        let address = table.join(name.join("_"));
        let is_key = shape.is_table(table) && shape.knows(&address);
        is_key.then(|| key_of(shape, &address, rest)).flatten()
    })
}

/// Returns the known variable whose name is most like `name`.
fn similar(shape: &Shape, name: &str) -> Option<String> {
    let keys = |table: &str| shape.keys(&Address::of([table]));
    let of_one = |key: &&str| !OF_ONE_MODEL.contains(key);
    let for_all = keys("defaults").into_iter().filter(of_one);
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
    fn a_key_is_found_whatever_its_underscores_are() {
        let shape = Shape::default();
        let meant = |name: &str| meant_variable(&shape, name).unwrap_or_default();
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
        let long = ["MODELS", &"X_".repeat(MOST_WORDS), "PATH"].join("_");
        assert_eq!(meant(&long), "");
    }
}
