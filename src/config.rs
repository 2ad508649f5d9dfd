//! `Config`: validated, resolved, typed. What was said in a file, by variables and by flags goes in, what the program runs
//! by comes out.

pub mod address;
pub mod diff;
pub mod error;
pub mod file;
pub mod http;
pub mod interpolate;
pub mod load;
pub mod model;
pub mod problem;
pub mod ranges;
pub mod reference;
pub mod schema;
pub mod shape;
pub mod source;
pub mod token;
pub mod tool;
pub mod units;
pub mod whole;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::gguf::{self, Header};
use address::Address;
pub use error::ConfigError;
use file::{
    ConfigFile, FlashAttention, LogSettings, ModelSettings, ThinkingOutput, TransportMode,
    WatchMode,
};
use http::HttpConfig;
use load::Layers;
pub use model::{Defaults, LoadSettings, ModelConfig};
use problem::Origin;
pub use tool::ToolConfig;

/// Variables of this program begin so.
pub const VARIABLE_PREFIX: &str = "LLAMA_MCP_";

/// The environment variable that names the file.
pub const CONFIG_VARIABLE: &str = "LLAMA_MCP_CONFIG";

/// The name of the model that `--model` gives.
pub const DEFAULT_MODEL: &str = "default";

/// The file that is looked for.
pub const FILE_NAME: &str = "llama-mcp-server.toml";

/// What was said on the command line.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Overrides {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--model`, and bare paths.
    pub models: Vec<PathBuf>,
    /// The other flags, by the key that each stands for.
    pub flags: Vec<(String, Value)>,
    /// `--set`, as typed.
    pub set: Vec<String>,
}

/// What the surroundings say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// CPUs that this process may use.
    pub cpus: usize,
    /// The environment.
    pub variables: BTreeMap<String, String>,
    /// Where a file is looked for, in order.
    pub folders: Vec<PathBuf>,
}

/// What the program runs by.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The models, by name.
    pub models: Vec<ModelConfig>,
    /// The tools that are made of prompts, by name.
    pub tools: Vec<ToolConfig>,
    /// How clients connect.
    pub transport: Transport,
    /// How models share the machine.
    pub registry: RegistryConfig,
    /// What is logged, and where.
    pub log: LogSettings,
    /// Whether the file is watched.
    pub watch: WatchMode,
    /// Variables of which secrets are made.
    pub secret_variables: Vec<String>,
}

/// How clients connect.
#[derive(Debug, Clone, PartialEq)]
pub enum Transport {
    /// By standard input and output.
    Stdio,
    /// By Streamable HTTP.
    Http(Box<HttpConfig>),
}

/// How models share the machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RegistryConfig {
    /// Models at once.
    pub max_loaded: Option<usize>,
    /// Memory of all of them.
    pub memory_budget: units::Budget,
}

