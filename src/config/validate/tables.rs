//! Suggests replacements for unknown tables, and for values where a table belongs. Pure.

use serde_json::Value;

use super::dotted::{allowed_name, has_word, is_group};
use super::{ConfigSchema, Meant};
use crate::config::address::Address;
use crate::config::foreign;

/// Returns what was probably meant by the unknown `key` of the table at `address`, judging by its `value` and the file `root`.
pub(super) fn meant(
    schema: &ConfigSchema,
    address: &Address,
    key: &str,
    value: &Value,
    root: &Value,
) -> Option<Meant> {
    if address.parts().is_empty() {
        return of_file(schema, key, value);
    }
    if let [table, name] = address.parts()
        && table == "models"
        && let Value::String(model) = value
    {
        return profile(address, name, model, root);
    }
    let table = value.as_object()?;
    let is_tool = address.parts().first()? == "tools" && address.parts().len() == 2;
    let keys = schema.suggested_keys(address);
    let here: Option<Vec<&str>> = table
        .iter()
        .filter(|(_, value)| !value.is_object())
        .map(|(key, _)| own_key(&keys, key))
        .collect();
    let here = here.filter(|here| !here.is_empty() && here.len() == table.len());
    if let Some(here) = here {
        let written: Vec<String> = here.iter().map(|key| format!("`{key}`")).collect();
        let hint = format!(
            "write its keys in `[{address}]` itself: {}",
            written.join(", ")
        );
        return Some(Meant {
            hint,
            address: None,
        });
    }
    let of_schema = table.get("properties").and_then(Value::as_object);
    if !is_tool || !is_arguments(key) {
        return None;
    }
    let named = of_schema.unwrap_or(table).keys().next();
    let named = named.map_or("NAME", String::as_str);
    let hint =
        format!("use `arguments`, with a table for each argument: `[{address}.arguments.{named}]`");
    let address = Some(address.join("arguments"));
    Some(Meant { hint, address })
}

/// Returns the key among `keys` that is called `key`, here or in another program.
fn own_key<'a>(keys: &[&'a str], key: &str) -> Option<&'a str> {
    let find = |wanted: &str| keys.iter().find(|known| **known == wanted).copied();
    find(key).or_else(|| find(foreign::find(key)?.key?))
}

/// Returns whether other programs declare the arguments of a tool in a table of this name.
fn is_arguments(key: &str) -> bool {
    let words = [
        "arg", "input", "param", "propert", "variable", "field", "schema",
    ];
    has_word(key, &words) && !key.to_lowercase().contains("output")
}

/// Returns the suggestion for the table of a model at `address` that names another `model` of the file `root` instead of a file.
fn profile(address: &Address, name: &str, model: &str, root: &Value) -> Option<Meant> {
    let models = root["models"].as_object()?;
    let is_alias = |settings: &Value| {
        let mut aliases = settings["aliases"].as_array().into_iter().flatten();
        aliases.any(|alias| alias == model)
    };
    let is_model = model != name && (models.contains_key(model) || models.values().any(is_alias));
    is_model.then(|| Meant {
        hint: format!(
            "to use a model with other settings, write `[tools.{name}]` with `kind = \"chat\"` and `model = {}`",
            Value::from(model)
        ),
        address: Some(address.join("path")),
    })
}

/// Returns the suggestion for an unknown top-level table.
fn of_file(schema: &ConfigSchema, key: &str, value: &Value) -> Option<Meant> {
    let table = value.as_object();
    let plain: String = key
        .to_lowercase()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    let under = |tables: &str| {
        let inner = table.into_iter().flatten();
        let mut names = inner
            .filter(|(_, value)| value.is_object())
            .map(|(name, _)| allowed_name(name));
        entry(tables, &names.next().unwrap_or_default())
    };
    match plain.as_str() {
        "mcpservers" | "mcp" => {
            let hint = "an MCP client has such a table in its own file; here, write `[models.NAME]` with a `path` for each model, and `[tools.NAME]` for each tool";
            let address = Some(Address::new(["models"]));
            return Some(Meant {
                hint: hint.into(),
                address,
            });
        }
        "model" if value.is_object() || value.is_array() => return Some(under("models")),
        "tool" | "prompts" | "prompt" if value.is_object() || value.is_array() => {
            return Some(under("tools"));
        }
        _ => {}
    }
    let table = table.filter(|_| !is_group(key))?;
    let has_key = |tables: &str, wanted: &[&str]| {
        let keys = schema.keys(&Address::new([tables, "NAME"]));
        let mut inner = table.keys();
        inner.any(|key| own_key(&keys, key).is_some_and(|key| wanted.contains(&key)))
    };
    let is_one_of =
        |tables: &'static str, wanted: &[&str]| has_key(tables, wanted).then_some(tables);
    let tables =
        is_one_of("tools", &["prompt", "kind"]).or_else(|| is_one_of("models", &["path"]))?;
    Some(entry(tables, &allowed_name(key)))
}

/// Returns the suggestion to write `[tables.name]`.
fn entry(tables: &str, name: &str) -> Meant {
    let tables = Address::new([tables]);
    let name = if name.is_empty() { "NAME" } else { name };
    Meant {
        hint: format!("write `[{tables}.{name}]`"),
        address: Some(tables.join(name)),
    }
}

/// Returns the hint for the array `found` at `address`, where a table belongs.
pub(super) fn instead_of_array(address: &Address, found: &Value) -> Option<String> {
    let items = found.as_array()?;
    let first = items.first();
    match address.parts() {
        [tables] if tables == "models" || tables == "tools" => {
            let keys = ["name", "id", "model"];
            let name = first.and_then(|item| keys.iter().find_map(|key| item[*key].as_str()));
            let name = name.map(allowed_name).filter(|name| !name.is_empty());
            let name = name.as_deref().unwrap_or("NAME");
            let with = if tables == "models" {
                "with a `path` for each model"
            } else {
                "for each tool"
            };
            Some(format!("write a table `[{tables}.{name}]` {with}"))
        }
        _ if first.is_some_and(Value::is_object) => {
            Some(format!("write `[{address}]`, with single brackets"))
        }
        _ => None,
    }
}
