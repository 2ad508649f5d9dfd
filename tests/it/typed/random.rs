//! Structured answers to random prompts.

use serde_json::{Value, json};

use crate::support::config::Folder;
use crate::support::http::HttpServer;
use crate::support::{program, smollm2};

/// Number of concurrent clients.
const CLIENTS: usize = 8;

/// Calls of each client.
const TURNS: usize = 13;

/// Calls at each temperature.
const CALLS: usize = CLIENTS * TURNS;

#[test]
#[expect(clippy::print_stdout, reason = "prints measurements for people")]
fn structured_answers_to_two_hundred_random_prompts_are_valid_or_an_error() {
    let text = format!(
        r#"
[models.small]
path = '{}'
tool = false
max_tokens = 100
seed = 7
n_threads = 1
[tools.choice]
prompt = "{{{{ text }}}}"
choices = ["yes", "no", "perhaps; who knows?", "ü\"{{}}"]
[tools.json]
prompt = "{{{{ text }}}}"
output = {{ type = "object", properties = {{ name = {{ type = "string", maxLength = 20 }}, tags = {{ type = "array", items = {{ enum = ["a", "b"] }}, maxItems = 4 }}, score = {{ type = "integer", minimum = 0, maximum = 100 }}, born = {{ type = ["string", "null"], pattern = "^[12][0-9]{{3}}$" }} }}, required = ["name", "tags", "score", "born"] }}
[tools.choice.arguments.text]
[tools.json.arguments.text]
"#,
        smollm2().display()
    );
    let words = [
        "river",
        "why",
        "{",
        "\"",
        "42",
        "Paris",
        "\n",
        "<|im_end|>",
        "答え",
        "is",
        "the",
    ];
    for temperature in ["0.7", "1.5"] {
        let folder = Folder::new("random", &text);
        let mut command = program();
        let set = [
            format!("models.small.temperature={temperature}"),
            "models.small.parallel=8".into(),
        ];
        command
            .current_dir(&folder.0)
            .args(["--set", &set[0], "--set", &set[1]]);
        let server = HttpServer::spawn(command);
        let errors: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CLIENTS)
                .map(|n| {
                    let mut client = server.client();
                    scope.spawn(move || {
                        let mut errors = 0;
                        for turn in 0..TURNS {
                            // Different words for every call, the same in every run (splitmix64).
                            let pick = |k: usize| {
                                let mut drawn = ((n * TURNS + turn) * 8 + k) as u64;
                                drawn = drawn.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                                drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                                words[usize::try_from(drawn >> 33).unwrap() % words.len()]
                            };
                            let prompt = (0..8).map(pick).collect::<Vec<_>>().join(" ");
                            let tool = ["choice", "json"][turn % 2];
                            let params = json!({"name": tool, "arguments": {"text": prompt}});
                            let answer = client.request("tools/call", params);
                            errors += usize::from(!is_valid(tool, &answer["result"]));
                        }
                        errors
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        println!("temperature {temperature}: {errors} of {CALLS} forced answers were errors");
        assert!(errors < CALLS / 8, "{errors} errors at {temperature}");
    }
}

/// Returns whether a call succeeded. The answer must be valid, and an error must state its reason.
fn is_valid(tool: &str, result: &Value) -> bool {
    let value = &result["structuredContent"];
    if result["isError"] == true {
        let error = result["content"][0]["text"].as_str().unwrap();
        assert!(
            error.starts_with("no answer:") && value.is_null() && tool == "json",
            "{result}"
        );
        return false;
    }
    if tool == "choice" {
        let choices = ["yes", "no", "perhaps; who knows?", "ü\"{}"];
        assert!(
            choices.contains(&value["choice"].as_str().unwrap()),
            "{result}"
        );
        return true;
    }
    assert_eq!(
        serde_json::from_str::<Value>(result["content"][0]["text"].as_str().unwrap()).unwrap(),
        *value
    );
    assert!(
        value["name"].as_str().unwrap().chars().count() <= 20,
        "{value}"
    );
    assert!(
        (0..=100).contains(&value["score"].as_i64().unwrap()),
        "{value}"
    );
    let tags = value["tags"].as_array().unwrap();
    assert!(
        tags.len() <= 4 && tags.iter().all(|tag| tag == "a" || tag == "b"),
        "{value}"
    );
    true
}
