//! Samples the next token of a call from the logits of its row, within its grammar.
//!
//! Rows are sampled one after another, on the thread that decodes. More threads would gain less than half a percent: with default
//! parameters, eight rows take 0.2 ms of a step of 70 ms with `SmolLM2`, and 0.5 ms of 130 ms with Gemma (2 cores, AVX-512).
//!
//! Masks of allowed tokens are computed on demand. Such small models draw a token that the grammar rejects in a fifth to a half of all
//! cases, and a token takes 0.06 to 0.16 ms with its mask. Computing masks in advance would slow down the decode, which uses all cores, by
//! more than that.

mod sample;
mod top_k_scan;

use self::sample::Buffers;
pub(super) use self::sample::TokenSelector;
use crate::engine::decoder::{Origin, Sampled};
use crate::engine::grammar::Grammar;
use crate::engine::thinking::blocks::AnswerStart;
use crate::engine::token::Token;
use crate::engine::{EngineError, EngineErrorKind};

/// The sampler of one call.
#[derive(Debug)]
pub(crate) struct Sampler {
    selector: TokenSelector,
    grammar: Option<Grammar>,
    /// The way in which the structured answer begins.
    start: AnswerStart,
}

/// Buffers that the samplers of all calls share.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    selection: Buffers,
    /// Logits of the tokens that a grammar allows, −∞ for others.
    allowed: Vec<f32>,
    masks: u32,
}

impl Scratch {
    /// Returns the number of masks computed since the last call of this function.
    pub(super) fn take_masks(&mut self) -> u32 {
        std::mem::take(&mut self.masks)
    }
}

impl Sampler {
    /// Creates a sampler that has seen `prompt`.
    pub(super) fn new(
        mut selector: TokenSelector,
        prompt: &[Token],
        grammar: Option<Grammar>,
        start: &AnswerStart,
    ) -> Self {
        selector.accept(prompt);
        let start = start.clone();
        Self {
            selector,
            grammar,
            start,
        }
    }

    /// Records a token that was not sampled.
    pub(super) fn force(&mut self, token: Token) {
        self.selector.accept(&[token]);
    }

    /// Lets the model sample a token of `start` before the answer, or begin the answer.
    pub(super) fn offer(&mut self, start: AnswerStart) {
        self.start = start;
    }

    /// Follows the grammar from now on, with `text` as the beginning of the answer. If the grammar does not allow `text`, returns `false`,
    /// and the answer begins after `text`.
    ///
    /// # Errors
    /// `Grammar` if the grammar cannot be followed.
    pub(super) fn begin_answer(&mut self, text: &str) -> Result<bool, EngineError> {
        self.start = AnswerStart::Answer;
        match &mut self.grammar {
            Some(grammar) => Ok(grammar.accept_text(text)?),
            None => Ok(true),
        }
    }

    /// Returns the tokens that the grammar forces next, and records them. The result is empty before the answer, and if the grammar allows
    /// several next tokens.
    ///
    /// # Errors
    /// `Grammar` if the grammar cannot be followed.
    pub(super) fn fast_forward(&mut self) -> Result<Vec<Sampled>, EngineError> {
        let (Some(grammar), AnswerStart::Answer) = (&mut self.grammar, &self.start) else {
            return Ok(Vec::new());
        };
        let tokens = grammar.fast_forward()?;
        self.selector.accept(&tokens);
        let is_complete = grammar.is_complete();
        let count = tokens.len();
        let forced = tokens.into_iter().enumerate();
        let forced = forced.map(|(at, token)| Sampled {
            token,
            is_end: false,
            origin: Origin::Answer {
                is_last: is_complete && at + 1 == count,
            },
        });
        Ok(forced.collect())
    }

