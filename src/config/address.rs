//! Addresses of values in the configuration, such as `models.small.n_ctx`.

use std::fmt;

use serde_json::{Map, Value};

/// Address of a value: the names of the tables around it, and its key. The root has no parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address(Vec<String>);

impl Address {
    /// Returns the address with these `parts`.
    pub(crate) fn new<T: Into<String>>(parts: impl IntoIterator<Item = T>) -> Self {
        Self(parts.into_iter().map(Into::into).collect())
    }

    /// Returns the address of `key` in `[models.NAME]`.
    pub(crate) fn of_model(model: &str, key: &str) -> Self {
        Self::new(["models", model, key])
    }

    /// Returns the address of `key` in the table at this address.
    #[must_use]
    pub(crate) fn join(&self, key: impl Into<String>) -> Self {
        let mut parts = self.0.clone();
        parts.push(key.into());
        Self(parts)
    }

    /// Returns the name of the model that the value belongs to; `None` for other values.
    pub(crate) fn model_name(&self) -> Option<String> {
        match &self.0[..] {
            [table, name, ..] if table == "models" => Some(name.clone()),
            _ => None,
        }
    }

    /// Returns the address in `[defaults]` for a key of a model; `None` for other values.
    pub(crate) fn in_defaults(&self) -> Option<Self> {
        match &self.0[..] {
            [table, _, key, ..] if table == "models" => Some(Self::new(["defaults", key])),
            _ => None,
        }
    }

    /// Returns the names of the tables and the key.
    pub(crate) fn parts(&self) -> &[String] {
        &self.0
    }

    /// Returns the address of the table around the value; `None` for the root.
    pub(crate) fn parent(&self) -> Option<Self> {
        let (_, parents) = self.0.split_last()?;
        Some(Self(parents.to_vec()))
    }

    /// Returns the value of `tree` at this address.
    pub(crate) fn get<'tree>(&self, tree: &'tree Value) -> Option<&'tree Value> {
        self.0.iter().try_fold(tree, |value, part| match value {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            other => other.get(part),
        })
    }

    /// Sets the value of `tree` at this address, and creates the tables around it.
    pub(crate) fn set(&self, tree: &mut Value, value: Value) {
        let place = self.0.iter().fold(tree, |table, part| {
            if !table.is_object() {
                *table = Value::Object(Map::new());
            }
            table
                .as_object_mut()
                .expect("the value was made a table")
                .entry(part)
                .or_insert(Value::Null)
        });
        *place = value;
    }

    /// Removes the value at this address from `tree`. Removes the whole array instead of one of its items, which would shift the others.
    pub(crate) fn remove(&self, tree: &mut Value) {
        let Some((key, parents)) = self.0.split_last() else {
            *tree = Value::Object(Map::new());
            return;
        };
        let parent = Self(parents.to_vec());
        let table = parents
            .iter()
            .try_fold(&mut *tree, |value, part| value.get_mut(part));
        match table {
            Some(Value::Object(table)) => drop(table.remove(key)),
            Some(_) => parent.remove(tree),
            // The address is inside an item of an array.
            None => {
                if !parents.is_empty() {
                    parent.remove(tree);
                }
            }
        }
    }
}

/// Tables inside other tables whose keys may consist of digits. Elsewhere, such a part is the position in an array.
const TABLES: [&str; 2] = ["logit_bias", "tokens"];

impl fmt::Display for Address {
    /// Formats the address as a TOML key, with items of arrays as `stop[1]`. The key 13 of a table is `logit_bias.13`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            let is_item = at > 1 && !TABLES.contains(&self.0[at - 1].as_str());
            if is_item && !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()) {
                write!(f, "[{part}]")?;
                continue;
            }
            if at > 0 {
                f.write_str(".")?;
            }
            if !part.is_empty() && part.chars().all(is_bare) {
                f.write_str(part)?;
            } else {
                write!(f, "{}", Value::String(part.clone()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_a_key_of_a_table_or_a_position_in_an_array() {
        for (parts, shown) in [
            (&["models", "13", "n_ctx"][..], "models.13.n_ctx"),
            (&["models", "m", "stop", "1"], "models.m.stop[1]"),
            (&["defaults", "logit_bias", "13"], "defaults.logit_bias.13"),
            (
                &["server", "tokens", "7", "tools", "0"],
                "server.tokens.7.tools[0]",
            ),
            (
                &["models", "m", "logit_bias", " sorry"],
                "models.m.logit_bias.\" sorry\"",
            ),
        ] {
            let address = Address::new(parts.iter().copied());
            assert_eq!(address.to_string(), shown);
        }
    }
}
