//! Prompts start from cached prefixes without any change of the answers, for each kind of model and each layout of the cache. Answers are
//! greedy, and to questions that the model answers with confidence.

mod kinds;
mod tool;

use std::path::Path;

use serde_json::{Value, json};

use crate::support::smollm2;
use crate::support::worker::{Answer, Worker};

/// Returns launch settings with a small batch, so that calls arrive while the prompt of another call is being decoded.
fn load(path: &Path, n_ctx: u32, parallel: usize) -> Value {
    json!({"path": path, "n_gpu_layers": 0, "n_ctx": n_ctx, "n_batch": 64, "n_threads": 1, "parallel": parallel, "max_queue": 8})
}

/// Returns `load` with another value of `key`.
fn with_setting(load: &Value, key: &str, value: Value) -> Value {
    let mut load = load.clone();
    load[key] = value;
    load
}

/// Starts a worker that caches no prefixes.
fn uncached(load: &Value) -> Worker {
    Worker::load(&with_setting(load, "cache_prompt", json!(false)))
}

fn texts(answers: &[Answer]) -> Vec<&str> {
    answers.iter().map(|answer| &*answer.text).collect()
}

fn cached(answers: &[Answer]) -> Vec<u64> {
    answers.iter().map(|answer| answer.cached).collect()
}

fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

/// Asserts that concurrent calls shared a prefix of `common` tokens: one call decoded it, and the others waited for all of it, or for most
/// of it if the rest was not worth the wait.
fn assert_shared(answers: &[Answer], common: u64) {
    let mut cached = cached(answers);
    cached.sort_unstable();
    assert_eq!(cached[0], 0);
    let nearly = common - 31..=common;
    assert!(
        cached[1..].iter().all(|cached| nearly.contains(cached)),
        "{cached:?} of {common}"
    );
}

#[test]
fn calls_with_one_system_prompt_decode_it_once_in_separate_caches_and_in_a_pool() {
    let rule = "You answer in one short sentence, and you are always polite, honest and brief. ";
    let system = "You are a helpful assistant who knows the capitals of all countries. ".to_owned()
        + &rule.repeat(14);
    let ask = |country: &str| {
        let question = format!("Name the capital of {country}.");
        json!([{"role": "system", "content": system}, {"role": "user", "content": question}])
    };
    // Token count in the vocabulary of SmolLM2, up to the word before the country.
    let common = 264;
    let questions = ["France", "Japan", "Italy", "Egypt"].map(ask);
    let load = load(&smollm2(), 512, 4);
    let whole = uncached(&load).ask(&questions, 8);
    assert_eq!(cached(&whole), [0; 4]);
    let capitals = ["Paris", "Tokyo", "Rome", "Cairo"];
    for (answer, capital) in whole.iter().zip(capitals) {
        assert!(answer.text.contains(capital), "{answer:?}");
    }
    for (shared_prefix_bytes, is_pool) in [(0, false), (2048, true)] {
        let grant = json!({"shared_prefix_bytes": shared_prefix_bytes});
        let mut worker = Worker::launch(&load, &grant);
        let first = worker.ask(&questions, 8);
        assert_eq!(texts(&first), texts(&whole));
        assert_shared(&first, common);
        // All tokens but the last one, whose logits are needed.
        let again = worker.ask(&questions, 8);
        assert_eq!(texts(&again), texts(&whole));
        let most: Vec<u64> = whole.iter().map(|answer| answer.prompt - 1).collect();
        assert_eq!(cached(&again), most);
        let other = worker.ask(&[ask("Germany")], 8);
        assert!(other[0].text.contains("Berlin"), "{other:?}");
        assert_eq!(cached(&other), [common]);
        let log = worker.end();
        let layout = log.lines().find(|line| line.contains("kv_unified"));
        assert!(layout.unwrap().contains(&is_pool.to_string()), "{layout:?}");
    }
}
