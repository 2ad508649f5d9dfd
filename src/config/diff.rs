//! The differences between two configurations, in the words of `config diff` and of the log: which keys an edit changes, and when it
//! takes effect.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use super::effect::Effect;
use super::{Config, ModelConfig, ToolConfig, keys};

/// The differences between two configurations.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ConfigDiff {
    /// Models, then tools, each by name, then tables.
    parts: Vec<(String, Change)>,
}

/// The change of a model, a tool or a table.
#[derive(Debug, Clone, PartialEq)]
enum Change {
    Added,
    Removed,
    Edited(Keys),
}

/// The keys that an edit changes, and when it takes effect for each.
type Keys = BTreeMap<String, Effect>;

impl ConfigDiff {
    /// Returns the differences of `new` from `old`.
    pub(crate) fn between(old: &Config, new: &Config) -> Self {
        let models = changes(&old.models, &new.models, |model| &model.name, model_keys);
        let models = models.map(|(name, change)| (format!("model {name}"), change));
        let tools = changes(&old.tools, &new.tools, |tool| &tool.name, tool_keys);
        let tools = tools.map(|(name, change)| (format!("tool {name}"), change));
        let mut parts: Vec<(String, Change)> = models.chain(tools).collect();
        for table in ["server", "log", "registry"] {
            let keys = keys::differing(old, new).filter(|key| key.table == table);
            let keys: Keys = keys
                .map(|key| (key.name.to_owned(), key.effect(old, new)))
                .collect();
            parts.extend(edited(keys).map(|change| (table.to_owned(), change)));
        }
        Self { parts }
    }

    /// Returns whether the configurations are equivalent.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns the keys whose edits require a restart of the server, such as `server.port`.
    pub(crate) fn restart_required(&self) -> Vec<String> {
        let edited = self.parts.iter().filter_map(|(part, change)| match change {
            Change::Edited(keys) => Some((part, keys)),
            Change::Added | Change::Removed => None,
        });
        edited
            .flat_map(|(part, keys)| {
                with_effect(keys, Effect::RequiresRestart)
                    .into_iter()
                    .map(move |key| format!("{part}.{key}"))
            })
            .collect()
    }
}

impl fmt::Display for ConfigDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing changes");
        }
        let lines = self.parts.iter().filter_map(|(part, change)| {
            let change = change.to_string();
            (!change.is_empty()).then(|| format!("{part}: {change}"))
        });
        let mut lines: Vec<String> = lines.collect();
        let waiting = self.restart_required();
        if !waiting.is_empty() {
            let waiting = waiting.join(", ");
            lines.push(format!("requires a restart of the server: {waiting}"));
        }
        f.write_str(&lines.join("\n"))
    }
}

impl fmt::Display for Change {
    /// Writes what the edit does without a restart of the server.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = match self {
            Self::Added => return f.write_str("added"),
            Self::Removed => return f.write_str("removed"),
            Self::Edited(keys) => keys,
        };
        let effects = [("restart", Effect::RestartsModel), ("live", Effect::Live)];
        let effects = effects.map(|(word, effect)| (word, with_effect(keys, effect)));
        let effects = effects.iter().filter(|(_, keys)| !keys.is_empty());
        let effects: Vec<String> = effects
            .map(|(word, keys)| format!("{word} ({})", keys.join(", ")))
            .collect();
        f.write_str(&effects.join(", "))
    }
}

fn with_effect(keys: &Keys, effect: Effect) -> Vec<&str> {
    let keys = keys.iter().filter(|(_, found)| **found == effect);
    keys.map(|(key, _)| key.as_str()).collect()
}

/// Returns the change of a part in which `keys` differ; `None` if none does.
fn edited(keys: Keys) -> Option<Change> {
    (!keys.is_empty()).then_some(Change::Edited(keys))
}

/// Returns the changes between `old` and `new`, by name. `keys` returns the keys in which two items of one name differ.
fn changes<'config, T>(
    old: &'config [T],
    new: &'config [T],
    name: fn(&T) -> &String,
    keys: fn(&T, &T) -> Keys,
) -> impl Iterator<Item = (&'config str, Change)> {
    let by_name = move |items: &'config [T]| -> BTreeMap<&'config str, &'config T> {
        let items = items.iter();
        items.map(|item| (name(item).as_str(), item)).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    let names: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
    names.into_iter().filter_map(move |name| {
        let change = match (old.get(name), new.get(name)) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            (Some(old), Some(new)) => edited(keys(old, new))?,
        };
        Some((name, change))
    })
}

fn model_keys(old: &ModelConfig, new: &ModelConfig) -> Keys {
    let with_effect = |key: String| {
        // A test ensures that each key declares its effect.
        let effect = keys::effect_of_model_key(&new.name, &key).unwrap_or(Effect::RestartsModel);
        (key, effect)
    };
    let mut keys: Keys = differing(old, new).map(with_effect).collect();
    // If a path changed, the files differ anyway.
    let has_other_path = keys.contains_key("path") || keys.contains_key("lora");
    let (former, files) = (old.gguf(), new.gguf());
    if !has_other_path && (former.stamp != files.stamp || former.files != files.files) {
        keys.insert("the file".into(), Effect::RestartsModel);
    }
    keys
}

fn tool_keys(old: &ToolConfig, new: &ToolConfig) -> Keys {
    let with_effect = |key: String| {
        // A test ensures that each key declares its effect.
        let effect = keys::effect_of_tool_key(&new.name, &key).unwrap_or(Effect::RequiresRestart);
        (key, effect)
    };
    differing(old, new).map(with_effect).collect()
}

/// Returns the keys in which two tables differ.
fn differing(old: &impl Serialize, new: &impl Serialize) -> impl Iterator<Item = String> {
    let table = |value: Result<Value, serde_json::Error>| match value {
        Ok(Value::Object(table)) => table,
        _ => Map::new(),
    };
    let old = table(serde_json::to_value(old));
    let new = table(serde_json::to_value(new));
    let keys: BTreeSet<String> = old.keys().chain(new.keys()).cloned().collect();
    keys.into_iter()
        .filter(move |key| old.get(key) != new.get(key))
}

#[cfg(test)]
mod tests;
