//! Renders a conversation completely: text that a template refuses or omits moves to a message that is printed. Pure: rendering is a
//! parameter.
//!
//! As a conversation grows, the beginning of its prompt must not change, because it is in the prefix cache. So text moves only to a
//! neighbouring message, and if a later message displaces an earlier one, the later one moves.

use super::omission::{Omission, omissions};
use super::turn::{Turn, turns_of};
use crate::engine::{Message, Role};

/// The reason why a conversation cannot be rendered.
#[derive(Debug)]
pub(super) enum Fault<E> {
    /// The template refuses the messages.
    Refused(E),
    /// The template omits text.
    LeftOut(Vec<LeftOut>),
}

/// A message of which text is missing from the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Index among the messages of the caller.
    pub message: usize,
    /// Whether some of the text is in the prompt.
    pub is_partial: bool,
}

/// A prompt that contains the text of every message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complete {
    /// The prompt.
    pub prompt: String,
    /// Whether text had to move to another message.
    pub has_moved: bool,
}

enum Outcome<E> {
    Complete(String),
    Omits(String, Vec<Omission>),
    Refused(E),
}

impl<E> Outcome<E> {
    fn prompt(&self) -> Option<&str> {
        match self {
            Self::Complete(prompt) | Self::Omits(prompt, _) => Some(prompt),
            Self::Refused(_) => None,
        }
    }
}

type Repaired<'a, E> = Option<(Vec<Turn<'a>>, Outcome<E>)>;

/// Maximum number of repairs of one conversation. Two are enough for all known templates.
const MAX_REPAIRS: usize = 8;

