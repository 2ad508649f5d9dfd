//! The state of the server, which `/status` returns and `llama-mcp-server status` prints.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::http::HttpConfig;
use crate::registry::{ModelStatus, Registry, Unloaded};

/// Text instead of an error that the caller's token may not see.
const IN_THE_LOG: &str = "see the server's log";

/// The state of the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerStatus {
    /// Version of this program.
    pub version: String,
    /// Time since the server started, in seconds.
    pub uptime_seconds: u64,
    /// Models, by name.
    pub models: Vec<ModelStatus>,
    /// Tools, in the order in which clients list them.
    #[serde(default)]
    pub tools: Vec<ToolStatus>,
    /// Tokens that no request can use.
    #[serde(default)]
    pub unusable_tokens: Vec<UnusableToken>,
    /// The configuration file; `None` if there is none, or if the caller's token may not see it.
    pub config: Option<ConfigStatus>,
}

impl ServerStatus {
    /// Restricts the status to the parts that a token for `tools` may see: these tools and their models. Errors of models are replaced, so
    /// that only their existence is visible.
    pub(crate) fn restrict_to(&mut self, tools: &BTreeSet<String>) {
        self.tools.retain(|tool| tools.contains(&tool.name));
        let is_of_tool = |model: &ModelStatus| {
            let mut tools = self.tools.iter();
            tools.any(|tool| tool.model == model.name)
        };
        self.models.retain(is_of_tool);
        let of_models = self
            .models
            .iter_mut()
            .filter_map(|model| model.error.as_mut());
        for error in of_models {
            IN_THE_LOG.clone_into(error);
        }
        // The caller's own token works.
        self.unusable_tokens.clear();
        self.config = None;
    }
}

/// A tool in the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ToolStatus {
    /// Name of the tool, as clients know it.
    pub name: String,
    /// The model that answers its calls.
    pub model: String,
}

/// A token that no request can use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnusableToken {
    /// Name of the token in the configuration.
    pub name: String,
    /// The reason why it does not work; it shows no secret.
    pub error: String,
}

/// Returns the tokens of `rules` that do not work.
fn unusable_tokens(rules: &HttpConfig) -> Vec<UnusableToken> {
    let tokens = rules.tokens.iter();
    let unusable = tokens.filter_map(|token| {
        Some(UnusableToken {
            name: token.name.clone(),
            error: token.secret.as_ref().err()?.to_string(),
        })
    });
    unusable.collect()
}

/// The configuration file, and the results of its edits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ConfigStatus {
    /// Path of the file.
    pub file: String,
    /// Time at which an edit was last applied; `None` if none was.
    pub reloaded_at: Option<Timestamp>,
    /// The last edit that was rejected, if none was applied since.
    pub refused: Option<RefusedEdit>,
    /// Keys such as `server.port` whose edits require a restart of the server.
    #[serde(default)]
    pub restart_required: Vec<String>,
    /// Files of the configuration that were replaced outside of their mounts. The server does not see edits of the new files.
    #[serde(default)]
    pub stale_mounts: Vec<String>,
    /// Parts of the active configuration that do not work, as `config check` reports them.
    #[serde(default)]
    pub faults: Vec<String>,
}

/// An edit that was rejected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RefusedEdit {
    /// Time at which it was read.
    pub at: Timestamp,
    /// Errors of the edit, as `config check` reports them.
    pub error: String,
}

impl ConfigStatus {
    /// Creates the status before the first edit of `file`. `faults` are parts that do not work.
    pub(crate) fn new(file: &Path, faults: Vec<String>) -> Self {
        Self {
            file: file.display().to_string(),
            reloaded_at: None,
            refused: None,
            restart_required: Vec::new(),
            stale_mounts: Vec::new(),
            faults,
        }
    }

    /// Records an edit that was applied, except for the keys in `restart_required` and the parts with `faults`.
    pub(crate) fn applied(
        &mut self,
        at: Timestamp,
        restart_required: Vec<String>,
        faults: Vec<String>,
    ) {
        self.reloaded_at = Some(whole_second(at));
        self.refused = None;
        self.restart_required = restart_required;
        self.faults = faults;
    }

    /// Records an edit that was rejected with `error`.
    pub(crate) fn refused(&mut self, at: Timestamp, error: String) {
        let at = whole_second(at);
        self.refused = Some(RefusedEdit { at, error });
    }
}

/// Returns `at` in whole seconds, for people to read.
fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// An action on one model that an operator requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// End its process; the next call starts another one.
    Unload,
    /// Start another process, and end the former one.
    Restart,
}

impl Action {
    /// Returns the name of the command, which is also the last part of the HTTP path.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unload => "unload",
            Self::Restart => "restart",
        }
    }
}

/// Source of the server's status.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    registry: Arc<Registry>,
    tools: watch::Receiver<Vec<ToolStatus>>,
    rules: Option<watch::Receiver<Arc<HttpConfig>>>,
    config: Option<watch::Receiver<ConfigStatus>>,
    started: Instant,
}

impl Board {
    /// Creates the board of a server that starts now.
    pub(crate) fn new(
        registry: Arc<Registry>,
        tools: watch::Receiver<Vec<ToolStatus>>,
        rules: Option<watch::Receiver<Arc<HttpConfig>>>,
        config: Option<watch::Receiver<ConfigStatus>>,
    ) -> Self {
        Self {
            registry,
            tools,
            rules,
            config,
            started: Instant::now(),
        }
    }

    /// Returns the configured tools.
    pub(crate) fn tools(&self) -> Vec<ToolStatus> {
        self.tools.borrow().clone()
    }

    /// Performs `action` on a model with [`Registry::unload`] or [`Registry::restart`]. Returns `None` if there is no such model.
    pub(crate) async fn perform(&self, model: &str, action: Action) -> Option<Unloaded> {
        match action {
            Action::Unload => self.registry.unload(model).await,
            Action::Restart => self.registry.restart(model).await,
        }
    }

    /// Returns the current status. Queries the models' processes, but neither loads a model nor keeps one loaded.
    pub(crate) async fn read(&self) -> ServerStatus {
        ServerStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: self.started.elapsed().as_secs(),
            models: self.registry.observe().await,
            tools: self.tools(),
            unusable_tokens: self
                .rules
                .as_ref()
                .map_or_else(Vec::new, |rules| unusable_tokens(&rules.borrow())),
            config: self.config.as_ref().map(|config| config.borrow().clone()),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use serde_json::json;

    use super::*;

    #[test]
    fn the_status_of_a_file_whose_name_is_not_utf8_is_json() {
        let file = Path::new(OsStr::from_bytes(b"\xff.toml"));
        let status = ConfigStatus::new(file, Vec::new());
        assert_eq!(json!(status)["file"], "\u{fffd}.toml");
    }
}
