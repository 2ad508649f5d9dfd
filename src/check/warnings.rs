//! Warnings: settings that work and are probably a mistake. Pure.

mod models;
mod tools;

use serde_json::Value;

use crate::config::Config;
use crate::config::address::Address;
use crate::config::file::{ConfigFile, TransportMode};
use crate::config::load::Layers;
use crate::config::units::human;
use crate::config::warning::WarningKind;

/// Adds the warnings about `config`, for a machine with `machine` bytes of memory, to `layers`. Invalid values get no warning.
pub(super) fn find(config: &Config, machine: u64, layers: &mut Layers) {
    let settings = layers.merged();
    for model in &config.models {
        models::find(model, &config.tools, &settings, layers);
    }
    for tool in &config.tools {
        let model = config.models.iter().find(|model| model.name == tool.model);
        tools::find(tool, model, &settings, layers);
    }
    budget(config, machine, layers);
    http_keys(&settings, layers);
    log_keys(&settings, layers);
}

fn budget(config: &Config, machine: u64, layers: &mut Layers) {
    if config.registry.memory_budget.of(machine) > machine {
        let message = format!(
            "exceeds the {} of memory that this machine has",
            human(machine)
        );
        let hint = "lower it, or write a share of the memory such as `\"80%\"`";
        let address = Address::of(["registry", "memory_budget"]);
        layers.warn_at(WarningKind::BudgetAboveMemory, &address, message, hint);
    }
}

/// Keys of `[server]` that apply to stdio, too.
const NOT_OF_HTTP: [&str; 4] = ["transport", "result_meta", "watch", "max_queue"];

/// Warns of keys for HTTP in a file that does not say how clients connect. A file that sets `transport` may be meant for both.
fn http_keys(settings: &ConfigFile, layers: &mut Layers) {
    let transport = Address::of(["server", "transport"]);
    let is_stdio = settings.server.transport == TransportMode::Stdio;
    if !is_stdio || layers.is_said(&transport) || layers.is_refused(&transport) {
        return;
    }
    let table = layers
        .file
        .as_ref()
        .and_then(|file| file.tree.get("server"));
    let keys = table.and_then(Value::as_object).into_iter().flatten();
    let mut keys = keys.map(|(key, _)| key.clone());
    let known = layers.shape.keys(&Address::of(["server"]));
    let first = keys.find(|key| {
        let is_key = known.iter().any(|known| known == key);
        is_key && !NOT_OF_HTTP.contains(&key.as_str())
    });
    if let Some(key) = first {
        let message = "is for HTTP, and this server speaks stdio".into();
        let hint = "set `transport = \"http\"`, or remove the key";
        let address = Address::of(["server", &key]);
        layers.warn_at(WarningKind::HttpKeysUnused, &address, message, hint);
    }
}

fn log_keys(settings: &ConfigFile, layers: &mut Layers) {
    let file = Address::of(["log", "file"]);
    if settings.log.file.is_some() || layers.is_refused(&file) {
        return;
    }
    let keys = ["rotation", "max_size", "keep"].map(|key| Address::of(["log", key]));
    if let Some(key) = keys.iter().find(|key| layers.is_said(key)) {
        let message = "has no effect: the log goes to standard error".into();
        let hint = "name a `file` under `[log]`, or remove the key";
        layers.warn_at(WarningKind::LogKeysUnused, key, message, hint);
    }
}
