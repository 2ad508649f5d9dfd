//! When an edit of a key takes effect. The structures in [`super::file`] declare it as `x-reload`, for a key or for a whole table.

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::address::Address;
use super::validate::ConfigSchema;

/// When an edit of a key takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Effect {
    /// At once, in running processes.
    Live,
    /// At once, in a new process of each model that has the key.
    RestartsModel,
    /// Once the server is restarted.
    RequiresRestart,
}

static SHAPE: LazyLock<ConfigSchema> = LazyLock::new(ConfigSchema::default);

impl Effect {
    /// Returns the effect of the key at `address`; `None` if neither the key nor a table around it declares one.
    pub(super) fn of(address: &Address) -> Option<Self> {
        SHAPE.effect(address)
    }

    /// Returns the effect of `key` in the settings of a resolved model. `[server]` and `[registry]` set some keys for all models.
    pub(super) fn of_model_key(key: &str) -> Option<Self> {
        let tables = [
            Address::of(["models", "small"]),
            Address::of(["server"]),
            Address::of(["registry"]),
        ];
        let mut addresses = tables.iter().map(|table| table.join(key));
        Self::of(&addresses.find(|address| SHAPE.knows(address))?)
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::RestartsModel => "restarts the model",
            Self::RequiresRestart => "requires a restart",
        })
    }
}
