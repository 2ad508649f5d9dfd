//! Parts of a configuration that do not work, and whether an edit may add some. Pure.

use serde_json::Value;

use crate::check::Checked;
use crate::config::ConfigError;
use crate::config::address::Address;
use crate::config::problem::Problem;

/// Faults of the active configuration.
#[derive(Debug)]
pub(super) struct Faults {
    /// Those that its settings cause.
    known: Vec<Problem>,
    settings: Value,
}

impl Faults {
    pub(super) fn of(checked: &Checked) -> Self {
        Self {
            known: checked.tolerated_setting_faults.clone(),
            settings: checked.layers.effective(),
        }
    }

    /// Returns `checked`, unless its settings break a part that works. A part that does not work in the active configuration, either, or
    /// because of the file of a model or token, is left out instead.
    ///
    /// # Errors
    /// The faults that are new, as `config check` reports them.
    pub(super) fn accept(&self, checked: Checked) -> Result<Checked, ConfigError> {
        let settings = checked.layers.effective();
        let is_caused = |fault: &&Problem| {
            let part = part_of(fault);
            // If the settings of the part were not edited, a file or the machine is the cause.
            !self.known.iter().any(|known| is_same(part_of(known), part))
                && inputs(&self.settings, part) != inputs(&settings, part)
        };
        let caused = checked.tolerated_setting_faults.iter().filter(is_caused);
        let caused: Vec<Problem> = caused.cloned().collect();
        if caused.is_empty() {
            Ok(checked)
        } else {
            Err(ConfigError::from_problems(caused))
        }
    }
}

/// Returns the part of the configuration that `fault` concerns: a model or a tool, else the key.
fn part_of(fault: &Problem) -> &[String] {
    let parts = fault.address.as_ref().map_or(&[][..], Address::parts);
    match parts {
        [table, _, ..] if table == "models" || table == "tools" => &parts[..2],
        _ => parts,
    }
}

/// Returns whether both parts may be the same: a fault of a model may be one of its defaults.
fn is_same(one: &[String], other: &[String]) -> bool {
    let is_of_models = |part: &[String]| {
        let table = part.first().map(String::as_str);
        matches!(table, Some("models" | "defaults"))
    };
    let is_default = |part: &[String]| part.first().is_some_and(|table| table == "defaults");
    let may_be_default = is_default(one) || is_default(other);
    one == other || (may_be_default && is_of_models(one) && is_of_models(other))
}

/// Returns the settings on which it depends whether `part` works: its own, those of a tool's model, of `[registry]`, and of models that are
/// pinned.
fn inputs<'settings>(settings: &'settings Value, part: &[String]) -> Vec<&'settings Value> {
    let own = Address::new(part).get(settings);
    let model = own.and_then(|own| settings["models"].get(own.get("model")?.as_str()?));
    let pinned = settings["models"].as_object().into_iter().flatten();
    let pinned = pinned.filter_map(|(_, model)| (model["pin"] == true).then_some(model));
    let registry = settings.get("registry");
    own.into_iter()
        .chain(model)
        .chain(registry)
        .chain(pinned)
        .collect()
}

/// Returns the faults as `config check` reports them. Faults of models' files are left out, since the status of the model tells them, and a
/// file may be repaired without an edit.
pub(super) fn shown(checked: &Checked) -> Vec<String> {
    let is_of_model = |fault: &&Problem| fault.address.as_ref().is_some_and(is_of_model);
    let of_files = checked
        .tolerated_faults
        .iter()
        .filter(|fault| !checked.tolerated_setting_faults.contains(fault) && !is_of_model(fault));
    let faults = checked.tolerated_setting_faults.iter().chain(of_files);
    faults.map(ToString::to_string).collect()
}

fn is_of_model(address: &Address) -> bool {
    address
        .parts()
        .first()
        .is_some_and(|table| table == "models")
}
