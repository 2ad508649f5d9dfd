//! Differences of drawn configurations.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::super::file::WatchMode;
use super::*;
use crate::config::tool::{Argument, PreparedPrompt, ToolBody};
use crate::config::{Overrides, Surroundings};
use crate::process::Cpus;
use crate::schema::{AnswerSchema, Limits};

fn base() -> Config {
    let typed = Overrides {
        models: vec!["tests/models/tiny-crab-chat.Q8_0.gguf".into()],
        flags: vec![("transport".into(), "http".into())],
        ..Overrides::default()
    };
    let around = Surroundings {
        program: None,
        cpus: Cpus::single(4),
        variables: BTreeMap::new(),
        folders: Vec::new(),
    };
    match Config::load(&typed, &around) {
        Ok((config, _)) => config,
        Err(rejected) => panic!("{rejected:?}"),
    }
}

/// A model whose settings are drawn: the first two are of how it is loaded.
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

/// A tool whose prompt, answer, arguments and sampling are drawn.
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
    fn the_difference_makes_the_second_of_the_first(old in config(), new in config()) {
        prop_assert_eq!(ConfigDiff::between(&old, &old), ConfigDiff::default());
        let diff = ConfigDiff::between(&old, &new);
        prop_assert_eq!(diff.apply(&old), new.clone());
        prop_assert_eq!(diff == ConfigDiff::default(), old == new);
        prop_assert_eq!(diff.lines().is_empty(), old == new, "{:?}", diff.lines());
        // A tool counts from the next call on, and every key that differs is named.
        for (name, change) in &diff.tools {
            if let Change::Changed(part) = change {
                prop_assert!(part.restart.is_empty() && !part.live.is_empty(), "{}", name);
            }
        }
        // What restarts a model is what its process depends on.
        for (name, change) in &diff.models {
            let model = |config: &Config| {
                config.models.iter().find(|model| model.name == *name).cloned()
            };
            if let (Change::Changed(part), Some(old), Some(new)) = (change, model(&old), model(&new)) {
                prop_assert_eq!(part.restart.is_empty(), new.is_loaded_like(&old, old.source.stamp()));
            }
        }
    }
}

#[test]
fn a_plan_names_what_changes_and_how() {
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
    not before the server is restarted: server.host, log.level
    "#);
    insta::assert_snapshot!(ConfigDiff::between(&old, &old), @"nothing changes");
}