/// The file to read; none where one model is named instead, or there is no file.
///
/// # Errors
/// A command line that contradicts itself.
pub fn find_file(typed: &Overrides, around: &Surroundings) -> Result<Option<PathBuf>, ConfigError> {
    match (&typed.models[..], &typed.config) {
        ([_, _, ..], _) => return Err(ConfigError::SeveralModels(typed.models.len())),
        ([model], _) if model.to_str().is_none() => {
            return Err(ConfigError::PathNotUtf8(model.clone()));
        }
        ([_], Some(_)) => return Err(ConfigError::ModelAndConfig),
        ([], Some(file)) => return Ok(Some(file.clone())),
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
    Ok(variable.map(PathBuf::from).or_else(found))
}

impl Config {
    /// Resolves what was typed, and gives what each layer said. Reads the file, the models' headers and, for HTTP, the token's
    /// file and the host's addresses.
    ///
    /// # Errors
    /// All that is wrong with values and files, at once.
    pub fn load(typed: &Overrides, around: &Surroundings) -> Result<(Self, Layers), ConfigError> {
        let mut file = find_file(typed, around)?;
        let ignored = file.take_if(|_| !typed.models.is_empty());
        let mut layers = Layers::read(typed, &around.variables, file.as_deref());
        if let Some(file) = ignored {
            layers.notes.push(format!(
                "`{}` is not read, since --model is given",
                file.display()
            ));
        }
        let settings = layers.merged();
        let config = Self::of(&settings, around, &mut layers);
        if !layers.problems.is_empty() {
            return Err(ConfigError::of(layers.problems));
        }
        if config.models.is_empty() {
            return Err(ConfigError::NoModel(
                layers.file.map(|source| source.path.clone()),
            ));
        }
        Ok((config, layers))
    }

    fn of(settings: &ConfigFile, around: &Surroundings, layers: &mut Layers) -> Self {
        let server = &settings.server;
        let transport = match server.transport {
            TransportMode::Stdio => Some(Transport::Stdio),
            TransportMode::Http => {
                HttpConfig::resolve(settings, layers).map(|http| Transport::Http(Box::new(http)))
            }
        };
        check_tool_names(settings, layers);
        let model = |(name, model): (&String, &ModelSettings)| {
            resolve_model(name, model, settings, around, layers)
        };
        let models: Vec<ModelConfig> = settings.models.iter().filter_map(model).collect();
        Self {
            tools: tool::resolve(settings, &models, layers),
            models,
            transport: transport.unwrap_or(Transport::Stdio),
            registry: RegistryConfig {
                max_loaded: settings.registry.max_loaded,
                memory_budget: settings.registry.memory_budget,
            },
            log: settings.log.clone(),
            watch: server.watch,
            secret_variables: layers.secret_variables.clone(),
        }
    }
}

impl Config {
    /// What runs when a server that runs by this is told `new`: what waits for a restart stays as it is.
    #[must_use]
    pub fn with_live_keys_of(&self, new: Self) -> Self {
        let transport = match (&self.transport, &new.transport) {
            (Transport::Http(old), Transport::Http(new)) => {
                Transport::Http(Box::new(old.with_live_keys_of(new)))
            }
            (old, _) => old.clone(),
        };
        Self {
            transport,
            log: LogSettings {
                log_prompts: new.log.log_prompts,
                ..self.log.clone()
            },
            watch: self.watch,
            ..new
        }
    }
}

/// Two tools of one name: clients could not tell them apart.
fn check_tool_names(settings: &ConfigFile, layers: &mut Layers) {
    let mut owners: HashMap<&str, &str> = HashMap::new();
    for (name, model) in settings.models.iter().filter(|(_, model)| model.tool) {
        let tool = model.tool_name.as_deref().unwrap_or(name);
        if let Some(other) = owners.insert(tool, name) {
            let message = format!("the model `{other}` has a tool called `{tool}`, too");
            layers.problem_at(
                &Address::of_model(name, "tool_name"),
                message,
                Some("give one of them another `tool_name`".into()),
            );
        }
    }
    for name in settings.tools.keys() {
        if let Some(other) = owners.get(name.as_str()) {
            let message = format!("the model `{other}` is a tool of this name, too");
            let hint = "give one of them another name, or the model `tool = false`";
            layers.problem_at(&Address::of(["tools", name]), message, Some(hint.into()));
        }
    }
}

fn resolve_model(
    name: &str,
    model: &ModelSettings,
    settings: &ConfigFile,
    around: &Surroundings,
    layers: &mut Layers,
) -> Option<ModelConfig> {
    let at = |key: &str| Address::of_model(name, key);
    check_settings(name, model, layers);
    let Some(path) = &model.path else {
        let hint = layers
            .meant_model(name)
            .unwrap_or_else(|| "name its file: `path = \"model.gguf\"`".into());
        // One whose path was refused is known to have none.
        if !layers
            .problems
            .iter()
            .any(|problem| problem.address == Some(at("path")))
        {
            let message = if layers.file.is_some() && !layers.file_has_model(name) {
                format!("the file has no model `{name}`, and no `path` is given for it")
            } else {
                "is missing: the model has no file".into()
            };
            layers.problem_at(&at("path"), message, Some(hint));
        }
        return None;
    };
    let header = match gguf::read_header(path) {
        Ok(header) => header,
        Err(error) => {
            let cause = std::error::Error::source(&error)
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            layers.problem_at(&at("path"), format!("{error}{cause}"), Some(error.hint()));
            return None;
        }
    };
    let adapter_bytes = check_adapter(name, model, &header, layers);
    check_thinking(name, model, &header, layers);
    for (key, kind, length) in [
        ("cache_type_k", model.cache_type_k, header.key_length),
        ("cache_type_v", model.cache_type_v, header.value_length),
    ] {
        if kind.is_quantized() && !length.is_multiple_of(32) {
            let message = format!(
                "the model's heads have {length} numbers, and quantized types take 32 at a time"
            );
            layers.problem_at(&at(key), message, Some("choose `f16`".into()));
        }
    }
    let load = LoadSettings::of(model, path.clone(), settings, around.cpus);
    let is_said = layers.origin_of(&at("n_threads")).0 != Origin::BuiltIn;
    if model.n_threads > load.n_threads && is_said {
        layers.notes.push(format!(
            "n_threads is {}, the CPUs that this process may use, not {}",
            load.n_threads, model.n_threads
        ));
    }
    Some(ModelConfig {
        name: name.to_owned(),
        title: title_of(&header, path),
        tool_name: model
            .tool
            .then(|| model.tool_name.clone().unwrap_or_else(|| name.to_owned())),
        description: model.description.clone(),
        load,
        defaults: Defaults::of(model),
        preload: model.preload,
        pin: model.pin,
        idle_ttl: model.idle_ttl.unwrap_or(settings.registry.idle_ttl).0,
        header,
        adapter_bytes,
    })
}

fn title_of(header: &Header, path: &Path) -> String {
    let stem = || {
        path.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    header
        .name
        .clone()
        .filter(|name| !name.trim().is_empty())
        .unwrap_or_else(stem)
}

/// What no schema says: keys that contradict each other.
fn check_settings(name: &str, model: &ModelSettings, layers: &mut Layers) {
    let at = |key: &str| Address::of_model(name, key);
    if let Some(limit) = model.max_tokens_limit
        && limit < model.max_tokens
        // The built-in one is just cut.
        && layers.origin_of(&at("max_tokens")).0 != Origin::BuiltIn
    {
        let message = format!(
            "must be at most `max_tokens_limit`, which is {limit}, found {}",
            model.max_tokens
        );
        layers.problem_at(&at("max_tokens"), message, None);
    }
    if model.cache_type_v.is_quantized() && model.flash_attn == FlashAttention::Off {
        let message =
            "llama.cpp reads quantized values with flash attention alone, and `flash_attn` is off"
                .to_owned();
        layers.problem_at(
            &at("cache_type_v"),
            message,
            Some("set `flash_attn = \"on\"`, or choose `f16`".into()),
        );
    }
    if let Some(deadline) = model.deadline
        && !ranges::DEADLINE.contains(deadline.0.as_secs_f64())
    {
        let message = format!(
            "must be {} seconds, found `{}`",
            ranges::DEADLINE,
            String::from(deadline)
        );
        layers.problem_at(&at("deadline"), message, None);
    }
}

/// Looks at the adapter, where there is one; gives the bytes of its tensors.
fn check_adapter(name: &str, model: &ModelSettings, header: &Header, layers: &mut Layers) -> u64 {
    let Some(lora) = &model.lora else { return 0 };
    let place = Address::of_model(name, "lora").join("path");
    // Each layer may say a part of it, so that it is whole is seen here.
    if lora.path.as_os_str().is_empty() {
        layers.problem_at(&place, "is missing: the adapter has no file".into(), None);
        return 0;
    }
    gguf::read_adapter(&lora.path, &header.architecture).unwrap_or_else(|error| {
        layers.problem_at(&place, error.to_string(), Some(error.hint()));
        0
    })
}

/// Thinking can be switched off where the template asks whether it is wanted.
fn check_thinking(name: &str, model: &ModelSettings, header: &Header, layers: &mut Layers) {
    let template = model
        .chat_template
        .as_ref()
        .or(header.chat_template.as_ref());
    let can_be_off = template.is_some_and(|template| template.contains("enable_thinking"));
    if model.thinking == ThinkingOutput::Off && !can_be_off {
        let message = "the model's chat template cannot switch thinking off: it does not use `enable_thinking`".to_owned();
        layers.problem_at(
            &Address::of_model(name, "thinking"),
            message,
            Some("choose `strip`, which takes it out of answers".into()),
        );
    }
}

#[cfg(test)]
mod tests;
