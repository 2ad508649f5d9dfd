//! A decoder that generates the text of a script.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use super::bench::MS;
use crate::engine::decoder::{DecodeError, Decoder, Origin, Row, Sampled};
use crate::engine::grammar::Grammar;
use crate::engine::limits::Limits;
use crate::engine::thinking::blocks::AnswerStart;
use crate::engine::threaded::{Content, ThreadedDecoder};
use crate::engine::token::Token;
use crate::engine::{EngineError, EngineErrorKind, SamplingParams};

/// The token that ends an answer. Every other token is a byte.
pub(super) const END: Token = Token(0);

/// The continuation after the text of a script.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum After {
    /// The text again.
    #[default]
    Text,
    /// A token that ends the answer.
    End,
    /// Nothing: the grammar allows no token after it.
    Nothing,
}

/// Text that every sequence generates, once or repeatedly, and the failures of the decoder.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    /// Text that every sequence generates.
    pub(super) text: &'static str,
    /// Continuation after the text.
    pub(super) after: After,
    /// Time of a decode; `None` is 1 ms.
    pub(super) step: Option<Duration>,
    /// Positions in the text of the tokens that the schema forces.
    pub(super) forced: Vec<usize>,
    /// Numbers of the decodes that fail, from 1.
    pub(super) failing: Vec<usize>,
    /// Numbers of the restores that fail, from 1.
    pub(super) failing_restores: Vec<usize>,
    /// Whether every truncation fails, although the sequences have dropped no cells.
    pub(super) cannot_truncate: bool,
    /// Whether a change of the number of threads loses the content of all sequences.
    pub(super) loses_content: bool,
    /// Number of the next contexts that cannot be created after the first one.
    pub(super) failing_contexts: usize,
    /// Size of a sliding window: a saved state has no more tokens, and a sequence drops cells once it has twice as many.
    pub(super) window: Option<usize>,
}

impl Script {
    /// Returns the next token of a sequence that has `written` tokens, and counts it.
    fn token(&self, written: &mut usize) -> Sampled {
        let bytes = self.text.as_bytes();
        *written += 1;
        let ends = self.after == After::End && *written > bytes.len();
        Sampled {
            token: if ends {
                END
            } else {
                bytes[(*written - 1) % bytes.len()].into()
            },
            is_end: ends,
            origin: Origin::Answer {
                is_last: self.after == After::Nothing && *written == bytes.len(),
            },
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) batches: Vec<Vec<Row>>,
    pub(super) cleared: Vec<usize>,
    /// Lengths of the states that were saved.
    pub(super) saved: Vec<usize>,
    /// Lengths of the states that were restored.
    pub(super) restored: Vec<usize>,
    /// Lengths of the prefixes that were shared.
    pub(super) shared: Vec<usize>,
}

/// Tracks the tokens and cells of each sequence, and panics if the scheduler violates a condition of a real decoder.
#[derive(Debug)]
pub(super) struct Scripted {
    script: Script,
    seen: Rc<RefCell<Seen>>,
    limits: Limits,
    /// Tokens and cells of each sequence; `None` if its content is undefined.
    held: Vec<Option<Vec<(Token, u64)>>>,
    /// Whether each sequence has dropped cells.
    forgot: Vec<bool>,
    cells: u64,
    threads: usize,
}

#[derive(Debug)]
pub(super) struct ScriptedSampler {
    /// Number of generated tokens.
    written: usize,
    /// Expected tokens of the sequence.
    expected: Vec<Token>,
    /// Whether the next token is reasoning before a structured answer.
    is_free: bool,
}

impl Scripted {
    pub(super) fn new(script: Script, limits: Limits, seen: Rc<RefCell<Seen>>) -> Self {
        Self {
            script,
            seen,
            limits,
            held: vec![Some(Vec::new()); limits.sequences()],
            forgot: vec![false; limits.sequences()],
            cells: 0,
            threads: 1,
        }
    }

    fn held(&mut self, sequence: usize) -> &mut Vec<(Token, u64)> {
        self.held[sequence]
            .as_mut()
            .expect("the content of the sequence is defined")
    }

    fn add(&mut self, sequence: usize, token: Token) {
        self.cells += 1;
        let cell = self.cells;
        self.held(sequence).push((token, cell));
        let (held, window) = (self.held(sequence).len(), self.script.window);
        self.forgot[sequence] |= window.is_some_and(|window| held > 2 * window);
        assert!(self.held(sequence).len() <= self.limits.n_ctx as usize);
    }

    /// Panics if the pool has fewer cells than are in use. Sequences can share cells.
    fn check_cells(&self) {
        if self.limits.is_pool {
            let all = self.held.iter().flatten().flatten();
            let used: HashSet<u64> = all.map(|(_, cell)| *cell).collect();
            let is_free = used.len() <= self.limits.kv_cells as usize;
            assert!(is_free, "no cell is free");
        }
    }
}

impl Decoder for Scripted {
    type Sampler = ScriptedSampler;
    type State = Vec<Token>;

    fn n_ubatch(&self) -> usize {
        256
    }

    fn sampler(
        &self,
        _: &SamplingParams,
        prompt: &[Token],
        _: Option<Grammar>,
        start: &AnswerStart,
    ) -> ScriptedSampler {
        ScriptedSampler {
            written: 0,
            expected: prompt.to_vec(),
            is_free: *start != AnswerStart::Answer,
        }
    }

    fn force(&self, sampler: &mut ScriptedSampler, token: Token) {
        // It replaces an end token, which is not decoded.
        if sampler.expected.last() == Some(&END) {
            sampler.expected.pop();
        }
        sampler.expected.push(token);
    }

