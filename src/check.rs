//! Checks of a configuration that need more than its schema: tools, chat templates, GPUs, memory and the log file.
//!
//! `config check` reports the result, and the server starts with it.

mod fit;
mod gpus;
mod templates;
mod warnings;

use std::path::Path;

use crate::backend::Need;
use crate::config::address::Address;
use crate::config::file::LogSettings;
use crate::config::load::Layers;
use crate::config::problem::{Origin, Problem};
use crate::config::template_arguments::is_name;
use crate::config::tool::{PreparedPrompt, address};
use crate::config::units::{Size, human};
use crate::config::warning::WarningKind;
use crate::config::{
    Config, ConfigError, FileFault, ModelConfig, ModelFiles, Overrides, Rejected, Surroundings,
    Transport,
};
use crate::memory;
use crate::process;
use crate::process::mounted::{self, Mounted};
use crate::registry::budget::SharedLimits;
use crate::registry::memory::needs_of;
use crate::tools::shared_prefix::shared_prefixes;
use crate::tools::structured;
use crate::tools::typed::prompt::{Known, PromptTemplate};
use crate::worker::trials::Trials;
use fit::check_memory;
use templates::{check_own_templates, check_templates};

/// A configuration that can be run.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The configuration to run.
    pub config: Config,
    /// The layers that `config` was merged from, with their warnings and notes.
    pub layers: Layers,
    /// Memory that all models together may take, in bytes.
    pub budget: u64,
    /// Memory needs of the models, in their order; `Err` for a model whose files cannot be loaded.
    pub needs: Vec<Result<Need, FileFault>>,
    /// Faults that do not keep the server from running. They are errors in `config check` and warnings at the start, since the other
    /// models work, files may come later, and machines differ in their memory.
    pub tolerated_faults: Vec<Problem>,
    /// Those of `tolerated_faults` that settings cause, not the file of a model or token. An edit must not add any.
    pub tolerated_setting_faults: Vec<Problem>,
}

impl Checked {
    /// Checks that a server can start with this configuration.
    ///
    /// # Errors
    /// All tokens are unusable, so the server would reject every request.
    pub(crate) fn startable(self) -> Result<Self, Rejected> {
        let rejects_all = match &self.config.transport {
            Transport::Http(http) => {
                !http.tokens.is_empty() && http.tokens.iter().all(|token| token.secret.is_err())
            }
            Transport::Stdio => false,
        };
        if rejects_all {
            return Err(Rejected {
                error: ConfigError::from_problems(self.tolerated_faults),
                warnings: self.layers.warnings,
            });
        }
        Ok(self)
    }

    /// Logs the faults that the server can run with.
    pub(crate) fn log_tolerated_faults(&self) {
        for fault in &self.tolerated_faults {
            tracing::warn!(
                "part of the configuration does not work; the server runs without it\n{fault}"
            );
        }
    }

    /// Returns the models that can be loaded, with the facts from their files and the memory that they need.
    pub(crate) fn loadable(&self) -> impl Iterator<Item = (&ModelConfig, &ModelFiles, &Need)> {
        let models = self.config.models.iter().zip(&self.needs);
        models.filter_map(|(model, need)| {
            Some((
                model,
                model.gguf().files.as_ref().ok()?,
                need.as_ref().ok()?,
            ))
        })
    }
}

/// Reads and checks the configuration that `typed` and `around` name.
///
/// # Errors
/// The configuration cannot be run. The error lists all faults.
pub(crate) fn load(typed: &Overrides, around: &Surroundings) -> Result<Checked, ConfigError> {
    examine(typed, around).map_err(|rejected| rejected.error)
}

/// Reads and checks a configuration like [`load`], but starts the process for chat templates only when it is needed. Reloads check a rejected
/// configuration repeatedly.
///
/// # Errors
/// The configuration cannot be run. The error lists all faults.
pub(crate) fn load_again(typed: &Overrides, around: &Surroundings) -> Result<Checked, ConfigError> {
    let trials = around.program.as_deref().map(Trials::new);
    examine_with(trials, typed, around).map_err(|rejected| rejected.error)
}

