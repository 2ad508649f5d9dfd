//! Checks that chat templates print the prompts of the tools, and that reasoning is recognised. Templates are rendered in a separate process.

use crate::config::address::Address;
use crate::config::load::Layers;
use crate::config::paths;
use crate::config::tool::address;
use crate::config::warning::WarningKind;
use crate::config::{Config, ModelConfig, ToolConfig};
use crate::engine::template::{SystemPrompt, Variables};
use crate::engine::thinking::families::{UnknownMarkers, markers_of, unknown_markers};
use crate::engine::{EngineError, Message, Role};
use crate::worker::trials::{TemplateTrials, Trial, Trials};

/// Checks that the chat templates in the configuration compile.
pub(super) fn check_own_templates(
    config: &Config,
    mut trials: Option<&mut Trials>,
    layers: &mut Layers,
) {
    for model in &config.models {
        if let Some(source) = &model.gguf().settings.chat_template
            && check_syntax(model, source, layers)
            && let Some(mut trials) = trials_of(model, source, trials.as_deref_mut(), layers)
            && let Err(error) = trials.run(Trial::Validity)
        {
            layers.problem_at(&model.address("chat_template"), error.text, None);
        }
    }
}

/// Checks that the chat template `source` of `model` has template syntax. Returns whether it does.
fn check_syntax(model: &ModelConfig, source: &str, layers: &mut Layers) -> bool {
    let is_template = source.contains("{{") || source.contains("{%");
    if !is_template {
        let message = "is not a chat template: it has no `{{ … }}` and no `{% … %}`".to_owned();
        let hint = match paths::file_reference(source) {
            Some(reference) => format!("write `\"{reference}\"` for the content of the file"),
            None => "remove it to use the template in the model's file, or write the template itself, such as `\"${file:template.jinja}\"`; there are no built-in templates".into(),
        };
        layers.problem_at(&model.address("chat_template"), message, Some(hint));
    }
    is_template
}

/// Keys that decide what a chat template prints. If one of them is wrong, the prompt may be wrong, too.
const KEYS: [&str; 4] = [
    "chat_template",
    "system",
    "template_arguments",
    "thinking_tags",
];

/// Checks the chat templates of all models. Templates in the configuration are already known to compile.
pub(super) fn check_templates(
    config: &Config,
    mut trials: Option<&mut Trials>,
    layers: &mut Layers,
) {
    let is_wrong = |table: &Address, layers: &Layers| {
        KEYS.iter()
            .any(|key| layers.has_problem_at(&table.join(*key)))
    };
    let tools = config.tools.iter().filter(|tool| {
        let table = Address::new(["tools", &tool.name]);
        !is_wrong(&table, layers)
    });
    let tools: Vec<ToolConfig> = tools.cloned().collect();
    for model in &config.models {
        if is_wrong(&Address::new(["models", &model.name]), layers) {
            continue;
        }
        let own = model.gguf().settings.chat_template.as_ref();
        let files = model.gguf().files.as_ref().ok();
        let of_file = files.and_then(|files| files.header.chat_template.as_ref());
        let Some(source) = own.or(of_file) else {
            continue;
        };
        check_reasoning(model, source, layers);
        let Some(mut trials) = trials_of(model, source, trials.as_deref_mut(), layers) else {
            continue;
        };
        if own.is_none()
            && let Err(error) = trials.run(Trial::Validity)
        {
            let hint = "set a `chat_template` in the configuration";
            layers.tolerate_at(&model.address("path"), error.text, Some(hint.into()));
            continue;
        }
        check_rendering(model, &mut trials, &tools, layers);
    }
}

/// Returns the trials of the chat template `source` of `model`. Returns `None` and adds a note if no process can be started for them.
fn trials_of<'trials>(
    model: &ModelConfig,
    source: &'trials str,
    trials: Option<&'trials mut Trials>,
    layers: &mut Layers,
) -> Option<TemplateTrials<'trials>> {
    let started = trials?.for_template(source, model.gguf().settings.sandbox);
    let noted = started.inspect_err(|error| {
        let name = &model.name;
        let note = format!("model `{name}`: the chat template was not checked, since no process could be started: {error}");
        layers.notes.push(note);
    });
    noted.ok()
}

/// Returns a trial with one user message and no system prompt.
fn question(variables: &Variables) -> Trial {
    Trial::Messages(vec![Message::new(Role::User, "Hi")], variables.clone())
}

/// Returns a trial with a second question after an answered one.
fn turns(variables: &Variables) -> Trial {
    let messages = [
        (Role::User, "Hi"),
        (Role::Assistant, "Hello!"),
        (Role::User, "Why?"),
    ];
    let messages = messages.map(|(role, content)| Message::new(role, content));
    Trial::Messages(messages.into(), variables.clone())
}

/// Returns a trial with one user message after the system prompt `system`.
fn system_prompt(system: &str, variables: &Variables) -> Trial {
    let messages = vec![
        Message::new(Role::System, system),
        Message::new(Role::User, "Hi"),
    ];
    Trial::Messages(messages, variables.clone())
}

/// One way in which the chat template of a model is used: by the model's own tool or by a tool of `[tools]`.
struct Use<'a> {
    /// The tool of `[tools]`; `None` for the model's own tool.
    tool: Option<&'a ToolConfig>,
    variables: &'a Variables,
    /// System prompt, with the address of its key; `None` if there is none.
    system: Option<(Address, &'a str)>,
    /// Error of a trial with a single question; `None` if it succeeded.
    question: Option<EngineError>,
}

