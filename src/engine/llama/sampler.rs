//! How the next token of one call is chosen, from the logits of its row, and what its grammar says to that.
//!
//! Rows are sampled one after another on the thread that decodes. By the default parameters eight of them take 0.2 ms of a step
//! of 70 ms with `SmolLM2`'s vocabulary, and 0.5 ms of 130 ms with Gemma's (2 cores, AVX-512): more threads could gain less than
//! half a percent. Of a record of texts and numbers a grammar refused a fifth to a half of the tokens that such small models
//! drew first; with the masks a token took 0.06 to 0.1 and 0.16 ms. To compute masks ahead, beside a decode that has all cores,
//! would take from it more than that.

mod sample;
mod top_k_scan;

pub(super) use self::sample::Choice;
use self::sample::Work;
use crate::engine::decoder::Sampled;
use crate::engine::grammar::Grammar;
use crate::engine::thinking::blocks::Start;
use crate::engine::token::Token;
use crate::engine::{EngineError, EngineErrorKind};

/// How the tokens of one call are chosen.
#[derive(Debug)]
pub(crate) struct Sampler {
    choice: Choice,
    grammar: Option<Grammar>,
    /// The state before the structured answer begins.
    start: Start,
}

/// Memory to work in, kept between tokens: of no call.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    choice: Work,
    /// Logits of the tokens that a grammar allows, −∞ for others.
    allowed: Vec<f32>,
    masks: u32,
}

impl Scratch {
    /// How often a grammar's tokens had to be computed since the last time.
    pub(super) fn take_masks(&mut self) -> u32 {
        std::mem::take(&mut self.masks)
    }
}

impl Sampler {
    /// Makes a sampler by `choice`, which sees `prompt`, and `grammar`.
    pub(super) fn new(
        mut choice: Choice,
        prompt: &[Token],
        grammar: Option<Grammar>,
        start: &Start,
    ) -> Self {
        choice.accept(prompt);
        let start = start.clone();
        Self {
            choice,
            grammar,
            start,
        }
    }

    /// Accepts a token that was not sampled.
    pub(super) fn force(&mut self, token: Token) {
        self.choice.accept(&[token]);
    }

    /// Lets the model choose whether a token of `start` comes before the answer.
    pub(super) fn offer(&mut self, start: Start) {
        self.start = start;
    }

    /// Follows the grammar from here on, with `text` already written if the grammar allows it.
    pub(super) fn begin_answer(&mut self, text: &str) -> Result<bool, EngineError> {
        self.start = Start::Answer;
        match &mut self.grammar {
            Some(grammar) => Ok(grammar.accept_text(text)?),
            None => Ok(true),
        }
    }

    /// Chooses and accepts the next token by `logits`; `ends` are all tokens that end an answer, in order.
    ///
    /// With a grammar a token is drawn as without one, and only if it is not allowed another one among those that are: most
    /// tokens need no mask of the whole vocabulary. By temperature alone that is the same as drawing among these at once;
    /// `top_k`, `top_p` and `min_p` cut among all tokens first, and among the allowed ones the second time.
    pub(super) fn sample(
        &mut self,
        logits: &[f32],
        ends: &[Token],
        scratch: &mut Scratch,
    ) -> Result<Sampled, EngineError> {
        let is_end = |token| ends.binary_search(&token).is_ok();
        let chosen = self.choice.select(logits, &mut scratch.choice);
        let mut token = chosen.ok_or_else(|| {
            let text = "the model computed no numbers: its file is damaged, or the GPU is at fault";
            EngineError::new(EngineErrorKind::Decode, text)
        })?;
        let mut is_last = false;
        if let Start::Choice {
            openings,
            is_required,
        } = &self.start
        {
            let is_opening = |token: &Token| openings.binary_search(token).is_ok();
            if *is_required && !is_opening(&token) {
                token = best_of(logits, openings).unwrap_or(token);
            }
            self.start = if is_opening(&token) {
                Start::Block
            } else {
                Start::Answer
            };
        }
        let is_free = self.grammar.is_some() && matches!(self.start, Start::Block);
        if let Some(grammar) = self.grammar.as_mut().filter(|_| !is_free) {
            let is_allowed = if is_end(token) {
                grammar.may_end()?
            } else {
                grammar.allows(token)?
            };
            if !is_allowed {
                scratch.masks += 1;
                grammar.mask()?.apply(logits, ends, &mut scratch.allowed);
                let chosen = self.choice.select(&scratch.allowed, &mut scratch.choice);
                token = chosen.ok_or_else(|| {
                    let text = "the model has no token for what the schema wants next";
                    EngineError::new(EngineErrorKind::Grammar, text)
                })?;
            }
            if !is_end(token) {
                grammar.accept(token)?;
                is_last = grammar.is_complete();
            }
        }
        self.choice.accept(&[token]);
        Ok(Sampled {
            token,
            is_end: is_end(token),
            is_last,
            is_free,
            is_forced: false,
        })
    }
}

/// Returns the likeliest of some tokens.
fn best_of(logits: &[f32], tokens: &[Token]) -> Option<Token> {
    let logit = |token: &Token| logits.get(token.index()?).copied();
    let known = tokens
        .iter()
        .filter_map(|token| Some((*token, logit(token)?)));
    let best = known.max_by(|(_, one), (_, other)| one.total_cmp(other));
    best.map(|(token, _)| token)
}
