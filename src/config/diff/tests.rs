//! Differences of configurations, and what a reload makes of them.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::address::Address;
use crate::config::file::WatchMode;
use crate::config::tool::{Argument, PreparedPrompt, ToolBody};
use crate::config::validate::ConfigSchema;
use crate::config::{Overrides, Surroundings, Transport};
use crate::process::Cpus;
use crate::schema::{AnswerSchema, Limits};

fn typed(set: &[String]) -> Overrides {
    Overrides {
        models: vec!["tests/models/tiny-crab-chat.Q8_0.gguf".into()],
        flags: vec![("transport".into(), "http".into())],
        set: set.to_vec(),
        ..Overrides::default()
    }
}

fn around() -> Surroundings {
    Surroundings {
        program: None,
        cpus: Cpus::single(64),
        variables: BTreeMap::new(),
        folders: Vec::new(),
    }
}

/// Returns the configuration that `set` makes; `None` if it is rejected.
fn load(set: &[String]) -> Option<Config> {
    let (config, _) = Config::load(&typed(set), &around()).ok()?;
    Some(config)
}

fn base() -> Config {
    load(&[]).unwrap()
}

/// A model with generated settings: two that its process depends on, and two that are live.
fn model() -> impl Strategy<Value = ModelConfig> {
    let model = base().models.remove(0);
    (0..2_u32, 1..3_usize, 0..2_u8, any::<bool>()).prop_map(
        move |(n_ctx, parallel, temperature, pin)| {
            let mut model = model.clone();
            model.gguf_mut().settings.n_ctx = n_ctx;
            model.gguf_mut().settings.parallel = parallel;
            model.defaults.sampling.temperature = temperature.into();
            model.pin = pin;
            model
        },
    )
}

/// A tool with a generated prompt, answer, argument and temperature.
fn tool() -> impl Strategy<Value = ToolConfig> {
    let model = base().models.remove(0);
    let schema = json!({"type": "object", "properties": {"a": {"type": "null"}}});
    let answers = [
        None,
        Some(AnswerSchema::choice(&["a".into()]).unwrap()),
        Some(AnswerSchema::choice(&["b".into()]).unwrap()),
        Some(AnswerSchema::json(&schema, Limits::default()).unwrap()),
    ];
    let answers = answers.map(|answer| answer.map(Arc::new));
    let answer = proptest::sample::select(answers.to_vec());
    let drawn = ("[xy]", answer, any::<[bool; 2]>(), 0..2_u8);
    drawn.prop_map(
        move |(prompt, answer, [has_argument, is_chat], temperature)| {
            let mut defaults = model.defaults.clone();
            defaults.sampling.temperature = temperature.into();
            let argument = Argument {
                name: "text".into(),
                schema: json!({"type": "string"}),
                default: None,
            };
            ToolConfig {
                name: String::new(),
                title: None,
                description: None,
                model: model.name.clone(),
                body: if is_chat {
                    ToolBody::Chat
                } else {
                    ToolBody::Prompt(PreparedPrompt {
                        prompt,
                        arguments: has_argument.then_some(argument).into_iter().collect(),
                        answer,
                    })
                },
                defaults,
            }
        },
    )
}

fn config() -> impl Strategy<Value = Config> {
    let models = proptest::collection::btree_map("[abc]", model(), 0..4);
    let tools = proptest::collection::btree_map("[def]", tool(), 0..4);
    let rest = (any::<[bool; 4]>(), 1..3_usize);
    (models, tools, rest).prop_map(
        |(models, tools, ([is_http, log_prompts, is_watched, result_meta], max_loaded))| {
            let mut config = base();
            config.models = models
                .into_iter()
                .map(|(name, model)| ModelConfig { name, ..model })
                .collect();
            config.tools = tools
                .into_iter()
                .map(|(name, tool)| ToolConfig { name, ..tool })
                .collect();
            if !is_http {
                config.transport = Transport::Stdio;
            }
            config.log.log_prompts = log_prompts;
            config.result_meta = result_meta;
            config.registry.max_loaded = Some(max_loaded);
            if !is_watched {
                config.watch = WatchMode::Off;
            }
            config
        },
    )
}

proptest! {
    #[test]
    fn a_reload_leaves_only_the_keys_that_require_a_restart(old in config(), new in config()) {
        prop_assert!(ConfigDiff::between(&old, &old).is_empty());
        let diff = ConfigDiff::between(&old, &new);
        prop_assert_eq!(diff.is_empty(), old == new);
        let rest = ConfigDiff::between(&old.with_live_keys_of(&new), &new);
        prop_assert_eq!(rest.restart_required(), diff.restart_required());
        for (part, change) in &rest.parts {
            let is_waiting = matches!(change, Change::Edited(keys) if keys.values().all(|effect| *effect == Effect::RequiresRestart));
            prop_assert!(is_waiting, "{} {:?}", part, change);
        }
    }

    #[test]
    fn a_model_restarts_if_its_process_cannot_serve_the_edited_settings(old in model(), new in model()) {
        let restarts = model_keys(&old, &new).values().any(|effect| *effect == Effect::RestartsModel);
        prop_assert_eq!(restarts, !new.is_loaded_like(&old, old.source.stamp()));
    }
}