/// Renders `messages`, or the most similar conversation that `render` prints completely.
///
/// # Errors
/// Fails with the refusal or the omissions that remain.
pub(super) fn render_all<E>(
    messages: &[Message],
    render: impl Fn(&[Turn<'_>]) -> Result<String, E>,
) -> Result<Complete, Fault<E>> {
    let mut turns = turns_of(messages);
    let mut outcome = attempt(&turns, &render);
    for _ in 0..MAX_REPAIRS {
        let repaired = match &outcome {
            Outcome::Complete(_) => break,
            Outcome::Refused(_) => after_refusal(&turns, &render),
            Outcome::Omits(prompt, omitted) => after_omission(&turns, prompt, omitted, &render),
        };
        let Some(repaired) = repaired else { break };
        (turns, outcome) = repaired;
    }
    match outcome {
        Outcome::Complete(prompt) => {
            let roles = turns.iter().map(|turn| turn.role);
            let has_moved = !roles.eq(messages.iter().map(|message| message.role));
            Ok(Complete { prompt, has_moved })
        }
        Outcome::Refused(error) => Err(Fault::Refused(error)),
        Outcome::Omits(_, omitted) => Err(Fault::LeftOut(left_out(&turns, &omitted))),
    }
}

fn attempt<E>(
    turns: &[Turn<'_>],
    render: &impl Fn(&[Turn<'_>]) -> Result<String, E>,
) -> Outcome<E> {
    match render(turns) {
        Err(error) => Outcome::Refused(error),
        Ok(prompt) => {
            let omitted = omissions(turns, &prompt, render);
            if omitted.is_empty() {
                Outcome::Complete(prompt)
            } else {
                Outcome::Omits(prompt, omitted)
            }
        }
    }
}

/// Repairs a refused conversation: templates refuse all system messages, later system messages, or text that is not a list of parts.
fn after_refusal<'a, E>(
    turns: &[Turn<'a>],
    render: &impl Fn(&[Turn<'_>]) -> Result<String, E>,
) -> Repaired<'a, E> {
    let without_systems = |from: usize| move_texts(turns, &system_turns_from(turns, from));
    let candidates = [
        without_systems(1),
        without_systems(0),
        Some(as_parts(turns, |_| true)),
    ];
    candidates.into_iter().flatten().find_map(|turns| {
        let outcome = attempt(&turns, render);
        outcome
            .prompt()
            .filter(|prompt| !prints_parts(prompt, "", &turns))?;
        Some((turns, outcome))
    })
}

fn after_omission<'a, E>(
    turns: &[Turn<'a>],
    prompt: &str,
    omitted: &[Omission],
    render: &impl Fn(&[Turn<'_>]) -> Result<String, E>,
) -> Repaired<'a, E> {
    let is_omitted = |at: usize| omitted.iter().any(|omission| omission.turn == at);
    let candidates = [
        as_parts(turns, is_omitted),
        without_reasoning(turns, is_omitted),
    ];
    for candidate in candidates {
        if candidate == turns {
            continue;
        }
        if let Some(better) = if_better(turns, candidate, (prompt, omitted), render) {
            return Some(better);
        }
    }
    let merged = move_texts(turns, &turns_to_move(turns, omitted, render))?;
    let outcome = attempt(&merged, render);
    outcome.prompt()?;
    Some((merged, outcome))
}

/// Returns `candidate` and its rendering if it omits less than `turns`.
fn if_better<'a, E>(
    turns: &[Turn<'a>],
    mut candidate: Vec<Turn<'a>>,
    (prompt, omitted): (&str, &[Omission]),
    render: &impl Fn(&[Turn<'_>]) -> Result<String, E>,
) -> Repaired<'a, E> {
    let outcome = attempt(&candidate, render);
    let new_prompt = outcome.prompt()?;
    let still = match &outcome {
        Outcome::Omits(_, still) => still,
        Outcome::Complete(_) | Outcome::Refused(_) => &Vec::new(),
    };
    if still.len() >= omitted.len() || prints_parts(new_prompt, prompt, &candidate) {
        return None;
    }
    for omission in still {
        candidate[omission.turn] = turns[omission.turn].clone();
    }
    Some((candidate, outcome))
}

/// Returns whether `prompt` contains a list of parts printed as such: it has more of them than the texts of `turns` and the earlier
/// prompt `before`.
fn prints_parts(prompt: &str, before: &str, turns: &[Turn<'_>]) -> bool {
    ["'type': 'text'", r#""type": "text""#, r#""type":"text""#]
        .iter()
        .any(|form| {
            let count = |text: &str| text.matches(form).count();
            let in_texts: usize = turns.iter().map(|turn| count(&turn.text)).sum();
            count(prompt) > count(before) + in_texts
        })
}

/// Returns the indices of the turns that must move: usually the `omitted` ones. If later system messages displace the first omitted
/// turn, returns the later system messages.
fn turns_to_move<E>(
    turns: &[Turn<'_>],
    omitted: &[Omission],
    render: &impl Fn(&[Turn<'_>]) -> Result<String, E>,
) -> Vec<usize> {
    let all: Vec<usize> = omitted.iter().map(|omission| omission.turn).collect();
    let first = all[0];
    let next_user = turns[first..].iter().position(|t| t.role == Role::User);
    let end = next_user.map_or(turns.len(), |next| first + next + 1);
    let mut later = system_turns_from(turns, first + 1);
    if !later.iter().any(|at| !all.contains(at)) {
        return all;
    }
    let own = match attempt(&turns[..end], render) {
        Outcome::Complete(_) => Vec::new(),
        Outcome::Omits(_, own) => own.iter().map(|omission| omission.turn).collect(),
        Outcome::Refused(_) => all,
    };
    if own.is_empty() {
        later.retain(|at| *at >= end);
        later
    } else {
        own
    }
}

/// Returns the indices of the system messages at or after `from`.
fn system_turns_from(turns: &[Turn<'_>], from: usize) -> Vec<usize> {
    let systems = (from..turns.len()).filter(|at| turns[*at].role == Role::System);
    systems.collect()
}

/// Removes the reasoning from the chosen answers, because a template that removes it may remove more.
fn without_reasoning<'a>(turns: &[Turn<'a>], is_chosen: impl Fn(usize) -> bool) -> Vec<Turn<'a>> {
    let mut turns = turns.to_vec();
    for (at, turn) in turns.iter_mut().enumerate() {
        if is_chosen(at) && turn.role == Role::Assistant {
            turn.text = turn.required_text().trim_start().to_owned().into();
        }
    }
    turns
}

fn as_parts<'a>(turns: &[Turn<'a>], is_chosen: impl Fn(usize) -> bool) -> Vec<Turn<'a>> {
    let mut turns = turns.to_vec();
    for (at, turn) in turns.iter_mut().enumerate() {
        turn.as_parts |= is_chosen(at);
    }
    turns
}

/// Moves the text of the turns at `moving` to their neighbours. Returns `None` if nothing can move.
///
/// Text of a system or user message moves in front of the next user message. If an answer or nothing comes next, it moves to the end of
/// the previous user message, or becomes a user message. An answer moves to the previous or next answer.
fn move_texts<'a>(turns: &[Turn<'a>], moving: &[usize]) -> Option<Vec<Turn<'a>>> {
    let mut merged: Vec<Turn<'a>> = Vec::with_capacity(turns.len());
    let mut waiting: Option<Turn<'a>> = None;
    let mut was_moving = false;
    for (at, turn) in turns.iter().cloned().enumerate() {
        let is_moving = moving.binary_search(&at).is_ok();
        match turn.role {
            Role::System | Role::User if is_moving => join(&mut waiting, turn),
            Role::System => merged.push(turn),
            Role::User => {
                let form = turn.as_parts;
                join(&mut waiting, turn);
                merged.extend(waiting.take().map(|turn| as_user(turn, form)));
            }
            Role::Assistant => {
                place_remaining(&mut merged, waiting.take());
                let before = merged.last_mut().filter(|t| t.role == Role::Assistant);
                match before.filter(|_| is_moving || was_moving) {
                    Some(answer) => answer.append(turn),
                    None => merged.push(turn),
                }
            }
        }
        was_moving = is_moving;
    }
    place_remaining(&mut merged, waiting);
    let roles = |turns: &[Turn<'_>]| turns.iter().map(|turn| turn.role).collect::<Vec<_>>();
    (roles(&merged) != roles(turns)).then_some(merged)
}

fn join<'a>(waiting: &mut Option<Turn<'a>>, turn: Turn<'a>) {
    match waiting {
        Some(first) => first.append(turn),
        None => *waiting = Some(turn),
    }
}

/// Appends text that no user message follows to the previous user message, or makes it a user message.
fn place_remaining<'a>(merged: &mut Vec<Turn<'a>>, waiting: Option<Turn<'a>>) {
    let Some(turn) = waiting else { return };
    match merged.last_mut() {
        Some(last) if last.role == Role::User => last.append(turn),
        _ => {
            let form = turn.as_parts;
            merged.push(as_user(turn, form));
        }
    }
}

fn as_user(turn: Turn<'_>, as_parts: bool) -> Turn<'_> {
    Turn {
        role: Role::User,
        as_parts,
        ..turn
    }
}

fn left_out(turns: &[Turn<'_>], omitted: &[Omission]) -> Vec<LeftOut> {
    let of_turn = |omission: &Omission| {
        let is_partial = omission.is_partial;
        let sources = turns[omission.turn].sources.iter();
        sources.map(move |message| LeftOut {
            message: *message,
            is_partial,
        })
    };
    omitted.iter().flat_map(of_turn).collect()
}

#[cfg(test)]
mod tests;
