//! Prompt lookup, a form of speculative decoding without a draft model: drafts the next tokens of an answer from its prompt and from the
//! answer itself. Pure.
//!
//! Answers that repeat their prompt, such as extracts, corrected texts and translated code, often continue a passage in the same way. So
//! the tokens that followed an earlier occurrence of the last tokens are decoded along with these. Each token of the answer is still
//! sampled from the row of the token before it, and a draft token is accepted if it is the sampled one. So the text is the same as without
//! drafts, up to the last bits of logits.
//!
//! A draft token costs a row of a batch, and saves a step if the model accepts it. So the length of a draft follows the acceptance rate
//! ([`AcceptanceRate`], [`Cost`]). It depends on no measured times, so that the texts of calls that run alone stay reproducible, unless
//! a tile takes more than three seconds.

use std::collections::HashMap;

use super::token::Token;

/// Longest draft, in tokens.
pub(crate) const MAX_DRAFT: usize = 16;

/// Most earlier occurrences of the last two tokens that are compared.
const MAX_OCCURRENCES: usize = 32;

/// Most tokens that are compared before each occurrence.
const MAX_MATCH: usize = 16;

/// Shortest match that has an acceptance rate of its own, in tokens: after long matches, more draft tokens are accepted.
const LONG_MATCH: usize = 4;

/// Smallest gain in speed for which tokens are drafted. Above 1, since rate and cost are estimates.
const LEAST_GAIN: f64 = 1.05;

/// Cost of a further row, as a share of a step of one row. Measured on 2 cores with AVX-512: 0.56 (`SmolLM2` 135M). If memory bandwidth is
/// the limit instead of arithmetic, a row costs less, and drafts gain more than expected.
const ROW: f64 = 0.5;

/// Tokens after which a call drafts again, although its acceptance rate is too low: the text may have begun to repeat itself.
const PROBE_INTERVAL: usize = 64;

/// Length of such a draft, in tokens.
const PROBE: usize = 2;

/// Weight of the newest observation in an [`AcceptanceRate`].
const NEWEST: f64 = 0.15;

/// The tokens of a call, indexed by pairs.
#[derive(Debug)]
struct History {
    tokens: Vec<Token>,
    /// Position of the second token of each pair's latest occurrence.
    latest: HashMap<[Token; 2], u32>,
    /// For each token, the position of the earlier occurrence of the pair that it ends; 0 if there is none.
    earlier: Vec<u32>,
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
        // No context has 2^32 tokens.
        let at = u32::try_from(self.tokens.len()).unwrap_or_default();
        let pair = self.tokens.last().map(|before| [*before, token]);
        let earlier = pair.and_then(|pair| self.latest.insert(pair, at));
        self.earlier.push(earlier.unwrap_or_default());
        self.tokens.push(token);
    }

    /// Returns the position after the earlier passage that has the most tokens in common with the end of the history, and their number.
    /// The latest of several such passages is preferred, if a whole draft follows it.
    fn longest_match(&self) -> Option<(usize, usize)> {
        let end = self.tokens.len().checked_sub(1)?;
        let mut best: Option<(usize, usize)> = None;
        let mut at = self.earlier[end] as usize;
        for _ in 0..MAX_OCCURRENCES {
            if at == 0 {
                break;
            }
            let before = self.tokens[..=at].iter().rev();
            let last = self.tokens.iter().rev().take(MAX_MATCH);
            let length = before.zip(last).take_while(|(one, other)| one == other);
            let length = length.count();
            // In a text that repeats itself, the latest passage has few tokens after it.
            let is_better = |(next, longest): (usize, usize)| {
                length > longest || (length == longest && next + MAX_DRAFT > self.tokens.len())
            };
            if best.is_none_or(is_better) {
                best = Some((at + 1, length));
            }
            at = self.earlier[at] as usize;
        }
        best
    }
}

