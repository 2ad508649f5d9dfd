//! Resolves a model: its settings and the headers of its files become a [`ModelConfig`].

use std::ffi::OsStr;

use super::{Defaults, GgufSource, LoadSettings, ModelConfig, Source};
use crate::config::address::Address;
use crate::config::file::{ConfigFile, FlashAttention, ModelSettings};
use crate::config::load::Layers;
use crate::config::problem::Origin;
use crate::config::warning::WarningKind;
use crate::config::{Surroundings, naming, ranges, template_arguments};

/// Resolves the model called `name`. Problems go to `layers`. Returns `None` if the model has no file.
pub(in crate::config) fn resolve(
    name: &str,
    model: &ModelSettings,
    settings: &ConfigFile,
    around: &Surroundings,
    layers: &mut Layers,
) -> Option<ModelConfig> {
    let at = |key: &str| Address::of_model(name, key);
    check_settings(name, model, layers);
    let Some(path) = &model.path else {
        let message = "is missing".to_owned();
        let hint = "name its file: `path = \"model.gguf\"`".to_owned();
        layers.problem_at(&at("path"), message, Some(hint));
        return None;
    };
    let load = LoadSettings::new(model, path.clone(), settings, around.cpus);
    let is_set = layers.origin_of(&at("n_threads")).0 != Origin::BuiltIn;
    if model.n_threads > load.n_threads && is_set {
        let message = format!(
            "is {}, the CPUs that this process may use, not {}",
            load.n_threads, model.n_threads
        );
        let hint = "lower it, or set 0 for one thread on each core";
        layers.warn_at(WarningKind::ThreadsCapped, &at("n_threads"), message, hint);
    }
    let source = GgufSource::read(load);
    if let Err(fault) = &source.files {
        let (message, hint) = (fault.message.clone(), Some(fault.hint.clone()));
        // A file may appear, or come back, while other models of the configuration are served.
        if layers.file.is_some() {
            layers.tolerate_at(&fault.address(name), message, hint);
        } else {
            layers.problem_at(&fault.address(name), message, hint);
        }
    }
    Some(ModelConfig {
        name: name.to_owned(),
        tool_name: naming::own_tool(name, model).map(str::to_owned),
        title: model.title.clone(),
        aliases: model.aliases.clone(),
        description: model.description.clone(),
        source: Source::Gguf(source),
        defaults: Defaults::from_settings(model),
        preload: model.preload,
        pin: model.pin,
        idle_ttl: model.idle_ttl.unwrap_or(settings.registry.idle_ttl).0,
    })
}

/// Checks what the schema cannot express, such as keys that contradict each other.
fn check_settings(name: &str, model: &ModelSettings, layers: &mut Layers) {
    let at = |key: &str| Address::of_model(name, key);
    if let Some(limit) = model.max_tokens_limit
        && limit < model.max_tokens
        // A built-in `max_tokens` is lowered instead.
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
            "quantized values require flash attention, and `flash_attn` is off".to_owned();
        layers.problem_at(
            &at("cache_type_v"),
            message,
            Some("set `flash_attn = \"on\"`, or choose `f16`".into()),
        );
    }
    template_arguments::report_invalid(
        model.template_arguments.as_ref(),
        &at("template_arguments"),
        layers,
    );
    if let Some([open, close]) = model.thinking_tags.as_deref()
        && (open.trim().is_empty() || close.trim().is_empty() || open == close)
    {
        let message = "must be two different texts that are not blank".to_owned();
        layers.problem_at(&at("thinking_tags"), message, None);
    }
    // Each layer may give a part of the table, so only the merged table can be checked for completeness.
    let adapter = model.lora.as_ref().map(|lora| lora.path.as_os_str());
    if adapter.is_some_and(OsStr::is_empty) {
        let message = "is missing: the adapter has no file".to_owned();
        layers.problem_at(&at("lora").join("path"), message, None);
    }
    let deadline = model.deadline;
    if let Some(message) = deadline.and_then(|deadline| deadline.fault(ranges::DEADLINE)) {
        layers.range_problem_at(&at("deadline"), message, None);
    }
}
