use serde_json::json;

use super::file::{CacheType, ThinkingOutput};
use super::units::{GpuLayers, Size};
use super::*;
use crate::schema::Limits;

const CRAB: &str = "tests/models/tiny-crab-chat.Q8_0.gguf";

fn around(variables: &[(&str, &str)]) -> Surroundings {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Surroundings {
        program: None,
        cpus: Cpus::single(8),
        variables: variables.collect(),
        folders: Vec::new(),
    }
}

fn typed(flags: &[(&str, Value)]) -> Overrides {
    Overrides {
        models: vec![CRAB.into()],
        flags: flags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect(),
        ..Overrides::default()
    }
}

fn resolve(typed: &Overrides, variables: &[(&str, &str)]) -> Config {
    match Config::load(typed, &around(variables)) {
        Ok((config, _)) => config,
        Err(rejected) => panic!("{rejected:?}"),
    }
}

#[test]
fn the_documented_defaults_hold() {
    let config = resolve(&typed(&[]), &[]);
    let [model] = &config.models[..] else {
        panic!("one model")
    };
    let load = &model.gguf().settings;
    assert_eq!(
        (load.n_gpu_layers, load.n_ctx, load.n_batch, load.n_threads),
        (GpuLayers::Count(99), 4096, 2048, 4)
    );
    assert_eq!(
        (model.tool_name.as_deref(), load.parallel, load.max_queue),
        (Some("chat"), 4, 64)
    );
    assert_eq!(
        (model.name.as_str(), model.preload, load.cache_type_k),
        ("default", true, CacheType::F16)
    );
    assert_eq!(
        (load.cache_prompt, load.cache_ram),
        (true, Size::mebibytes(256))
    );
    let expected = Defaults {
        max_tokens: 2048,
        max_tokens_limit: None,
        sampling: SamplingParams::default(),
        stop: Vec::new(),
        system: None,
        prompt_suffix: None,
        thinking: ThinkingOutput::Strip,
        thinking_budget: None,
        template_arguments: serde_json::Map::new(),
        deadline: None,
        cut_note: true,
        limits: Limits::default(),
    };
    assert_eq!(model.defaults, expected);
    let sampling = &model.defaults.sampling;
    assert_eq!(
        (
            sampling.temperature,
            sampling.top_p,
            sampling.top_k,
            sampling.seed
        ),
        (0.7, 0.9, 40, 42)
    );
    assert_eq!(config.transport, Transport::Stdio);
}

#[test]
fn a_seed_of_minus_one_is_drawn() {
    let config = resolve(&typed(&[("seed", json!("-1"))]), &[]);
    let sampling = config.models[0].defaults.sampling.clone();
    assert_eq!(sampling.with_seed(|| 7).seed, 7);
}

#[test]
fn all_values_out_of_range_are_reported_at_once() {
    let wrong = typed(&[
        ("temperature", json!("NaN")),
        ("top_p", json!("7")),
        ("tool_name", json!("a b")),
        ("n_ctx", json!("many")),
    ]);
    let error = Config::load(&wrong, &around(&[("LLAMA_MCP_SEED", "-7")]));
    let error = error.unwrap_err().error;
    insta::assert_snapshot!(error, @r#"
    error[config_value]: `LLAMA_MCP_SEED`: must be a whole number from -1 to 4294967294, found -7

    error[config_value]: `--temperature`: must be a number from 0 to 5, found the string "NaN"

    error[config_value]: `--top_p`: must be a number from 0 to 1, found 7

    error[config_value]: `--n_ctx`: must be a whole number from 0 to 100000000, found the string "many"

    error[config_value]: `--tool_name`: must be 1 to 64 letters, digits, `_` or `-`, found the string "a b"
    "#);
}

#[test]
fn no_value_of_any_key_panics() {
    let schema = validate::ConfigSchema::default();
    let values = [
        "",
        "1.0",
        "-0.0",
        "1e9",
        "1e400",
        "nan",
        "-1",
        "true",
        "x",
        "never",
        "[1, \"a\"]",
        "100000000h",
        "99999999999999999999",
    ];
    for table in [
        ["server", ""],
        ["log", ""],
        ["registry", ""],
        ["models", "default"],
    ] {
        let table = Address::new(table.into_iter().filter(|part| !part.is_empty()));
        for key in schema.keys(&table) {
            // Without optimisation each configuration takes tens of milliseconds.
            for value in values
                .iter()
                .step_by(if cfg!(debug_assertions) { 3 } else { 1 })
            {
                let typed = Overrides {
                    set: vec![format!("{}={value}", table.join(key))],
                    ..typed(&[("transport", json!("http"))])
                };
                // The value may be rejected.
                drop(Config::load(&typed, &around(&[])));
            }
        }
    }
}

#[test]
fn a_required_sandbox_is_an_error_on_systems_without_one() {
    let typed = Overrides {
        set: vec!["registry.sandbox=required".into()],
        ..typed(&[])
    };
    let problems = |is_linux| {
        let mut layers = Layers::read(&typed, &around(&[]).variables, None);
        let mode = layers.merged().registry.sandbox;
        check_sandbox(mode, is_linux, &mut layers);
        ConfigError::from_problems(layers.problems).to_string()
    };
    assert!(problems(false).contains("supported on Linux only"));
    assert!(!problems(true).contains("supported on Linux only"));
}

#[test]
fn every_key_of_the_annotated_file_has_a_realistic_value() {
    let text = reference::text();
    let mut comment = String::new();
    for line in text.lines() {
        match line.trim_start_matches("# ").split_once(" = ") {
            Some((key, value)) if !key.contains([' ', '`', ':']) => {
                let is_invented = ["null", "\"…\"", "\"file\""].contains(&value);
                assert!(!is_invented, "{line}");
                // The largest allowed number is not an example.
                let bound = format!("to {value}. No default");
                assert!(!comment.contains(&bound), "{line}");
                comment.clear();
            }
            _ => comment += line.trim_start_matches('#'),
        }
    }
}
