//! Splits a text so that its segments have the same tokens as the whole. Pure.
//!
//! llama.cpp first matches the special tokens in a text, longest first, and then tokenises the parts between them. That takes time
//! quadratic in the number of matches (`tokenizer_st_partition` in `llama-vocab.cpp`), and in vocabularies such as Gemma's every line end
//! and every tab matches. A text is therefore split behind a special token that llama.cpp matches for certain: no longer one overlaps it,
//! and no other one of the same length.
//!
//! An SPM vocabulary only merges characters to tokens, so a text can also be split between two characters that are not adjacent in any
//! token. That bounds runs of characters that the vocabulary lacks, each of which moves all tokens before it (`resegment`).

use aho_corasick::{AhoCorasick, Anchored, Input, Match, MatchKind, StartKind};

use crate::engine::EngineError;
use crate::engine::vocabulary::{AdjacentChars, SpecialToken};

/// Fewest bytes of a segment. A longer segment ends at the next place where the text can be split.
const MIN_SEGMENT: usize = 1024;

/// Splits texts for one vocabulary.
#[derive(Debug)]
pub(super) struct Splitter {
    /// Finds special tokens in plain text; `None` if texts cannot be split at special tokens.
    plain: Option<AhoCorasick>,
    /// Finds special tokens in the text of a template.
    template: Option<AhoCorasick>,
    /// Finds control tokens only.
    controls: Option<AhoCorasick>,
    adjacent_chars: Option<AdjacentChars>,
}

/// A part of a text that is tokenised on its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment<'text> {
    pub(super) text: &'text str,
    /// Whether the text has control tokens to parse. Parsing thousands of segments for them takes most of the time.
    pub(super) has_controls: bool,
}

/// The part of a text that has yet to be split.
struct Remaining<'splitter, 'text> {
    splitter: &'splitter Splitter,
    finder: Option<&'splitter AhoCorasick>,
    text: &'text str,
    /// Start of the next segment.
    start: usize,
    /// Place that no matched special token straddles.
    clean: usize,
    /// First special token behind `clean`.
    found: Option<Match>,
}

/// Special tokens that overlap each other.
struct Cluster {
    /// End of the token that is matched for certain, or of all of them.
    end: usize,
    /// Whether one of them is matched for certain.
    is_certain: bool,
}

impl Splitter {
    /// Builds the search automata. `specials` is `None` if texts cannot be split at special tokens, `adjacent_chars` is `None` if they
    /// cannot be split between characters.
    ///
    /// # Errors
    /// `Load` if the special tokens are too many for a search automaton.
    pub(super) fn new(
        specials: Option<&[SpecialToken]>,
        adjacent_chars: Option<AdjacentChars>,
    ) -> Result<Self, EngineError> {
        let finder = |is_meant: fn(&SpecialToken) -> bool| {
            let texts = |specials: &[SpecialToken]| {
                let specials = specials.iter().filter(|special| is_meant(special));
                build_finder(specials.map(|special| special.text.clone()).collect())
            };
            specials.map(texts).transpose()
        };
        Ok(Self {
            plain: finder(|special| !special.is_control)?,
            template: finder(|_| true)?,
            controls: finder(|special| special.is_control)?,
            adjacent_chars,
        })
    }

    /// Splits `text` into segments to tokenise one after the other. A segment may be long if the text cannot be split.
    pub(super) fn segments<'text>(
        &self,
        text: &'text str,
        is_template: bool,
    ) -> impl Iterator<Item = Segment<'text>> {
        let finder = if is_template {
            self.template.as_ref()
        } else {
            self.plain.as_ref()
        };
        let mut rest = Remaining {
            splitter: self,
            finder,
            text,
            start: 0,
            clean: 0,
            found: finder.and_then(|finder| finder.find(text)),
        };
        let controls = self.controls.as_ref().filter(|_| is_template);
        std::iter::from_fn(move || {
            let text = rest.next_segment()?;
            let has_controls = controls.map_or(is_template, |controls| controls.is_match(text));
            Some(Segment { text, has_controls })
        })
    }

    /// Returns the first place between `from` and `to` that no token can span.
    fn between_characters(&self, text: &str, from: usize, to: usize) -> Option<usize> {
        let adjacent_chars = self.adjacent_chars.as_ref()?;
        let from = text.ceil_char_boundary(from);
        let behind = text.get(from..to)?;
        let escaped = |c: char| if c == ' ' { '\u{2581}' } else { c };
        let mut before = escaped(text[..from].chars().next_back()?);
        for (at, c) in behind.char_indices() {
            let c = escaped(c);
            if !adjacent_chars.contains(&[before, c]) {
                return Some(from + at);
            }
            before = c;
        }
        None
    }
}

impl<'text> Remaining<'_, 'text> {
    fn next_segment(&mut self) -> Option<&'text str> {
        let segment = &self.text[self.start..self.end()];
        self.start += segment.len();
        (!segment.is_empty()).then_some(segment)
    }

    /// Returns the end of the next segment. Looks at every special token once.
    fn end(&mut self) -> usize {
        let least = self.start + MIN_SEGMENT;
        while least < self.text.len()
            && let Some(finder) = self.finder
        {
            let to = self.found.map_or(self.text.len(), |found| found.start());
            let from = self.clean.max(least);
            if let Some(cut) = self.splitter.between_characters(self.text, from, to) {
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

/// Builds an automaton that finds the longest of `texts` at the leftmost place.
pub(super) fn build_finder(texts: Vec<String>) -> Result<AhoCorasick, EngineError> {
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .start_kind(StartKind::Both)
        .build(texts)
        .map_err(|error| {
            EngineError::new(
                crate::engine::EngineErrorKind::Load,
                format!("could not index the model's special tokens: {error}"),
            )
        })
}

/// Returns the special tokens that overlap `first`, the first one in the text. The first one of the greatest length is matched for
/// certain, unless another one of the same length overlaps it, since llama.cpp's order of those is unknown.
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
