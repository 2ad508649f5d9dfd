//! Prompt lookup: drafts the next tokens of an answer from its prompt and from the answer itself. Pure.
//!
//! Answers that repeat their prompt, such as extracts, corrected texts and translated code, often continue a passage in the same way. So
//! the tokens that followed an earlier occurrence of the last ones are decoded along with them, and the model's own choices decide how many
//! of them stay. The text is the same as without drafts: each token is sampled from the row that follows the tokens before it.
//!
//! A draft costs a row for each of its tokens, which on a CPU is a quarter to a half of a step. Whether that pays depends on the share of
//! drafted tokens that the model confirms, so both are measured ([`Confidence`], [`Cost`]).

use std::collections::HashMap;

use super::token::Token;

/// Most tokens of a draft.
pub(crate) const MAX_DRAFT: usize = 16;

/// Most earlier occurrences of the last two tokens that are compared.
const MAX_OCCURRENCES: usize = 32;

/// Most tokens that are compared before each occurrence.
const MAX_MATCH: usize = 16;

/// Matches of at least this many tokens are counted separately, since their drafts are confirmed more often.
const LONG_MATCH: usize = 4;

/// Least gain in speed for which tokens are drafted. It makes up for the errors of the measurements.
const LEAST_GAIN: f64 = 1.05;

/// Tokens after which a call drafts again, although drafts did not pay.
const PROBE_INTERVAL: usize = 64;

/// Tokens of such a draft.
const PROBE: usize = 2;

/// Weight of the newest observation in a [`Confidence`].
const NEWEST: f64 = 0.15;

/// The tokens of a call, indexed by pairs.
#[derive(Debug)]
struct History {
    tokens: Vec<Token>,
    /// Position of the second token of each pair's latest occurrence.
    latest: HashMap<[Token; 2], usize>,
    /// For each token, the position of the earlier occurrence of the pair that it ends.
    earlier: Vec<Option<usize>>,
}

impl History {
    fn new(tokens: &[Token]) -> Self {
        let mut history = Self {
            tokens: Vec::with_capacity(tokens.len()),
            latest: HashMap::with_capacity(tokens.len()),
            earlier: Vec::with_capacity(tokens.len()),
        };
        for token in tokens {
            history.push(*token);
        }
        history
    }

    fn push(&mut self, token: Token) {
        let at = self.tokens.len();
        let pair = self.tokens.last().map(|before| [*before, token]);
        self.earlier
            .push(pair.and_then(|pair| self.latest.insert(pair, at)));
        self.tokens.push(token);
    }

    /// Returns the position after the earlier passage that has the most tokens in common with the end of the history, and their number.
    /// The latest of several such passages is preferred.
    fn longest_match(&self) -> Option<(usize, usize)> {
        let end = self.tokens.len().checked_sub(1)?;
        let mut best: Option<(usize, usize)> = None;
        let mut occurrence = self.earlier[end];
        for _ in 0..MAX_OCCURRENCES {
            let Some(at) = occurrence else { break };
            let before = self.tokens[..=at].iter().rev();
            let last = self.tokens.iter().rev().take(MAX_MATCH);
            let length = before.zip(last).take_while(|(one, other)| one == other);
            let length = length.count();
            if best.is_none_or(|(_, longest)| length > longest) {
                best = Some((at + 1, length));
            }
            occurrence = self.earlier[at];
        }
        best
    }
}

/// Estimate of how likely the model is to confirm the next token of a draft: a moving average, from 0 to 1, for short and for long matches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Confidence([f64; 2]);

impl Default for Confidence {
    fn default() -> Self {
        Self([0.5, 0.7])
    }
}

impl Confidence {
    fn of(self, length: usize) -> f64 {
        self.0[usize::from(length >= LONG_MATCH)]
    }

    fn record(&mut self, length: usize, drafted: usize, confirmed: usize) {
        let value = &mut self.0[usize::from(length >= LONG_MATCH)];
        let outcomes = std::iter::repeat_n(1.0, confirmed);
        let rejected = (confirmed < drafted).then_some(0.0);
        for outcome in outcomes.chain(rejected) {
            *value += NEWEST * (outcome - *value);
        }
    }
}

/// Cost of a drafted token, as a share of the cost of a token that is decoded in a step of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cost(pub f64);

impl Cost {
    /// Returns the number of tokens to draft if each one is confirmed with the given probability; 0 if no number pays.
    ///
    /// ```text
    /// confidence 0.9, cost 0.3    5: 4.7 tokens at the cost of 2.5
    /// confidence 0.5, cost 0.3    1: 1.5 tokens at the cost of 1.3
    /// confidence 0.3, cost 0.3    0
    /// ```
    fn best_length(self, confidence: f64) -> usize {
        let (mut tokens, mut chance, mut cost) = (1.0, 1.0, 1.0);
        let mut best = (0, LEAST_GAIN);
        for length in 1..=MAX_DRAFT {
            chance *= confidence;
            tokens += chance;
            cost += self.0;
            if tokens / cost > best.1 {
                best = (length, tokens / cost);
            }
        }
        best.0
    }
}

