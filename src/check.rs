//! A configuration, looked at with what all layers know: memory, templates, the log's folder. What `config check` tells, and
//! what a server is started by.

use std::path::Path;

use crate::config::address::Address;
use crate::config::load::Layers;
use crate::config::problem::Problem;
use crate::config::tool::address;
use crate::config::units::human;
use crate::config::{Config, ConfigError, ModelConfig, Overrides, Surroundings, ToolConfig};
use crate::engine::EngineError;
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
    check_templates(&config, &mut layers);
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

/// Checks the chat templates of all models. Those of the configuration can be compiled: other ones are refused before.
fn check_templates(config: &Config, layers: &mut Layers) {
    for model in &config.models {
        let own = model.load.chat_template.as_ref();
        let Some(source) = own.or(model.header.chat_template.as_ref()) else {
            continue;
        };
        if own.is_none()
            && let Err(error) = template::check(source)
        {
            let hint = "give a `chat_template` of your own";
            layers.problem_at(&model.address("path"), error.to_string(), Some(hint.into()));
            continue;
        }
        check_rendering(model, source, &config.tools, layers);
        check_reasoning(model, source, layers);
    }
}

/// One way in which the chat template of a model is used: by the model's own tool or by a typed tool.
struct Use<'a> {
    /// The typed tool; `None` for the model's own tool.
    tool: Option<&'a ToolConfig>,
    variables: &'a Variables,
    /// The system prompt and where it comes from.
    system: Option<(Address, &'a str)>,
    /// The error of a question.
    question: Option<EngineError>,
}

/// Returns how the chat template `source` of `model` is used, with a question tried once for the same variables.
fn uses_of<'a>(model: &'a ModelConfig, source: &str, tools: &'a [ToolConfig]) -> Vec<Use<'a>> {
    let own = model.tool_name.is_some().then_some((None, &model.defaults));
    let tools = tools.iter().filter(|tool| tool.model == model.name);
    let tools = tools.map(|tool| (Some(tool), &tool.defaults));
    let mut uses: Vec<Use<'a>> = Vec::new();
    for (tool, defaults) in own.into_iter().chain(tools) {
        let variables = &defaults.template_arguments;
        let tried = uses.iter().find(|tried| tried.variables == variables);
        let question = match tried {
            Some(tried) => tried.question.clone(),
            None => template::check_question(source, variables).err(),
        };
        let system = defaults.system.as_deref();
        let system = system.filter(|system| !system.trim().is_empty());
        let address = match tool {
            Some(tool) if system != model.defaults.system.as_deref() => {
                address(&tool.name, "system")
            }
            _ => model.address("system"),
        };
        uses.push(Use {
            tool,
            variables,
            system: system.map(|system| (address, system)),
            question,
        });
    }
    uses
}

/// Renders conversations with the chat template `source` of `model`, as its tools would: one that cannot be rendered is a problem.
fn check_rendering(model: &ModelConfig, source: &str, tools: &[ToolConfig], layers: &mut Layers) {
    let uses = uses_of(model, source, tools);
    check_questions(model, &uses, layers);
    let works = |used: &&Use<'_>| used.question.is_none();
    let chat = uses.iter().find(|used| used.tool.is_none());
    if let Some(chat) = chat.filter(works)
        && let Err(error) = template::check_turns(source, chat.variables)
    {
        layers.notes.push(format!(
            "model `{}`: calls with earlier turns in `messages` fail: {}",
            model.name, error.text
        ));
    }
    // A template that fails without a system prompt, too, is no fault of the prompt.
    let uses: Vec<&Use<'_>> = uses.iter().filter(works).collect();
    check_system_prompts(model, source, &uses, layers);
}