    /// Samples the next token from `logits`, and records it. `ends` are all tokens that end an answer, in ascending order.
    ///
    /// With a grammar, a token is first drawn as without one. Only if the grammar rejects it, a second token is drawn among the allowed
    /// ones, so most tokens need no mask of the vocabulary. With temperature alone, that is the same as drawing among the allowed tokens at
    /// once. `top_k`, `top_p` and `min_p` truncate all tokens in the first draw, and the allowed ones in the second.
    ///
    /// # Errors
    /// `Decode` if all logits are NaN, `Grammar` if the grammar cannot be followed or no token can continue it.
    pub(super) fn sample(
        &mut self,
        logits: &[f32],
        ends: &[Token],
        scratch: &mut Scratch,
    ) -> Result<Sampled, EngineError> {
        let chosen = self.selector.select(logits, &mut scratch.selection);
        let drawn = chosen.ok_or_else(|| {
            let text =
                "the model computed invalid numbers: its file may be damaged, or the GPU faulty";
            EngineError::new(EngineErrorKind::Decode, text)
        })?;
        let token = self.choose_start(drawn, logits);
        let sampled = if self.grammar.is_some() && matches!(self.start, AnswerStart::Block) {
            Sampled {
                token,
                is_end: is_end(token, ends),
                origin: Origin::Free,
            }
        } else {
            self.follow_grammar(token, logits, ends, scratch)?
        };
        self.selector.accept(&[sampled.token]);
        Ok(sampled)
    }

    /// Decides with the token `drawn` whether a block of reasoning or the answer begins, if that is open. Returns `drawn`, or the likeliest
    /// opening token if a block is required.
    fn choose_start(&mut self, drawn: Token, logits: &[f32]) -> Token {
        let AnswerStart::Choice {
            openings,
            is_required,
        } = &self.start
        else {
            return drawn;
        };
        let is_opening = |token: &Token| openings.binary_search(token).is_ok();
        let token = if *is_required && !is_opening(&drawn) {
            best_of(logits, openings).unwrap_or(drawn)
        } else {
            drawn
        };
        self.start = if is_opening(&token) {
            AnswerStart::Block
        } else {
            AnswerStart::Answer
        };
        token
    }

    /// Returns the token `drawn` if the grammar allows it, and otherwise one drawn among the allowed tokens. Advances the grammar. Without
    /// a grammar, every token is allowed.
    fn follow_grammar(
        &mut self,
        drawn: Token,
        logits: &[f32],
        ends: &[Token],
        scratch: &mut Scratch,
    ) -> Result<Sampled, EngineError> {
        let mut token = drawn;
        let mut is_last = false;
        if let Some(grammar) = &mut self.grammar {
            let is_allowed = if is_end(token, ends) {
                grammar.may_end()?
            } else {
                grammar.allows(token)?
            };
            if !is_allowed {
                scratch.masks += 1;
                grammar.mask()?.apply(logits, ends, &mut scratch.allowed);
                let chosen = self
                    .selector
                    .select(&scratch.allowed, &mut scratch.selection);
                token = chosen.ok_or_else(|| {
                    let text = "the model has no token that the schema allows next";
                    EngineError::new(EngineErrorKind::Grammar, text)
                })?;
            }
            if !is_end(token, ends) {
                grammar.accept(token)?;
                is_last = grammar.is_complete();
            }
        }
        Ok(Sampled {
            token,
            is_end: is_end(token, ends),
            origin: Origin::Answer { is_last },
        })
    }
}

/// Returns whether `token` is one of `ends`, which are in ascending order.
fn is_end(token: Token, ends: &[Token]) -> bool {
    ends.binary_search(&token).is_ok()
}

/// Returns the token with the greatest logit among `tokens`.
fn best_of(logits: &[f32], tokens: &[Token]) -> Option<Token> {
    let logit = |token: &Token| logits.get(token.index()?).copied();
    let known = tokens
        .iter()
        .filter_map(|token| Some((*token, logit(token)?)));
    let best = known.max_by(|(_, one), (_, other)| one.total_cmp(other));
    best.map(|(token, _)| token)
}
