//! Suggests replacements for unknown keys. Pure.

use serde_json::Value;

use super::messages::{nearest, similar};
use super::{ConfigSchema, Fault, Meant, dotted, tables};
use crate::config::address::Address;
use crate::config::file::OF_ONE_MODEL;
use crate::config::foreign;

/// Tables whose keys are suggested, and how the file spells them. Models have the same keys as `[defaults]`.
const HOMES: [(&[&str], &str); 7] = [
    (&["server"], "[server]"),
    (&["log"], "[log]"),
    (&["registry"], "[registry]"),
    (&["models", "NAME"], "[models.NAME]"),
    (&["defaults"], "[defaults]"),
    (&["tools", "NAME"], "[tools.NAME]"),
    (&["server", "tokens", "NAME"], "[server.tokens.NAME]"),
];

/// Number of tables, from the start of [`HOMES`], whose keys take precedence over the names of other programs.
const CERTAIN: usize = 5;

impl ConfigSchema {
    /// Returns the fault for the unknown `key` in the table `written` at `address`, in the file `root`.
    pub(super) fn unknown_key(
        &self,
        address: &Address,
        key: &str,
        written: &Value,
        root: &Value,
    ) -> Fault {
        let fault = |rule, meant: Meant| Fault {
            address: address.join(key),
            is_key: true,
            meant: meant.address,
            rule,
            found: None,
            hint: Some(meant.hint),
        };
        if let Some(name) = dotted::name(self, address, key, written) {
            let message =
                format!("TOML reads the dot in `{name}` as a table `{key}` inside `[{address}]`");
            let meant = Meant {
                hint: dotted::rename(address, &name, root),
                address: address.parent().map(|tables| tables.join(&name)),
            };
            return fault(message, meant);
        }
        let meant = tables::meant(self, address, key, &written[key], root)
            .or_else(|| self.meant_key(address, key));
        let meant = meant.unwrap_or_else(|| Meant {
            hint: similar(key, &self.suggested_keys(address)),
            address: None,
        });
        fault(format!("unknown key `{key}`"), meant)
    }

    /// Returns what was probably meant by the unknown `key` of the table at `table`, whatever its value is.
    fn meant_key(&self, table: &Address, key: &str) -> Option<Meant> {
        let keys = self.suggested_keys(table);
        let plain = key.replace('-', "_");
        let elsewhere = |homes| {
            let hint = self.elsewhere(table, &plain, homes)?;
            Some(Meant {
                hint,
                address: None,
            })
        };
        let translated = || {
            let meaning = foreign::find(key)?;
            let here = meaning.key.map(last_part);
            Some(Meant {
                hint: meaning.hint(&keys),
                address: here.map(|here| table.join(here)),
            })
        };
        let alike = || {
            let near = nearest(key, &keys)?;
            // A misspelled `[models]` does not make errors in a correct one redundant.
            let is_key = !table.parts().is_empty();
            Some(Meant {
                hint: format!("did you mean `{near}`?"),
                address: is_key.then(|| table.join(near)),
            })
        };
        if let Some(outer) = self.outer(table, &plain) {
            let hint = format!("`{plain}` is a key of `[{outer}]`: move it above `[{table}]`");
            let address = Some(outer.join(plain));
            return Some(Meant { hint, address });
        }
        let first = table.parts().first().map(String::as_str);
        let is_of_models = matches!(first, Some("models" | "defaults" | "tools"));
        let own = || keys.contains(&&*plain).then(alike).flatten();
        let certain = || {
            (!is_of_models)
                .then(|| elsewhere(&HOMES[..CERTAIN]))
                .flatten()
        };
        own()
            .or_else(certain)
            .or_else(translated)
            .or_else(|| elsewhere(&HOMES))
            .or_else(alike)
    }

    /// Returns the keys to suggest for `table`. For `[defaults]`, these exclude the keys that only make sense for one model.
    pub(super) fn suggested_keys(&self, table: &Address) -> Vec<&str> {
        let is_for_all = table.parts() == ["defaults"];
        let mut keys = self.keys(table);
        keys.retain(|key| !is_for_all || !OF_ONE_MODEL.contains(key));
        keys
    }

    /// Returns the nearest table around `table` that has `key`.
    fn outer(&self, table: &Address, key: &str) -> Option<Address> {
        let mut outer = table.parent();
        while let Some(here) = outer.filter(|here| !here.parts().is_empty()) {
            if self.keys(&here).contains(&key) {
                return Some(here);
            }
            outer = here.parent();
        }
        None
    }

    /// Returns a hint that names the tables of `homes`, other than `table`, that have `key`.
    fn elsewhere(&self, table: &Address, key: &str, homes: &[(&[&str], &str)]) -> Option<String> {
        let has_key = |(home, _): &&(&[&str], &str)| {
            let home = Address::new(home.iter().copied());
            home != *table && self.suggested_keys(&home).contains(&key)
        };
        let homes: Vec<String> = homes
            .iter()
            .filter(has_key)
            .map(|(_, spelled)| format!("`{spelled}`"))
            .collect();
        let homes = match &homes[..] {
            [] => return None,
            [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
            [one, ..] => one.clone(),
        };
        Some(format!("`{key}` is a key of {homes}"))
    }
}

/// Returns the key of an address such as `registry.max_loaded`.
fn last_part(address: &str) -> &str {
    address.rsplit_once('.').map_or(address, |(_, key)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_table_takes_precedence_over_names_of_other_programs() {
        let schema = ConfigSchema::default();
        for (home, spelled) in &HOMES[..CERTAIN] {
            let home = Address::new(home.iter().copied());
            for key in schema.suggested_keys(&home) {
                for table in ["server", "log", "registry"].map(|table| Address::new([table])) {
                    if schema.keys(&table).contains(&key) {
                        continue;
                    }
                    let meant = schema.meant_key(&table, &key.replace('_', "-")).unwrap();
                    assert!(meant.hint.contains(spelled), "{table}: {}", meant.hint);
                }
            }
        }
    }

    #[test]
    fn keys_of_a_single_model_are_not_suggested_for_the_defaults() {
        let schema = ConfigSchema::default();
        for key in ["model", "pth", "alias", "titel"] {
            let meant = schema.meant_key(&Address::new(["defaults"]), key);
            let hint = meant.map(|meant| meant.hint).unwrap_or_default();
            assert!(!hint.contains("[defaults]"), "{key}: {hint}");
        }
    }
}
