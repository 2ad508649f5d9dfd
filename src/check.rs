//! A configuration, looked at with what all layers know: memory, templates, the log's folder. What `config check` tells, and
//! what a server is started by.

mod templates;

use crate::config::address::Address;
use crate::config::file::LogSettings;
use crate::config::load::Layers;
use crate::config::problem::Problem;
use crate::config::tool::address;
use crate::config::units::{Size, human};
use crate::config::{
    Config, ConfigError, FileFault, ModelConfig, ModelFiles, Overrides, Surroundings, Transport,
};
use crate::gguf::Tuning;
use crate::memory;
use crate::process;
use crate::process::mounted::{self, Mounted};
use crate::registry::budget::{Occupant, Room, room_for};
use crate::registry::footprint::sum;
use crate::registry::memory::{Need, needs_of};
use crate::registry::residency::Shared;
use crate::tools::fixed::fixed_prompts;
use crate::tools::structured;
use crate::tools::typed::prompt::PromptTemplate;
use crate::worker::trials::Trials;
use templates::{check_own_templates, check_templates};

/// A configuration that can be run.
#[derive(Debug)]
pub struct Checked {
    /// What the program runs by.
    pub config: Config,
    /// What each layer said.
    pub layers: Layers,
    /// Bytes that all models together may take.
    pub budget: u64,
    /// What each model needs, in their order; unknown if it cannot be loaded from its files.
    pub needs: Vec<Result<Need, FileFault>>,
    /// Settings that work and are probably a mistake.
    pub warnings: Vec<String>,
    /// What does not work though the server runs: to `config check` an error, to a start a warning, since the other models
    /// work, files may come later, and machines differ in their memory.
    pub doubts: Vec<Problem>,
}

impl Checked {
    /// Checks that a server can start with it: one whose tokens are all unusable would refuse everybody.
    ///
    /// # Errors
    /// Nobody could use the server.
    pub fn startable(self) -> Result<Self, ConfigError> {
        let is_closed = match &self.config.transport {
            Transport::Http(http) => {
                !http.tokens.is_empty() && http.tokens.iter().all(|token| token.token.is_none())
            }
            Transport::Stdio => false,
        };
        if is_closed {
            return Err(ConfigError::of(self.doubts));
        }
        Ok(self)
    }

    /// Returns the models that can be loaded from their files, with the facts from the files and the memory that they need.
    pub fn loadable(&self) -> impl Iterator<Item = (&ModelConfig, &ModelFiles, &Need)> {
        let models = self.config.models.iter().zip(&self.needs);
        models.filter_map(|(model, need)| {
            Some((model, model.files.as_ref().ok()?, need.as_ref().ok()?))
        })
    }
}

/// Pairs the models whose need is known with what they need.
fn known_needs<'a>(
    config: &'a Config,
    needs: &'a [Result<Need, FileFault>],
) -> impl Iterator<Item = (&'a ModelConfig, &'a Need)> {
    let models = config.models.iter().zip(needs);
    models.filter_map(|(model, need)| Some((model, need.as_ref().ok()?)))
}

/// Reads and checks what was typed and what it names.
///
/// # Errors
/// All that is wrong.
pub fn load(typed: &Overrides, around: &Surroundings) -> Result<Checked, ConfigError> {
    // The process gets ready while the headers of models are read.
    let mut trials = around.program.as_deref().map(Trials::start);
    let (config, mut layers) = Config::load(typed, around)?;
    check_own_templates(&config, trials.as_mut(), &mut layers);
    check_tools(&config, &mut layers);
    if let Some(error) = ConfigError::take(&mut layers) {
        return Err(error);
    }
    let machine = memory::total();
    let budget = config.registry.memory_budget.of(machine);
    let needs = needs_of(&config.models, &fixed_prompts(&config), budget);
    if machine == u64::MAX {
        layers.notes.push(
            "the memory of this machine is unknown, so only a size as `memory_budget` limits the models; mount `/proc`".into(),
        );
    }
    if budget > machine {
        layers.notes.push(format!(
            "`memory_budget` is more than the {} that there are",
            human(machine)
        ));
    }
    let shared = Shared {
        budget,
        machine,
        max_loaded: config.registry.max_loaded,
    };
    check_templates(&config, trials.as_mut(), &mut layers);
    check_memory(&config, shared, &needs, &mut layers);
    check_log(&config.log, &mut layers);
    let has_chat = config.models.iter().any(|model| model.tool_name.is_some());
    if !has_chat && config.tools.is_empty() {
        layers.problem_at(
            &Address::of(["models"]),
            "no model is a tool: there is nothing to call".into(),
            Some("remove `tool = false` from one of them".into()),
        );
    }
    let mut doubts = std::mem::take(&mut layers.doubts);
    doubts.append(&mut layers.problems);
    Ok(Checked {
        warnings: config
            .models
            .iter()
            .filter_map(base_model)
            .chain(stale_mounts(&config, &layers))
            .collect(),
        config,
        layers,
        budget,
        needs,
        doubts,
    })
}

