//! Finds the messages whose text a chat template leaves out of the prompt. Pure, over a function that renders.
//!
//! A template is rendered once more with a mark at both ends of every text: a character for private use that occurs nowhere
//! else, so that it names its message. A text whose marks are missing from the output was left out. The answers of a model get a mark
//! at their end only, since templates remove the thinking at their beginning on purpose.
//!
//! The output without its marks must be the prompt. If it is not, the marks changed what the template does, for example because it
//! compares lengths or looks at the first character. Then a mark replaces one character of each text instead, which keeps the length
//! and both ends. If that changes something too, the conversation is halved until the message is found. What a template does depends
//! on the text of such a message, so it counts as rendered.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::turn::Turn;
use crate::engine::Role;

/// A message whose text is not in the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Omission {
    /// The position of its turn.
    pub turn: usize,
    /// Whether a part of the text is in the prompt.
    pub is_partial: bool,
}

/// Most groups of turns that are searched; one is enough unless marks change what the template does.
const MOST_SEARCHES: usize = 16;

/// Turns that are marked at a time: there are 131,068 marks, and a turn takes two.
const MOST_MARKED: usize = 50_000;

/// Planes 15 and 16 of Unicode, which are for private use.
const MARKS: [std::ops::RangeInclusive<char>; 2] =
    ['\u{f0000}'..='\u{ffffd}', '\u{100000}'..='\u{10fffd}'];

/// Where a text is marked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    /// Before and behind it, but inside its white space; an answer behind it only.
    Enclose,
    /// Before it.
    Open,
    /// Behind it.
    Close,
    /// In place of its middle character; of an answer, of its last one.
    Replace,
}

