//! Drafted tokens (`speculative`): answers are the same with and without them.

use serde_json::json;

use crate::support::Server;

/// Starts two servers, one that drafts tokens and one that does not.
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
    let confirmed = with.generation["accepted_tokens"].as_u64().unwrap();
    let drafted = with.generation["drafted_tokens"].as_u64().unwrap();
    // How many tokens are drafted depends on measured times.
    assert!(
        confirmed >= 2 && confirmed <= drafted,
        "{}",
        with.generation
    );
    assert_eq!(without.generation["drafted_tokens"], 0);
}

/// Batches of other sizes change the last bits of logits, so a few answers may differ.
#[test]
fn sampled_answers_are_the_same_for_nearly_every_seed() {
    let [mut with, mut without] = both();
    let (mut same, mut confirmed) = (0, 0);
    for seed in 0..40 {
        let call = json!({"text": "Sing forever.", "temperature": 1, "repeat_penalty": 1, "max_tokens": 24, "seed": seed});
        let [drafted, plain] = [&mut with, &mut without].map(|server| server.chat(call.clone()));
        same += u32::from(drafted.text == plain.text);
        confirmed += drafted.generation["accepted_tokens"].as_u64().unwrap();
    }
    assert!(same >= 36, "{same} of 40");
    assert!(confirmed > 0, "no token was drafted");
}
