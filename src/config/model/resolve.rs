//! Settings of a model, and its files' headers → [`ModelConfig`].

use std::path::Path;

use super::{Defaults, LoadSettings, ModelConfig};
use crate::config::address::Address;
use crate::config::file::{ConfigFile, FlashAttention, ModelSettings};
use crate::config::load::Layers;
use crate::config::problem::Origin;
use crate::config::{Surroundings, ranges, template_arguments};
use crate::gguf::{self, Header};
use crate::printable::printable;

/// The model called `name`, as `settings` say. What is wrong is told to `layers`.
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
        let hint = layers
            .meant_model(name)
            .unwrap_or_else(|| "name its file: `path = \"model.gguf\"`".into());
        // One whose path was refused is known to have none.
        if !layers
            .problems
            .iter()
            .any(|problem| problem.address == Some(at("path")))
        {
            let message = if layers.file.is_some() && !layers.file_has_model(name) {
                format!("the file has no model `{name}`, and no `path` is given for it")
            } else {
                "is missing: the model has no file".into()
            };
            layers.problem_at(&at("path"), message, Some(hint));
        }
        return None;
    };
    let header = match gguf::read_header(path) {
        Ok(header) => header,
        Err(error) => {
            let cause = std::error::Error::source(&error)
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            layers.problem_at(&at("path"), format!("{error}{cause}"), Some(error.hint()));
            return None;
        }
    };
    let adapter_bytes = check_adapter(name, model, &header, layers);
    for (key, kind, length) in [
        ("cache_type_k", model.cache_type_k, header.key_length),
        ("cache_type_v", model.cache_type_v, header.value_length),
    ] {
        if kind.is_quantized() && !length.is_multiple_of(32) {
            let message = format!(
                "the model's heads have {length} numbers, and quantized types take 32 at a time"
            );
            layers.problem_at(&at(key), message, Some("choose `f16`".into()));
        }
    }
    let load = LoadSettings::of(model, path.clone(), settings, around.cpus);
    let is_said = layers.origin_of(&at("n_threads")).0 != Origin::BuiltIn;
    if model.n_threads > load.n_threads && is_said {
        layers.notes.push(format!(
            "n_threads is {}, the CPUs that this process may use, not {}",
            load.n_threads, model.n_threads
        ));
    }
    if let Some(trained) = header.n_ctx_train.filter(|n| *n < load.n_ctx.into()) {
        layers.notes.push(format!(
            "`models.{name}`: `n_ctx` is {trained}, the context that the model was trained for, not {}",
            load.n_ctx
        ));
    }
    Some(ModelConfig {
        name: name.to_owned(),
        title: title_of(&header, path),
        tool_name: model
            .tool
            .then(|| model.tool_name.clone().unwrap_or_else(|| name.to_owned())),
        description: model.description.clone(),
        load,
        defaults: Defaults::of(model),
        preload: model.preload,
        pin: model.pin,
        idle_ttl: model.idle_ttl.unwrap_or(settings.registry.idle_ttl).0,
        header,
        adapter_bytes,
    })
}

/// Returns the title of the model: the name in its header, else the name of its file. Both are foreign text.
fn title_of(header: &Header, path: &Path) -> String {
    header.name.clone().unwrap_or_else(|| {
        let stem = path.file_stem().unwrap_or_default();
        printable(&stem.to_string_lossy(), gguf::MAX_SHOWN)
    })
}

/// What no schema says: keys that contradict each other.
fn check_settings(name: &str, model: &ModelSettings, layers: &mut Layers) {
    let at = |key: &str| Address::of_model(name, key);
    if let Some(limit) = model.max_tokens_limit
        && limit < model.max_tokens
        // The built-in one is just cut.
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
            "llama.cpp reads quantized values with flash attention alone, and `flash_attn` is off"
                .to_owned();
        layers.problem_at(
            &at("cache_type_v"),
            message,
            Some("set `flash_attn = \"on\"`, or choose `f16`".into()),
        );
    }
    template_arguments::tell(
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
    let deadline = model.deadline;
    if let Some(message) = deadline.and_then(|deadline| deadline.fault(ranges::DEADLINE)) {
        layers.problem_at(&at("deadline"), message, None);
    }
}

/// Looks at the adapter, where there is one; gives the bytes of its tensors.
fn check_adapter(name: &str, model: &ModelSettings, header: &Header, layers: &mut Layers) -> u64 {
    let Some(lora) = &model.lora else { return 0 };
    let place = Address::of_model(name, "lora").join("path");
    // Each layer may say a part of it, so that it is whole is seen here.
    if lora.path.as_os_str().is_empty() {
        layers.problem_at(&place, "is missing: the adapter has no file".into(), None);
        return 0;
    }
    gguf::read_adapter(&lora.path, &header.architecture).unwrap_or_else(|error| {
        layers.problem_at(&place, error.to_string(), Some(error.hint()));
        0
    })
}
