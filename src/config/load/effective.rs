//! Merges all layers into the effective configuration.
//!
//! `figment` merges the trees: tables key by key, and any other value is replaced by that of the higher layer. It does nothing
//! else: each layer is read and checked before the merge, while values still have their place in the file. Provenance therefore comes from
//! the layers themselves ([`Layers::origin_of`]), not from figment's metadata.

use figment::Figment;
use figment::providers::Serialized;
use serde_json::Value;

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
        let tools = merged["tools"].as_object().cloned().unwrap_or_default();
        for name in tools.keys() {
            let output = Address::new(["tools", name, "output"]);
            let mut layers = self.layers.iter().rev();
            if let Some(written) = layers.find_map(|layer| output.get(&layer.tree)) {
                output.set(&mut merged, written.clone());
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
                .collect::<serde_json::Map<_, _>>()
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
