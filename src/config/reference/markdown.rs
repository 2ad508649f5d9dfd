//! The page of the documentation that lists every key.

use std::fmt::Write;

use super::in_toml;
use crate::config::address::Address;
use crate::config::validate::ConfigSchema;

const HEAD: &str = "\
# Configuration: every key

`llama-mcp-server config reference` prints this page. `llama-mcp-server config init` prints the same as a file to start with, and
`llama-mcp-server config schema` as a JSON Schema for editors. [Configuration](configuration.md) explains how files, variables and flags are
combined, and how [sizes and times](configuration.md#sizes-and-times) are written.

The column `edit` says when an edit of a key takes effect while the server runs ([Edits are live](configuration.md#edits-are-live)).
";

/// The headings of the tables, each with the address of one such table.
const TABLES: [(&str, &[&str]); 8] = [
    ("server", &["server"]),
    ("server.tokens.NAME", &["server", "tokens", "alice"]),
    ("log", &["log"]),
    ("registry", &["registry"]),
    ("defaults", &["defaults"]),
    ("models.NAME", &["models", "small"]),
    ("tools.NAME", &["tools", "summarise"]),
    (
        "tools.NAME.arguments.NAME",
        &["tools", "summarise", "arguments", "text"],
    ),
];

/// Returns all keys by table, as Markdown.
pub(crate) fn markdown() -> String {
    let schema = ConfigSchema::default();
    let mut text = String::from(HEAD);
    for (name, parts) in TABLES {
        let table = Address::new(parts.iter().copied());
        write!(text, "\n## `[{name}]`\n").expect("a string takes all");
        if let Some(about) = about(&schema, &table) {
            write!(text, "\n{about}\n").expect("a string takes all");
        }
        if name == "defaults" {
            text.push_str("\nThis table accepts all keys of [`[models.NAME]`](#modelsname).\n");
            continue;
        }
        text.push_str("\n| key | default | edit | |\n| --- | --- | --- | --- |\n");
        for key in schema.keys(&table) {
            row(&mut text, &schema, key, &table.join(key));
        }
    }
    text
}

/// Returns the description of `table`, or of the table that holds all of its kind.
fn about<'schema>(schema: &'schema ConfigSchema, table: &Address) -> Option<&'schema str> {
    let own = schema.description(table);
    own.or_else(|| schema.description(&table.parent()?))
}

fn row(text: &mut String, schema: &ConfigSchema, key: &str, address: &Address) {
    let default = if schema.has_default(address) {
        format!("`{}`", in_toml(&schema.example(address)))
    } else {
        "none".into()
    };
    let mut about = schema.description(address).unwrap_or_default().to_owned();
    if let Some(range) = schema.range(address) {
        write!(about, " From {range}.").expect("a string takes all");
    }
    let effect = schema.effect(address);
    let effect = effect.map(|effect| effect.to_string()).unwrap_or_default();
    let cell = |text: String| text.replace('|', "\\|").replace('\n', " ");
    let (default, about) = (cell(default), cell(about));
    writeln!(text, "| `{key}` | {default} | {effect} | {about} |").expect("a string takes all");
}
