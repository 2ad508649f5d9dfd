//! Finds the messages whose text a chat template leaves out of the prompt. Pure, over a function that renders.
//!
//! The template is rendered once more with a mark at both ends of every text: a private-use character that occurs nowhere else, so it
//! identifies its message. A text whose marks are missing from the output was left out. A model's answers get a mark at the end only,
//! since templates remove the reasoning at the beginning on purpose.
//!
//! The output without its marks must equal the prompt. If it does not, the marks changed the template's behaviour, for example because
//! the template compares lengths or checks the first character. Then a mark replaces one character of each text instead, which keeps
//! the length and both ends. If that changes the output too, the conversation is halved until the message is found. The template
//! depends on the text of such a message, so the message is treated as rendered.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::turn::Turn;
use crate::engine::Role;

/// A message whose text is not in the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Omission {
    /// The index of its turn.
    pub turn: usize,
    /// Whether a part of the text is in the prompt.
    pub is_partial: bool,
}

/// Most groups of turns that are searched; one is enough unless marks change what the template does.
const MOST_SEARCHES: usize = 16;

/// Most turns that are marked at a time: there are 131,068 marks, and a turn takes two.
const MOST_MARKED: usize = 50_000;

/// The private-use planes of Unicode, 15 and 16.
const MARKS: [std::ops::RangeInclusive<char>; 2] =
    ['\u{f0000}'..='\u{ffffd}', '\u{100000}'..='\u{10fffd}'];

/// Where a text is marked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    /// At both ends, inside the surrounding white space; of an answer, at the end only.
    Enclose,
    /// At the beginning.
    Open,
    /// At the end.
    Close,
    /// In place of the middle character; of an answer, of the last one.
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
        .filter(|at| !turns[*at].answer().trim().is_empty())
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
                // In a truncated text, the first mark may have pushed out the last.
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

/// Returns what is left out of the turns of `group`, found with marks that change as little as possible. Returns `None` if the marks
/// change the template's behaviour.
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
    // The middle or the end of a truncated text may be in the prompt.
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

/// The private-use characters that occur neither in a conversation nor in its prompt.
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

/// The original text of a mark, and the turn that it marks.
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
    // Every marked text has such a character.
    found.or(last).unwrap_or((0, ' '))
}

#[cfg(test)]
mod tests;
