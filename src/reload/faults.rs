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
    /// Its settings, except those of `[server]`, which do not break other parts.
    settings: Value,
}

impl Faults {
    pub(super) fn of(checked: &Checked) -> Self {
        Self {
            known: checked.setting_doubts.clone(),
            settings: settings_of(checked),
        }
    }

    /// Returns `checked`, unless its settings break a part that works. A part that does not work in the active configuration, either, or
    /// because of the file of a model or token, is left out instead.
    ///
    /// # Errors
    /// The faults, as `config check` reports them.
    pub(super) fn accept(&self, checked: Checked) -> Result<Checked, ConfigError> {
        let is_new = |fault: &Problem| {
            // Numbers in a message may change with the file.
            let is_same =
                |known: &Problem| (known.code, &known.address) == (fault.code, &fault.address);
            !self.known.iter().any(is_same)
        };
        let breaks_part = checked.setting_doubts.iter().any(is_new);
        // If no setting was edited, a file or the machine is the cause.
        if breaks_part && settings_of(&checked) != self.settings {
            return Err(ConfigError::of(checked.doubts));
        }
        Ok(checked)
    }
}

fn settings_of(checked: &Checked) -> Value {
    let mut settings = checked.layers.effective();
    if let Some(tables) = settings.as_object_mut() {
        tables.remove("server");
    }
    settings
}

/// Returns the faults as `config check` reports them. Faults of models' files are left out, since the status of the model tells them, and a
/// file may be repaired without an edit.
pub(super) fn shown(checked: &Checked) -> Vec<String> {
    let is_of_model = |fault: &&Problem| fault.address.as_ref().is_some_and(is_of_model);
    let of_files = checked
        .doubts
        .iter()
        .filter(|fault| !checked.setting_doubts.contains(fault) && !is_of_model(fault));
    let faults = checked.setting_doubts.iter().chain(of_files);
    faults.map(ToString::to_string).collect()
}

fn is_of_model(address: &Address) -> bool {
    address
        .parts()
        .first()
        .is_some_and(|table| table == "models")
}
