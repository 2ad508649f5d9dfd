//! Sampling parameters in the configuration and in calls, and their effect on answers.

use serde_json::{Value, json};

use crate::config_check::{checked, problems};
use crate::support::config::Folder;
use crate::support::{Server, program};

const FRANCE: &str = "What is the capital of France?";

/// Returns the answer of a greedy call with `parameters`.
fn greedy(server: &mut Server, text: &str, parameters: Value) -> String {
    let mut call = json!({"text": text, "temperature": 0, "repeat_penalty": 1, "max_tokens": 60});
    merge(&mut call, parameters);
    server.chat(call).text
}

fn merge(call: &mut Value, parameters: Value) {
    let Value::Object(parameters) = parameters else {
        panic!("parameters are an object")
    };
    call.as_object_mut().unwrap().extend(parameters);
}

#[test]
fn a_forbidden_token_does_not_occur_in_the_answer() {
    let mut server = Server::tiny(&[]);
    let answer = greedy(&mut server, FRANCE, json!({}));
    assert_eq!(answer, "The capital of France is Paris.");
    let answer = greedy(&mut server, FRANCE, json!({"logit_bias": {" Paris": -100}}));
    assert!(!answer.contains("Paris"), "{answer}");
}

#[test]
fn dry_ends_a_repetition() {
    let mut server = Server::tiny(&[]);
    let loops = "la la la la la la la la la la";
    let singing = greedy(&mut server, "Sing forever.", json!({}));
    assert!(singing.contains(loops), "{singing}");
    let mut server = Server::tiny(&["--set", "models.default.dry_multiplier=5"]);
    let answer = greedy(&mut server, "Sing forever.", json!({}));
    assert!(!answer.contains(loops), "{answer}");
}

#[test]
fn typical_sampling_and_xtc_change_a_text_only_when_they_are_on() {
    let mut server = Server::tiny(&[]);
    let mut drawn = |parameters: Value| {
        let mut call =
            json!({"text": FRANCE, "temperature": 2, "top_p": 1, "seed": 7, "max_tokens": 20});
        merge(&mut call, parameters);
        server.chat(call).text
    };
    let text = drawn(json!({}));
    for off in [
        json!({"typical_p": 1}),
        json!({"xtc_probability": 0, "xtc_threshold": 0.01}),
        json!({"xtc_probability": 1, "xtc_threshold": 0.5}),
    ] {
        assert_eq!(drawn(off.clone()), text, "{off}");
    }
    assert_ne!(
        drawn(json!({"xtc_probability": 1, "xtc_threshold": 0})),
        text
    );
}

#[test]
fn values_out_of_range_are_refused_in_calls() {
    let mut server = Server::tiny(&[]);
    for (parameter, refusal) in [
        (
            json!({"typical_p": 2}),
            "`typical_p`: must be a number from 0 to 1, found 2",
        ),
        (
            json!({"xtc_threshold": 0.7}),
            "`xtc_threshold`: must be a number from 0 to 0.5, found 0.7",
        ),
        (
            json!({"logit_bias": {"x": 101}}),
            "`logit_bias.x`: must be a number from -100 to 100, found 101",
        ),
        (
            json!({"logit_bias": {"": 1}}),
            "`logit_bias`: must be a table, each key a string of 1 to 100 characters, found the key ``",
        ),
        (
            json!({"logit_bias": [[13, 100]]}),
            "`logit_bias`: must be a table of at most 300 keys, found an array of 1",
        ),
    ] {
        let mut call = json!({"text": FRANCE});
        merge(&mut call, parameter);
        assert_eq!(server.refusal(call), refusal);
    }
}

/// Parameters of samplers that are off by default, as a model or a tool sets them.
const KEYS: &str = r#"typical_p = 0.9
xtc_probability = 0.5
xtc_threshold = 0.2
logit_bias = { " sorry" = -5, "13" = 2.5 }
dry_multiplier = 0.8
dry_base = 2
dry_allowed_length = 3
dry_penalty_last_n = 256
dry_sequence_breakers = ["\n", "."]
"#;

#[test]
fn models_and_tools_accept_all_parameters() {
    let file = format!(
        "[models.a]\npath = \"crab.gguf\"\n{KEYS}[tools.b]\nkind = \"chat\"\ndescription = \"Sings.\"\n{KEYS}"
    );
    let folder = Folder::new("sampling", &file);
    let (code, found) = checked(&folder, &["--strict"]);
    assert_eq!((code, &found["warnings"]), (Some(0), &json!([])));
}

#[test]
fn every_parameter_out_of_range_is_reported() {
    let file = r#"
[models.a]
path = "crab.gguf"
typical_p = -0.1
xtc_probability = 1.5
xtc_threshold = 0.6
dry_multiplier = -1
dry_base = 0
dry_allowed_length = 0
dry_penalty_last_n = -2
dry_sequence_breakers = [""]
logit_bias = { x = -200, "" = 1 }
"#;
    let expected = [
        "`models.a.typical_p`: must be a number from 0 to 1, found -0.1",
        "`models.a.xtc_probability`: must be a number from 0 to 1, found 1.5",
        "`models.a.xtc_threshold`: must be a number from 0 to 0.5, found 0.6",
        "`models.a.dry_multiplier`: must be a number from 0 to 100, found -1",
        "`models.a.dry_base`: must be a number from 1 to 100, found 0",
        "`models.a.dry_allowed_length`: must be a whole number from 1 to 1000000, found 0",
        "`models.a.dry_penalty_last_n`: must be a whole number from -1 to 1000000, found -2",
        "`models.a.dry_sequence_breakers[0]`: must be a string of 1 to 40 characters, found the string \"\"",
        "`models.a.logit_bias.x`: must be a number from -100 to 100, found -200",
        "the key must be a string of 1 to 100 characters, found the string \"\"",
    ];
    assert_eq!(problems(file), expected);
}

#[test]
fn calls_take_precedence_over_tools_and_tools_over_models() {
    let file = r#"
[models.crab]
path = "crab.gguf"
n_threads = 1
temperature = 0
repeat_penalty = 1
logit_bias = { " Paris" = -100 }
[tools.free]
kind = "chat"
logit_bias = {}
"#;
    let folder = Folder::new("sampling", file);
    let mut command = program();
    command.current_dir(&folder.0);
    let mut server = Server::spawn(command);
    let mut says_paris = |tool: &str, parameters: Value| {
        let mut call = json!({"text": FRANCE});
        merge(&mut call, parameters);
        let id = server.call_tool(tool, call);
        server.result(id).text.contains("Paris")
    };
    assert!(!says_paris("crab", json!({})));
    assert!(says_paris("free", json!({})));
    assert!(says_paris("crab", json!({"logit_bias": {}})));
    assert!(!says_paris("free", json!({"logit_bias": {" Paris": -100}})));
}
