//! How blocks of reasoning begin and end in tokens, before an answer that is free or follows a schema.

use std::sync::Arc;

use super::families::Markers;
use crate::engine::prompt::{Token, Vocabulary};

/// Where an answer that follows a schema begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Start {
    /// At once.
    #[default]
    Answer,
    /// Behind a block of reasoning that is open.
    Block,
    /// The model chooses: one of these tokens, which are in order, comes before the answer, as it opens a block; any other begins the
    /// answer.
    Choice {
        /// The tokens.
        openings: Arc<[Token]>,
        /// The model must choose one of them: its answers do not begin without a marker.
        is_required: bool,
    },
}

/// The tokens of a model's markers. Made once for a model.
#[derive(Debug, Clone, Default)]
pub struct MarkerTokens {
    closings: Arc<[Vec<Token>]>,
    tails: Arc<[Vec<Token>]>,
    blanks: Arc<[Token]>,
    openings: Arc<[Token]>,
    /// The rest of a marker, for each of `openings`.
    rests: Arc<[Vec<Token>]>,
    is_required: bool,
}

impl MarkerTokens {
    /// Of `markers` in `vocabulary`.
    pub fn new(markers: &[Markers], vocabulary: &impl Vocabulary) -> Self {
        let closings = markers
            .iter()
            .map(|markers| vocabulary.tokenize(&markers.closing, true));
        let mut openings: Vec<(Token, Vec<Token>)> = Vec::new();
        let direct = markers
            .first()
            .map_or("", |first| first.direct.trim_start());
        let is_required = !direct.is_empty();
        let opens = markers.iter().map(|markers| markers.open.as_str());
        for open in opens.chain([direct]).filter(|open| !open.is_empty()) {
            for (token, length) in vocabulary.begins(open) {
                if openings.iter().any(|(known, _)| *known == token) {
                    continue;
                }
                let (begun, rest) = open.split_at(length);
                let mut others = markers.iter().flat_map(Markers::beginnings);
                // Where it may become another marker, the model chooses.
                let is_open = !others.any(|other| other != open && other.starts_with(begun));
                let rest = if is_open { rest } else { "" };
                openings.push((token, vocabulary.tokenize(rest, true)));
            }
        }
        openings.sort();
        let (openings, rests): (Vec<_>, Vec<_>) = openings.into_iter().unzip();
        let tails = markers
            .iter()
            .map(|markers| vocabulary.tokenize(markers.tail(), true));
        Self {
            closings: closings.collect(),
            tails: tails.collect(),
            blanks: if markers.is_empty() {
                Arc::default()
            } else {
                vocabulary.blanks().into()
            },
            is_required: is_required && !openings.is_empty(),
            openings: openings.into(),
            rests: rests.into(),
        }
    }

    /// How an answer begins before which the model may think.
    pub fn choice(&self) -> Start {
        if self.openings.is_empty() {
            return Start::Answer;
        }
        Start::Choice {
            openings: Arc::clone(&self.openings),
            is_required: self.is_required,
        }
    }

    /// What completes the marker that `token` begins.
    pub fn rest(&self, token: Token) -> &[Token] {
        let at = self.openings.binary_search(&token);
        at.map_or(&[], |at| &self.rests[at])
    }

    /// An answer before which the model may write white space.
    pub fn blank(&self) -> Start {
        Start::Choice {
            openings: Arc::clone(&self.blanks),
            is_required: false,
        }
    }

    /// What is written behind a block that the markers of this number closed.
    pub fn tail(&self, at: usize) -> &[Token] {
        self.tails.get(at).map_or(&[], Vec::as_slice)
    }

    /// What closes a block that the markers of this number opened.
    pub fn closing(&self, at: usize) -> &[Token] {
        self.closings.get(at).map_or(&[], Vec::as_slice)
    }
}

/// The reasoning of one answer.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    /// The model's markers.
    pub tokens: MarkerTokens,
    /// Where an answer that follows a schema begins.
    pub start: Start,
    /// Tokens of reasoning after which its block is closed; `None` is no limit.
    pub budget: Option<u32>,
}

impl Blocks {
    /// Tokens of reasoning of an answer of at most `max_tokens`, after which its block is closed. An answer that follows a schema is
    /// worth nothing if it is not complete: a part of the tokens is left for it.
    ///
    /// ```
    /// use llama_mcp_server::engine::thinking::blocks::{Blocks, Start};
    ///
    /// let free = Blocks::default();
    /// assert_eq!(free.budget(1000), None);
    /// let forced = Blocks { start: Start::Block, ..Blocks::default() };
    /// assert_eq!(forced.budget(1000), Some(500));
    /// assert_eq!(Blocks { budget: Some(900), ..forced }.budget(1000), Some(750));
    /// ```
    pub fn budget(&self, max_tokens: u32) -> Option<u32> {
        if self.start == Start::Answer {
            return self.budget;
        }
        let budget = self.budget.unwrap_or(max_tokens / 2);
        Some(budget.min(max_tokens - max_tokens / 4))
    }
}
