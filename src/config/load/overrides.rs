//! Overrides of the file: environment variables, flags and `--set`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Layers;
use super::service::is_service;
use super::suggestions::{meant_variable, own_variable};
use crate::config::address::Address;
use crate::config::file::OF_ONE_MODEL;
use crate::config::foreign;
use crate::config::problem::{Origin, Problem};
use crate::config::warning::WarningKind;
use crate::config::{CONFIG_VARIABLE, DEFAULT_MODEL, Overrides, VARIABLE_PREFIX};

/// A value from a variable or a flag.
pub(super) struct Override {
    pub(super) origin: Origin,
    pub(super) target: Target,
    pub(super) value: Value,
}

/// The key, or keys, that an override sets.
pub(super) enum Target {
    /// One key.
    Key(Address),
    /// The key of this name, in every model.
    EveryModel(String),
}

impl Target {
    /// Returns an address whose schema applies to the value.
    pub(super) fn schema_address(&self) -> Address {
        match self {
            Self::Key(address) => address.clone(),
            Self::EveryModel(key) => Address::new(["defaults", key]),
        }
    }
}

impl Layers {
    /// Returns the overrides from the environment. Warns of unknown variables.
    pub(super) fn overrides_from_variables(
        &mut self,
        variables: &BTreeMap<String, String>,
    ) -> Vec<Override> {
        let mut overrides = Vec::new();
        for (variable, value) in variables {
            let Some(name) = variable.strip_prefix(VARIABLE_PREFIX) else {
                continue;
            };
            if variable == CONFIG_VARIABLE || is_service(name, value) {
                continue;
            }
            let parts: Vec<String> = name.to_lowercase().split("__").map(str::to_owned).collect();
            if value.is_empty() && !self.restricts_access(&parts) {
                continue;
            }
            let target = match &parts[..] {
                [key] => self.target_of(key),
                _ => match self.address_of(&parts) {
                    Ok(address) => address.map(Target::Key),
                    Err(key) => {
                        self.report_unspellable(variable, &key);
                        continue;
                    }
                },
            };
            let Some(target) = target else {
                let hint = self.unknown_variable_hint(name);
                let origin = Origin::Variable(variable.clone());
                let message = "unknown environment variable, which is ignored".into();
                let kind = WarningKind::UnknownVariable;
                self.warn(Problem::warning(origin, None, kind, message, &hint));
                continue;
            };
            overrides.push(Override {
                origin: Origin::Variable(variable.clone()),
                value: self.typed(&target.schema_address(), value),
                target,
            });
        }
        overrides
    }

    /// Returns whether the variable with these `parts` restricts access. Such a variable is set even if it is empty, since a token or a list
    /// that got lost must not widen rights. Other empty variables count as unset.
    fn restricts_access(&self, parts: &[String]) -> bool {
        let address = match parts {
            [key] => self.target_of(key).map(|target| target.schema_address()),
            _ => Some(Address::new(parts)),
        };
        address.is_some_and(|address| {
            let parts: Vec<&str> = address.parts().iter().map(String::as_str).collect();
            let is_access = matches!(
                parts[..],
                [
                    "server",
                    "auth" | "auth_file" | "tokens" | "allowed_hosts" | "allowed_origins",
                    ..
                ]
            );
            is_access || self.schema.is_secret(&address)
        })
    }

    /// Returns a hint for the unknown variable that ends in `name`.
    fn unknown_variable_hint(&self, name: &str) -> String {
        let (_, key) = name.rsplit_once("__").unwrap_or(("", name));
        if let Some(meant) = own_variable(&self.schema, name) {
            return format!("did you mean {meant}?");
        }
        let note = foreign::find(key).filter(|meaning| meaning.key.is_none());
        if let Some(meaning) = note {
            return meaning.note.to_owned();
        }
        meant_variable(&self.schema, name).map_or_else(
            || "unset it, or rename it".into(),
            |meant| format!("did you mean {meant}?"),
        )
    }

    /// Returns the target of a `key` without a table: a key of `[server]`, or one of every model. Returns `None` for other keys.
    fn target_of(&self, key: &str) -> Option<Target> {
        if self.schema.knows(&Address::new(["server", key])) {
            return Some(Target::Key(Address::new(["server", key])));
        }
        let is_for_all =
            self.schema.knows(&Address::new(["defaults", key])) && !OF_ONE_MODEL.contains(&key);
        is_for_all.then(|| Target::EveryModel(key.to_owned()))
    }

