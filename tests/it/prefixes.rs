//! Prompts start from what of them lies in the cache, and their answers are those of whole prompts: for each kind of model, for
//! each way in which its cache is laid out. Answers are greedy, and such that the model is sure of them.

mod kinds;
mod tool;

use std::path::Path;

use serde_json::{Value, json};

use crate::support::smollm2;
use crate::support::worker::{Answer, Worker};

/// How to load a model for tests here: few tokens a batch, so that calls come while another one's prompt is being decoded.
fn load(path: &Path, n_ctx: u32, parallel: usize) -> Value {
    json!({"path": path, "n_gpu_layers": 0, "n_ctx": n_ctx, "n_batch": 64, "n_threads": 1, "parallel": parallel, "max_queue": 8})
}

/// The same with another key.
fn with(load: &Value, key: &str, value: Value) -> Value {
    let mut load = load.clone();
    load[key] = value;
    load
}

/// A worker that decodes all prompts whole.
fn uncached(load: &Value) -> Worker {
    Worker::load(&with(load, "cache_prompt", json!(false)))
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

/// Calls that came together share a beginning of `common` tokens: one decoded it, and the others waited for it, or for so much
/// of it that the rest was not worth to be waited for.
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
fn calls_behind_one_system_prompt_read_it_once_in_caches_of_their_own_and_in_a_pool() {
    let rule = "You answer in one short sentence, and you are always polite, honest and brief. ";
    let system = "You are a helpful assistant who knows the capitals of all countries. ".to_owned()
        + &rule.repeat(14);
    let ask = |country: &str| {
        let question = format!("Name the capital of {country}.");
        json!([{"role": "system", "content": system}, {"role": "user", "content": question}])
    };
    // As SmolLM2's vocabulary has it: to the word before the country.
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
        // All but the last token, whose logits are needed.
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
