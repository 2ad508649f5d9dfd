//! The configuration as text: the annotated file with every key, the same as a page of the documentation, and the effective configuration.
//! All are generated from the schema, so no key can be missing.

mod markdown;

use std::fmt::Write;

use serde_json::Value;

use super::address::Address;
use super::load::Layers;
use super::validate::ConfigSchema;
pub(crate) use markdown::markdown;

const HEAD: &str = "\
#:schema llama-mcp-server.schema.json
#
# llama-mcp-server: every key. The value of a commented key is its default or, if the key has no default, an example.
#
# Any text can contain ${env:NAME}, ${env:NAME:-default} and ${file:PATH}; write $${ for a literal ${. Relative paths start
# from the folder of this file. Environment variables and flags override any key:
#
#     LLAMA_MCP_SERVER__PORT=9000            --set server.port=9000
#     LLAMA_MCP_MODELS__SMALL__N_CTX=8192    --set models.small.n_ctx=8192
#     LLAMA_MCP_N_CTX=8192                   --n_ctx 8192                     (for all models)
#
# `llama-mcp-server config check` reports all errors. `llama-mcp-server config schema > llama-mcp-server.schema.json` creates
# the JSON Schema with which editors complete and check this file.
";

/// Required keys, which have no default.
const NEEDED: [&str; 2] = ["path", "prompt"];

/// Returns the annotated file.
pub(crate) fn text() -> String {
    let schema = ConfigSchema::default();
    let mut text = String::from(HEAD);
    for table in ["server", "log", "registry", "defaults"] {
        let address = Address::new([table]);
        section(&mut text, &schema, table, &address);
        if table == "defaults" {
            text.push_str("\n# This table accepts all keys of a model, which are listed below.\n");
        } else {
            keys(&mut text, &schema, &address);
        }
        if table == "server" {
            let tokens = address.join("tokens");
            // A token without keys would be an error.
            text.push('\n');
            comment(&mut text, schema.description(&tokens).unwrap_or_default());
            text.push_str("# [server.tokens.alice]\n");
            keys(&mut text, &schema, &tokens.join("alice"));
        }
    }
    for (table, name) in [("models", "small"), ("tools", "summarise")] {
        let address = Address::new([table, name]);
        section(
            &mut text,
            &schema,
            &format!("{table}.{name}"),
            &Address::new([table]),
        );
        keys(&mut text, &schema, &address);
    }
    let arguments = Address::new(["tools", "summarise", "arguments"]);
    section(
        &mut text,
        &schema,
        "tools.summarise.arguments.text",
        &arguments,
    );
    keys(&mut text, &schema, &arguments.join("text"));
    text
}

fn section(text: &mut String, schema: &ConfigSchema, name: &str, address: &Address) {
    text.push('\n');
    comment(text, schema.description(address).unwrap_or_default());
    writeln!(text, "[{name}]").expect("a string takes all");
}

fn keys(text: &mut String, schema: &ConfigSchema, table: &Address) {
    // These have tables of their own.
    for key in schema
        .keys(table)
        .into_iter()
        .filter(|key| !["arguments", "tokens"].contains(key))
    {
        let address = table.join(key);
        text.push('\n');
        let mut words = schema.description(&address).unwrap_or_default().to_owned();
        if let Some(range) = schema.range(&address) {
            write!(words, " From {range}.").expect("a string takes all");
        }
        let is_needed = NEEDED.contains(&key);
        // The description says what applies instead.
        if !is_needed && !schema.has_default(&address) {
            words.push_str(" No default; for example:");
        }
        comment(text, &words);
        let value = schema.example(&address);
        let mark = if is_needed { "" } else { "# " };
        writeln!(text, "{mark}{key} = {}", in_toml(&value)).expect("a string takes all");
    }
}

/// Longest line of a comment, in characters.
const WIDTH: usize = 118;

fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = "#".into();
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

/// The parts of a configuration to show. Secrets are always left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// The values.
    Values,
    /// The values, and where each comes from.
    Origins,
    /// The values, with prompts and descriptions replaced by their lengths.
    ForOthers,
}

/// Returns the merged configuration.
pub(crate) fn effective(layers: &Layers, view: View) -> String {
    let merged = layers.effective();
    let mut text = String::new();
    for table in ["server", "log", "registry"] {
        table_of_values(&mut text, layers, &Address::new([table]), &merged, view);
    }
    for tables in [["server", "tokens"].as_slice(), &["models"], &["tools"]] {
        let tables = Address::new(tables.iter().copied());
        let names = tables.get(&merged).and_then(Value::as_object);
        for (name, _) in names.into_iter().flatten() {
            table_of_values(&mut text, layers, &tables.join(name), &merged, view);
        }
    }
    text.trim_start().to_owned()
}

fn table_of_values(
    text: &mut String,
    layers: &Layers,
    table: &Address,
    merged: &Value,
    view: View,
) {
    writeln!(text, "\n[{table}]").expect("a string takes all");
    for key in layers.schema.keys(table) {
        let address = table.join(key);
        if address == Address::new(["server", "tokens"]) {
            continue;
        }
        let Some(value) = address.get(merged).filter(|value| !value.is_null()) else {
            continue;
        };
        if layers.schema.is_secret(&address) && layers.written(&address).is_none() {
            write!(text, "# {key} = \"***\"")
        } else {
            let value = match view {
                View::Values | View::Origins => layers.as_written(&address, value),
                View::ForOthers => without_prompts(key, layers.as_written(&address, value)),
            };
            write!(text, "{key} = {}", in_toml(&value))
        }
        .expect("a string takes all");
        if view == View::Origins {
            let (origin, at) = layers.origin_of(&address);
            write!(text, "  # {}", origin.position_of(&at)).expect("a string takes all");
        }
        text.push('\n');
    }
}

/// Keys with texts that users write, such as prompts, and those of schemas.
const PROMPTS: [&str; 14] = [
    "chat_template",
    "choices",
    "const",
    "default",
    "description",
    "enum",
    "examples",
    "pattern",
    "prompt",
    "prompt_suffix",
    "stop",
    "system",
    VARIABLES,
    "title",
];

/// The key with the variables of a chat template.
const VARIABLES: &str = "template_arguments";

/// Returns `value` of `key` with all prompts in it replaced by their lengths.
fn without_prompts(key: &str, value: Value) -> Value {
    let table_key = key;
    match value {
        Value::String(text) if PROMPTS.contains(&key) => {
            format!("({} characters)", text.chars().count()).into()
        }
        Value::Array(items) => items
            .into_iter()
            .map(|item| without_prompts(key, item))
            .collect(),
        Value::Object(table) => table
            .into_iter()
            .map(|(key, value)| {
                // A variable's text is hidden whatever its name is.
                let kind = if table_key == VARIABLES {
                    VARIABLES
                } else {
                    &key
                };
                let value = without_prompts(kind, value);
                (key, value)
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        value => value,
    }
}

/// Returns `key` as TOML writes it, quoted if necessary.
fn bare(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !key.is_empty() && key.chars().all(is_bare) {
        key.to_owned()
    } else {
        Value::from(key).to_string()
    }
}

/// Returns `value` in TOML, on one line.
fn in_toml(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let entries: Vec<String> = table
                .iter()
                .map(|(key, value)| format!("{} = {}", bare(key), in_toml(value)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(in_toml).collect();
            format!("[{}]", items.join(", "))
        }
        // JSON's escapes are TOML's too.
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => value.to_string(),
    }
}