/// Acceptance rates after short and after long matches: moving averages, from 0 to 1, of how often the model accepts the next draft token.
#[derive(Debug, Clone, Copy, PartialEq)]
struct AcceptanceRate([f64; 2]);

impl Default for AcceptanceRate {
    /// With these rates, the first draft of a call that runs alone requires a long match, and has one token.
    fn default() -> Self {
        Self([0.5, 0.7])
    }
}

impl AcceptanceRate {
    fn for_match(self, length: usize) -> f64 {
        self.0[usize::from(length >= LONG_MATCH)]
    }

    fn record(&mut self, length: usize, drafted: usize, accepted: usize) {
        let rate = &mut self.0[usize::from(length >= LONG_MATCH)];
        let outcomes = std::iter::repeat_n(1.0, accepted);
        let rejected = (accepted < drafted).then_some(0.0);
        for outcome in outcomes.chain(rejected) {
            *rate += NEWEST * (outcome - *rate);
        }
    }
}

/// Cost of a draft token, as a share of what a token costs without drafts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cost(f64);

impl Cost {
    /// Returns the cost for one of `streams` sequences that share the cost of a step.
    ///
    /// ```text
    /// streams    1      2      8
    /// cost     0.5   0.67   0.89
    /// ```
    pub(crate) fn for_streams(streams: usize) -> Self {
        let streams = f64::from(u32::try_from(streams.max(1)).unwrap_or(u32::MAX));
        Self(ROW * streams / (1.0 + ROW * (streams - 1.0)))
    }

    /// Returns the number of tokens to draft if each one is accepted with probability `rate`; 0 if no number pays.
    ///
    /// ```text
    /// rate 0.9, cost 0.5    3: 3.4 tokens at the cost of 2.5
    /// rate 0.7, cost 0.5    1: 1.7 tokens at the cost of 1.5
    /// rate 0.5, cost 0.5    0
    /// ```
    fn best_length(self, rate: f64) -> usize {
        let (mut tokens, mut chance, mut cost) = (1.0, 1.0, 1.0);
        let mut best = (0, LEAST_GAIN);
        for length in 1..=MAX_DRAFT {
            chance *= rate;
            tokens += chance;
            cost += self.0;
            if tokens / cost > best.1 {
                best = (length, tokens / cost);
            }
        }
        best.0
    }
}

/// Drafts tokens of the answer of one call.
#[derive(Debug)]
pub(crate) struct Drafter {
    history: History,
    rate: AcceptanceRate,
    /// Matched tokens of the newest draft.
    matched: usize,
    /// Length of the history after the last draft that was decoded.
    drafted_at: usize,
}

impl Drafter {
    /// Creates the drafter of a call with `prompt`. Takes about 0.1 µs a token.
    pub(crate) fn new(prompt: &[Token]) -> Self {
        Self {
            history: History::new(prompt),
            rate: AcceptanceRate::default(),
            matched: 0,
            drafted_at: prompt.len(),
        }
    }

    /// Appends a token of the answer.
    pub(crate) fn push(&mut self, token: Token) {
        self.history.push(token);
    }

    /// Returns the tokens that probably follow, at most `most`. The draft is empty if nothing matches or if it is not worth its `cost`,
    /// except for a short one every [`PROBE_INTERVAL`] tokens.
    pub(crate) fn draft(&mut self, cost: Cost, most: usize) -> &[Token] {
        let Some((next, matched)) = self.history.longest_match() else {
            return &[];
        };
        let best = cost.best_length(self.rate.for_match(matched));
        let is_due = self.history.tokens.len() >= self.drafted_at + PROBE_INTERVAL;
        let length = if best == 0 && is_due { PROBE } else { best };
        let end = self.history.tokens.len().min(next + length.min(most));
        self.matched = matched;
        &self.history.tokens[next..end]
    }

