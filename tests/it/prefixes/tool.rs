//! A tool whose prompts share a long prefix.

use serde_json::{Value, json};

use crate::support::config::Folder;

/// The log line in which a worker states the number of tokens of its shared prefixes.
const READY: &str = "caching shared prefixes tokens=[";

/// Calls the tool for two countries, one after the other. Returns the number of shared tokens and the result of each call.
fn ask(cache_prompt: bool) -> (Option<u64>, [Value; 2]) {
    let rules = "You are a crab. ".repeat(10);
    let file = format!(
        "[log]\nlevel = \"debug\"\n[models.crab]\npath = \"crab.gguf\"\nn_threads = 1\ntemperature = 0\nrepeat_penalty = 1.0\ncache_prompt = {cache_prompt}\n\
         [tools.capital]\nsystem = \"{rules}\"\nprompt = \"What is the capital of {{{{ country }}}}?\"\n[tools.capital.arguments.country]\n"
    );
    let folder = Folder::new("prefixes", &file);
    let mut server = folder.serve();
    let results = ["France", "Cuba"].map(|country| {
        let id = server.call_tool("capital", json!({"country": country}));
        let result = server.response(id)["result"].clone();
        if cache_prompt {
            server.wait_for_log(READY);
        }
        result
    });
    let log = server.end();
    let mut ready = log.lines().filter_map(|line| {
        let (_, rest) = line.split_once(READY)?;
        rest.split_once(']')?.0.parse().ok()
    });
    (ready.next_back(), results)
}

#[test]
fn the_next_call_of_a_tool_starts_after_its_shared_prefix_unless_that_is_disabled() {
    let cached = |result: &Value| {
        let generation = &result["_meta"]["llama-mcp-server/generation"];
        generation["cached_tokens"].as_u64().unwrap()
    };
    let (fixed, with) = ask(true);
    let (_, without) = ask(false);
    assert!(fixed.unwrap() > 80, "{fixed:?}");
    assert!(cached(&with[1]) >= fixed.unwrap(), "{with:?}");
    assert_eq!(without.each_ref().map(cached), [0, 0]);
    for results in [with, without] {
        let texts = results.map(|result| result["content"][0]["text"].clone());
        let expected = [
            "The capital of France is Paris.",
            "The capital of Cuba is Havana.",
        ];
        assert_eq!(texts, expected);
    }
}
