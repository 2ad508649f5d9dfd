//! Tests with functions in place of templates that print one line for each message.

use super::*;
use Role::{Assistant, System, User};

type Texts = [(Role, &'static str)];

fn messages(texts: &Texts) -> Vec<Message> {
    let message = |(role, text): &(Role, &str)| Message {
        role: *role,
        content: (*text).into(),
    };
    texts.iter().map(message).collect()
}

fn line(turn: &Turn<'_>) -> String {
    format!("{}: {}\n", turn.role.name(), turn.text)
}

/// Returns the prompt of `texts` with a template that prints the turns for which `is_printed` is true.
fn prompt(texts: &Texts, is_printed: impl Fn(&[Turn<'_>], usize) -> bool) -> String {
    render(texts, |turns| {
        let printed = (0..turns.len()).filter(|at| is_printed(turns, *at));
        Ok(printed.map(|at| line(&turns[at])).collect())
    })
}

/// Returns the prompt, or a description of the fault.
fn render(texts: &Texts, template: impl Fn(&[Turn<'_>]) -> Result<String, &'static str>) -> String {
    match render_all(&messages(texts), template) {
        Ok(complete) => complete.prompt,
        Err(Fault::Refused(error)) => format!("refused: {error}"),
        Err(Fault::LeftOut(left_out)) => {
            let messages = left_out.iter().map(|one| one.message);
            format!("left out: {:?}", messages.collect::<Vec<_>>())
        }
    }
}

fn no_system(turns: &[Turn<'_>], at: usize) -> bool {
    turns[at].role != System
}

fn leading_system(turns: &[Turn<'_>], at: usize) -> bool {
    turns[at].role != System || at == 0
}

fn last_system(turns: &[Turn<'_>], at: usize) -> bool {
    turns[at].role != System || turns[at + 1..].iter().all(|turn| turn.role != System)
}

#[test]
fn a_complete_conversation_is_rendered_unchanged() {
    let texts = [(System, "s"), (User, "u"), (User, ""), (Assistant, "a")];
    let complete = render_all(&messages(&texts), |turns| {
        Ok::<_, ()>(turns.iter().map(line).collect())
    });
    let complete = complete.unwrap();
    assert_eq!(
        complete.prompt,
        "system: s\nuser: u\nuser: \nassistant: a\n"
    );
    assert!(!complete.has_moved);
}

#[test]
fn omitted_system_messages_move_to_the_next_user_message() {
    assert_eq!(
        prompt(
            &[
                (System, "s"),
                (User, "u"),
                (Assistant, "a"),
                (System, "t"),
                (User, "v")
            ],
            no_system
        ),
        "user: s\n\nu\nassistant: a\nuser: t\n\nv\n"
    );
    assert_eq!(
        prompt(&[(System, "s"), (System, "t"), (User, "u")], no_system),
        "user: s\n\nt\n\nu\n"
    );
}

#[test]
fn only_omitted_text_moves() {
    assert_eq!(
        prompt(
            &[
                (System, "s"),
                (User, "u"),
                (Assistant, "a"),
                (System, "t"),
                (User, "v")
            ],
            leading_system
        ),
        "system: s\nuser: u\nassistant: a\nuser: t\n\nv\n"
    );
    assert_eq!(
        prompt(&[(System, "s"), (System, "t"), (User, "u")], last_system),
        "system: t\nuser: s\n\nu\n"
    );
}

#[test]
fn a_system_message_without_a_following_user_message_stays_in_place() {
    assert_eq!(prompt(&[(System, "s")], no_system), "user: s\n");
    assert_eq!(
        prompt(&[(System, "s"), (Assistant, "a"), (User, "u")], no_system),
        "user: s\nassistant: a\nuser: u\n"
    );
    assert_eq!(
        prompt(&[(User, "u"), (Assistant, "a"), (System, "s")], no_system),
        "user: u\nassistant: a\nuser: s\n"
    );
    assert_eq!(
        prompt(&[(User, "u"), (System, "s"), (Assistant, "a")], no_system),
        "user: u\n\ns\nassistant: a\n"
    );
}

#[test]
fn the_beginning_of_a_prompt_stays_the_same_as_the_conversation_grows() {
    let texts = [
        (System, "s"),
        (User, "u"),
        (Assistant, "a"),
        (System, "t"),
        (System, "x"),
        (User, "v"),
        (Assistant, "b"),
        (User, "w"),
        (Assistant, "c"),
        (System, "y"),
        (User, "z"),
    ];
    let asked = [2, 6, 8, 11];
    for template in [no_system, leading_system, last_system] {
        let prompts = asked.map(|end| prompt(&texts[..end], template));
        for pair in prompts.windows(2) {
            assert!(pair[1].starts_with(&pair[0]), "{prompts:#?}");
        }
    }
}

#[test]
fn consecutive_messages_of_a_role_are_joined_if_one_is_omitted() {
    let last_of_a_row = |turns: &[Turn<'_>], at: usize| {
        turns
            .get(at + 1)
            .is_none_or(|next| next.role != turns[at].role)
    };
    let first_of_a_row =
        |turns: &[Turn<'_>], at: usize| at == 0 || turns[at - 1].role != turns[at].role;
    let texts = [(User, "u"), (User, "v"), (Assistant, "a"), (Assistant, "b")];
    let expected = "user: u\n\nv\nassistant: a\n\nb\n";
    assert_eq!(prompt(&texts, last_of_a_row), expected);
    assert_eq!(prompt(&texts, first_of_a_row), expected);
}

#[test]
fn text_is_passed_as_parts_to_a_template_that_prints_only_parts() {
    let parts_only = |turns: &[Turn<'_>]| {
        let text = |turn: &Turn<'_>| {
            if turn.as_parts {
                line(turn)
            } else {
                "?\n".into()
            }
        };
        Ok(turns.iter().map(text).collect())
    };
    assert_eq!(
        render(&[(System, "s"), (User, "u")], parts_only),
        "system: s\nuser: u\n"
    );
    let parts_of_users = |turns: &[Turn<'_>]| {
        let text = |turn: &Turn<'_>| match turn.role {
            Assistant if turn.as_parts => "[?]\n".into(),
            Assistant => line(turn),
            User if turn.as_parts => line(turn),
            _ => String::new(),
        };
        Ok(turns.iter().map(text).collect())
    };
    assert_eq!(
        render(
            &[(System, "s"), (User, "u"), (Assistant, "a")],
            parts_of_users
        ),
        "user: s\n\nu\nassistant: a\n"
    );
    let refuses_text = |turns: &[Turn<'_>]| {
        let parts = turns.iter().all(|turn| turn.as_parts);
        parts
            .then(|| turns.iter().map(line).collect())
            .ok_or("no parts")
    };
    assert_eq!(render(&[(User, "u")], refuses_text), "user: u\n");
}

#[test]
fn reasoning_is_removed_before_rendering_if_the_template_removes_too_much() {
    let second = |turns: &[Turn<'_>]| {
        let text = |turn: &Turn<'_>| match turn.role {
            Assistant if turn.as_parts => String::new(),
            _ => turn
                .text
                .split("</think>")
                .nth(1)
                .unwrap_or(&turn.text)
                .to_owned(),
        };
        Ok(turns.iter().map(text).collect())
    };
    let texts = [
        (Assistant, "<think>a</think>b"),
        (Assistant, "<think>c</think> <think>d</think> e"),
    ];
    assert_eq!(render(&texts, second), "be");
    let thinking_only = [(User, "u"), (Assistant, "<think>c</think><think>d</think>")];
    assert_eq!(render(&thinking_only, second), "u<think>d");
}

#[test]
fn a_printed_list_of_parts_does_not_count_as_its_text() {
    let cut = |turns: &[Turn<'_>]| {
        let text = |turn: &Turn<'_>| {
            if turn.as_parts {
                format!("[{{'type': 'text', 'text': '{}'}}]\n", turn.text)
            } else {
                turn.text.chars().take(4).collect()
            }
        };
        Ok(turns.iter().map(text).collect())
    };
    let texts = [(User, "A long 'type': 'text'"), (User, "u")];
    assert_eq!(render(&texts, cut), "left out: [0, 1]");
    assert_eq!(render(&texts[1..], cut), "u");
}

#[test]
fn refused_system_messages_move_and_the_first_one_only_if_necessary() {
    let refuses = |from: usize| {
        move |turns: &[Turn<'_>]| {
            let refused = turns[from.min(turns.len())..]
                .iter()
                .any(|t| t.role == System);
            let printed = turns.iter().map(line);
            (!refused).then(|| printed.collect()).ok_or("no system")
        }
    };
    let texts = [
        (System, "s"),
        (User, "u"),
        (Assistant, "a"),
        (System, "t"),
        (User, "v"),
    ];
    assert_eq!(
        render(&texts, refuses(0)),
        "user: s\n\nu\nassistant: a\nuser: t\n\nv\n"
    );
    assert_eq!(
        render(&texts, refuses(1)),
        "system: s\nuser: u\nassistant: a\nuser: t\n\nv\n"
    );
}

#[test]
fn an_omission_that_cannot_be_repaired_is_an_error_that_names_the_message() {
    let no_answers = |turns: &[Turn<'_>], at: usize| turns[at].role == User;
    assert_eq!(
        prompt(
            &[(System, "s"), (User, "u"), (Assistant, "a"), (User, "v")],
            no_answers
        ),
        "left out: [2]"
    );
    assert_eq!(prompt(&[(User, "u")], |_, _| false), "left out: [0]");
    assert_eq!(
        render(&[(System, "s"), (User, "u")], |_| Err("no")),
        "refused: no"
    );
}
