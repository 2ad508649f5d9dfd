//! Finds the messages that a chat template omits from the prompt. Pure: rendering is a parameter.
//!
//! The template is rendered again with a mark at both ends of each text. A mark is a private-use character that occurs nowhere else, so
//! it identifies its message. A text was omitted if its marks are missing from the output. Answers of the model have a mark only at the
//! end, because templates remove their reasoning on purpose.
//!
//! The output without marks must equal the prompt. If it does not, the marks changed what the template does: for example, it compares
//! lengths or checks the first character. Then a mark replaces one character of each text, which keeps the length and both ends. If
//! this changes the output, too, the conversation is bisected until the message is found. The template acts on the text of this
//! message, so the message counts as rendered.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::turn::Turn;
use crate::engine::Role;

/// A message whose text is missing from the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Omission {
    /// Index of its turn.
    pub turn: usize,
    /// Whether some of the text is in the prompt.
    pub is_partial: bool,
}

/// Maximum number of groups of turns that are searched. One is enough unless marks change what the template does.
const MAX_SEARCHES: usize = 16;

/// Maximum number of turns that are marked at a time: there are 131,068 marks, and a turn takes two.
const MAX_MARKED: usize = 50_000;

/// The private-use planes 15 and 16 of Unicode.
const MARKS: [std::ops::RangeInclusive<char>; 2] =
    ['\u{f0000}'..='\u{ffffd}', '\u{100000}'..='\u{10fffd}'];

/// The positions of marks in a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Marking {
    /// At both ends, inside the surrounding white space. In an answer, only at the end.
    Enclose,
    /// At the beginning.
    Open,
    /// At the end.
    Close,
    /// In place of the middle character. In an answer, in place of the last character.
    Replace,
}

/// Returns the texts of `turns` that are missing from `prompt`, their rendering with `render`.
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
        .filter(|at| !turns[*at].required_text().trim().is_empty())
        .collect();
    let mut groups: Vec<&[usize]> = with_text.chunks(MAX_MARKED).collect();
    let mut found = Vec::new();
    let mut searches = 0;
    while let Some(group) = groups.pop() {
        searches += 1;
        let missing = probe(group, Marking::Enclose).map_or_else(
            || probe_gently(turns, group, probe),
            |missing| {
                let (partial, mut whole): (Vec<_>, Vec<_>) =
                    missing.into_iter().partition(|one| one.is_partial);
                // In a truncated text, the first mark may have pushed the last one out.
                let partial: Vec<usize> = partial.iter().map(|one| one.turn).collect();
                if !partial.is_empty() {
                    whole.extend(probe_gently(turns, &partial, probe).unwrap_or_default());
                }
                Some(whole)
            },
        );
        match missing {
            Some(missing) => found.extend(missing),
            None if group.len() > 1 && searches < MAX_SEARCHES => {
                let (first, second) = group.split_at(group.len() / 2);
                groups.extend([first, second]);
            }
            None => {}
        }
    }
    found.sort_by_key(|omission: &Omission| omission.turn);
    found
}

/// Searches `group` with marks that change as little as possible. Returns `None` if they change what the template does.
fn probe_gently(
    turns: &[Turn<'_>],
    group: &[usize],
    probe: impl Fn(&[usize], Marking) -> Option<Vec<Omission>>,
) -> Option<Vec<Omission>> {
    let mut missing = probe(group, Marking::Replace)?;
    let asked: Vec<usize> = group
        .iter()
        .copied()
        .filter(|at| turns[*at].role != Role::Assistant)
        .collect();
    // The middle or the end of a truncated text may be in the prompt.
    for method in [Marking::Open, Marking::Close] {
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

/// Private-use characters that occur neither in a conversation nor in its prompt.
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

/// The text that a mark replaced, and the turn that it marks.
struct Mark {
    turn: usize,
    replaced: Option<char>,
}

struct Marked<'a> {
    turns: Vec<Turn<'a>>,
    marks: HashMap<char, Mark>,
}

impl<'a> Marked<'a> {
    fn new(turns: &'a [Turn<'_>], group: &[usize], method: Marking, free: &FreeMarks) -> Self {
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
            if method == Marking::Replace {
                let place = if is_answer { end } else { start.midpoint(end) };
                let (at, replaced) = character_at(&text[..end], place);
                marked_text.push_str(&text[..at]);
                marked_text.extend(new_mark(Some(replaced)).or(Some(replaced)));
                marked_text.push_str(&text[at + replaced.len_utf8()..]);
            } else {
                let opens = method == Marking::Open || (method == Marking::Enclose && !is_answer);
                marked_text.push_str(&text[..start]);
                marked_text.extend(opens.then(|| new_mark(None)).flatten());
                marked_text.push_str(&text[start..end]);
                let closes = method != Marking::Open;
                marked_text.extend(closes.then(|| new_mark(None)).flatten());
                marked_text.push_str(&text[end..]);
            }
            marked.turns[turn].text = Cow::Owned(marked_text);
        }
        marked
    }

    /// Returns the omissions that `output` shows. Returns `None` if it differs from `prompt` in more than its marks.
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

/// Returns the first character at or after `place` that is not white space, or else the last such character, and its position.
fn character_at(text: &str, place: usize) -> (usize, char) {
    let mut characters = text.char_indices().filter(|(_, c)| !c.is_whitespace());
    let last = characters.clone().next_back();
    let found = characters.find(|(at, c)| at + c.len_utf8() > place);
    // Every marked text has such a character.
    found.or(last).unwrap_or((0, ' '))
}

#[cfg(test)]
mod tests;
