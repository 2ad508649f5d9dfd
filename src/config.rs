//! The configuration: merges a file, environment variables and flags into a validated [`Config`].
//!
//! [`Config::load`] also returns the [`Layers`], which know where each value was set:
//!
//! ```ignore
#![doc = include_str!("config/example.rs")]
//! ```

pub(crate) mod address;
pub(crate) mod diff;
mod effect;
pub(crate) mod error;
#[cfg(test)]
mod example;
pub(crate) mod file;
pub(crate) mod foreign;
pub(crate) mod http;
pub(crate) mod interpolate;
mod keys;
pub(crate) mod load;
pub(crate) mod model;
mod naming;
pub(crate) mod paths;
pub(crate) mod problem;
pub(crate) mod ranges;
pub(crate) mod reference;
pub(crate) mod rights;
pub(crate) mod sampling;
pub(crate) mod sampling_arguments;
pub(crate) mod session_secret;
pub(crate) mod source_text;
pub(crate) mod template_arguments;
pub(crate) mod token;
pub(crate) mod tool;
pub(crate) mod units;
pub(crate) mod validate;
pub(crate) mod warning;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use address::Address;
pub(crate) use error::{ConfigError, Rejected};
use file::{
    ConfigFile, LogSettings, ModelSettings, SandboxMode, SplitMode, TransportMode, WatchMode,
};
use http::HttpConfig;
use load::Layers;
pub(crate) use load::built_in_value;
pub(crate) use model::{
    Defaults, FileFault, GgufSource, LoadSettings, ModelConfig, ModelFiles, Source, Stamp,
};
pub(crate) use sampling::{SamplingOverrides, SamplingParams};
pub(crate) use tool::ToolConfig;
use units::{GpuLayers, IdleTime, Time};

use crate::process::Cpus;

/// Prefix of this program's environment variables.
pub(crate) const VARIABLE_PREFIX: &str = "LLAMA_MCP_";

/// The environment variable that names the configuration file.
pub(crate) const CONFIG_VARIABLE: &str = "LLAMA_MCP_CONFIG";

/// The name of the model that `--model` gives.
pub(crate) const DEFAULT_MODEL: &str = "default";

/// Name of the configuration file in the folders that are searched.
pub(crate) const FILE_NAME: &str = "llama-mcp-server.toml";

/// The configuration on the command line.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Overrides {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// The text of `config`, if it was read from a pipe, which cannot be read twice.
    pub config_text: Option<String>,
    /// `--model`, and bare paths.
    pub models: Vec<PathBuf>,
    /// The other flags, by the key that each sets.
    pub flags: Vec<(String, Value)>,
    /// `--set`, as typed.
    pub set: Vec<String>,
}

/// The environment of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// Path of this program, to start processes for untrusted work; `None` if it is unknown.
    pub program: Option<PathBuf>,
    /// CPUs that this process may use.
    pub cpus: Cpus,
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
    /// Folders that are searched for a configuration file, in order.
    pub folders: Vec<PathBuf>,
}

/// A resolved configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// The models, by name.
    pub models: Vec<ModelConfig>,
    /// The tools of `[tools]`, by name.
    pub tools: Vec<ToolConfig>,
    /// How clients connect.
    pub transport: Transport,
    /// How models share the machine.
    pub registry: RegistryConfig,
    /// Whether results of calls include `_meta`.
    pub result_meta: bool,
    /// Settings of the log.
    pub log: LogSettings,
    /// How edits of the file are noticed.
    pub watch: WatchMode,
}

/// How clients connect.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Transport {
    /// Over standard input and output.
    Stdio,
    /// Over Streamable HTTP.
    Http(Box<HttpConfig>),
}

/// How models share the machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RegistryConfig {
    /// Most models that are loaded at once; `None` is no limit.
    pub max_loaded: Option<usize>,
    /// Memory that all loaded models may take together.
    pub memory_budget: units::Budget,
    /// Longest time without a finished step before a model's process counts as stalled.
    pub stall_timeout: IdleTime,
    /// Memory of each GPU that has its own, as found on the machine; empty if there is none or it is unknown.
    #[serde(skip)]
    pub gpu_memory: Vec<GpuMemory>,
}

