//! All layers as one: as the program runs by it, and as it would be written.

use figment::Figment;
use figment::providers::Serialized;
use serde_json::Value;

use super::Layers;
use crate::config::address::Address;
use crate::config::file::ConfigFile;
use crate::config::problem::Origin;

impl Layers {
    /// All layers as one.
    pub(crate) fn merged(&self) -> ConfigFile {
        serde_json::from_value(self.effective())
            .expect("every layer was checked by the schema of this type")
    }

    /// The same as it would be written; models have the defaults.
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
        // figment sorts tables, and the order of a schema's properties is that of the answer.
        let tools = merged["tools"].as_object().cloned().unwrap_or_default();
        for name in tools.keys() {
            let output = Address::of(["tools", name, "output"]);
            let mut layers = self.layers.iter().rev();
            if let Some(written) = layers.find_map(|layer| output.get(&layer.tree)) {
                output.set(&mut merged, written.clone());
            }
        }
        merged
    }

    /// The text at `address` as the file has it, where it counts and something was put into it.
    pub(crate) fn written(&self, address: &Address) -> Option<&str> {
        let (origin, at) = self.origin_of(address);
        let written = self.made.get(&at)?;
        // A secret may stand in the text itself, as a default for example.
        let shows_nothing = !self.shape.is_secret(address) || names_alone(written);
        (matches!(origin, Origin::File(_)) && shows_nothing).then_some(written.as_str())
    }

    /// `value`, which counts at `address`, with the texts in it as the file has them.
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
                // It means the same when it is read again.
                (Some(written), _) => written.into(),
                (None, Value::String(text)) if self.shape.is_path(address) => {
                    let path = std::path::absolute(text).unwrap_or_else(|_| text.into());
                    path.to_string_lossy().replace("${", "$${").into()
                }
                (None, Value::String(text)) => text.replace("${", "$${").into(),
                (None, value) => value.clone(),
            },
        }
    }
}

/// Whether `text` is one `${env:NAME}` or `${file:PATH}` and nothing else.
fn names_alone(text: &str) -> bool {
    let name = text
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| !name.contains(['{', '}']) && !name.contains(":-"))
}

/// A model's keys over the defaults; a table counts as one value.
fn with_defaults(model: &Value, defaults: &Value) -> Value {
    let mut keys = defaults.as_object().cloned().unwrap_or_default();
    let said = model.as_object().into_iter().flatten();
    keys.extend(
        said.filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    Value::Object(keys)
}
