//! When an edit of a key takes effect. The structures in [`super::file`] declare it as `x-reload`, for a key or for a table.

use std::fmt;

use serde::{Deserialize, Serialize};

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

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::RestartsModel => "restarts the model",
            Self::RequiresRestart => "requires a restart",
        })
    }
}