/// Memory of a GPU, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GpuMemory {
    /// All of it.
    pub total: u64,
    /// Bytes that other programs left when the GPU was found, before this server loaded a model.
    pub free: u64,
}

impl GpuMemory {
    /// Percentage of the free memory that models with `n_gpu_layers = "auto"` may take. Drivers and buffers need memory that no estimate
    /// includes.
    const AUTO_PERCENT: u64 = 90;

    /// Returns the bytes that a model with this number of `layers` may take.
    fn available_to(self, layers: GpuLayers) -> u64 {
        match layers {
            GpuLayers::Auto => self.free / 100 * Self::AUTO_PERCENT,
            GpuLayers::Count(_) => self.total,
        }
    }
}

impl RegistryConfig {
    /// Returns the bytes of GPU memory that all models share; `None` if no GPU has memory of its own.
    pub(crate) fn all_gpu_memory(&self) -> Option<u64> {
        sum(self.gpu_memory.iter().map(|gpu| gpu.total))
    }

    /// Returns the bytes of GPU memory that a model of `source` can use.
    pub(crate) fn gpu_memory_for(&self, source: &Source) -> Option<u64> {
        let Source::Gguf(GgufSource { settings: load, .. }) = source;
        let mut available = self
            .gpu_memory
            .iter()
            .map(|gpu| gpu.available_to(load.n_gpu_layers));
        if load.split_mode == SplitMode::None {
            return available.nth(usize::try_from(load.main_gpu).ok()?);
        }
        sum(available)
    }
}

/// Returns the sum of `all`; `None` if there is nothing to sum.
fn sum(all: impl Iterator<Item = u64>) -> Option<u64> {
    all.reduce(u64::saturating_add)
}

/// Returns the path of the configuration file. Returns `None` if the command line names a model instead, or if no file is found.
///
/// # Errors
/// The command line contradicts itself.
pub(crate) fn find_file(
    typed: &Overrides,
    around: &Surroundings,
) -> Result<Option<PathBuf>, ConfigError> {
    match (&typed.models[..], &typed.config) {
        ([_, _, ..], _) => return Err(ConfigError::SeveralModels(typed.models.len())),
        ([model], _) if model.to_str().is_none() => {
            return Err(ConfigError::PathNotUtf8(model.clone()));
        }
        ([_], Some(_)) => return Err(ConfigError::ModelAndConfig),
        ([], Some(file)) => return Ok(Some(at_home(file, around))),
        _ => {}
    }
    let variable = around
        .variables
        .get(CONFIG_VARIABLE)
        .filter(|file| !file.is_empty());
    let found = || {
        around
            .folders
            .iter()
            .map(|folder| folder.join(FILE_NAME))
            .find(|file| file.is_file())
    };
    let named = variable.map(|file| at_home(Path::new(file), around));
    Ok(named.or_else(found))
}

/// Returns `path` with the home directory in place of `~`. Clients start the server without a shell, which would expand it.
pub(crate) fn at_home(path: &Path, around: &Surroundings) -> PathBuf {
    let home = paths::home(&around.variables);
    path.to_str().map_or_else(
        || path.to_path_buf(),
        |text| PathBuf::from(&*paths::at_home(text, home)),
    )
}

impl Config {
    /// Loads the configuration that `typed` names, with the values of each layer. Reads the file and the models' headers and, for HTTP, the
    /// files of tokens and the addresses of the host.
    ///
    /// # Errors
    /// The configuration is invalid. The error lists all problems.
    pub(crate) fn load(
        typed: &Overrides,
        around: &Surroundings,
    ) -> Result<(Self, Layers), Rejected> {
        let (config, mut layers) = Self::resolve(typed, around)?;
        match config.error(&mut layers) {
            Some(error) => Err(Rejected {
                error,
                warnings: layers.warnings,
            }),
            None => Ok((config, layers)),
        }
    }

