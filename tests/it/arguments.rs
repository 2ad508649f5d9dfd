//! Which arguments calls accept, and the errors for the others.

use serde_json::{Value, json};

use crate::support::Server;

#[test]
fn invalid_arguments_are_refused_with_helpful_messages() {
    let mut server = Server::tiny(&[]);
    let hi = json!([{"role": "user", "content": "Hi"}]);
    let table: [(Value, &str); 16] = [
        (
            json!({}),
            "give `text` (a string) or `messages` (an array of messages): neither was given",
        ),
        (
            json!({"text": "Hi", "messages": hi}),
            "give `text` or `messages`, not both",
        ),
        (
            json!({"messages": []}),
            "`messages`: must be an array of at least one message, found an empty array",
        ),
        (json!({"text": 7}), "`text`: must be a string, found 7"),
        (
            json!({"text": "Hi", "max_tokens": -1}),
            "`max_tokens`: must be a whole number from 1 to 1000000000, found -1",
        ),
        (
            json!({"text": "Hi", "top_p": 7}),
            "`top_p`: must be a number from 0 to 1, found 7",
        ),
        (
            json!({"text": "Hi", "temperature": "warm"}),
            "`temperature`: must be a number from 0 to 5, found the string \"warm\"",
        ),
        (
            json!({"text": "Hi", "temperature": "7"}),
            "`temperature`: must be a number from 0 to 5, found 7",
        ),
        (
            json!({"text": "Hi", "repeat_penalty": 0}),
            "`repeat_penalty`: must be a number from 0.1 to 10, found 0",
        ),
        (
            json!({"text": "Hi", "seed": 4_294_967_295_u64}),
            "`seed`: must be a whole number from -1 to 4294967294, found 4294967295",
        ),
        (
            json!({"text": "Hi", "deadline": 0}),
            "`deadline`: must be a number from 0.001 to 604800, found 0",
        ),
        (
            json!({"text": "Hi", "stop": [7]}),
            "`stop`: must be a string of 1 to 1024 characters, or an array of at most 16 such strings, found 7",
        ),
        (
            json!({"text": "Hi", "temprature": 1}),
            "`temprature` is not an argument of this tool; did you mean `temperature`?",
        ),
        (
            json!({"prompt": "Hi"}),
            "give `text` (a string) or `messages` (an array of messages): neither was given; `prompt` is not an argument of this tool; available: `text`, `messages`, `max_tokens`, `stop`, `prompt_suffix`, `deadline`, `json_schema`, `thinking_budget`, `template_arguments`, `temperature`, `top_p`, `top_k`, `typical_p`, `min_p`, `xtc_probability`, `xtc_threshold`, `logit_bias`, `repeat_penalty`, `presence_penalty`, `frequency_penalty`, `repeat_last_n`, `seed`",
        ),
        (
            json!({"message": hi}),
            "give `text` (a string) or `messages` (an array of messages): neither was given; `message` is not an argument of this tool; did you mean `messages`?",
        ),
        (
            json!({"messages": "[]"}),
            "`messages`: must be an array of at least one message, found an empty array",
        ),
    ];
    for (arguments, refusal) in table {
        assert_eq!(server.refusal(arguments), refusal);
    }
}

#[test]
fn null_counts_as_absent_and_an_integral_float_as_an_integer() {
    let mut server = Server::tiny(&[]);
    let answer = server
        .chat(json!({"text": "Hello!", "messages": null, "max_tokens": 3.0, "temperature": null}));
    assert_eq!(answer.generation["completion_tokens"], 3);
}

#[test]
fn flags_set_the_defaults_of_calls() {
    let mut server = Server::tiny(&["--max-tokens", "2", "--seed", "9", "--tool_name", "chat"]);
    let answer = server.chat(json!({"text": "Hello!"}));
    assert_eq!(
        (
            &answer.generation["completion_tokens"],
            &answer.generation["seed"]
        ),
        (&json!(2), &json!(9))
    );
    let answer = server.chat(json!({"text": "Hello!", "max_tokens": 1, "seed": 3}));
    assert_eq!(
        (
            &answer.generation["completion_tokens"],
            &answer.generation["seed"]
        ),
        (&json!(1), &json!(3))
    );
}

#[test]
fn the_error_of_a_full_queue_states_its_length() {
    let mut server = Server::tiny(&[
        "--parallel",
        "1",
        "--max_queue",
        "2",
        "--repeat_penalty",
        "1",
    ]);
    let singing = json!({"text": "Sing forever.", "temperature": 0, "max_tokens": 4000});
    let calls: Vec<u64> = ["la la", "queued, position 1", "queued, position 2"]
        .into_iter()
        .map(|state| {
            let id = server.call(singing.clone());
            server.wait_for_progress(id, |message| message.starts_with(state));
            id
        })
        .collect();
    let refused = server.call(singing);
    let refused = server.result(refused);
    assert!(refused.is_error);
    assert_eq!(
        refused.text,
        "the model is busy: its queue is full (2 calls); try again later"
    );
    for id in &calls {
        server.cancel(*id);
    }
    server.chat(json!({"text": "Hi"}));
}
