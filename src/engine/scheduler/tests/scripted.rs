//! A decoder that writes what a script says.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use super::bench::MS;
use crate::engine::decoder::{Decoder, Row, Sampled};
use crate::engine::grammar::Grammar;
use crate::engine::limits::Limits;
use crate::engine::thinking::blocks::Start;
use crate::engine::token::Token;
use crate::engine::{EngineError, SamplingParams};

/// The token that ends an answer; others are their own byte.
pub(super) const END: Token = 0;

/// Every sequence writes the script's text again and again, or to its end.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    /// The text that every sequence writes, from its beginning.
    pub(super) text: &'static str,
    /// Whether it ends.
    pub(super) ends: bool,
    /// Decodes that fail, by number.
    pub(super) failing: Vec<usize>,
    /// Restores of saved states that fail, by number.
    pub(super) failing_restores: Vec<usize>,
    /// Tokens that are saved of a sequence; it forgets the others when it has twice as many.
    pub(super) window: Option<usize>,
}

impl Script {
    /// Returns the next token of a sequence that has `written` so many.
    fn token(&self, written: &mut usize) -> Sampled {
        let bytes = self.text.as_bytes();
        *written += 1;
        let ends = self.ends && *written > bytes.len();
        Sampled {
            token: if ends {
                END
            } else {
                bytes[(*written - 1) % bytes.len()].into()
            },
            is_end: ends,
            is_last: false,
            is_free: false,
            is_forced: false,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) batches: Vec<Vec<Row>>,
    pub(super) cleared: Vec<usize>,
    /// States that were saved and restored, by their lengths.
    pub(super) saved: Vec<usize>,
    pub(super) restored: Vec<usize>,
    /// Tokens of shared prefixes.
    pub(super) shared: Vec<usize>,
}

/// Keeps what each sequence holds, token by token and cell by cell, and panics where a real one would go wrong.
#[derive(Debug)]
pub(super) struct Scripted {
    script: Script,
    seen: Rc<RefCell<Seen>>,
    limits: Limits,
    /// The tokens that each sequence holds, with their cells; `None` if they are undefined.
    held: Vec<Option<Vec<(Token, u64)>>>,
    /// Whether each sequence has forgotten its first tokens.
    forgot: Vec<bool>,
    cells: u64,
}

/// Tokens said, the prompt, and whether what is said is reasoning before an answer that follows a grammar.
#[derive(Debug)]
pub(super) struct Saying(usize, Vec<Token>, bool);

impl Scripted {
    pub(super) fn new(script: Script, limits: Limits, seen: Rc<RefCell<Seen>>) -> Self {
        Self {
            script,
            seen,
            limits,
            held: vec![Some(Vec::new()); limits.sequences()],
            forgot: vec![false; limits.sequences()],
            cells: 0,
        }
    }

    fn held(&mut self, sequence: usize) -> &mut Vec<(Token, u64)> {
        self.held[sequence].as_mut().expect("it is defined")
    }

    fn add(&mut self, sequence: usize, token: Token) {
        self.cells += 1;
        let cell = self.cells;
        self.held(sequence).push((token, cell));
        let (held, window) = (self.held(sequence).len(), self.script.window);
        self.forgot[sequence] |= window.is_some_and(|window| held > 2 * window);
        let all = self.held.iter().flatten().flatten();
        let distinct: HashSet<u64> = all.map(|(_, cell)| *cell).collect();
        let is_free = distinct.len() <= self.limits.kv_cells as usize;
        assert!(is_free || !self.limits.is_pool, "no cell is free");
        assert!(self.held(sequence).len() <= self.limits.n_ctx as usize);
    }
}

impl Decoder for Scripted {
    type Sampler = Saying;
    type State = Vec<Token>;

    fn n_ubatch(&self) -> usize {
        256
    }

    fn sampler(
        &self,
        _: &SamplingParams,
        prompt: &[Token],
        _: Option<Grammar>,
        start: &Start,
    ) -> Saying {
        Saying(0, prompt.to_vec(), *start != Start::Answer)
    }

    fn force(&self, saying: &mut Saying, token: Token) {
        // An end in whose place it comes is not decoded.
        if saying.1.last() == Some(&END) {
            saying.1.pop();
        }
        saying.1.push(token);
    }

    fn offer(&self, saying: &mut Saying, start: Start) {
        let Start::Choice { openings, .. } = start else {
            panic!("the model chooses")
        };
        let next = self.script.token(&mut saying.0.clone()).token;
        saying.2 = openings.contains(&next);
    }

    /// The grammar is of texts that begin with a brace.
    fn begin_answer(&self, saying: &mut Saying, text: &str) -> Result<bool, EngineError> {
        saying.2 = false;
        Ok(text.is_empty() || text.starts_with('{'))
    }

    fn decode(&mut self, batch: &[Row]) -> Result<Duration, String> {
        let number = {
            let mut seen = self.seen.borrow_mut();
            seen.batches.push(batch.to_vec());
            seen.batches.len()
        };
        if self.script.failing.contains(&number) {
            for row in batch {
                self.held[row.sequence] = None;
            }
            return Err("a scripted failure".into());
        }
        for row in batch {
            assert_eq!(
                self.held(row.sequence).len(),
                row.position as usize,
                "a gap"
            );
            self.add(row.sequence, row.token);
        }
        Ok(MS)
    }

    fn sample(&mut self, rows: &mut [(usize, &mut Saying)]) -> Vec<Result<Sampled, EngineError>> {
        let batch = self.seen.borrow().batches.last().unwrap().clone();
        let asking = batch.iter().enumerate().filter(|(_, row)| row.logits);
        assert!(
            rows.iter()
                .map(|(row, _)| *row)
                .eq(asking.map(|(at, _)| at)),
            "all rows with logits are sampled, and only these"
        );
        let mut sample = |(row, saying): &mut (usize, &mut Saying)| {
            let held = self.held(batch[*row].sequence).iter();
            let Saying(written, text, is_free) = &mut **saying;
            assert!(
                held.map(|(token, _)| token).eq(&*text),
                "another text is held"
            );
            let sampled = Sampled {
                is_free: *is_free,
                ..self.script.token(written)
            };
            text.push(sampled.token);
            Ok(sampled)
        };
        rows.iter_mut().map(&mut sample).collect()
    }

    fn piece(&self, token: Token) -> Vec<u8> {
        vec![u8::try_from(token).unwrap()]
    }

    fn clear(&mut self, sequence: usize) {
        self.seen.borrow_mut().cleared.push(sequence);
        self.held[sequence] = Some(Vec::new());
        self.forgot[sequence] = false;
    }

    fn can_cut(&self, sequence: usize) -> bool {
        !self.forgot[sequence]
    }

    fn can_cut_saved(&self, length: usize) -> bool {
        self.script.window.is_none_or(|window| length <= window)
    }

    fn cut(&mut self, sequence: usize, length: usize) -> bool {
        assert!(self.can_cut(sequence) && length < self.held(sequence).len());
        self.held(sequence).truncate(length);
        true
    }

    fn share(&mut self, from: usize, to: usize, length: usize) -> bool {
        assert!(self.limits.is_pool && self.can_cut(from) && self.held(to).is_empty());
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
        self.forgot[sequence] |= !self.can_cut_saved(state.len());
        true
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
        ends: true,
        ..Script::default()
    }
}
