//! Speculative decoding: answers are the same with and without draft tokens.

use serde_json::json;

use crate::support::Server;

/// Starts two servers: the first one drafts tokens, the second one does not.
fn both() -> [Server; 2] {
    ["auto", "off"].map(|speculative| {
        Server::tiny(&[
            "--set",
            &format!("models.default.speculative={speculative}"),
        ])
    })
}

#[test]
fn a_song_that_repeats_itself_is_the_same_with_drafts() {
    let call =
        json!({"text": "Sing forever.", "temperature": 0, "repeat_penalty": 1, "max_tokens": 200});
    let [with, without] = both().map(|mut server| server.chat(call.clone()));
    assert_eq!(with.text, without.text);
    assert_eq!(with.generation["completion_tokens"], 200);
    let accepted = with.generation["accepted_tokens"].as_u64().unwrap();
    let drafted = with.generation["drafted_tokens"].as_u64().unwrap();
    assert!(accepted >= 2 && accepted <= drafted, "{}", with.generation);
    assert_eq!(without.generation["drafted_tokens"], 0);
}

/// Batches of other sizes change the last bits of logits, so a few answers may differ.
#[test]
fn sampled_answers_are_the_same_for_nearly_every_seed() {
    let [mut with, mut without] = both();
    let (mut same, mut accepted) = (0, 0);
    for seed in 0..40 {
        let call = json!({"text": "Sing forever.", "temperature": 1, "repeat_penalty": 1, "max_tokens": 24, "seed": seed});
        let [drafted, plain] = [&mut with, &mut without].map(|server| server.chat(call.clone()));
        same += u32::from(drafted.text == plain.text);
        accepted += drafted.generation["accepted_tokens"].as_u64().unwrap();
    }
    assert!(same >= 36, "{same} of 40");
    assert!(accepted > 0, "no draft token was accepted");
}
