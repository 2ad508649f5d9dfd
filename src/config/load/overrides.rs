//! What variables and flags say, and of which values.

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

/// One value outside the file.
pub(super) struct Said {
    pub(super) origin: Origin,
    pub(super) target: Target,
    pub(super) value: Value,
}

pub(super) enum Target {
    /// This value.
    One(Address),
    /// This key of every model.
    EveryModel(String),
}

impl Target {
    /// An address whose schema is that of the value.
    pub(super) fn example(&self) -> Address {
        match self {
            Self::One(address) => address.clone(),
            Self::EveryModel(key) => Address::of(["defaults", key]),
        }
    }
}

impl Layers {
    /// Of the environment.
    pub(super) fn variables(&mut self, variables: &BTreeMap<String, String>) -> Vec<Said> {
        let mut said = Vec::new();
        for (variable, value) in variables {
            let Some(name) = variable.strip_prefix(VARIABLE_PREFIX) else {
                continue;
            };
            if variable == CONFIG_VARIABLE || is_service(name, value) {
                continue;
            }
            let parts: Vec<String> = name.to_lowercase().split("__").map(str::to_owned).collect();
            if value.is_empty() && !self.guards(&parts) {
                continue;
            }
            let target = match &parts[..] {
                [key] => self.target_of(key),
                [table, name, rest @ ..]
                    if (table == "models" || table == "tools") && !rest.is_empty() =>
                {
                    let address = Address::of([table.clone(), self.spelled(table, name)]);
                    Some(Target::One(
                        rest.iter().fold(address, |address, key| address.join(key)),
                    ))
                }
                _ => Some(Target::One(Address::of(parts.clone()))),
            };
            let Some(target) = target.filter(|target| self.shape.knows(&target.example())) else {
                let hint = self.unknown_variable_hint(name);
                let origin = Origin::Variable(variable.clone());
                let message = "this environment variable is not a key, and is ignored".into();
                let kind = WarningKind::UnknownVariable;
                self.warn(Problem::warning(origin, None, kind, message, &hint));
                continue;
            };
            said.push(Said {
                origin: Origin::Variable(variable.clone()),
                value: self.shape.typed(&target.example(), value),
                target,
            });
        }
        said
    }

    /// Returns whether the variable with these `parts` restricts access. If it is empty, it is an empty value, and an error where a value is
    /// required: a token or a list that got lost must not widen rights. Other variables count as unset if they are empty.
    fn guards(&self, parts: &[String]) -> bool {
        let address = match parts {
            [key] => self.target_of(key).map(|target| target.example()),
            _ => Some(Address::of(parts)),
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
            is_access || self.shape.is_secret(&address)
        })
    }

    /// Returns what to do about the unknown variable that ends in `name`.
    fn unknown_variable_hint(&self, name: &str) -> String {
        let (_, key) = name.rsplit_once("__").unwrap_or(("", name));
        if let Some(meant) = own_variable(&self.shape, name) {
            return format!("did you mean {meant}?");
        }
        let note = foreign::find(key).filter(|meaning| meaning.key.is_none());
        if let Some(meaning) = note {
            return meaning.note.to_owned();
        }
        meant_variable(&self.shape, name).map_or_else(
            || "unset it, or rename it".into(),
            |meant| format!("did you mean {meant}?"),
        )
    }

    /// A key without a table: one of `[server]`, or one of every model.
    fn target_of(&self, key: &str) -> Option<Target> {
        if self.shape.knows(&Address::of(["server", key])) {
            return Some(Target::One(Address::of(["server", key])));
        }
        let is_for_all =
            self.shape.knows(&Address::of(["defaults", key])) && !OF_ONE_MODEL.contains(&key);
        is_for_all.then(|| Target::EveryModel(key.to_owned()))
    }

    /// Returns the `name` of a model or a tool, in the table of tables called `table`, as the file spells it: variables have no case and no
    /// hyphens.
    fn spelled(&mut self, table: &str, name: &str) -> String {
        let like = |known: &String| known.to_lowercase().replace('-', "_") == name;
        let names: Vec<String> = self.names_in(table).into_iter().filter(like).collect();
        let exact = names.iter().find(|known| *known == name);
        let Some(meant) = exact.or(names.first()).cloned() else {
            return name.to_owned();
        };
        if names.len() > 1 {
            let (tables, name) = (table.to_uppercase(), name.to_uppercase());
            let name = format!("{VARIABLE_PREFIX}{tables}__{name}__…");
            let kind = table.trim_end_matches('s');
            let message = format!("sets the {kind} `{meant}`, and fits others, too");
            let hint = format!("`--set {table}.NAME.KEY=VALUE` names any {kind}");
            let code = WarningKind::AmbiguousVariable;
            let origin = Origin::Variable(name);
            self.warn(Problem::warning(origin, None, code, message, &hint));
        }
        meant
    }

    /// Of the command line.
    pub(super) fn flags(&mut self, typed: &Overrides) -> Vec<Said> {
        let mut said = Vec::new();
        for (key, value) in &typed.flags {
            let origin = Origin::Flag(format!("--{key}"));
            let target = match self.target_of(key) {
                Some(target) => target,
                None if !typed.models.is_empty() => {
                    Target::One(Address::of_model(DEFAULT_MODEL, key))
                }
                None => {
                    let message = "goes with `--model` alone".to_owned();
                    let hint = format!(
                        "set `{key}` of the model in the file, or by `--set models.NAME.{key}=…`"
                    );
                    self.problem(origin, None, message, Some(hint));
                    continue;
                }
            };
            let value = match value {
                Value::String(text) => self.shape.typed(&target.example(), text),
                other => other.clone(),
            };
            said.push(Said {
                origin,
                target,
                value,
            });
        }
        for setting in &typed.set {
            let Some((name, text)) = setting.split_once('=') else {
                let hint = Some("for example `--set models.small.n_ctx=8192`".into());
                let message = "must be KEY=VALUE, with an equals sign".into();
                self.problem(Origin::Flag("--set".into()), None, message, hint);
                continue;
            };
            let address = Address::of(name.trim().split('.'));
            said.push(Said {
                origin: Origin::Flag(format!("--set {}", name.trim())),
                value: self.shape.typed(&address, text),
                target: Target::One(address),
            });
        }
        said
    }
}
