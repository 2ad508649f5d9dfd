//! A real model: facts, seeds, concurrent calls, and the documented lines.

use serde_json::{Value, json};

use crate::support::{Server, smollm2};

fn server(flags: &[&str]) -> Server {
    Server::start(&smollm2(), flags)
}

#[test]
fn a_greedy_answer_to_a_factual_question_contains_the_fact() {
    let mut server = server(&[]);
    let answer = server.chat(json!({"text": "Name the capital of France.", "temperature": 0}));
    assert_eq!(answer.text, "The capital of France is Paris.");
    assert_eq!(answer.generation["model"], "SmolLM2-135M-Instruct.Q4_1");
}

#[test]
fn the_same_seed_gives_the_same_text_and_another_seed_a_different_one() {
    let mut server = server(&[]);
    let mut write = |seed: u32| {
        server.chat(json!({"text": "Write a poem about the sea.", "seed": seed, "max_tokens": 24, "temperature": 1})).text
    };
    let first = write(1);
    assert_eq!(write(1), first);
    assert_ne!(write(2), first);
}

#[test]
fn eight_concurrent_calls_each_get_their_own_correct_answer() {
    let facts = [
        ("France", "Paris"),
        ("Italy", "Rome"),
        ("Germany", "Berlin"),
        ("Spain", "Madrid"),
        ("Japan", "Tokyo"),
        ("Russia", "Moscow"),
        ("Egypt", "Cairo"),
        ("Greece", "Athens"),
    ];
    let mut server = server(&["--parallel", "8", "--n_ctx", "512"]);
    let calls: Vec<u64> = facts
        .iter()
        .map(|(country, _)| {
            let text = format!("What is the capital of {country}? Answer in one sentence.");
            server.call(json!({"text": text, "temperature": 0, "max_tokens": 40}))
        })
        .collect();
    for (id, (country, capital)) in calls.into_iter().zip(facts) {
        let answer = server.result(id).text;
        assert!(answer.contains(capital), "{country}: {answer}");
    }
}

#[test]
fn the_documented_requests_get_the_documented_answers() {
    let mut server = server(&[]);
    let lines = [
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#,
        r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"chat","arguments":{"text":"Hello, how are you?"}}}"#,
        r#"{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"chat","arguments":{"messages":[{"role":"system","content":"You are helpful."},{"role":"user","content":"Hi"}],"temperature":0.5}}}"#,
    ];
    for line in lines {
        server.send_line(line);
    }
    server.close_stdin();
    let initialized = server.response(1)["result"].clone();
    assert_eq!(initialized["protocolVersion"], "2024-11-05");
    assert_eq!(
        initialized["capabilities"],
        json!({"tools": {"listChanged": true}})
    );
    assert_eq!(server.response(2)["result"]["tools"][0]["name"], "chat");
    for id in [3, 4] {
        let answer = server.result(id);
        assert!(
            !answer.is_error && answer.text.split_whitespace().count() >= 2,
            "{}",
            answer.text
        );
    }
    assert_eq!(server.remaining_messages(), Vec::<Value>::new());
    assert_eq!(server.wait().code(), Some(0));
}
