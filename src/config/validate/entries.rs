//! Tables of the configuration, and the names of what they hold.

use serde_json::Value;

use super::ConfigSchema;
use crate::config::address::Address;

/// Names that a table may hold besides the keys of its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entries {
    /// Names of tables, such as those of models and tools.
    Tables,
    /// Names in which case matters, such as the texts of `logit_bias` and the keywords of a JSON Schema.
    CaseSensitive,
}

impl ConfigSchema {
    /// Returns whether `address` is a table, either of keys or of named entries.
    pub(crate) fn is_table(&self, address: &Address) -> bool {
        self.at(address).is_some_and(|schema| {
            let has = |key| schema.get(key).is_some_and(Value::is_object);
            has("properties") || has("additionalProperties")
        })
    }

    /// Returns whether `address` is a known key whose value is not a table.
    pub(crate) fn is_value(&self, address: &Address) -> bool {
        self.knows(address) && !self.is_table(address)
    }

    /// Returns the kind of names that the table at `address` may hold. Returns `None` if it has the keys of its schema only.
    pub(crate) fn entries(&self, address: &Address) -> Option<Entries> {
        match self.at(address)?.get("additionalProperties")? {
            Value::Bool(false) => None,
            entry if self.resolved(entry).get("properties").is_some() => Some(Entries::Tables),
            _ => Some(Entries::CaseSensitive),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_told_apart_by_the_names_that_they_hold() {
        let schema = ConfigSchema::default();
        for (parts, entries) in [
            (&["models"][..], Some(Entries::Tables)),
            (&["server", "tokens"], Some(Entries::Tables)),
            (&["tools", "t", "arguments"], Some(Entries::Tables)),
            (&["defaults", "logit_bias"], Some(Entries::CaseSensitive)),
            (
                &["models", "m", "template_arguments"],
                Some(Entries::CaseSensitive),
            ),
            (&["tools", "t", "output"], Some(Entries::CaseSensitive)),
            (&["models", "m"], None),
            (&["models", "m", "lora"], None),
            (&["server", "port"], None),
            (&["servers"], None),
        ] {
            let address = Address::new(parts.iter().copied());
            assert_eq!(schema.entries(&address), entries, "{address}");
        }
    }
}