/// Prompts and schemas of typed tools, tried as a call would use them.
fn check_tools(config: &Config, layers: &mut Layers) {
    for tool in &config.tools {
        if let Err(cause) = PromptTemplate::check(tool) {
            layers.problem_at(&address(&tool.name, "prompt"), cause, None);
        }
        if let Some(answer) = &tool.answer
            && let Err(faults) = structured::enforce(answer)
        {
            for fault in faults.0 {
                let message = format!("the schema cannot be enforced {fault}");
                layers.problem_at(&address(&tool.name, answer.key()), message, None);
            }
        }
    }
}

/// Models that can never be loaded, by themselves or beside those that are pinned.
fn check_memory(
    config: &Config,
    shared: Shared,
    needs: &[Result<Need, FileFault>],
    layers: &mut Layers,
) {
    let models = || known_needs(config, needs);
    for (model, need) in models() {
        if let Some((key, message, hint)) = need.refusal(&model.name, shared) {
            layers.problem_at(&model.address(key), message, Some(hint));
            continue;
        }
        let others = models().filter(|(other, _)| other.pin && other.name != model.name);
        let pinned: Vec<Occupant> = (0..)
            .zip(others)
            .map(|(number, (_, need))| Occupant::pinned(number, need.demand().footprint))
            .collect();
        if let Room::Never(cause, hint) = room_for(need.demand(), &pinned, shared, None) {
            let key = if model.pin { "pin" } else { "path" };
            let message = format!(
                "`{}` finds no room beside pinned models: {cause}",
                model.name
            );
            layers.problem_at(&model.address(key), message, Some(hint));
        }
    }
    check_preloads(config, shared, needs, layers);
}

/// Models that are to be ready from the start, and would only take each other's place.
fn check_preloads(
    config: &Config,
    shared: Shared,
    needs: &[Result<Need, FileFault>],
    layers: &mut Layers,
) {
    let max_loaded = shared.max_loaded.unwrap_or(usize::MAX);
    let mut preloaded = Vec::new();
    for (model, need) in known_needs(config, needs).filter(|(model, _)| model.preload) {
        preloaded.push(need.demand().footprint);
        let (count, memory) = (preloaded.len(), sum(preloaded.iter().copied()));
        let hint = if count > max_loaded {
            "preload fewer, or raise `max_loaded`"
        } else if count == 1 || memory <= shared.budget {
            continue;
        } else if memory <= shared.machine {
            "preload fewer, or raise `memory_budget` in `[registry]`"
        } else {
            "preload fewer, or choose smaller models, `n_ctx` or `parallel`"
        };
        let message = "the models that are preloaded do not fit together".to_owned();
        return layers.problem_at(&model.address("preload"), message, Some(hint.into()));
    }
}

/// Returns a warning for each file of the configuration and of its models that was replaced outside of its mount.
fn stale_mounts(config: &Config, layers: &Layers) -> Vec<String> {
    let file = layers.file.iter().map(|source| &source.path);
    let models = config.models.iter().map(|model| &model.load.path);
    let files = file.chain(&layers.files).chain(models);
    let stale = files.filter(|file| Mounted::of(file).is_stale);
    stale.map(|file| mounted::stale(file)).collect()
}

/// Returns a warning if `model` is a base model or has no chat template. `None` also if its files cannot be read.
fn base_model(model: &ModelConfig) -> Option<String> {
    let header = &model.files.as_ref().ok()?.header;
    let has_template = header.chat_template.is_some() || model.load.chat_template.is_some();
    let fault = match (header.tuning, has_template) {
        (Tuning::Instruct | Tuning::Unstated, true) => return None,
        (Tuning::Instruct, false) => {
            "its file has no chat template, so messages are joined without roles; set `chat_template` to the template of its family"
        }
        (Tuning::Unstated, false) => {
            "a base model (its file has no chat template): it continues text instead of answering; choose the file of the instruct or chat model (often named `-Instruct`, `-it` or `-chat`)"
        }
        (Tuning::Base, _) => {
            "a base model, by its name: it continues text instead of answering; choose the file of the instruct or chat model (often named `-Instruct`, `-it` or `-chat`)"
        }
    };
    Some(format!("`models.{}`: {fault}", model.name))
}

/// The smallest `max_size` of a log file: a smaller one would be a file for every few lines.
const MIN_LOG: Size = Size::mebibytes(1);

fn check_log(log: &LogSettings, layers: &mut Layers) {
    if log.max_size.0 < MIN_LOG.0 {
        let (least, found) = (human(MIN_LOG.0), human(log.max_size.0));
        let message = format!("must be at least {least}, found {found}");
        layers.problem_at(&Address::of(["log", "max_size"]), message, None);
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
        layers.problem_at(&Address::of(["log", "file"]), fault, None);
    }
}
