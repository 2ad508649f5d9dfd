//! Tests with functions in place of templates that print one line for each message.

use super::*;
use crate::engine::Message;
use crate::engine::template::turn::turns_of;

fn messages(texts: &[(Role, &str)]) -> Vec<Message> {
    let message = |(role, text): &(Role, &str)| Message {
        role: *role,
        content: (*text).into(),
    };
    texts.iter().map(message).collect()
}

/// Returns the indices of the texts that `shown` omits completely, and of those that it omits in part.
fn left_out(
    texts: &[(Role, &str)],
    shown: impl Fn(Role, &str) -> String,
) -> (Vec<usize>, Vec<usize>) {
    let messages = messages(texts);
    let turns = turns_of(&messages);
    let render = |turns: &[Turn<'_>]| -> Result<String, ()> {
        let lines = turns.iter().map(|turn| shown(turn.role, &turn.text) + "\n");
        Ok(lines.collect())
    };
    let prompt = render(&turns).unwrap();
    let (partial, whole): (Vec<_>, Vec<_>) = omissions(&turns, &prompt, render)
        .into_iter()
        .partition(|omission| omission.is_partial);
    let turns = |omissions: Vec<Omission>| omissions.iter().map(|o| o.turn).collect();
    (turns(whole), turns(partial))
}

use Role::{Assistant, System, User};

#[test]
fn an_omitted_role_is_found_and_empty_texts_are_ignored() {
    let texts = [(System, "a"), (User, "a"), (System, " \n"), (System, "a")];
    let no_system = |role, text: &str| {
        if role == System {
            String::new()
        } else {
            text.trim().to_uppercase()
        }
    };
    assert_eq!(left_out(&texts, no_system), (vec![0, 3], vec![]));
    let all = |_, text: &str| text.trim().to_owned();
    assert_eq!(left_out(&texts, all), (vec![], vec![]));
}

#[test]
fn reasoning_that_is_removed_from_an_answer_is_not_an_omission() {
    let texts = [
        (User, "1</think>2"),
        (Assistant, "<think>\na\n</think>\n\nb"),
        (Assistant, "<think>a</think>"),
    ];
    let last = |role, text: &str| match (role, text.rsplit_once("</think>")) {
        (Assistant, Some((_, answer))) => answer.to_owned(),
        _ => text.to_owned(),
    };
    assert_eq!(left_out(&texts, last), (vec![], vec![]));
    let no_answers = |role, text: &str| {
        let thinking = text.split_once("</think>");
        match (role, thinking) {
            (Assistant, Some((thinking, _))) => thinking.to_owned(),
            _ => text.to_owned(),
        }
    };
    assert_eq!(left_out(&texts, no_answers).0, [1]);
}

#[test]
fn a_truncated_text_is_a_partial_omission() {
    let texts = [(User, "1234567890"), (User, "123")];
    let cut = |_, text: &str| text.chars().take(6).collect();
    assert_eq!(left_out(&texts, cut), (vec![], vec![0]));
}

#[test]
fn marks_do_not_affect_a_template_that_checks_lengths_or_ends() {
    let texts = [(User, "Hello"), (User, "Hello!"), (User, "/x"), (User, "/")];
    let longer = |_, text: &str| {
        if text.chars().count() > 5 {
            text.to_owned()
        } else {
            String::new()
        }
    };
    assert_eq!(left_out(&texts, longer).0, [0, 2, 3]);
    let plain = |_, text: &str| {
        if text.starts_with('/') {
            "?".to_owned()
        } else {
            text.to_owned()
        }
    };
    // A single character cannot be replaced without a visible change.
    assert_eq!(left_out(&texts, plain).0, [2]);
}

#[test]
fn a_text_that_controls_the_template_is_not_an_omission() {
    let texts = [(System, "/no_think"), (System, "Be brief."), (User, "Hi")];
    let obeyed = |role, text: &str| match (role, text) {
        (System, "/no_think") => "<think></think>".to_owned(),
        (System, _) => String::new(),
        _ => text.to_owned(),
    };
    assert_eq!(left_out(&texts, obeyed).0, [1]);
}

#[test]
fn private_use_characters_in_a_text_are_not_marks() {
    let texts = [
        (User, "\u{f0000}"),
        (System, "\u{f0001}\u{f0002}"),
        (User, "\u{10fffd}"),
    ];
    let no_system = |role, text: &str| {
        if role == System {
            "\u{f0003}".to_owned()
        } else {
            text.to_owned()
        }
    };
    assert_eq!(left_out(&texts, no_system), (vec![1], vec![]));
}

#[test]
fn all_turns_are_checked_even_if_there_are_more_than_marks() {
    let mut texts = vec![(User, "a"); 120_000];
    for at in [0, 60_000, 119_999] {
        texts[at].0 = System;
    }
    let no_system = |role, text: &str| {
        if role == System {
            String::new()
        } else {
            text.to_owned()
        }
    };
    assert_eq!(left_out(&texts, no_system).0, [0, 60_000, 119_999]);
}
