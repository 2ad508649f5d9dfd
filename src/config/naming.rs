//! Resolves the names of models and tools, and finds names that clash.

use std::collections::BTreeMap;

use super::address::Address;
use super::file::{ConfigFile, ModelSettings};
use super::load::Layers;

/// Returns the name of the chat tool of the model `name`; `None` with `tool = false`.
pub(super) fn own_tool<'a>(name: &'a str, model: &'a ModelSettings) -> Option<&'a str> {
    model
        .tool
        .then(|| model.tool_name.as_deref().unwrap_or(name))
}

/// Returns the names of all tools, as clients see them.
pub(super) fn tools(settings: &ConfigFile) -> Vec<&str> {
    let models = settings.models.iter();
    models
        .filter_map(|(name, model)| own_tool(name, model))
        .chain(settings.tools.keys().map(String::as_str))
        .collect()
}

/// Returns the model that has `name` as its name or as an alias.
pub(super) fn model<'a>(settings: &'a ConfigFile, name: &str) -> Option<&'a str> {
    let named = settings.models.get_key_value(name);
    let aliased = || settings.models.iter().find(|(_, model)| has(model, name));
    named.or_else(aliased).map(|(name, _)| name.as_str())
}

/// Returns the tool that has `name` as its name, or as an alias of its model.
pub(super) fn tool<'a>(settings: &'a ConfigFile, name: &str) -> Option<&'a str> {
    let named = tools(settings).into_iter().find(|tool| *tool == name);
    named.or_else(|| {
        let mut models = settings.models.iter();
        let (name, model) = models.find(|(_, model)| has(model, name))?;
        own_tool(name, model)
    })
}

fn has(model: &ModelSettings, alias: &str) -> bool {
    model.aliases.iter().any(|known| known == alias)
}

/// Reports ambiguous names of models and tools.
pub(super) fn check(settings: &ConfigFile, layers: &mut Layers) {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, model) in &settings.models {
        let Some(tool) = own_tool(name, model) else {
            continue;
        };
        if let Some(other) = owners.insert(tool, name) {
            let message = format!("the model `{other}` already has a tool called `{tool}`");
            let hint = "give one of them a different `tool_name`";
            layers.problem_at(
                &Address::of_model(name, "tool_name"),
                message,
                Some(hint.into()),
            );
        }
    }
    for name in settings.tools.keys() {
        if let Some(other) = owners.get(name.as_str()) {
            let message = format!("the model `{other}` already has a tool of this name");
            let hint = "rename one of them, or set `tool = false` for the model";
            layers.problem_at(&Address::new(["tools", name]), message, Some(hint.into()));
        }
    }
    check_aliases(settings, &owners, layers);
}

/// Reports aliases that are already in use. `owners` maps the name of each model's own tool to the model.
fn check_aliases(settings: &ConfigFile, owners: &BTreeMap<&str, &str>, layers: &mut Layers) {
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, model) in &settings.models {
        for (at, alias) in model.aliases.iter().enumerate() {
            let alias = alias.as_str();
            let place = Address::of_model(name, "aliases").join(at.to_string());
            if alias.trim() != alias || alias.contains(char::is_control) {
                let message = "must not begin or end with a space, or contain control characters";
                let hint = "remove them: clients cannot distinguish such a name from another one";
                layers.problem_at(&place, message.into(), Some(hint.into()));
                continue;
            }
            let other_owner = owners.get(alias).filter(|owner| **owner != name.as_str());
            let taken = if alias == name {
                Some("the model's own name".to_owned())
            } else if settings.models.contains_key(alias) {
                Some("the name of another model".to_owned())
            } else if settings.tools.contains_key(alias) || other_owner.is_some() {
                Some("the name of another tool".to_owned())
            } else {
                let owner = known.insert(alias, name);
                owner.map(|owner| format!("already an alias of the model `{owner}`"))
            };
            if let Some(taken) = taken {
                let hint = "remove it, or choose another alias";
                layers.problem_at(&place, format!("`{alias}` is {taken}"), Some(hint.into()));
            }
        }
    }
}
