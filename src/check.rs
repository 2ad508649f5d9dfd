//! A configuration, looked at with what all layers know: memory, templates, the log's folder. What `config check` tells, and
//! what a server is started by.

mod templates;

use crate::config::address::Address;
use crate::config::file::LogSettings;
use crate::config::load::Layers;
use crate::config::problem::Problem;
use crate::config::tool::address;
use crate::config::units::{Size, human};
use crate::config::{Config, ConfigError, Overrides, Surroundings};
use crate::process;
use crate::registry::budget::{Occupant, Room, room_for};
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
    /// What each model needs, in their order.
    pub needs: Vec<Need>,
    /// What does not work though the server runs: to `config check` an error, to a start a warning, since the other models
    /// work, and machines differ in their memory.
    pub doubts: Vec<Problem>,
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
    if !layers.problems.is_empty() {
        return Err(ConfigError::of(layers.problems));
    }
    let budget = config.registry.memory_budget.of(process::total_memory());
    let needs = needs_of(&config.models, &fixed_prompts(&config), budget);
    if budget > process::total_memory() {
        layers.notes.push(format!(
            "`memory_budget` is more than the {} that there are",
            human(process::total_memory())
        ));
    }
    check_templates(&config, trials.as_mut(), &mut layers);
    check_memory(&config, budget, &needs, &mut layers);
    check_log(&config.log, &mut layers);
    let has_chat = config.models.iter().any(|model| model.tool_name.is_some());
    if !has_chat && config.tools.is_empty() {
        layers.problem_at(
            &Address::of(["models"]),
            "no model is a tool: there is nothing to call".into(),
            Some("remove `tool = false` from one of them".into()),
        );
    }
    let doubts = std::mem::take(&mut layers.problems);
    Ok(Checked {
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
fn check_memory(config: &Config, budget: u64, needs: &[Need], layers: &mut Layers) {
    let shared = Shared {
        budget,
        max_loaded: config.registry.max_loaded,
    };
    let models = || config.models.iter().zip(needs);
    for (model, need) in models() {
        if let Some((key, message, hint)) = need.refusal(&model.name, budget) {
            layers.problem_at(&model.address(key), message, Some(hint.into()));
            continue;
        }
        let others = models().filter(|(other, _)| other.pin && other.name != model.name);
        let pinned: Vec<Occupant> = (0..)
            .zip(others)
            .map(|(number, (_, need))| Occupant::pinned(number, need.estimate.total()))
            .collect();
        if let Room::Never(cause, hint) = room_for(need.estimate.total(), &pinned, shared, None) {
            let key = if model.pin { "pin" } else { "path" };
            let message = format!(
                "`{}` finds no room beside pinned models: {cause}",
                model.name
            );
            layers.problem_at(&model.address(key), message, Some(hint.into()));
        }
    }
    check_preloads(config, budget, needs, layers);
}

/// Models that are to be ready from the start, and would only take each other's place.
fn check_preloads(config: &Config, budget: u64, needs: &[Need], layers: &mut Layers) {
    let max_loaded = config.registry.max_loaded.unwrap_or(usize::MAX);
    let (mut count, mut memory) = (0_usize, 0_u64);
    for (model, need) in config
        .models
        .iter()
        .zip(needs)
        .filter(|(model, _)| model.preload)
    {
        count += 1;
        memory = memory.saturating_add(need.estimate.total());
        if count > max_loaded || (count > 1 && memory > budget) {
            let message = "the models that are preloaded do not fit together".to_owned();
            let hint = "preload fewer, or raise `memory_budget` or `max_loaded`";
            return layers.problem_at(&model.address("preload"), message, Some(hint.into()));
        }
    }
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
