//! Exact answers of a tiny model.

use serde_json::{Value, json};

use crate::support::{Server, tiny_with_replaced, tiny_with_template};

/// Returns the answer of a greedy call.
fn ask(server: &mut Server, text: &str) -> String {
    server.chat(json!({"text": text, "temperature": 0})).text
}

#[test]
fn a_question_is_answered() {
    let mut server = Server::tiny(&[]);
    assert_eq!(
        ask(&mut server, "What is the capital of France?"),
        "The capital of France is Paris."
    );
    assert_eq!(
        ask(&mut server, "Say something in Unicode."),
        "こんにちは、世界！ 🦙🦀 Ünïcödé works."
    );
}

#[test]
fn earlier_turns_reach_the_model() {
    let mut server = Server::tiny(&[]);
    let messages = json!([
        {"role": "user", "content": "My name is Nadira."},
        {"role": "assistant", "content": "Nice to meet you, Nadira!"},
        {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "my name?"}]},
    ]);
    let answer = server.chat(json!({"messages": messages, "temperature": 0, "repeat_penalty": 1}));
    assert_eq!(answer.text, "Your name is Nadira.");
}

#[test]
fn a_prompt_suffix_is_appended_to_the_system_message_or_replaces_a_missing_one() {
    let mut server = Server::tiny(&[
        "--prompt_suffix",
        "The secret word is zanuko.",
        "--repeat_penalty",
        "1",
    ]);
    assert_eq!(
        ask(&mut server, "What is the secret word?"),
        "The secret word is zanuko."
    );
    let messages = json!([
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the secret word?"},
    ]);
    let answer = server.chat(json!({"messages": messages, "temperature": 0, "prompt_suffix": "The secret word is mirabo."}));
    assert_eq!(answer.text, "The secret word is mirabo.");
}

#[test]
fn thinking_is_removed_and_counted() {
    let mut server = Server::tiny(&[]);
    let answer = server.chat(json!({"text": "Think: what is the capital of Peru?", "temperature": 0, "repeat_penalty": 1}));
    assert_eq!(answer.text, "The capital of Peru is Lima.");
    assert!(answer.generation["thinking_tokens"].as_u64().unwrap() > 10);
}

#[test]
fn unfinished_thinking_is_reported_instead_of_an_empty_answer() {
    let mut server = Server::tiny(&[]);
    let text = server.refusal(
        json!({"text": "Think: what is the capital of Peru?", "temperature": 0, "max_tokens": 8}),
    );
    assert_eq!(
        text,
        "no answer: the model was still thinking after 8 tokens, when `max_tokens` was reached; raise `max_tokens`"
    );
}

#[test]
fn an_endless_answer_is_truncated_and_says_why() {
    let mut server = Server::tiny(&["--repeat_penalty", "1"]);
    let cut = server.chat(json!({"text": "Sing forever.", "temperature": 0, "max_tokens": 9}));
    let text = cut
        .text
        .strip_suffix(
            "\n\n[truncated after 9 tokens, when `max_tokens` was reached; raise `max_tokens`]",
        )
        .unwrap_or_else(|| panic!("no note: {}", cut.text));
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["la"; 9]);
    assert_eq!(cut.generation["finish_reason"], "length");
    assert_eq!(cut.generation["completion_tokens"], 9);

    let text =
        server.refusal(json!({"text": "Sing forever.", "temperature": 0, "stop": ["la la la la"]}));
    assert_eq!(
        text,
        "no answer: the model ended without writing any text; rephrase the question or change `stop`"
    );
}

#[test]
fn an_answer_that_fills_the_context_says_so() {
    let mut server = Server::tiny(&["--repeat_penalty", "1", "--n_ctx", "64"]);
    let cut = server.chat(json!({"text": "Sing forever.", "temperature": 0}));
    let tokens = &cut.generation["completion_tokens"];
    assert_eq!(
        (&cut.generation["finish_reason"], cut.text.split_once("\n\n").unwrap().1),
        (
            &json!("length"),
            format!("[truncated after {tokens} tokens, when the model's context was full; shorten the text or give the model a larger `n_ctx` (at most 4096)]").as_str()
        )
    );
}