    /// Converts `text` to the type of the key at `address`. Keys inside `output` and `template_arguments` accept any type: `text` is parsed as
    /// JSON, or kept as a string if it is not JSON.
    fn typed(&self, address: &Address, text: &str) -> Value {
        if self.schema.knows(address) {
            return self.schema.typed(address, text);
        }
        match serde_json::from_str(text) {
            Ok(Value::Null) | Err(_) => text.into(),
            Ok(value) => value,
        }
    }

    /// Returns the overrides from the command line. Reports flags that do not apply.
    pub(super) fn overrides_from_flags(&mut self, typed: &Overrides) -> Vec<Override> {
        let mut overrides = Vec::new();
        for (key, value) in &typed.flags {
            let origin = Origin::Flag(format!("--{key}"));
            let target = match self.target_of(key) {
                Some(target) => target,
                None if !typed.models.is_empty() => {
                    Target::Key(Address::of_model(DEFAULT_MODEL, key))
                }
                None => {
                    let message = "requires `--model`".to_owned();
                    let hint = format!(
                        "set `{key}` in the file, in `[models.NAME]`, or with `--set models.NAME.{key}=…`"
                    );
                    self.add_error(origin, None, message, Some(hint));
                    continue;
                }
            };
            let value = match value {
                Value::String(text) => self.typed(&target.schema_address(), text),
                other => other.clone(),
            };
            overrides.push(Override {
                origin,
                target,
                value,
            });
        }
        for setting in &typed.set {
            let Some((name, address, text)) = split_setting(setting) else {
                let hint = Some("for example `--set models.small.n_ctx=8192`".into());
                let message = "must be KEY=VALUE, with an equals sign".into();
                self.add_error(Origin::Flag("--set".into()), None, message, hint);
                continue;
            };
            overrides.push(Override {
                origin: Origin::Flag(format!("--set {name}")),
                value: self.typed(&address, text),
                target: Target::Key(address),
            });
        }
        overrides
    }
}

/// Splits `setting`, in the form `KEY=VALUE`, into the key as typed, its address and the value. Returns `None` if it has no equals sign.
fn split_setting(setting: &str) -> Option<(&str, Address, &str)> {
    let splits = setting
        .match_indices('=')
        .map(|(at, _)| (setting[..at].trim(), &setting[at + 1..]));
    // A quoted key may contain an equals sign.
    let mut parsed = splits
        .clone()
        .filter_map(|(name, text)| Some((name, toml_key(name)?, text)));
    parsed.next().or_else(|| {
        let (name, text) = splits.clone().next()?;
        Some((name, Address::new(name.split('.')), text))
    })
}

/// Returns the address that `name` spells as a key in TOML with quotes, such as `models.m.logit_bias." sorry"`. Returns
/// `None` if it is not valid, or has no quotes.
fn toml_key(name: &str) -> Option<Address> {
    if !name.contains(['"', '\'']) {
        // The parser would drop a space at the beginning of a key.
        return None;
    }
    let mut table: toml::Table = format!("{name} = 0").parse().ok()?;
    let mut address = Address::default();
    loop {
        let mut entries = table.into_iter();
        let (key, value) = entries.next().filter(|_| entries.len() == 0)?;
        address = address.join(key);
        match value {
            toml::Value::Table(inner) => table = inner,
            _ => return Some(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_have_quoted_parts() {
        for (setting, parts, value) in [
            ("server.port=9000", &["server", "port"][..], "9000"),
            (" server.port =a=b", &["server", "port"], "a=b"),
            (
                "models.m.logit_bias.\" sorry\"=-5",
                &["models", "m", "logit_bias", " sorry"],
                "-5",
            ),
            (
                "models.m.logit_bias.'a=b.c'=x=y",
                &["models", "m", "logit_bias", "a=b.c"],
                "x=y",
            ),
            (
                "models.qwen:7b.n_ctx=1",
                &["models", "qwen:7b", "n_ctx"],
                "1",
            ),
            ("=1", &[""], "1"),
        ] {
            let (_, address, text) = split_setting(setting).unwrap();
            assert_eq!(address, Address::new(parts.iter().copied()));
            assert_eq!(text, value);
        }
        assert!(split_setting("server.port").is_none());
    }
}
