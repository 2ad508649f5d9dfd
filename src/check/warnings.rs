//! Warnings about settings that work but are probably a mistake. Pure.

mod models;
mod tools;

use crate::config::Config;
use crate::config::address::Address;
use crate::config::file::{ConfigFile, TransportMode};
use crate::config::load::Layers;
use crate::config::problem::Origin;
use crate::config::units::human;
use crate::config::warning::WarningKind;

/// Adds the warnings about `config`, for a machine with `machine` bytes of memory, to `layers`. Invalid values get no warning.
pub(super) fn find(config: &Config, machine: u64, layers: &mut Layers) {
    let settings = layers.merged();
    for model in &config.models {
        models::find(model, config, &settings, layers);
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
    if config.registry.memory_budget.in_bytes(machine) > machine {
        let message = format!(
            "exceeds the {} of memory that this machine has",
            human(machine)
        );
        let hint = "lower it, or write a share of the memory such as `\"80%\"`";
        let address = Address::new(["registry", "memory_budget"]);
        layers.warn_at(WarningKind::BudgetAboveMemory, &address, message, hint);
    }
}

/// Keys of `[server]` that also apply to stdio.
const NOT_ONLY_HTTP: [&str; 4] = ["transport", "result_meta", "watch", "max_queue"];

/// Warns of settings for HTTP if `transport` is not set. A configuration that sets it may be meant for both transports.
fn http_keys(settings: &ConfigFile, layers: &mut Layers) {
    let transport = Address::new(["server", "transport"]);
    let is_stdio = settings.server.transport == TransportMode::Stdio;
    if !is_stdio || layers.is_set(&transport) || layers.is_refused(&transport) {
        return;
    }
    let keys = layers.schema.keys(&Address::new(["server"])).into_iter();
    let keys = keys.filter(|key| !NOT_ONLY_HTTP.contains(key));
    let keys = keys.map(|key| Address::new(["server", key]));
    let keys: Vec<Address> = keys.filter(|key| layers.is_set(key)).collect();
    for key in &keys {
        let hint = match layers.origin_of(key).0 {
            Origin::Flag(_) => "add `--transport http`, or remove the flag",
            Origin::Variable(_) => "set `LLAMA_MCP_TRANSPORT=http`, or unset the variable",
            Origin::File(_) | Origin::BuiltIn => "set `transport = \"http\"`, or remove the key",
        };
        let message = "applies to HTTP only, and this server uses stdio".into();
        layers.warn_at(WarningKind::HttpKeysUnused, key, message, hint);
    }
}

fn log_keys(settings: &ConfigFile, layers: &mut Layers) {
    let file = Address::new(["log", "file"]);
    if settings.log.file.is_some() || layers.is_refused(&file) {
        return;
    }
    let keys = ["rotation", "max_size", "keep"].map(|key| Address::new(["log", key]));
    let keys: Vec<Address> = keys.into_iter().filter(|key| layers.is_set(key)).collect();
    for key in &keys {
        let message = "has no effect: the log goes to standard error".into();
        let hint = "set `file` in `[log]`, or remove the key";
        layers.warn_at(WarningKind::LogKeysUnused, key, message, hint);
    }
}