    /// Records that the model accepted the first `accepted` of the `drafted` tokens of the last draft. A draft that got no rows is not
    /// recorded.
    pub(crate) fn record(&mut self, drafted: usize, accepted: usize) {
        self.drafted_at = self.history.tokens.len();
        self.rate.record(self.matched, drafted, accepted);
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

    /// Returns a drafter whose drafts are usually accepted.
    fn confident(prompt: &str) -> Drafter {
        Drafter {
            rate: AcceptanceRate([0.9; 2]),
            ..Drafter::new(&tokens(prompt))
        }
    }

    const CHEAP: Cost = Cost(0.1);

    #[test]
    fn a_draft_continues_the_longest_passage_that_ends_like_the_answer() {
        let mut drafter = confident("the crab eats. a crab sleeps. cab");
        for token in tokens("the crab ") {
            drafter.push(token);
        }
        assert_eq!(text(drafter.draft(CHEAP, 4)), "eats");
        assert_eq!(text(drafter.draft(CHEAP, 2)), "ea");
        assert_eq!(text(drafter.draft(CHEAP, 0)), "");
    }

    #[test]
    fn the_latest_of_equally_long_passages_is_continued() {
        let mut drafter = confident("x=1, and so on; x=2, and so on; x=");
        assert_eq!(text(drafter.draft(CHEAP, 1)), "2");
    }

    #[test]
    fn nothing_is_drafted_after_two_tokens_that_are_new() {
        assert_eq!(confident("abcd").draft(CHEAP, 9), []);
        assert_eq!(confident("").draft(CHEAP, 9), []);
    }

    #[test]
    fn the_length_of_a_draft_follows_rate_and_cost() {
        let lengths = |cost: f64| [0.3, 0.5, 0.9, 1.0].map(|rate| Cost(cost).best_length(rate));
        assert_eq!(lengths(0.5), [0, 0, 3, MAX_DRAFT]);
        assert_eq!(lengths(0.3), [0, 1, 5, MAX_DRAFT]);
        assert_eq!(lengths(0.05), [2, 3, 13, MAX_DRAFT]);
        assert_eq!(lengths(1.0), [0, 0, 0, 0]);
    }

    #[test]
    fn drafts_cost_more_with_more_streams() {
        let costs = [1, 2, 8].map(|streams| (Cost::for_streams(streams).0 * 100.0).round());
        assert_eq!(costs.map(|cost| format!("{cost}")), ["50", "67", "89"]);
    }

    #[test]
    fn drafts_that_are_rejected_end_and_are_tried_again_after_many_tokens() {
        let mut drafter = Drafter::new(&tokens("abab"));
        let mut drafts = 0;
        for _ in 0..640 {
            let drafted = drafter.draft(Cost::for_streams(1), 9).len();
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
    fn a_draft_without_rows_is_tried_again_at_once() {
        let mut drafter = Drafter::new(&tokens("abab"));
        for _ in 0..PROBE_INTERVAL {
            drafter.push(b'a'.into());
            drafter.push(b'b'.into());
        }
        drafter.rate = AcceptanceRate([0.0; 2]);
        let mut is_drafted = || !drafter.draft(Cost::for_streams(1), 9).is_empty();
        assert_eq!([is_drafted(), is_drafted()], [true, true]);
        drafter.record(PROBE, 0);
        assert!(drafter.draft(Cost::for_streams(1), 9).is_empty());
    }

    #[test]
    fn drafts_that_are_accepted_get_longer() {
        let mut drafter = Drafter::new(&tokens(&"0123456789".repeat(20)));
        let mut lengths = Vec::new();
        for _ in 0..20 {
            let draft = drafter.draft(Cost::for_streams(1), 99).to_vec();
            drafter.record(draft.len(), draft.len());
            lengths.push(draft.len());
            for token in draft {
                drafter.push(token);
            }
        }
        assert!(lengths[0] == 1 && lengths[19] == MAX_DRAFT, "{lengths:?}");
    }
}