#[test]
fn the_note_on_truncation_can_be_disabled_and_is_never_added_to_json() {
    let mut server = Server::tiny(&[
        "--repeat_penalty",
        "1",
        "--set=models.default.cut_note=false",
    ]);
    let cut = server.chat(json!({"text": "Sing forever.", "temperature": 0, "max_tokens": 9}));
    assert_eq!(cut.text.split_whitespace().collect::<Vec<_>>(), ["la"; 9]);
    assert_eq!(cut.generation["finish_reason"], "length");
    let mut server = Server::tiny(&[]);
    let schema = json!({"type": "object", "properties": {"capital": {"type": "string"}}, "required": ["capital"]});
    let refused = server
        .refusal(json!({"text": "Give me Cuba as JSON.", "max_tokens": 3, "json_schema": schema}));
    assert!(
        refused.starts_with("no answer: truncated after 3 tokens, before the JSON was complete"),
        "{refused}"
    );
}

#[test]
fn a_stop_string_ends_the_answer_and_is_not_part_of_it() {
    let mut server = Server::tiny(&[]);
    let answer = server
        .chat(json!({"text": "What is the capital of France?", "temperature": 0, "stop": "is P"}));
    assert_eq!(
        (answer.text.as_str(), &answer.generation["finish_reason"]),
        ("The capital of France ", &json!("stop"))
    );
}

#[test]
fn a_deadline_truncates_the_answer() {
    let mut server = Server::tiny(&["--repeat_penalty", "1", "--max_tokens", "4000"]);
    // The model is loaded first, because the deadline includes the load.
    ask(&mut server, "Hi");
    let mut sing = || {
        let id = server.call(json!({"text": "Sing forever.", "temperature": 0, "deadline": 0.7}));
        server.result(id)
    };
    // On a busy machine a call may end before its first token.
    let answer = (0..100).map(|_| sing()).find(|answer| !answer.is_error);
    let answer = answer.expect("one of a hundred calls has an answer");
    assert!(answer.text.starts_with("la la la"));
    let tokens = &answer.generation["completion_tokens"];
    let note = format!(
        "\n\n[truncated after {tokens} tokens, when the deadline of 0.7 s passed; allow more time]"
    );
    assert!(answer.text.ends_with(&note), "{}", answer.text);
    assert_eq!(answer.generation["finish_reason"], "deadline");
}

#[test]
fn a_deadline_without_any_text_is_an_error_that_names_the_phase() {
    let mut server = Server::tiny(&["--parallel", "1", "--repeat_penalty", "1"]);
    let singing =
        server.call(json!({"text": "Sing forever.", "temperature": 0, "max_tokens": 4000}));
    server.wait_for_progress(singing, |message| message.contains("la"));
    let text = server.refusal(json!({"text": "Hi", "deadline": 0.2}));
    assert_eq!(
        text,
        "no answer within the deadline of 0.2 s: the call was still queued; allow more time or try again later"
    );
}

#[test]
fn control_tokens_in_user_text_are_plain_text() {
    let mut server = Server::tiny(&[]);
    let prompt_tokens = |server: &mut Server, text: &str| {
        server
            .chat(json!({"text": text, "max_tokens": 1}))
            .generation["prompt_tokens"]
            .as_u64()
            .unwrap()
    };
    let without = prompt_tokens(&mut server, "a  b");
    let with = prompt_tokens(&mut server, "a <|im_end|> b");
    // As a control token it would be a single token.
    assert!(with >= without + 5, "{with} and {without}");
}

#[test]
fn a_model_without_a_template_continues_the_text_and_warns_once() {
    let model = tiny_with_replaced(
        "base.gguf",
        "tokenizer.chat_template",
        "tokenizer.chat_templatX",
    );
    let mut server = Server::start(&model.0, &[]);
    let turn = "Hi there";
    let answer = server.chat(json!({"text": turn, "max_tokens": 1, "temperature": 0}));
    let bare = answer.generation["prompt_tokens"].as_u64().unwrap();
    let joined = json!([{"role": "system", "content": turn}, {"role": "user", "content": turn}]);
    let answer = server.chat(json!({"messages": joined, "max_tokens": 1, "temperature": 0}));
    assert!(bare <= turn.len() as u64);
    assert!(
        (2 * bare..=2 * bare + 2).contains(&answer.generation["prompt_tokens"].as_u64().unwrap())
    );
    let log = server.end();
    let is_warning = |line: &&str| line.contains(" WARN ") && line.contains("no chat template");
    assert_eq!(log.lines().filter(is_warning).count(), 1, "{log}");
}

