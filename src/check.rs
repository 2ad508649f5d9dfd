//! A configuration, looked at with what all layers know: memory, templates, the log's folder. What `config check` tells, and
//! what a server is started by.

use std::path::Path;

use crate::config::address::Address;
use crate::config::load::Layers;
use crate::config::problem::Problem;
use crate::config::tool::address;
use crate::config::units::human;
use crate::config::{Config, ConfigError, ModelConfig, Overrides, Surroundings, ToolConfig};
use crate::engine::template::{self, SystemPrompt, Variables};
use crate::engine::thinking::families::{UnknownMarkers, markers_of, unknown_markers};
use crate::process;
use crate::registry::budget::{Occupant, Room, room_for};
use crate::registry::memory::{Need, needs_of};
use crate::registry::residency::Shared;
use crate::tools::fixed::fixed_prompts;
use crate::tools::structured;
use crate::tools::typed::prompt::PromptTemplate;

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
    let (config, mut layers) = Config::load(typed, around)?;
    for model in &config.models {
        if let Some(source) = &model.load.chat_template
            && let Err(error) = template::check(source)
        {
            layers.problem_at(&model.address("chat_template"), error.to_string(), None);
        }
    }
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
    check_embedded_templates(&config.models, &mut layers);
    check_rendering(&config, &mut layers);
    check_reasoning(&config.models, &mut layers);
    check_memory(&config, budget, &needs, &mut layers);
    check_log(config.log.file.as_deref(), &mut layers);
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

fn check_embedded_templates(models: &[ModelConfig], layers: &mut Layers) {
    for model in models {
        let source = model.header.chat_template.as_ref();
        if let Some(source) = source.filter(|_| model.load.chat_template.is_none())
            && let Err(error) = template::check(source)
        {
            let hint = "give a `chat_template` of your own";
            layers.problem_at(&model.address("path"), error.to_string(), Some(hint.into()));
        }
    }
}

/// Renders conversations with the chat template of every model, as its tools would: one that cannot be rendered is a problem.
fn check_rendering(config: &Config, layers: &mut Layers) {
    for model in &config.models {
        let own = model.load.chat_template.as_ref();
        let Some(source) = own.or(model.header.chat_template.as_ref()) else {
            continue;
        };
        // The problem of such a template is reported already.
        if template::check(source).is_err() {
            continue;
        }
        if check_questions(model, source, &config.tools, layers) {
            check_system_prompts(model, source, &config.tools, layers);
        }
    }
}

/// Checks that the chat template `source` of `model` prints a question, and notes if it does not print earlier turns. Returns whether
/// it prints a question.
fn check_questions(
    model: &ModelConfig,
    source: &str,
    tools: &[ToolConfig],
    layers: &mut Layers,
) -> bool {
    let tools = tools.iter().filter(|tool| tool.model == model.name);
    let of_tools = tools.map(|tool| &tool.defaults.template_arguments);
    let mut variables = vec![&model.defaults.template_arguments];
    for more in of_tools {
        if !variables.contains(&more) {
            variables.push(more);
        }
    }
    let mut faults = Vec::new();
    for variables in &variables {
        faults.extend(template::check_question(source, variables).err());
    }
    let every = faults.len() == variables.len();
    // If it works for one tool, the template has no fault.
    if let Some(error) = faults.into_iter().next().filter(|_| every) {
        let (key, hint) = match model.load.chat_template {
            Some(_) => ("chat_template", "change it so that it prints all messages"),
            None => ("path", "give a `chat_template` that prints all messages"),
        };
        layers.problem_at(&model.address(key), error.text, Some(hint.into()));
        return false;
    }
    let variables = &model.defaults.template_arguments;
    if model.tool_name.is_some()
        && template::check_question(source, variables).is_ok()
        && let Err(error) = template::check_turns(source, variables)
    {
        layers.notes.push(format!(
            "model `{}`: calls with earlier turns in `messages` fail: {}",
            model.name, error.text
        ));
    }
    true
}

/// Adds a note for each system prompt that the chat template `source` of `model` does not print as such. A system prompt that it cannot
/// print at all is a problem.
fn check_system_prompts(
    model: &ModelConfig,
    source: &str,
    tools: &[ToolConfig],
    layers: &mut Layers,
) {
    for (address, system, variables) in system_prompts(model, tools) {
        // If the template also fails without a system prompt, the prompt is not the cause.
        if system.trim().is_empty() || template::check_question(source, variables).is_err() {
            continue;
        }
        match template::check_system(source, system, variables) {
            Ok(SystemPrompt::Printed) => {}
            Ok(SystemPrompt::Merged) => layers.notes.push(format!(
                "{address}: the chat template of `{}` does not print a system prompt; its text is merged into the first user message",
                model.name
            )),
            Err(error) => {
                let hint = "give the model a `chat_template` that prints all messages";
                layers.problem_at(&address, error.text, Some(hint.into()));
            }
        }
    }
}

/// Notes markers of chat templates that look like reasoning and would be left in answers.
fn check_reasoning(models: &[ModelConfig], layers: &mut Layers) {
    for model in models {
        let own = model.load.chat_template.as_ref();
        let Some(template) = own.or(model.header.chat_template.as_ref()) else {
            continue;
        };
        let known = markers_of(template, &[], model.load.thinking_tags.as_ref());
        for UnknownMarkers { open, close } in unknown_markers(template, &known) {
            let (look, close) = match close {
                Some(close) => (
                    format!("`{open}` and `{close}`, which look like markers"),
                    close,
                ),
                None => (
                    format!("`{open}`, which looks like a marker"),
                    "…".to_owned(),
                ),
            };
            layers.notes.push(format!(
                "model `{}`: its chat template has {look} of reasoning; the reasoning stays in answers unless you set `thinking_tags = [\"{open}\", \"{close}\"]`",
                model.name
            ));
        }
    }
}

/// Returns the system prompt of `model` and those of its tools that replace it, each with the variables that the template gets.
fn system_prompts<'a>(
    model: &'a ModelConfig,
    tools: &'a [ToolConfig],
) -> impl Iterator<Item = (Address, &'a str, &'a Variables)> {
    let own = model.defaults.system.as_deref();
    let tools = tools.iter().filter(|tool| tool.model == model.name);
    let of_tools = tools.filter_map(move |tool| {
        let system = tool.defaults.system.as_deref();
        let system = system.filter(|system| Some(*system) != own)?;
        let address = address(&tool.name, "system");
        Some((address, system, &tool.defaults.template_arguments))
    });
    let own = own.map(|system| {
        let address = model.address("system");
        (address, system, &model.defaults.template_arguments)
    });
    own.into_iter().chain(of_tools)
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

fn check_log(file: Option<&Path>, layers: &mut Layers) {
    let Some(file) = file else { return };
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