/// Reads and checks a configuration like [`load`], but also returns the warnings about a configuration that cannot be run.
///
/// Every check runs on the valid parts. One run thus finds all problems, without those that only follow from others.
///
/// # Errors
/// The configuration cannot be run. The error lists all faults.
pub(crate) fn examine(typed: &Overrides, around: &Surroundings) -> Result<Checked, Rejected> {
    // The process starts while the models' headers are read.
    let trials = around.program.as_deref().map(Trials::start);
    examine_with(trials, typed, around)
}

fn examine_with(
    mut trials: Option<Trials>,
    typed: &Overrides,
    around: &Surroundings,
) -> Result<Checked, Rejected> {
    let (mut config, mut layers) = Config::resolve(typed, around)?;
    // The default in place of a wrong value may need more memory than the right value.
    let tables = ["models", "defaults", "registry"].map(|table| Address::new([table]));
    let are_settings_right = !tables.iter().any(|table| layers.has_problem_at(table));
    check_own_templates(&config, trials.as_mut(), &mut layers);
    check_tools(&config, &mut layers);
    // The server can run without the parts that the checks below find faults in.
    let fatal = layers.problems.len();
    check_templates(&config, trials.as_mut(), &mut layers);
    check_log(&config.log, &mut layers);
    gpus::assign(&mut config, around, &mut layers);
    let memory = check_needs(&config, are_settings_right, &mut layers);
    warn_of_stale_mounts(&config, &mut layers);
    let setting_faults = layers.problems.split_off(fatal);
    into_result(config, layers, memory, setting_faults)
}

/// Memory budget, and the memory needs of the models.
struct Memory {
    budget: u64,
    needs: Vec<Result<Need, FileFault>>,
}

/// Estimates the memory that the models of `config` need. If their settings are right, checks that the models fit. Adds all warnings, some of
/// which depend on the memory of the machine.
fn check_needs(config: &Config, are_settings_right: bool, layers: &mut Layers) -> Memory {
    let machine = memory::total();
    let budget = config.registry.memory_budget.in_bytes(machine);
    if machine == u64::MAX {
        layers.notes.push(
            "the memory of this machine is unknown, so `memory_budget` limits the models only if it is a size; mount `/proc`, or set `memory_budget` to a size".into(),
        );
    }
    let needs = needs_of(
        &config.models,
        &shared_prefixes(config),
        budget,
        &config.registry,
    );
    if are_settings_right {
        let shared = SharedLimits {
            budget,
            machine,
            max_loaded: config.registry.max_loaded,
            gpu: config.registry.all_gpu_memory(),
        };
        check_memory(config, shared, &needs, layers);
        check_callable(config, layers);
    }
    warnings::find(config, machine, layers);
    Memory { budget, needs }
}

/// Returns the checked configuration. If `config` cannot be run, returns all faults, including the `setting_faults`.
fn into_result(
    config: Config,
    mut layers: Layers,
    memory: Memory,
    mut setting_faults: Vec<Problem>,
) -> Result<Checked, Rejected> {
    if let Some(error) = config.error(&mut layers) {
        let error = match error {
            ConfigError::Problems(mut problems) => {
                problems.append(&mut setting_faults);
                ConfigError::from_problems(problems)
            }
            other => other,
        };
        return Err(Rejected {
            error,
            warnings: layers.warnings,
        });
    }
    let mut all = std::mem::take(&mut layers.tolerated_faults);
    all.extend(setting_faults.iter().cloned());
    Ok(Checked {
        config,
        layers,
        budget: memory.budget,
        needs: memory.needs,
        tolerated_faults: all,
        tolerated_setting_faults: setting_faults,
    })
}

