//! Merges all layers into the effective configuration.
//!
//! `figment` merges the trees: tables key by key, and any other value is replaced by that of the higher layer. It does nothing
//! else: each layer is read and checked before the merge, while values still have their place in the file. Provenance therefore comes from
//! the layers themselves ([`Layers::origin_of`]), not from figment's metadata.

use figment::Figment;
use figment::providers::Serialized;
use serde_json::{Map, Value};

use super::Layers;
use crate::config::address::Address;
use crate::config::file::ConfigFile;
use crate::config::problem::Origin;

impl Layers {
    /// Returns the effective configuration, as the program uses it.
    pub(crate) fn merged(&self) -> ConfigFile {
        serde_json::from_value(self.effective())
            .expect("every layer was checked by the schema of this type")
    }

    /// Returns the effective configuration as a tree. Models include the keys that they take from `[defaults]`.
    pub(crate) fn effective(&self) -> Value {
        let mut figment = Figment::new();
        for layer in &self.layers {
            figment = figment.merge(Serialized::defaults(&layer.tree));
        }
        let mut merged: Value = figment.extract().expect("all layers are tables");
        let defaults = merged["defaults"].clone();
        if let Some(models) = merged["models"].as_object_mut() {
            for model in models.values_mut() {
                *model = with_defaults(model, &defaults);
            }
        }
        // figment sorts the keys of tables, but the order of properties in a schema is that of the answer.
        for (name, tool) in merged["tools"].as_object_mut().into_iter().flatten() {
            if let Some(output) = tool.get_mut("output") {
                let address = Address::new(["tools", name, "output"]);
                let layers = self.layers.iter();
                let layers: Vec<&Value> = layers
                    .filter_map(|layer| address.get(&layer.tree))
                    .collect();
                restore_order(output, &layers);
            }
        }
        merged
    }

    /// Returns the string with `${…}` at `address`, as written in the file. Returns `None` if there is none, if a higher layer overrides it, or
    /// if it contains a secret.
    pub(crate) fn written(&self, address: &Address) -> Option<&str> {
        let (origin, at) = self.origin_of(address);
        let written = self.written.get(&at)?;
        // The string itself may contain the secret, for example as a default.
        let is_safe = !self.schema.is_secret(address) || is_reference(written);
        (matches!(origin, Origin::File(_)) && is_safe).then_some(written.as_str())
    }

    /// Returns `value`, which is at `address`, with its strings as written in the file. A file with these strings gives the same value.
    pub(crate) fn as_written(&self, address: &Address, value: &Value) -> Value {
        match value {
            Value::Array(items) => (0_usize..)
                .zip(items)
                .map(|(at, item)| self.as_written(&address.join(at.to_string()), item))
                .collect(),
            Value::Object(table) => table
                .iter()
                .map(|(key, value)| (key.clone(), self.as_written(&address.join(key), value)))
                .collect::<Map<_, _>>()
                .into(),
            _ => match (self.written(address), value) {
                (Some(written), _) => written.into(),
                (None, Value::String(text)) if self.schema.is_path(address) => {
                    let path = std::path::absolute(text).unwrap_or_else(|_| text.into());
                    path.to_string_lossy().replace("${", "$${").into()
                }
                (None, Value::String(text)) => text.replace("${", "$${").into(),
                (None, value) => value.clone(),
            },
        }
    }
}

/// Sorts the keys of tables in `merged` by their first appearance in `layers`, lowest first, from which it was merged.
fn restore_order(merged: &mut Value, layers: &[&Value]) {
    match merged {
        Value::Object(table) => {
            let mut unordered = std::mem::take(table);
            let keys = layers.iter().filter_map(|layer| layer.as_object());
            for key in keys.flat_map(Map::keys) {
                if let Some((key, mut value)) = unordered.remove_entry(key) {
                    let layers: Vec<&Value> =
                        layers.iter().filter_map(|layer| layer.get(&key)).collect();
                    restore_order(&mut value, &layers);
                    table.insert(key, value);
                }
            }
        }
        Value::Array(items) => {
            // Arrays are not merged.
            let highest = layers.last().and_then(|layer| layer.as_array());
            for (item, written) in items.iter_mut().zip(highest.into_iter().flatten()) {
                restore_order(item, &[written]);
            }
        }
        _ => {}
    }
}

/// Returns whether `text` consists of one `${env:NAME}` or `${file:PATH}`.
fn is_reference(text: &str) -> bool {
    let name = text
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| !name.contains(['{', '}']) && !name.contains(":-"))
}

/// Returns the keys of `model` merged over `defaults`. Tables are not merged: that of the model replaces the default one.
fn with_defaults(model: &Value, defaults: &Value) -> Value {
    let mut keys = defaults.as_object().cloned().unwrap_or_default();
    let own = model.as_object().into_iter().flatten();
    keys.extend(
        own.filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    Value::Object(keys)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::config::Overrides;

    /// Returns the `output` of the tool `t` as JSON text.
    fn output(file: &str, set: &[&str]) -> String {
        let typed = Overrides {
            set: set.iter().map(|set| (*set).to_owned()).collect(),
            ..Overrides::default()
        };
        let text = format!("[tools.t]\nprompt = \"x\"\noutput = {file}\n");
        let path = Path::new("test.toml");
        let layers = Layers::read_as(&typed, &BTreeMap::new(), path, text);
        assert_eq!(layers.problems, []);
        layers.effective()["tools"]["t"]["output"].to_string()
    }

    #[test]
    fn an_override_of_one_keyword_keeps_the_rest_of_a_schema_and_its_order() {
        let file = "{ type = \"object\", properties = { b = { type = \"string\" }, a = { anyOf = [{ type = \"null\", title = \"A\" }] } }, required = [\"b\"] }";
        let properties =
            r#""properties":{"b":{"type":"string"},"a":{"anyOf":[{"type":"null","title":"A"}]}}"#;
        assert_eq!(
            output(file, &[]),
            format!(r#"{{"type":"object",{properties},"required":["b"]}}"#)
        );
        assert_eq!(
            output(file, &["tools.t.output.required=[\"a\", \"b\"]"]),
            format!(r#"{{"type":"object",{properties},"required":["a","b"]}}"#)
        );
        assert_eq!(
            output(file, &["tools.t.output.additionalProperties=false"]),
            format!(
                r#"{{"type":"object",{properties},"required":["b"],"additionalProperties":false}}"#
            )
        );
        assert_eq!(
            output(file, &["tools.t.output.properties.b.maxLength=5"]),
            format!(
                r#"{{"type":"object",{},"required":["b"]}}"#,
                properties.replace(r#""string""#, r#""string","maxLength":5"#)
            )
        );
        assert_eq!(
            output(file, &["tools.t.output=${file:a.json}"]),
            r#""${file:a.json}""#
        );
        let whole = r#"{"type":"object","properties":{"c":{"type":"integer"}}}"#;
        assert_eq!(
            output(file, &[&format!("tools.t.output={whole}")]),
            Value::from(whole).to_string()
        );
    }
}