/// Values of which at least one is valid for nearly every key and differs from its default.
const OTHER_VALUES: [&str; 19] = [
    "=true",
    "=false",
    "=off",
    "=poll",
    "=row",
    "=json",
    "=hourly",
    "=before",
    "=q8_0",
    "=0.25",
    "=2",
    "=33",
    "=45s",
    "=10m",
    "=16MiB",
    "=64MiB",
    "=localhost",
    "=https://app.example",
    "=[\"<a>\", \"<b>\"]",
];

/// Returns a configuration with `tool` that differs from `base` in the key at `address`; `None` if no value makes a difference.
fn edited(base: &Config, tool: &str, address: &Address) -> Option<Config> {
    let of_key = match address.parts().last()?.as_str() {
        "transport" => "=stdio",
        "path" => "=tests/models/tiny-crab-chat.F16.gguf",
        "lora" => ".path=tests/models/tiny-crab-lora.gguf",
        "template_arguments" => ".a=b",
        "arguments" => ".a.description=b",
        "output" => "={\"type\": \"object\"}",
        "logit_bias" => ".a=1",
        "cache_type_k" | "cache_type_v" => "=f32",
        "tokens" => "={alice = {token = \"secret\"}}",
        "session_secret" => "=0123456789abcdef0123456789abcdef",
        _ => "=debug",
    };
    let values = [of_key].into_iter().chain(OTHER_VALUES);
    values.into_iter().find_map(|value| {
        let config = load(&[tool.to_owned(), format!("{address}{value}")])?;
        (config != *base).then_some(config)
    })
}

#[test]
fn each_key_has_the_effect_that_it_declares() {
    let tool = "tools.shout.prompt=Shout.".to_owned();
    let base = load(std::slice::from_ref(&tool)).unwrap();
    let shape = ConfigSchema::default();
    let tables: [&[&str]; 5] = [
        &["server"],
        &["log"],
        &["registry"],
        &["models", "default"],
        &["tools", "shout"],
    ];
    let tables = tables.map(|table| Address::new(table.iter().copied()));
    let keys = tables.iter().flat_map(|table| {
        let keys = shape.keys(table).into_iter();
        keys.map(|key| table.join(key))
    });
    let mut without_difference = Vec::new();
    for address in keys {
        let declared = keys::effect_of(&address);
        let declared = declared.unwrap_or_else(|| panic!("{address} declares no `x-reload`"));
        let Some(edited) = edited(&base, &tool, &address) else {
            without_difference.push(address.to_string());
            continue;
        };
        let diff = ConfigDiff::between(&base, &edited);
        let keys = diff.parts.iter().filter_map(|(_, change)| match change {
            Change::Edited(keys) => Some(keys.values()),
            Change::Added | Change::Removed => None,
        });
        let effects: Vec<Effect> = keys.flatten().copied().collect();
        let is_declared = |effect: &Effect| *effect == declared;
        assert!(!effects.is_empty(), "{address}");
        assert!(effects.iter().all(is_declared), "{address}: {diff}");
        let (model, former) = (&edited.models[0], &base.models[0]);
        let restarts_model = !model.is_loaded_like(former, former.source.stamp());
        assert_eq!(
            restarts_model,
            declared == Effect::RestartsModel,
            "{address}"
        );
        let waits = declared == Effect::RequiresRestart;
        let expected = if waits { &base } else { &edited };
        assert!(base.with_live_keys_of(&edited) == *expected, "{address}");
    }
    // The first only matters while a configuration is checked. The others have no other valid value here.
    let expected = [
        "server.allow_unauthenticated",
        "tools.shout.model",
        "tools.shout.kind",
    ];
    assert_eq!(without_difference, expected);
}

#[test]
fn a_diff_names_what_changes_and_how() {
    let old = base();
    let mut new = base();
    new.models[0].gguf_mut().settings.n_ctx = 1000;
    new.models[0].defaults.sampling.temperature = 0.0;
    new.registry.max_loaded = Some(1);
    if let Transport::Http(http) = &mut new.transport {
        http.limits.max_body = 1;
        http.host = "localhost".into();
    }
    new.log.level = "debug".into();
    let mut added = new.models[0].clone();
    added.name = "other".into();
    new.models.push(added);
    insta::assert_snapshot!(ConfigDiff::between(&old, &new), @r#"
    model default: restart (n_ctx), live (temperature)
    model other: added
    server: live (max_body)
    registry: live (max_loaded)
    requires a restart of the server: server.host, log.level
    "#);
    insta::assert_snapshot!(ConfigDiff::between(&old, &old), @"nothing changes");
}
