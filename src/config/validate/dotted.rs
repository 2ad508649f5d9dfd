//! Suggests valid names for tables with invalid ones, such as `[models.qwen2.5]`, which TOML reads as a table in a table. Pure.

use serde_json::Value;

use super::messages::{ARGUMENT, NAME, allowed, nearest, shown};
use super::{ConfigSchema, Fault};
use crate::config::address::Address;
use crate::config::foreign;

/// Length of the longest suggested name, in characters.
const MAX_NAME: usize = 64;

impl ConfigSchema {
    /// Returns the fault for the invalid `name` of a table inside the table at `address`, in the file `root`.
    pub(super) fn wrong_name(&self, address: &Address, name: &str, root: &Value) -> Fault {
        let names = self
            .at(address)
            .and_then(|schema| schema.get("propertyNames"));
        if let Some(names) = names.filter(|names| names.get("pattern").is_none()) {
            return Fault {
                rule: format!("the key must be {}", allowed(names)),
                found: Some(shown(&name.into())),
                hint: None,
                address: address.join(name),
                is_key: true,
                meant: None,
            };
        }
        let rule = if is_arguments(address) {
            format!("the name must be {ARGUMENT}")
        } else {
            format!("the name must be {NAME}, without `__`")
        };
        let hint = rename(&address.join(name), name, root);
        let proposed = if is_arguments(address) {
            variable_name(name)
        } else {
            allowed_name(name)
        };
        Fault {
            rule,
            found: Some(format!("`{name}`")),
            hint: Some(hint),
            address: address.join(name),
            is_key: true,
            meant: is_arguments(address).then(|| address.join(proposed)),
        }
    }
}

/// Returns the intended name of a table whose name TOML splits at its dots, such as `qwen2.5` for `[models.qwen2.5]`. There, `address` is
/// `models.qwen2`, `key` is `5`, and `written` is the content of the table at `address`. Returns `None` if `key` is not part of a name.
pub(super) fn name(
    schema: &ConfigSchema,
    address: &Address,
    key: &str,
    written: &Value,
) -> Option<String> {
    let [table, first] = address.parts() else {
        return None;
    };
    let marks: &[&str] = match table.as_str() {
        "models" => &["path"],
        "tools" => &["prompt", "kind"],
        _ => return None,
    };
    let mut inner = written[key].as_object()?;
    let known = schema.keys(address);
    let mut name = format!("{first}.{key}");
    // `[models.llama3.2.1]` is a table in a table, too.
    while let Some((key, Value::Object(next))) = inner.iter().next()
        && inner.len() == 1
        && !known.contains(&key.as_str())
    {
        name = format!("{name}.{key}");
        inner = next;
    }
    let translated = |key: &str| foreign::find(key).and_then(|meaning| meaning.key);
    let has_entry_keys = inner.keys().any(|key| {
        marks.contains(&key.as_str()) || translated(key).is_some_and(|key| marks.contains(&key))
    });
    let is_version = key.starts_with(|letter: char| letter.is_ascii_digit());
    let near = translated(key).or_else(|| nearest(key, &known));
    if near.is_some_and(|near| known.contains(&near) && schema.is_table(&address.join(near))) {
        return is_version.then_some(name);
    }
    // The table of the shorter name has no keys of its own, so it is probably not meant.
    let is_only_prefix = || {
        let mut others = written.as_object().into_iter().flatten();
        others.all(|(key, value)| value.is_object() && !known.contains(&key.as_str()))
    };
    let is_part = has_entry_keys || is_version || (is_only_prefix() && !is_group(key));
    is_part.then_some(name)
}

/// Returns whether other programs group settings in tables of this name.
pub(super) fn is_group(key: &str) -> bool {
    let groups = [
        "option",
        "param",
        "sampl",
        "setting",
        "generation",
        "inference",
        "config",
        "default",
        "arg",
        "input",
        "field",
        "propert",
        "variable",
        "structured",
        "schema",
        "filter",
    ];
    has_word(key, &groups)
}

/// Returns whether a word of `key` begins with one of `starts`.
pub(super) fn has_word(key: &str, starts: &[&str]) -> bool {
    let key = key.to_lowercase();
    let mut words = key.split(['_', '-']);
    words.any(|word| starts.iter().any(|start| word.starts_with(start)))
}

/// Returns the hint for the invalid `name` of the table at `address` in the file `root`. It suggests a name that is not taken.
pub(super) fn rename(address: &Address, name: &str, root: &Value) -> String {
    let table = address.parts().first().map_or("", String::as_str);
    if address.parent().is_some_and(|table| is_arguments(&table)) {
        return match variable_name(name) {
            proposed if proposed.is_empty() => "choose another name".to_owned(),
            proposed => {
                let taken = address.parent().and_then(|table| table.get(root).cloned());
                format!("write `{}`", unique(proposed, &taken.unwrap_or_default()))
            }
        };
    }
    let proposed = unique(allowed_name(name), &root[table]);
    match table {
        _ if proposed.is_empty() => "choose another name".to_owned(),
        "models" => format!(
            "write `[models.{proposed}]`, and keep the original name with `aliases = [{}]`",
            Value::from(name)
        ),
        "tools" if address.parts().len() == 2 => format!("write `[tools.{proposed}]`"),
        // An invalid name among the tokens may be a secret.
        "server" => "choose another name".to_owned(),
        _ => format!("write `{proposed}`"),
    }
}

/// Returns `name`, with a number appended if `taken` has it already.
fn unique(name: String, taken: &Value) -> String {
    let is_free = |name: &str| taken.get(name).is_none();
    if name.is_empty() || is_free(&name) {
        return name;
    }
    let stem: String = name.chars().take(MAX_NAME - 4).collect();
    let mut numbered = (2..1000).map(|number| format!("{stem}_{number}"));
    numbered.find(|name| is_free(name)).unwrap_or(name)
}

/// Returns whether the table at `address` holds the arguments of a tool.
fn is_arguments(address: &Address) -> bool {
    matches!(address.parts(), [tools, _, arguments] if tools == "tools" && arguments == "arguments")
}

/// Converts `name` to a valid name of a model or a tool, such as `qwen2_5` for `qwen2.5`. Returns an empty string if no character is valid.
pub(super) fn allowed_name(name: &str) -> String {
    joined(name, |letter| {
        letter.is_ascii_alphanumeric() || letter == '-'
    })
}

/// Converts `name` to a valid name of an argument, such as `_2nd_text` for `2nd text`.
fn variable_name(name: &str) -> String {
    let name = joined(name, |letter| letter.is_ascii_alphanumeric());
    if name.starts_with(|letter: char| letter.is_ascii_digit()) {
        return format!("_{name}").chars().take(MAX_NAME).collect();
    }
    name
}

/// Joins the allowed parts of `name` with `_`.
fn joined(name: &str, is_allowed: fn(char) -> bool) -> String {
    let words = name.split(|letter: char| !is_allowed(letter));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join("_").chars().take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn any_name_is_converted_to_an_allowed_one() {
        let names = ["qwen2.5:7b", "org/repo (new)", "a__b", "größe", "日本"].map(allowed_name);
        assert_eq!(names, ["qwen2_5_7b", "org_repo_new", "a_b", "gr_e", ""]);
        let names = ["user-name", "2nd", "a.b", "Über"].map(variable_name);
        assert_eq!(names, ["user_name", "_2nd", "a_b", "ber"]);
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let taken = json!({"a_b": {}, "a_b_2": {}});
        assert_eq!(unique("a_b".into(), &taken), "a_b_3");
        assert_eq!(unique("a".into(), &taken), "a");
    }
}