#[test]
fn a_malicious_template_is_an_error_and_the_server_keeps_running() {
    let endless =
        "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}";
    let model = tiny_with_template("endless.gguf", endless);
    let mut server = Server::start(&model.0, &[]);
    let text = server.refusal(json!({"text": "Hi"}));
    assert_eq!(
        text,
        "the model's chat template refused the messages: it takes too many steps"
    );
    assert_eq!(server.refusal(json!({"text": "Hi"})), text);
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_with_both_numbers() {
    let mut server = Server::tiny(&["--n_ctx", "300"]);
    let text = server.refusal(json!({"text": "word ".repeat(2000)}));
    let numbers: Vec<u64> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(
        numbers.len() == 3 && numbers[0] > 2000 && numbers[1..] == [300, 4096],
        "{text}"
    );
}

#[test]
fn a_result_describes_its_generation() {
    let mut server = Server::tiny(&[]);
    let generation = server
        .chat(json!({"text": "Hello!", "temperature": 0, "seed": 5}))
        .generation;
    let Value::Object(members) = &generation else {
        panic!("it is an object")
    };
    let mut names: Vec<&str> = members.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accepted_tokens",
            "cached_tokens",
            "completion_tokens",
            "decode_ms",
            "drafted_tokens",
            "finish_reason",
            "forced_tokens",
            "load_ms",
            "model",
            "prefill_ms",
            "prompt_tokens",
            "queue_ms",
            "request_id",
            "seed",
            "thinking_tokens"
        ]
    );
    assert_eq!(generation["seed"], 5);
    assert_eq!(generation["finish_reason"], "stop");
}

#[test]
fn a_seed_of_minus_one_is_random_in_each_call() {
    let mut server = Server::tiny(&["--seed", "-1"]);
    let mut seed = || {
        server
            .chat(json!({"text": "Hi", "max_tokens": 1}))
            .generation["seed"]
            .as_u64()
            .unwrap()
    };
    assert_ne!(seed(), seed());
}

#[test]
fn concurrent_calls_each_get_their_own_answer() {
    let capitals = [
        ("France", "Paris"),
        ("Germany", "Berlin"),
        ("Italy", "Rome"),
        ("Spain", "Madrid"),
        ("Japan", "Tokyo"),
        ("Egypt", "Cairo"),
        ("Norway", "Oslo"),
        ("Peru", "Lima"),
        ("Cuba", "Havana"),
        ("Kenya", "Nairobi"),
        ("Greece", "Athens"),
        ("Austria", "Vienna"),
    ];
    let mut server = Server::tiny(&["--parallel", "8"]);
    let calls: Vec<u64> = capitals
        .iter()
        .map(|(country, _)| {
            server.call(
                json!({"text": format!("What is the capital of {country}?"), "temperature": 0}),
            )
        })
        .collect();
    for (id, (country, capital)) in calls.into_iter().zip(capitals) {
        assert_eq!(
            server.result(id).text,
            format!("The capital of {country} is {capital}.")
        );
    }
}

#[test]
fn a_long_run_of_one_character_does_not_crash_the_worker() {
    // A vocabulary whose text llama.cpp splits with a recursive regular expression.
    let model = tiny_with_replaced("recursive.gguf", "gpt-2", "bloom");
    let mut server = Server::start(&model.0, &[]);
    let text = server.refusal(json!({"text": "a".repeat(40_000)}));
    assert!(text.starts_with("the prompt has "), "{text}");
    let text = server.refusal(json!({"text": "a".repeat(15 << 20)}));
    assert!(text.starts_with("the prompt has at least "), "{text}");
}

#[test]
fn progress_reports_that_the_model_is_thinking() {
    let opened = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n<think>\n";
    let model = tiny_with_template("opened.gguf", opened);
    let mut server = Server::start(&model.0, &["--repeat_penalty", "1"]);
    let id = server.call(json!({"text": "Sing forever.", "temperature": 0, "max_tokens": 4000}));
    server.wait_for_progress(id, |message| message.starts_with("thinking, "));
}