/// Returns what `render` leaves out of `turns`, which it renders as `prompt`.
pub(super) fn omissions<E>(
    turns: &[Turn<'_>],
    prompt: &str,
    render: impl Fn(&[Turn<'_>]) -> Result<String, E>,
) -> Vec<Omission> {
    let free = FreeMarks::new(turns, prompt);
    let probe = |group: &[usize], method| {
        let marked = Marked::new(turns, group, method, &free);
        let output = render(&marked.turns).ok()?;
        marked.missing(&output, prompt)
    };
    let with_text: Vec<usize> = (0..turns.len())
        .filter(|at| !turns[*at].text.trim().is_empty())
        .collect();
    let mut groups: Vec<&[usize]> = with_text.chunks(MOST_MARKED).collect();
    let mut found = Vec::new();
    let mut searches = 0;
    while let Some(group) = groups.pop() {
        searches += 1;
        let missing = probe(group, Method::Enclose).map_or_else(
            || closely(turns, group, probe),
            |missing| {
                let (partial, mut whole): (Vec<_>, Vec<_>) =
                    missing.into_iter().partition(|one| one.is_partial);
                // In a text that is cut, the first mark may have pushed out the last.
                let partial: Vec<usize> = partial.iter().map(|one| one.turn).collect();
                if !partial.is_empty() {
                    whole.extend(closely(turns, &partial, probe).unwrap_or_default());
                }
                Some(whole)
            },
        );
        match missing {
            Some(missing) => found.extend(missing),
            None if group.len() > 1 && searches < MOST_SEARCHES => {
                let (first, second) = group.split_at(group.len() / 2);
                groups.extend([first, second]);
            }
            None => {}
        }
    }
    found.sort_by_key(|omission: &Omission| omission.turn);
    found
}

/// Returns what is left out of the turns of `group`, told from marks that change as little as possible; `None` if they change what the
/// template does.
fn closely(
    turns: &[Turn<'_>],
    group: &[usize],
    probe: impl Fn(&[usize], Method) -> Option<Vec<Omission>>,
) -> Option<Vec<Omission>> {
    let mut missing = probe(group, Method::Replace)?;
    let asked: Vec<usize> = group
        .iter()
        .copied()
        .filter(|at| turns[*at].role != Role::Assistant)
        .collect();
    // The middle of a text that is cut may be there, or its end.
    for method in [Method::Open, Method::Close] {
        let Some(cut) = probe(&asked, method) else {
            continue;
        };
        for known in &mut missing {
            let is_shown = cut.iter().all(|one| one.turn != known.turn);
            known.is_partial |= is_shown && turns[known.turn].role != Role::Assistant;
        }
        for one in cut {
            if missing.iter().all(|known| known.turn != one.turn) {
                missing.push(Omission {
                    is_partial: true,
                    ..one
                });
            }
        }
    }
    Some(missing)
}

/// The characters for private use that a conversation and its prompt do not hold.
struct FreeMarks(HashSet<char>);

impl FreeMarks {
    fn new(turns: &[Turn<'_>], prompt: &str) -> Self {
        let texts = turns.iter().map(|turn| turn.text.as_ref());
        let used = texts.chain([prompt]).flat_map(str::chars);
        Self(used.filter(|c| is_private(*c)).collect())
    }

    fn iter(&self) -> impl Iterator<Item = char> {
        MARKS.into_iter().flatten().filter(|c| !self.0.contains(c))
    }
}

fn is_private(c: char) -> bool {
    c >= *MARKS[0].start()
}

/// What stands for a mark in the prompt, and whose it is.
struct Mark {
    turn: usize,
    replaced: Option<char>,
}

struct Marked<'a> {
    turns: Vec<Turn<'a>>,
    marks: HashMap<char, Mark>,
}

impl<'a> Marked<'a> {
    fn new(turns: &'a [Turn<'_>], group: &[usize], method: Method, free: &FreeMarks) -> Self {
        let mut free = free.iter();
        let mut marked = Self {
            turns: turns.iter().map(Turn::borrowed).collect(),
            marks: HashMap::new(),
        };
        for &turn in group {
            let text = turns[turn].text.as_ref();
            let start = text.len() - text.trim_start().len();
            let end = text.trim_end().len();
            let mut new_mark = |replaced| {
                let mark = free.next()?;
                marked.marks.insert(mark, Mark { turn, replaced });
                Some(mark)
            };
            let mut marked_text = String::with_capacity(text.len() + 8);
            let is_answer = turns[turn].role == Role::Assistant;
            if method == Method::Replace {
                let place = if is_answer { end } else { start.midpoint(end) };
                let (at, replaced) = character_at(&text[..end], place);
                marked_text.push_str(&text[..at]);
                marked_text.extend(new_mark(Some(replaced)).or(Some(replaced)));
                marked_text.push_str(&text[at + replaced.len_utf8()..]);
            } else {
                let opens = method == Method::Open || (method == Method::Enclose && !is_answer);
                marked_text.push_str(&text[..start]);
                marked_text.extend(opens.then(|| new_mark(None)).flatten());
                marked_text.push_str(&text[start..end]);
                let closes = method != Method::Open;
                marked_text.extend(closes.then(|| new_mark(None)).flatten());
                marked_text.push_str(&text[end..]);
            }
            marked.turns[turn].text = Cow::Owned(marked_text);
        }
        marked
    }

    /// Returns the omissions that `output` shows, or `None` if it differs from `prompt` in more than its marks.
    fn missing(&self, output: &str, prompt: &str) -> Option<Vec<Omission>> {
        let mut seen = HashSet::new();
        let unmarked = output.chars().filter_map(|c| {
            match is_private(c).then(|| self.marks.get(&c)).flatten() {
                Some(mark) => {
                    seen.insert(c);
                    mark.replaced
                }
                None => Some(c),
            }
        });
        if !unmarked.eq(prompt.chars()) {
            return None;
        }
        let seen_turns: HashSet<usize> = seen.iter().map(|c| self.marks[c].turn).collect();
        let missing = self.marks.iter().filter(|(c, _)| !seen.contains(*c));
        let turns: HashSet<usize> = missing.map(|(_, mark)| mark.turn).collect();
        let omission = |turn| Omission {
            turn,
            is_partial: seen_turns.contains(&turn),
        };
        Some(turns.into_iter().map(omission).collect())
    }
}

/// The first character that is not white space and ends behind `place`, or else the last one, and where it begins.
fn character_at(text: &str, place: usize) -> (usize, char) {
    let mut characters = text.char_indices().filter(|(_, c)| !c.is_whitespace());
    let last = characters.clone().next_back();
    let found = characters.find(|(at, c)| at + c.len_utf8() > place);
    // A text that is marked has such a character.
    found.or(last).unwrap_or((0, ' '))
}

#[cfg(test)]
mod tests {
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

    /// Positions of the texts of which `shown` gives nothing to the prompt, and of those of which it gives a part.
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
    fn a_role_that_is_not_printed_is_found_and_empty_texts_are_not_missed() {
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
    fn thinking_that_is_removed_from_an_answer_is_not_missed() {
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
        assert_eq!(left_out(&texts, no_answers).0, [1, 2]);
    }

    #[test]
    fn a_text_that_is_cut_is_partly_missing() {
        let texts = [(User, "1234567890"), (User, "123")];
        let cut = |_, text: &str| text.chars().take(6).collect();
        assert_eq!(left_out(&texts, cut), (vec![], vec![0]));
    }

    #[test]
    fn a_template_that_looks_at_lengths_or_ends_is_not_fooled_by_marks() {
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
        // Nothing of a single character can be replaced without changing what it is.
        assert_eq!(left_out(&texts, plain).0, [2]);
    }

    #[test]
    fn a_text_that_the_template_obeys_is_not_missed() {
        let texts = [(System, "/no_think"), (System, "Be brief."), (User, "Hi")];
        let obeyed = |role, text: &str| match (role, text) {
            (System, "/no_think") => "<think></think>".to_owned(),
            (System, _) => String::new(),
            _ => text.to_owned(),
        };
        assert_eq!(left_out(&texts, obeyed).0, [1]);
    }

    #[test]
    fn characters_for_private_use_in_a_text_are_text() {
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
    fn more_turns_than_there_are_marks_are_all_checked() {
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
}