    /// Returns the error that keeps the configuration made of `layers` from being run. Its problems are removed from `layers`.
    pub(crate) fn error(&self, layers: &mut Layers) -> Option<ConfigError> {
        let file = layers.file.as_ref().map(|source| source.path.clone());
        let no_model = || self.models.is_empty().then(|| ConfigError::NoModel(file));
        ConfigError::take(layers).or_else(no_model)
    }

    /// Like [`Self::load`], but also returns a configuration with problems, which `layers` hold. Such a configuration lacks the parts that
    /// are wrong, or has defaults in their places: it serves to find further problems, and must not be run.
    ///
    /// # Errors
    /// The command line contradicts itself, or the file is not TOML, so that some of its values are unknown.
    pub(crate) fn resolve(
        typed: &Overrides,
        around: &Surroundings,
    ) -> Result<(Self, Layers), Rejected> {
        let mut file = find_file(typed, around).map_err(|error| Rejected {
            error,
            warnings: Layers::read(&Overrides::default(), &around.variables, None).warnings,
        })?;
        let ignored = file.take_if(|_| !typed.models.is_empty());
        let mut layers = Layers::read(typed, &around.variables, file.as_deref());
        if let Some(file) = ignored {
            layers.notes.push(format!(
                "`{}` is not read, since --model is given",
                file.display()
            ));
        }
        if layers.is_incomplete()
            && let Some(error) = ConfigError::take(&mut layers)
        {
            return Err(Rejected {
                error,
                warnings: layers.warnings,
            });
        }
        let settings = layers.merged();
        let config = Self::from_settings(&settings, around, &mut layers);
        Ok((config, layers))
    }

    fn from_settings(settings: &ConfigFile, around: &Surroundings, layers: &mut Layers) -> Self {
        let server = &settings.server;
        let transport = match server.transport {
            TransportMode::Stdio => Some(Transport::Stdio),
            TransportMode::Http => {
                HttpConfig::resolve(settings, layers).map(|http| Transport::Http(Box::new(http)))
            }
        };
        naming::check(settings, layers);
        check_sandbox(settings.registry.sandbox, cfg!(target_os = "linux"), layers);
        check_stall_timeout(settings.registry.stall_timeout, layers);
        let model = |(name, model): (&String, &ModelSettings)| {
            model::resolve(name, model, settings, around, layers)
        };
        let models: Vec<ModelConfig> = settings.models.iter().filter_map(model).collect();
        Self {
            tools: tool::resolve(settings, &models, layers),
            models,
            transport: transport.unwrap_or(Transport::Stdio),
            registry: RegistryConfig {
                max_loaded: settings.registry.max_loaded,
                memory_budget: settings.registry.memory_budget,
                stall_timeout: settings.registry.stall_timeout,
                gpu_memory: Vec::new(),
            },
            result_meta: server.result_meta,
            log: settings.log.clone(),
            watch: server.watch,
        }
    }
}

/// Reports a sandbox that is required on a system that has none: no model could be loaded.
fn check_sandbox(mode: SandboxMode, is_linux: bool, layers: &mut Layers) {
    if mode == SandboxMode::Required && !is_linux {
        let message = "`required` is supported on Linux only".into();
        let hint =
            "set `sandbox = \"auto\"`, or run the server on Linux, for example in a container";
        let address = Address::new(["registry", "sandbox"]);
        layers.problem_at(&address, message, Some(hint.into()));
    }
}

/// Reports a stall timeout that is too short or too long.
fn check_stall_timeout(timeout: IdleTime, layers: &mut Layers) {
    let fault = |span| Time(span).fault(ranges::STALL_TIMEOUT);
    if let Some(message) = timeout.0.and_then(fault) {
        let hint = "`\"never\"` switches it off";
        let address = Address::new(["registry", "stall_timeout"]);
        layers.range_problem_at(&address, message, Some(hint.into()));
    }
}

#[cfg(test)]
mod tests;