/// Reports questions that the chat template of `model` does not print: as a problem of the template if no tool can use it, else as a
/// problem of each typed tool that cannot.
fn check_questions(model: &ModelConfig, uses: &[Use<'_>], layers: &mut Layers) {
    let faults = || {
        uses.iter()
            .filter_map(|used| Some((used, used.question.as_ref()?)))
    };
    if faults().count() == uses.len() {
        if let Some((_, error)) = faults().next() {
            let (key, hint) = match model.load.chat_template {
                Some(_) => ("chat_template", "change it so that it prints all messages"),
                None => ("path", "give a `chat_template` that prints all messages"),
            };
            layers.problem_at(&model.address(key), error.text.clone(), Some(hint.into()));
        }
        return;
    }
    for (used, error) in faults() {
        // Calls of the model's own tool may give other variables; calls of a typed tool cannot.
        let Some(tool) = used.tool else { continue };
        let message = format!("every call fails: {}", error.text);
        let hint = format!(
            "set the variables that the chat template of `{}` requires",
            model.name
        );
        let address = address(&tool.name, "template_arguments");
        layers.problem_at(&address, message, Some(hint));
    }
}

/// Notes the system prompts that the chat template `source` of `model` does not print as such. One that it cannot print at all is a
/// problem.
fn check_system_prompts(model: &ModelConfig, source: &str, uses: &[&Use<'_>], layers: &mut Layers) {
    let mut tried: Vec<(&Address, &str, &Variables)> = Vec::new();
    let mut reported: Vec<&Address> = Vec::new();
    for used in uses {
        let Some((address, system)) = &used.system else {
            continue;
        };
        let trial = (address, *system, used.variables);
        if tried.contains(&trial) || reported.contains(&address) {
            continue;
        }
        tried.push(trial);
        match template::check_system(source, system, used.variables) {
            Ok(SystemPrompt::Printed) => continue,
            Ok(SystemPrompt::Merged) => layers.notes.push(format!(
                "{address}: the chat template of `{}` does not print a system prompt; its text is merged into the first user message",
                model.name
            )),
            Err(error) => {
                let hint = "give the model a `chat_template` that prints all messages";
                layers.problem_at(address, error.text, Some(hint.into()));
            }
        }
        reported.push(address);
    }
}

/// Notes markers of the chat template `source` of `model` that look like reasoning and would be left in answers.
fn check_reasoning(model: &ModelConfig, source: &str, layers: &mut Layers) {
    let known = markers_of(source, &[], model.load.thinking_tags.as_ref());
    for UnknownMarkers { open, close } in unknown_markers(source, &known) {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::process::Cpus;

    const WANTS_LANGUAGE: &str = "{% if not lang %}{{ raise_exception('no lang') }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}";

    /// The problems and notes of the model `a` with the chat template `template`, the typed tools `t` and `u`, and more that is `set`.
    fn told(template: &str, set: &[&str]) -> (Vec<String>, Vec<String>) {
        let around = Surroundings {
            cpus: Cpus::single(1),
            variables: BTreeMap::new(),
            folders: Vec::new(),
        };
        let template = format!("models.a.chat_template={template}");
        let always = [
            "models.a.path=tests/models/tiny-crab-chat.Q8_0.gguf",
            &template,
            "tools.t.prompt=Hi",
            "tools.u.prompt=Hello",
        ];
        let typed = Overrides {
            set: always
                .iter()
                .chain(set)
                .map(|set| (*set).to_owned())
                .collect(),
            ..Overrides::default()
        };
        let checked = load(&typed, &around).unwrap_or_else(|error| panic!("{error:?}"));
        let problem = |problem: &Problem| {
            let address = problem.address.as_ref().unwrap();
            format!("{address}: {}", problem.message)
        };
        let problems = checked.doubts.iter().map(problem).collect();
        (problems, checked.layers.notes)
    }

    const REFUSED: &str = "the model's chat template refused the messages: no lang";

    #[test]
    fn a_typed_tool_whose_every_call_fails_is_a_problem_though_other_tools_of_the_model_work() {
        let given = "models.a.template_arguments.lang=es";
        let cleared = "tools.t.template_arguments.lang=";
        assert_eq!(told(WANTS_LANGUAGE, &[given]).0, [""; 0]);
        let fails = format!("tools.t.template_arguments: every call fails: {REFUSED}");
        let (problems, _) = told(WANTS_LANGUAGE, &[given, cleared]);
        assert_eq!(problems, [fails.as_str()]);
        let (problems, _) = told(WANTS_LANGUAGE, &[given, cleared, "models.a.tool=false"]);
        assert_eq!(problems, [fails.as_str()]);
    }

    #[test]
    fn the_variables_of_a_model_that_is_no_tool_are_not_tried() {
        let set = [
            "models.a.tool=false",
            "models.a.system=Be brief.",
            "tools.t.template_arguments.lang=es",
            "tools.u.template_arguments.lang=en",
        ];
        assert_eq!(told(WANTS_LANGUAGE, &set).0, [""; 0]);
        let cleared = [
            "models.a.tool=false",
            "models.a.template_arguments.lang=es",
            "tools.t.template_arguments.lang=",
            "tools.u.template_arguments.lang=",
        ];
        let (problems, _) = told(WANTS_LANGUAGE, &cleared);
        assert_eq!(problems, [format!("models.a.chat_template: {REFUSED}")]);
    }

    #[test]
    fn the_own_tool_of_a_model_may_need_variables_that_its_calls_give() {
        let set = [
            "tools.t.template_arguments.lang=es",
            "tools.u.template_arguments.lang=en",
        ];
        assert_eq!(told(WANTS_LANGUAGE, &set).0, [""; 0]);
        assert_eq!(
            told(WANTS_LANGUAGE, &[]).0,
            [format!("models.a.chat_template: {REFUSED}")]
        );
    }

    #[test]
    fn a_system_prompt_that_tools_inherit_is_noted_once_and_tried_with_their_variables() {
        let merges = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}";
        let (_, notes) = told(merges, &["models.a.system=Be brief."]);
        let of_system: Vec<&String> = notes
            .iter()
            .filter(|note| note.contains("does not print a system prompt"))
            .collect();
        assert_eq!(of_system.len(), 1, "{notes:?}");
        assert!(of_system[0].starts_with("models.a.system: "), "{notes:?}");
        let cuts = "{% for m in messages %}{{ m.content[:5] if lang else m.content }}{% endfor %}";
        let set = [
            "models.a.system=Be brief.",
            "tools.t.template_arguments.lang=es",
        ];
        let (problems, _) = told(cuts, &set);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("models.a.system: "), "{problems:?}");
    }
}
