//! Handles each token of a generating call: limits the reasoning, and starts a structured answer after it.

use std::collections::VecDeque;
use std::time::Instant;

use super::{ActiveCall, Written};
use crate::engine::decoder::{Decoder, Origin, Sampled};
use crate::engine::thinking::blocks::{AnswerStart, Blocks};
use crate::engine::token::Token;
use crate::engine::{EngineError, FinishReason};

/// State of a call's reasoning.
#[derive(Debug)]
pub(in crate::engine::scheduler) struct Reasoning {
    blocks: Blocks,
    budget: Option<u32>,
    /// Whether a structured answer has yet to begin.
    awaits_answer: bool,
    /// Whether the model was already offered whitespace between its block and the answer.
    had_blank: bool,
    /// Index of the markers that opened the last block.
    block: Option<usize>,
    /// Tokens that come next without sampling.
    forced: VecDeque<Token>,
}

impl Reasoning {
    /// Creates the state for an answer of at most `max_tokens`.
    pub(in crate::engine::scheduler) fn new(blocks: Blocks, max_tokens: u32) -> Self {
        Self {
            budget: blocks.budget(max_tokens),
            awaits_answer: blocks.start != AnswerStart::Answer,
            blocks,
            had_blank: false,
            block: None,
            forced: VecDeque::new(),
        }
    }

    /// Returns whether the next token is forced.
    fn is_forced(&self) -> bool {
        !self.forced.is_empty()
    }

    /// Removes the next forced token and returns it.
    fn take_forced(&mut self) -> Option<Token> {
        self.forced.pop_front()
    }

    fn closing(&self) -> &[Token] {
        self.block.map_or(&[], |at| self.blocks.tokens.closing(at))
    }

    fn close(&mut self) {
        let closing = self.closing().to_vec();
        self.forced.extend(closing);
    }
}

impl<S> ActiveCall<S> {
    /// Accepts a sampled token and the forced tokens after it, and appends them to the answer.
    ///
    /// # Errors
    /// Returns a `Grammar` error if the grammar cannot be followed.
    pub(in crate::engine::scheduler) fn accept<D: Decoder<Sampler = S>>(
        &mut self,
        decoder: &D,
        sampled: Sampled,
        now: Instant,
    ) -> Result<Written, EngineError> {
        let mut written = self.accept_token(decoder, sampled, now)?;
        while written.finish_reason.is_none() {
            let forced = self.take_forced(decoder)?;
            if forced.is_empty() {
                break;
            }
            for token in forced {
                let next = self.accept_token(decoder, token, now)?;
                self.usage.forced_tokens += 1;
                written.delta.push_str(&next.delta);
                written.finish_reason = next.finish_reason;
                if written.finish_reason.is_some() {
                    break;
                }
            }
        }
        Ok(written)
    }

    /// Takes the next forced tokens: one token of a marker of reasoning, or all that the grammar forces. Empty if the next token is
    /// sampled.
    fn take_forced<D: Decoder<Sampler = S>>(
        &mut self,
        decoder: &D,
    ) -> Result<Vec<Sampled>, EngineError> {
        if let Some(token) = self.reasoning.take_forced() {
            decoder.force(&mut self.sampler, token);
            return Ok(vec![Sampled::marker(token)]);
        }
        decoder.fast_forward(&mut self.sampler)
    }

    /// Accepts the next token of the call, and appends it to the answer.
    fn accept_token<D: Decoder<Sampler = S>>(
        &mut self,
        decoder: &D,
        sampled: Sampled,
        now: Instant,
    ) -> Result<Written, EngineError> {
        let sampled = self.resolve_end(decoder, sampled);
        let token = sampled.token;
        let is_first = self.usage.completion_tokens == 0;
        if self.reasoning.awaits_answer && matches!(sampled.origin, Origin::Answer { .. }) {
            // The model answers without reasoning.
            self.reasoning.awaits_answer = false;
            self.output.begin_answer();
        }
        let piece = (!sampled.is_end).then(|| decoder.piece(token));
        let mut written = self.push_token(token, piece.as_deref(), now);
        if sampled.origin == (Origin::Answer { is_last: true }) {
            // Also at `max_tokens`: a complete answer is not truncated.
            written.finish_reason = Some(FinishReason::Stop);
        }
        self.reasoning.block = self.output.thinking().block().or(self.reasoning.block);
        if written.finish_reason.is_some() {
            return Ok(written);
        }
        if self.reasoning.awaits_answer && is_first {
            let rest = self.reasoning.blocks.tokens.rest(token).to_vec();
            self.reasoning.forced.extend(rest);
        }
        let is_over = |budget: u32| self.usage.thinking_tokens >= budget;
        if self.output.is_thinking()
            && !self.reasoning.is_forced()
            && self.reasoning.budget.is_some_and(is_over)
        {
            self.reasoning.close();
        }
        if self.reasoning.awaits_answer && self.output.thinking().is_after_block() {
            let is_chosen = sampled.origin != Origin::Marker;
            let piece = piece.unwrap_or_default();
            written.delta = self.begin_answer(decoder, written.delta, &piece, is_chosen)?;
        }
        Ok(written)
    }

    /// Returns the token that comes next. An end-of-message token does not end the answer if it closes a block of reasoning, or if a
    /// structured answer has yet to begin. In the latter case, the first token that closes the block replaces it.
    fn resolve_end<D: Decoder<Sampler = S>>(&mut self, decoder: &D, sampled: Sampled) -> Sampled {
        if !sampled.is_end || !self.output.is_thinking() {
            return sampled;
        }
        let mut token = sampled.token;
        let mut is_end = !self.reasoning.closing().contains(&token);
        if is_end && self.reasoning.awaits_answer {
            self.reasoning.close();
            if let Some(forced) = self.reasoning.take_forced() {
                decoder.force(&mut self.sampler, forced);
                (token, is_end) = (forced, false);
            }
        }
        Sampled {
            token,
            is_end,
            ..sampled
        }
    }

    /// Makes the sampler follow its grammar once everything between block and answer is written. Call this function for every token after the
    /// block is closed. `piece` has the bytes of the token, and `text` the part of them that belongs to the answer. Returns the part of `text`
    /// that the grammar allows.
    fn begin_answer<D: Decoder<Sampler = S>>(
        &mut self,
        decoder: &D,
        text: String,
        piece: &[u8],
        is_chosen: bool,
    ) -> Result<String, EngineError> {
        if text.is_empty() && self.reasoning.is_forced() {
            return Ok(text);
        }
        let is_blank = piece.last().is_some_and(u8::is_ascii_whitespace);
        if text.is_empty() && is_chosen && !is_blank && !self.reasoning.had_blank {
            let tail = self.reasoning.block;
            let tail = tail.map_or(&[][..], |at| self.reasoning.blocks.tokens.tail(at));
            let tail = tail.to_vec();
            self.reasoning.forced.extend(tail);
            if self.reasoning.is_forced() {
                return Ok(text);
            }
        }
        if text.is_empty() && !self.reasoning.had_blank && !is_blank {
            self.reasoning.had_blank = true;
            let blank = self.reasoning.blocks.tokens.blank();
            decoder.offer(&mut self.sampler, blank);
            return Ok(text);
        }
        self.reasoning.awaits_answer = false;
        let is_allowed = decoder.begin_answer(&mut self.sampler, &text)?;
        self.output.begin_answer();
        if is_allowed {
            return Ok(text);
        }
        self.output.clear();
        Ok(String::new())
    }
}
