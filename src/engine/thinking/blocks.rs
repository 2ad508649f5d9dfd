//! The tokens that begin and end blocks of reasoning.

use std::sync::Arc;

use super::families::Markers;
use crate::engine::token::Token;
use crate::engine::vocabulary::Vocabulary;

/// The way in which a structured answer begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum AnswerStart {
    /// With the answer itself.
    #[default]
    Answer,
    /// With the answer after the open block of reasoning.
    Block,
    /// With a block or the answer, as the model chooses.
    Choice {
        /// Sorted tokens that open a block. Any other token begins the answer.
        openings: Arc<[Token]>,
        /// Whether the model must choose one of these tokens, because its answers always begin with a marker.
        is_required: bool,
    },
}

/// The tokens of a model's markers, computed once for each model.
#[derive(Debug, Clone, Default)]
pub(crate) struct MarkerTokens {
    closings: Arc<[Vec<Token>]>,
    tails: Arc<[Vec<Token>]>,
    blanks: Arc<[Token]>,
    openings: Arc<[Token]>,
    /// The remaining tokens of a marker, for each token of `openings`.
    rests: Arc<[Vec<Token>]>,
    is_required: bool,
}

impl MarkerTokens {
    /// Tokenises `markers` with `vocabulary`.
    pub(crate) fn new(markers: &[Markers], vocabulary: &impl Vocabulary) -> Self {
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
                // If the token may begin another marker, too, the model chooses.
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

    /// Returns the start of a structured answer that the model may precede with reasoning.
    pub(crate) fn choice(&self) -> AnswerStart {
        if self.openings.is_empty() {
            return AnswerStart::Answer;
        }
        AnswerStart::Choice {
            openings: Arc::clone(&self.openings),
            is_required: self.is_required,
        }
    }

    /// Returns the remaining tokens of the marker that begins with `token`.
    pub(crate) fn rest(&self, token: Token) -> &[Token] {
        let at = self.openings.binary_search(&token);
        at.map_or(&[], |at| &self.rests[at])
    }

    /// Returns the start of a structured answer that the model may precede with white space.
    pub(crate) fn blank(&self) -> AnswerStart {
        AnswerStart::Choice {
            openings: Arc::clone(&self.blanks),
            is_required: false,
        }
    }

    /// Returns the tokens to write after a block that the markers with the index `at` closed.
    pub(crate) fn tail(&self, at: usize) -> &[Token] {
        self.tails.get(at).map_or(&[], Vec::as_slice)
    }

    /// Returns the tokens that close a block of the markers with the index `at`.
    pub(crate) fn closing(&self, at: usize) -> &[Token] {
        self.closings.get(at).map_or(&[], Vec::as_slice)
    }
}

/// The reasoning of one answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blocks {
    /// Tokens of the model's markers.
    pub tokens: MarkerTokens,
    /// The way in which a structured answer begins.
    pub start: AnswerStart,
    /// Maximum number of tokens of reasoning. `None` means the default limit.
    pub budget: Option<u32>,
}

impl Blocks {
    /// Returns the maximum number of tokens of reasoning in an answer of at most `max_tokens`, or `None` for no limit. A truncated
    /// structured answer is useless, so some of the tokens are reserved for the answer.
    ///
    /// ```text
    /// start     budget       max_tokens
    /// Answer    None         1000           None
    /// Block     None         1000           Some(500)
    /// Block     Some(900)    1000           Some(750)
    /// ```
    pub(crate) fn budget(&self, max_tokens: u32) -> Option<u32> {
        if self.start == AnswerStart::Answer {
            return self.budget;
        }
        let budget = self.budget.unwrap_or(max_tokens / 2);
        Some(budget.min(max_tokens - max_tokens / 4))
    }
}
