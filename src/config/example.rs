use std::collections::BTreeMap;

use super::address::Address;
use super::{Config, Overrides, Surroundings};
use crate::process::Cpus;

const FILE: &str = r#"
[models.crab]
path = "tests/models/tiny-crab-chat.Q8_0.gguf"
n_ctx = 1024
parallel = 2
"#;

#[test]
fn flags_override_variables_which_override_the_file() {
    let typed = Overrides {
        config: Some("server.toml".into()),
        config_text: Some(FILE.into()),
        set: vec!["models.crab.n_ctx=8192".into()],
        ..Overrides::default()
    };
    let around = Surroundings {
        program: None,
        cpus: Cpus::single(8),
        variables: BTreeMap::from([("LLAMA_MCP_PARALLEL".into(), "4".into())]),
        folders: Vec::new(),
    };
    let (config, layers) = Config::load(&typed, &around).unwrap();

    let settings = &config.models[0].gguf().settings;
    assert_eq!((settings.n_ctx, settings.parallel), (8192, 4));
    let position = |key| {
        let address = Address::of_model("crab", key);
        layers.origin_of(&address).0.position_of(&address)
    };
    assert_eq!(position("n_ctx"), "--set models.crab.n_ctx");
    assert_eq!(position("parallel"), "LLAMA_MCP_PARALLEL");
    assert_eq!(position("path"), "server.toml:3:8");
}