/// Reports an error if there is nothing to call: every model is hidden, and there is no other tool.
fn check_callable(config: &Config, layers: &mut Layers) {
    let has_chat = config.models.iter().any(|model| model.tool_name.is_some());
    let has_tools = layers.has_problem_at(&Address::new(["tools"])) || !config.tools.is_empty();
    if !has_chat && !has_tools && !config.models.is_empty() {
        layers.problem_at(
            &Address::new(["models"]),
            "nothing to call: all models are hidden, and no other tool is configured".into(),
            Some("remove `tool = false` from one of them".into()),
        );
    }
}

/// Tests prompts and schemas of typed tools as a call would use them.
fn check_tools(config: &Config, layers: &mut Layers) {
    let tools = config.tools.iter();
    for (tool, prepared) in tools.filter_map(|tool| Some((tool, tool.prepared()?))) {
        check_prompt(&tool.name, prepared, layers);
        if let Some(answer) = &prepared.answer
            && let Err(faults) = structured::enforce(answer)
        {
            let at = address(&tool.name, answer.key());
            for fault in faults.0 {
                let message = format!("the schema cannot be enforced {fault}");
                layers.schema_problem_at(&at, &fault.pointer, message);
            }
        }
    }
}

/// Reports all faults of the prompt of the tool `name`, as far as its arguments are known.
fn check_prompt(name: &str, tool: &PreparedPrompt, layers: &mut Layers) {
    let at = |key: &str| address(name, key);
    let arguments = at("arguments");
    // The invalid name itself is reported already.
    let is_invalid = |name: &str| !is_name(name) && tool.prompt.contains(name);
    let uses_invalid = layers.refused_names(&arguments).any(is_invalid);
    if uses_invalid || layers.has_problem_at(&at("prompt")) {
        return;
    }
    let is_wrong = |key: &str| layers.has_problem_at(&at(key));
    let has_unknown_variable = (is_wrong("choices") && tool.prompt.contains("choices"))
        || (is_wrong("output") && tool.prompt.contains("output_schema"));
    let known = if layers.is_refused(&at("arguments")) || has_unknown_variable {
        Known::Nothing
    } else if is_wrong("arguments") {
        Known::Names
    } else {
        Known::All
    };
    for fault in PromptTemplate::faults(tool, known) {
        layers.problem_at(&at("prompt"), fault.to_string(), fault.hint);
    }
}

/// Adds a warning for each file of the configuration and of its models that was replaced outside of its mount.
fn warn_of_stale_mounts(config: &Config, layers: &mut Layers) {
    let file = layers.file.iter().map(|source| &source.path);
    let models = config
        .models
        .iter()
        .map(|model| &model.gguf().settings.path);
    let files = file.chain(&layers.files).chain(models);
    let warnings: Vec<Problem> = files.filter_map(|file| stale_mount(file)).collect();
    for warning in warnings {
        layers.warn(warning);
    }
}

/// Returns a warning if `file` was replaced outside of its mount.
pub(crate) fn stale_mount(file: &Path) -> Option<Problem> {
    Mounted::check(file).is_stale.then(|| {
        let kind = WarningKind::StaleMount;
        let message = mounted::stale(file);
        Problem::warning(Origin::BuiltIn, None, kind, message, mounted::ADVICE)
    })
}

/// Minimum `max_size` of a log file. A smaller one would rotate after every few lines.
const MIN_LOG: Size = Size::mebibytes(1);

fn check_log(log: &LogSettings, layers: &mut Layers) {
    if log.max_size.0 < MIN_LOG.0 {
        let (least, found) = (human(MIN_LOG.0), human(log.max_size.0));
        let message = format!("must be at least {least}, found {found}");
        layers.range_problem_at(&Address::new(["log", "max_size"]), message, None);
    }
    let Some(file) = log.file.as_deref() else {
        return;
    };
    let fault = if file.is_dir() {
        Some(format!("`{}` is a folder", file.display()))
    } else {
        process::unwritable(file)
            .map(|(folder, error)| format!("`{}` cannot be written: {error}", folder.display()))
    };
    if let Some(fault) = fault {
        layers.tolerate_at(&Address::new(["log", "file"]), fault, None);
    }
}