    fn offer(&self, sampler: &mut ScriptedSampler, start: AnswerStart) {
        let AnswerStart::Choice { openings, .. } = start else {
            panic!("expected a choice")
        };
        let next = self.script.token(&mut sampler.written.clone()).token;
        sampler.is_free = openings.contains(&next);
    }

    /// The grammar allows texts that begin with a brace.
    fn begin_answer(&self, sampler: &mut ScriptedSampler, text: &str) -> Result<bool, EngineError> {
        sampler.is_free = false;
        Ok(text.is_empty() || text.starts_with('{'))
    }

    fn fast_forward(&self, sampler: &mut ScriptedSampler) -> Result<Vec<Sampled>, EngineError> {
        let mut tokens = Vec::new();
        while !sampler.is_free && self.script.forced.contains(&sampler.written) {
            let sampled = self.script.token(&mut sampler.written);
            sampler.expected.push(sampled.token);
            tokens.push(sampled);
        }
        Ok(tokens)
    }

    fn decode(&mut self, batch: &[Row]) -> Result<Duration, DecodeError> {
        let number = {
            let mut seen = self.seen.borrow_mut();
            seen.batches.push(batch.to_vec());
            seen.batches.len()
        };
        if self.script.failing.contains(&number) {
            for row in batch {
                self.held[row.sequence] = None;
            }
            return Err(DecodeError::new("a scripted failure"));
        }
        assert!(batch.len() <= self.limits.n_batch);
        for row in batch {
            assert_eq!(
                self.held(row.sequence).len(),
                row.position as usize,
                "the positions of a sequence have a gap"
            );
            self.add(row.sequence, row.token);
        }
        self.check_cells();
        Ok(self.script.step.unwrap_or(MS))
    }

    fn sample(
        &mut self,
        row: usize,
        sampler: &mut ScriptedSampler,
    ) -> Result<Sampled, EngineError> {
        let row = self.seen.borrow().batches.last().unwrap()[row];
        assert!(row.logits, "the row requested no logits");
        let held = &self.held(row.sequence)[..=row.position as usize];
        let ScriptedSampler {
            written,
            expected,
            is_free,
        } = sampler;
        assert!(
            held.iter().map(|(token, _)| token).eq(&*expected),
            "the sequence has other tokens than its call"
        );
        let mut sampled = self.script.token(written);
        if *is_free {
            sampled.origin = Origin::Free;
        }
        expected.push(sampled.token);
        Ok(sampled)
    }

    fn piece(&self, token: Token) -> Vec<u8> {
        vec![u8::try_from(token.0).unwrap()]
    }

    fn clear(&mut self, sequence: usize) {
        self.seen.borrow_mut().cleared.push(sequence);
        self.held[sequence] = Some(Vec::new());
        self.forgot[sequence] = false;
    }

    fn can_truncate(&self, sequence: usize) -> bool {
        !self.forgot[sequence]
    }

    fn keeps_all_cells(&self, length: usize) -> bool {
        self.script.window.is_none_or(|window| length <= window)
    }

    fn truncate(&mut self, sequence: usize, length: usize) -> bool {
        assert!(self.can_truncate(sequence) && length < self.held(sequence).len());
        if self.script.cannot_truncate {
            self.held[sequence] = None;
            return false;
        }
        self.held(sequence).truncate(length);
        true
    }

    fn share(&mut self, from: usize, to: usize, length: usize) -> bool {
        assert!(self.limits.is_pool && self.can_truncate(from) && self.held(to).is_empty());
        self.seen.borrow_mut().shared.push(length);
        self.held[to] = Some(self.held(from)[..length].to_vec());
        true
    }

    fn saved_bytes(&self, sequence: usize) -> u64 {
        self.held[sequence].as_ref().map_or(0, Vec::len) as u64
    }

    fn save(&mut self, sequence: usize) -> Option<(Vec<Token>, u64)> {
        let state: Vec<Token> = self
            .held(sequence)
            .iter()
            .map(|(token, _)| *token)
            .collect();
        self.seen.borrow_mut().saved.push(state.len());
        let bytes = state.len() as u64;
        Some((state, bytes))
    }

    fn restore(&mut self, sequence: usize, state: &Vec<Token>) -> bool {
        assert!(self.held(sequence).is_empty());
        let number = {
            let mut seen = self.seen.borrow_mut();
            seen.restored.push(state.len());
            seen.restored.len()
        };
        if self.script.failing_restores.contains(&number) {
            self.held[sequence] = None;
            return false;
        }
        for token in state {
            self.add(sequence, *token);
        }
        self.check_cells();
        self.forgot[sequence] |= !self.keeps_all_cells(state.len());
        true
    }
}

impl ThreadedDecoder for Scripted {
    fn n_threads(&self) -> usize {
        self.threads
    }

    fn bytes_to_switch(&self) -> u64 {
        0
    }

    fn with_threads(mut self, n_threads: usize) -> Result<(Self, Content), EngineError> {
        // A decoder tries the former number of threads if the new one fails.
        let failing = std::mem::take(&mut self.script.failing_contexts);
        if failing > 1 {
            return Err(EngineError::new(EngineErrorKind::Load, "no memory"));
        }
        if failing == 0 {
            self.threads = n_threads;
        }
        if self.script.loses_content || failing == 1 {
            self.held.fill(None);
            return Ok((self, Content::Lost));
        }
        Ok((self, Content::Kept))
    }
}

pub(super) fn endless() -> Script {
    Script {
        text: "la ",
        ..Script::default()
    }
}

pub(super) fn says(text: &'static str) -> Script {
    Script {
        text,
        after: After::End,
        ..Script::default()
    }
}
