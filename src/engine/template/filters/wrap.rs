//! Wraps a line as Python's `textwrap.wrap` does. Pure.

/// The places at which a word may be broken.
#[derive(Clone, Copy)]
pub(super) struct Breaks {
    /// Anywhere, if the word is longer than a line.
    pub long_words: bool,
    /// After a hyphen.
    pub hyphens: bool,
}

/// Wraps `line` into lines of at most `width` characters.
pub(super) fn lines(line: &str, width: usize, breaks: Breaks) -> Vec<String> {
    let mut lines = Lines::default();
    for chunk in chunks(line, breaks.hyphens) {
        lines.add(chunk, width, breaks.long_words);
    }
    lines.end_line(true);
    lines.done
}

#[derive(Default)]
struct Lines {
    done: Vec<String>,
    current: String,
    /// Length of `current`, in characters.
    used: usize,
}

impl Lines {
    fn add(&mut self, chunk: &str, width: usize, breaks_words: bool) {
        let is_space = chunk.chars().all(char::is_whitespace);
        let mut chunk = chunk;
        loop {
            let length = chunk.chars().count();
            if self.used + length <= width {
                // A line after the first one does not begin with white space.
                if !is_space || self.used > 0 || self.done.is_empty() {
                    self.current.push_str(chunk);
                    self.used += length;
                }
                return;
            }
            let mut drops_space = true;
            if length > width && breaks_words {
                let room = width - self.used;
                let cut = chunk
                    .char_indices()
                    .nth(room)
                    .map_or(chunk.len(), |(at, _)| at);
                let (fits, rest) = chunk.split_at(cut);
                self.current.push_str(fits);
                // In this case, Python drops the empty piece instead of the white space before it.
                drops_space = room > 0;
                chunk = rest;
            } else if length > width && self.used == 0 {
                self.current.push_str(chunk);
                chunk = "";
            }
            self.end_line(drops_space);
            if chunk.is_empty() || (is_space && length <= width) {
                return;
            }
        }
    }

    fn end_line(&mut self, drops_space: bool) {
        let mut line = std::mem::take(&mut self.current);
        self.used = 0;
        if drops_space {
            line.truncate(line.trim_end().len());
        }
        if !line.is_empty() {
            self.done.push(line);
        }
    }
}

/// Splits `line` into words and the white space and dashes between them. `at_hyphens`: words are also split after hyphens.
fn chunks(line: &str, at_hyphens: bool) -> Vec<&str> {
    let chars: Vec<char> = line.chars().collect();
    let mut chunks = Vec::new();
    let mut start = 0;
    for (place, (at, c)) in line.char_indices().enumerate().skip(1) {
        let turns = chars[place - 1].is_whitespace() != c.is_whitespace();
        if turns || (at_hyphens && breaks_at(&chars, place)) {
            chunks.push(&line[start..at]);
            start = at;
        }
    }
    chunks.extend((start < line.len()).then(|| &line[start..]));
    chunks
}

/// Returns whether Python breaks a word before the character at `place`.
fn breaks_at(chars: &[char], place: usize) -> bool {
    let is_letter = |c: &char| c.is_alphabetic() || *c == '_';
    let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
    let is_word_or_mark = |c: &char| is_word(c) || "!\"'&.,?".contains(*c);
    let (before, after) = chars.split_at(place);
    let dashes = |chars: &[char]| chars.iter().take_while(|c| **c == '-').count();
    let dashes_before = before.iter().rev().take_while(|c| **c == '-').count();
    let dashes_after = dashes(after);
    // Two or more dashes between words are a chunk of their own.
    if dashes_after > 1 && dashes_before == 0 {
        return before.last().is_some_and(is_word_or_mark)
            && after.get(dashes_after).is_some_and(is_word);
    }
    if dashes_before > 1 && dashes_after == 0 {
        let word = before.len() - dashes_before;
        return word > 0 && is_word_or_mark(&before[word - 1]) && is_word(&after[0]);
    }
    let begins_word = match after {
        [first, '-', third, ..] => is_letter(first) && is_letter(third),
        [first, second, ..] => is_letter(first) && is_letter(second),
        _ => false,
    };
    let ends_word = match before {
        [.., first, second, '-'] if is_letter(first) && is_letter(second) => true,
        [.., first, '-', third, '-'] => is_letter(first) && is_word_or_mark(third),
        _ => false,
    };
    begins_word && ends_word
}