/// Drafts the tokens of one call.
#[derive(Debug)]
pub(crate) struct Drafter {
    history: History,
    confidence: Confidence,
    /// Matched tokens of the last draft.
    matched: usize,
    /// Length of the history at the last draft.
    drafted_at: usize,
}

impl Drafter {
    /// Creates the drafter of a call with `prompt`. `confidence` is what earlier calls have learnt.
    pub(crate) fn new(prompt: &[Token], confidence: Confidence) -> Self {
        Self {
            history: History::new(prompt),
            confidence,
            matched: 0,
            drafted_at: prompt.len(),
        }
    }

    /// Appends a token of the answer.
    pub(crate) fn push(&mut self, token: Token) {
        self.history.push(token);
    }

    /// Returns the tokens that probably follow, at most `most`; empty if none is worth its `cost`. If the cost is not known yet, only few
    /// tokens are drafted.
    pub(crate) fn draft(&mut self, cost: Option<Cost>, most: usize) -> &[Token] {
        let Some((next, matched)) = self.history.longest_match() else {
            return &[];
        };
        let best = cost.map_or(PROBE, |cost| cost.best_length(self.confidence.of(matched)));
        let is_due = self.history.tokens.len() >= self.drafted_at + PROBE_INTERVAL;
        let length = if best == 0 && is_due { PROBE } else { best };
        let end = self.history.tokens.len().min(next + length.min(most));
        if next < end {
            self.matched = matched;
            self.drafted_at = self.history.tokens.len();
        }
        &self.history.tokens[next..end]
    }

    /// Records that the model confirmed the first `confirmed` of `drafted` tokens.
    pub(crate) fn record(&mut self, drafted: usize, confirmed: usize) {
        self.confidence.record(self.matched, drafted, confirmed);
    }

    /// Returns the estimates after the drafts so far, for later calls.
    pub(crate) fn confidence(&self) -> Confidence {
        self.confidence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        text.bytes().map(Token::from).collect()
    }

    fn text(tokens: &[Token]) -> String {
        let bytes = tokens.iter().map(|token| u8::try_from(token.0).unwrap());
        bytes.map(char::from).collect()
    }

    const CHEAP: Option<Cost> = Some(Cost(0.1));

    #[test]
    fn a_draft_continues_the_longest_passage_that_ends_like_the_answer() {
        let mut drafter = Drafter::new(
            &tokens("the crab eats. a crab sleeps. cab"),
            Confidence::default(),
        );
        drafter.confidence = Confidence([0.9; 2]);
        for token in tokens("the crab ") {
            drafter.push(token);
        }
        assert_eq!(text(drafter.draft(CHEAP, 4)), "eats");
        assert_eq!(text(drafter.draft(CHEAP, 2)), "ea");
        assert_eq!(text(drafter.draft(CHEAP, 0)), "");
    }

    #[test]
    fn the_latest_of_equally_long_passages_is_continued() {
        let mut drafter = Drafter::new(&tokens("x=1 x=2 x="), Confidence([0.9; 2]));
        assert_eq!(text(drafter.draft(CHEAP, 1)), "2");
    }

    #[test]
    fn nothing_is_drafted_after_two_tokens_that_are_new() {
        let mut drafter = Drafter::new(&tokens("abcd"), Confidence([0.9; 2]));
        assert_eq!(drafter.draft(CHEAP, 9), []);
        assert_eq!(Drafter::new(&[], Confidence::default()).draft(CHEAP, 9), []);
    }

    #[test]
    fn the_length_of_a_draft_follows_confidence_and_cost() {
        let lengths =
            |cost: f64| [0.3, 0.5, 0.9, 1.0].map(|confidence| Cost(cost).best_length(confidence));
        assert_eq!(lengths(0.3), [0, 1, 5, MAX_DRAFT]);
        assert_eq!(lengths(0.05), [2, 3, 13, MAX_DRAFT]);
        assert_eq!(lengths(1.0), [0, 0, 0, 0]);
    }

    #[test]
    fn drafts_that_are_rejected_end_and_are_tried_again_after_many_tokens() {
        let mut drafter = Drafter::new(&tokens("abab"), Confidence::default());
        let cost = Some(Cost(0.3));
        let mut drafts = 0;
        for _ in 0..640 {
            let drafted = drafter.draft(cost, 9).len();
            if drafted > 0 {
                drafts += 1;
                drafter.record(drafted, 0);
            }
            drafter.push(b'a'.into());
            drafter.push(b'b'.into());
        }
        assert!((20..=25).contains(&drafts), "{drafts}");
    }

    #[test]
    fn drafts_that_are_confirmed_get_longer() {
        let mut drafter = Drafter::new(&tokens(&"0123456789".repeat(20)), Confidence::default());
        let cost = Some(Cost(0.3));
        let mut lengths = Vec::new();
        for _ in 0..20 {
            let draft = drafter.draft(cost, 99).to_vec();
            drafter.record(draft.len(), draft.len());
            lengths.push(draft.len());
            for token in draft {
                drafter.push(token);
            }
        }
        assert!(lengths[0] < lengths[19] && lengths[19] == 10, "{lengths:?}");
    }
}
