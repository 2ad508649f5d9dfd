//! The structure of the TOML file, and the one place that documents its keys.
//!
//! These structures generate the JSON Schema, which every layer is checked against ([`super::validate`]), the annotated reference and the
//! built-in defaults. `x-reload` declares when an edit takes effect ([`Effect`]): on a key, or on a table for all keys that declare nothing.

mod model;
mod server;
mod tool;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub(crate) use model::{
    CacheType, FlashAttention, Lora, ModelSettings, Speculative, SplitMode, ThinkingOutput,
};
pub(crate) use server::{ServerSettings, TokenSettings, TransportMode, WatchMode};
pub(crate) use tool::{ArgumentSettings, ArgumentType, ItemType, ToolKind, ToolSettings};

use super::effect::Effect;
use super::ranges;
use super::units::{Budget, IdleTime, Size};

/// Pattern of a text that is not blank.
pub(crate) const NOT_BLANK: &str = r"\S";

/// Pattern of names. Every client accepts such a name of a tool, and environment variables can spell it.
pub(crate) const NAME_PATTERN: &str = "^[a-zA-Z0-9_-]{1,64}$";

/// Keys that belong to one model: a default for all models makes no sense.
pub(crate) const OF_ONE_MODEL: [&str; 5] = ["path", "title", "aliases", "tool_name", "description"];

/// The configuration of llama-mcp-server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ConfigFile {
    /// How clients connect, and how many.
    pub server: ServerSettings,
    /// What is logged, and where.
    #[schemars(extend("x-reload" = Effect::RequiresRestart))]
    pub log: LogSettings,
    /// How many models are loaded at once, and for how long.
    #[schemars(extend("x-reload" = Effect::Live))]
    pub registry: RegistrySettings,
    /// Any key of a model: the defaults for all models that do not set it.
    #[schemars(extend("x-reload" = Effect::Live))]
    pub defaults: ModelSettings,
    /// The models by name. Each is an MCP tool of that name.
    #[schemars(extend("propertyNames" = json!({"pattern": NAME_PATTERN, "not": {"pattern": "__"}})))]
    #[schemars(extend("x-reload" = Effect::Live))]
    pub models: BTreeMap<String, ModelSettings>,
    /// Tools without code, by name: a prompt template with declared arguments and the form of the answer, or a chat tool with its own system prompt and sampling (`kind = "chat"`).
    #[schemars(extend("propertyNames" = json!({"pattern": NAME_PATTERN, "not": {"pattern": "__"}})))]
    #[schemars(extend("x-reload" = Effect::Live))]
    pub tools: BTreeMap<String, ToolSettings>,
}

/// The values of `format` in `[log]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The values of `rotation` in `[log]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum LogRotation {
    #[default]
    Daily,
    Hourly,
    Never,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSettings {
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`, also by module: `info,llama_mcp_server::registry=debug`. `RUST_LOG` takes precedence.
    #[schemars(extend("format" = "log level"))]
    pub level: String,
    /// `text` for people, `json` for programs.
    pub format: LogFormat,
    /// File to log to, instead of stderr. If it rotates, its name gets the time at which it begins.
    #[schemars(extend("format" = "path"))]
    #[schemars(example = json!("server.log"))]
    pub file: Option<PathBuf>,
    /// When a new file begins: `daily`, `hourly` or `never`. A file that another program moved or deleted is opened again within a second.
    pub rotation: LogRotation,
    /// Size at which a new file begins, too. The full one gets a number: `server.2026-11-25.1.log`.
    pub max_size: Size,
    /// Files that are kept; older ones are deleted.
    #[schemars(range(min = 1, max = 10_000))]
    pub keep: usize,
    /// Log what clients ask and what models answer. Off, no prompt and no answer ever reaches a log.
    #[schemars(extend("x-reload" = Effect::Live))]
    pub log_prompts: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::Text,
            file: None,
            rotation: LogRotation::Daily,
            max_size: Size::mebibytes(100),
            keep: 7,
            log_prompts: false,
        }
    }
}

/// The values of `sandbox`: how models' processes are restricted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum SandboxMode {
    #[default]
    Auto,
    Required,
    Off,
}

/// `[registry]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RegistrySettings {
    /// Models that may be loaded at once; no limit by default.
    #[schemars(range(min = 1, max = 10_000), example = json!(2))]
    pub max_loaded: Option<usize>,
    /// Memory that all loaded models may take together: `"24GiB"`, or a share of what the machine has, or the smallest limit of its container, service or slice. Weights of a file that several models map count once.
    pub memory_budget: Budget,
    /// Idle time after which a model is unloaded; `"never"` keeps it, and 0 unloads it after each call.
    pub idle_ttl: IdleTime,
    /// A model's process that has work but finishes no step for this long is killed, and the next call starts a new one; its calls end with `model_stuck`. A process that still computes gets ten times as long, and time in which it reads from a disk does not count. `"never"` switches this off.
    #[schemars(range(min = ranges::STALL_TIMEOUT.min), extend("examples" = ["2m", "never"]))]
    pub stall_timeout: IdleTime,
    /// Sandbox of models' processes on Linux, by Landlock and seccomp: `auto` applies what the kernel supports, `required` loads no model if the kernel does not support both, `off` applies nothing, for a GPU driver that needs more. Elsewhere `required` is an error.
    #[schemars(extend("x-reload" = Effect::RestartsModel))]
    pub sandbox: SandboxMode,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            max_loaded: None,
            memory_budget: Budget::Percent(90),
            idle_ttl: IdleTime::after_secs(15 * 60),
            // A step takes at most six seconds on a machine that keeps up, and the wait for a turn at the CPUs at most ten.
            stall_timeout: IdleTime::after_secs(2 * 60),
            sandbox: SandboxMode::Auto,
        }
    }
}
