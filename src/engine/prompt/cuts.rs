//! Where a text can be cut so that its pieces have the tokens of the whole. Pure.
//!
//! llama.cpp first takes the special tokens out of a text, the longest first, and tokenises what remains between them piece by
//! piece. The time for that grows with the square of the number of special tokens (`tokenizer_st_partition` in
//! `llama-vocab.cpp`), and in vocabularies such as Gemma's each line end and each tab is one. A text is therefore cut behind a
//! special token that llama.cpp takes for certain: no longer one overlaps it, and no other one of the same length.
//!
//! A vocabulary of type SPM merges characters to tokens and nothing else, so a text can also be cut between two characters that
//! are side by side in no token. That bounds runs of characters that the vocabulary lacks: each of them moves all tokens before it
//! (`resegment`).

use aho_corasick::{AhoCorasick, Anchored, Input, Match, MatchKind, StartKind};

use crate::engine::EngineError;
use crate::engine::vocabulary::{Neighbours, Special};

/// Bytes from which on a piece ends at the next place where the text can be cut.
const PIECE: usize = 1024;

/// Finds the places where a text can be cut.
#[derive(Debug)]
pub(super) struct Cuts {
    /// Special tokens in plain text. `None` if texts cannot be cut at special tokens.
    plain: Option<AhoCorasick>,
    /// Special tokens in the text of a template.
    template: Option<AhoCorasick>,
    /// Control tokens alone.
    controls: Option<AhoCorasick>,
    neighbours: Option<Neighbours>,
}

/// What is left of a text to be cut.
struct Rest<'cuts, 'text> {
    cuts: &'cuts Cuts,
    finder: Option<&'cuts AhoCorasick>,
    text: &'text str,
    /// Where the next piece starts.
    start: usize,
    /// No special token that is taken begins before this place and ends behind it.
    clean: usize,
    /// The first special token behind that place.
    found: Option<Match>,
}

/// Special tokens that overlap each other.
struct Cluster {
    /// Where the token ends that is taken for certain, or else all of them.
    end: usize,
    is_certain: bool,
}

impl Cuts {
    /// Makes the search automata. `specials` is `None` if a text must not be cut at special tokens, `neighbours` is `None` if it must
    /// not be cut between characters.
    ///
    /// # Errors
    /// `Load` if the special tokens are too many for a search automaton.
    pub(super) fn new(
        specials: Option<&[Special]>,
        neighbours: Option<Neighbours>,
    ) -> Result<Self, EngineError> {
        let finder = |is_meant: fn(&Special) -> bool| {
            let texts = |specials: &[Special]| {
                let specials = specials.iter().filter(|special| is_meant(special));
                finder(specials.map(|special| special.text.clone()).collect())
            };
            specials.map(texts).transpose()
        };
        Ok(Self {
            plain: finder(|special| !special.is_control)?,
            template: finder(|_| true)?,
            controls: finder(|special| special.is_control)?,
            neighbours,
        })
    }

    /// Cuts `text` into pieces that are tokenised one after the other, and says in which of them control tokens are to be recognised:
    /// looking for thousands of them takes most of the time. A piece is long if there is no place to cut it.
    pub(super) fn pieces<'text>(
        &self,
        text: &'text str,
        is_template: bool,
    ) -> impl Iterator<Item = (&'text str, bool)> {
        let finder = if is_template {
            self.template.as_ref()
        } else {
            self.plain.as_ref()
        };
        let mut rest = Rest {
            cuts: self,
            finder,
            text,
            start: 0,
            clean: 0,
            found: finder.and_then(|finder| finder.find(text)),
        };
        let controls = self.controls.as_ref().filter(|_| is_template);
        std::iter::from_fn(move || {
            let piece = rest.next_piece()?;
            let has_controls = controls.map_or(is_template, |controls| controls.is_match(piece));
            Some((piece, has_controls))
        })
    }

    /// Returns the first place between `from` and `to` where no token can go across.
    fn between_characters(&self, text: &str, from: usize, to: usize) -> Option<usize> {
        let neighbours = self.neighbours.as_ref()?;
        let from = text.ceil_char_boundary(from);
        let behind = text.get(from..to)?;
        let escaped = |c: char| if c == ' ' { '\u{2581}' } else { c };
        let mut before = escaped(text[..from].chars().next_back()?);
        for (at, c) in behind.char_indices() {
            let c = escaped(c);
            if !neighbours.contains(&[before, c]) {
                return Some(from + at);
            }
            before = c;
        }
        None
    }
}

impl<'text> Rest<'_, 'text> {
    fn next_piece(&mut self) -> Option<&'text str> {
        let piece = &self.text[self.start..self.end()];
        self.start += piece.len();
        (!piece.is_empty()).then_some(piece)
    }

    /// Returns where the next piece ends. Every special token is looked at once.
    fn end(&mut self) -> usize {
        let least = self.start + PIECE;
        while least < self.text.len()
            && let Some(finder) = self.finder
        {
            let to = self.found.map_or(self.text.len(), |found| found.start());
            let from = self.clean.max(least);
            if let Some(cut) = self.cuts.between_characters(self.text, from, to) {
                return cut;
            }
            let Some(found) = self.found else { break };
            let cluster = cluster(finder, self.text, found);
            self.clean = cluster.end;
            self.found = finder.find(Input::new(self.text).range(cluster.end..));
            if cluster.is_certain && cluster.end >= least {
                return cluster.end;
            }
        }
        self.text.len()
    }
}

/// Makes an automaton that finds the longest of `texts` at the leftmost place.
pub(super) fn finder(texts: Vec<String>) -> Result<AhoCorasick, EngineError> {
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .start_kind(StartKind::Both)
        .build(texts)
        .map_err(|error| {
            EngineError::new(
                crate::engine::EngineErrorKind::Load,
                format!("the model's special tokens could not be indexed: {error}"),
            )
        })
}

/// Looks at the special tokens that overlap `first`, before which there are none. The first one of the greatest length is taken for
/// certain, unless another one of the same length overlaps it: their order is unknown.
fn cluster(finder: &AhoCorasick, text: &str, first: Match) -> Cluster {
    let longest_at = |at: usize| {
        let there = Input::new(text).range(at..).anchored(Anchored::Yes);
        finder.find(there)
    };
    let (mut best, mut is_certain) = (first, true);
    let (mut at, mut end) = (first.start() + 1, first.end());
    while at < if is_certain { best.end() } else { end } {
        if let Some(other) = longest_at(at) {
            end = end.max(other.end());
            if other.len() > best.len() {
                (best, is_certain) = (other, true);
            } else if other.len() == best.len() && other.pattern() != best.pattern() {
                is_certain = false;
            }
        }
        at += 1;
    }
    Cluster {
        end: if is_certain { best.end() } else { end },
        is_certain,
    }
}

#[cfg(all(test, feature = "llama"))]
mod tests;