impl Use<'_> {
    /// Returns whether its calls take a conversation.
    fn is_chat(&self) -> bool {
        self.tool.is_none_or(|tool| tool.prepared().is_none())
    }
}

/// Returns the ways in which the chat template of `model` is used. Tries a question once for each set of variables.
fn uses_of<'a>(
    model: &'a ModelConfig,
    trials: &mut TemplateTrials<'_>,
    tools: &'a [ToolConfig],
) -> Vec<Use<'a>> {
    let own = model.tool_name.is_some().then_some((None, &model.defaults));
    let tools = tools.iter().filter(|tool| tool.model == model.name);
    let tools = tools.map(|tool| (Some(tool), &tool.defaults));
    let mut uses: Vec<Use<'a>> = Vec::new();
    for (tool, defaults) in own.into_iter().chain(tools) {
        let variables = &defaults.template_arguments;
        let tried = uses.iter().find(|tried| tried.variables == variables);
        let question = match tried {
            Some(tried) => tried.question.clone(),
            None => trials.run(question(variables)).err(),
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

/// Renders conversations with the chat template of `model` as its tools would, and reports those that fail.
fn check_rendering(
    model: &ModelConfig,
    trials: &mut TemplateTrials<'_>,
    tools: &[ToolConfig],
    layers: &mut Layers,
) {
    let uses = uses_of(model, trials, tools);
    check_questions(model, &uses, layers);
    let works = |used: &&Use<'_>| used.question.is_none();
    let mut chats = uses.iter().filter(works).filter(|used| used.is_chat());
    if let Some(chat) = chats.next()
        && let Err(error) = trials.run(turns(chat.variables))
    {
        let message = format!(
            "calls with earlier turns in `messages` fail: {}",
            error.text
        );
        let hint = "give the model a `chat_template` that prints all messages";
        let kind = WarningKind::EarlierTurnsRefused;
        layers.warn_at(kind, &template_address(model), message, hint);
    }
    // If the template fails even without a system prompt, the prompt is not the cause.
    let uses: Vec<&Use<'_>> = uses.iter().filter(works).collect();
    check_system_prompts(model, trials, &uses, layers);
}

/// Reports questions that the chat template of `model` does not print. If no tool can use the template, reports the template; otherwise each
/// typed tool that cannot use it.
fn check_questions(model: &ModelConfig, uses: &[Use<'_>], layers: &mut Layers) {
    let faults = || {
        uses.iter()
            .filter_map(|used| Some((used, used.question.as_ref()?)))
    };
    if faults().count() == uses.len() {
        if let Some((_, error)) = faults().next() {
            let text = error.text.clone();
            if model.gguf().settings.chat_template.is_some() {
                let hint = "change it so that it prints all messages";
                layers.problem_at(&model.address("chat_template"), text, Some(hint.into()));
            } else {
                let hint = "set a `chat_template` that prints all messages";
                layers.tolerate_at(&model.address("path"), text, Some(hint.into()));
            }
        }
        return;
    }
    for (used, error) in faults() {
        // Calls of a chat tool may set other variables; calls of a typed tool cannot.
        let Some(tool) = used.tool.filter(|_| !used.is_chat()) else {
            continue;
        };
        let message = format!("every call fails: {}", error.text);
        let hint = format!(
            "set the variables that the chat template of `{}` requires",
            model.name
        );
        let address = address(&tool.name, "template_arguments");
        layers.problem_at(&address, message, Some(hint));
    }
}

/// Warns of system prompts that the chat template of `model` merges into the user message. Reports those that it cannot print at all.
fn check_system_prompts(
    model: &ModelConfig,
    trials: &mut TemplateTrials<'_>,
    uses: &[&Use<'_>],
    layers: &mut Layers,
) {
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
        match trials.run(system_prompt(system, used.variables)) {
            Ok(SystemPrompt::Printed) => continue,
            Ok(SystemPrompt::Merged) => {
                let message = format!(
                    "the chat template of `{}` does not print a system prompt; its text is merged into the first user message",
                    model.name
                );
                let hint = "move the text into the prompt, or give the model a `chat_template` that prints it";
                layers.warn_at(WarningKind::SystemPromptMerged, address, message, hint);
            }
            Err(error) => {
                let hint = "give the model a `chat_template` that prints all messages";
                layers.problem_at(address, error.text, Some(hint.into()));
            }
        }
        reported.push(address);
    }
}

/// Returns the address of the key that gives the chat template of `model`.
fn template_address(model: &ModelConfig) -> Address {
    model.address(match model.gguf().settings.chat_template {
        Some(_) => "chat_template",
        None => "path",
    })
}

/// Warns of markers of the chat template `source` of `model` that look like reasoning and would be left in answers.
fn check_reasoning(model: &ModelConfig, source: &str, layers: &mut Layers) {
    let known = markers_of(source, &[], model.gguf().settings.thinking_tags.as_ref());
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
        let message =
            format!("the chat template has {look} of reasoning: the reasoning stays in answers");
        let hint = format!("set `thinking_tags = [\"{open}\", \"{close}\"]` to remove it");
        let kind = WarningKind::UnknownThinkingTags;
        layers.warn_at(kind, &template_address(model), message, &hint);
    }
}
