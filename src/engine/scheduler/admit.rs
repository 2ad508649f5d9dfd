//! How a call comes into a sequence: when one is free, and its cells can be promised.

use std::time::Instant;

use super::super::decoder::Decoder;
use super::super::prefix::MIN_GAIN;
use super::super::queue::{Waiting, waits};
use super::super::text::Output;
use super::super::token::Token;
use super::super::{Update, Usage};
use super::active::{Active, Reasoning};
use super::{Scheduler, count, has_begun};

impl<D: Decoder> Scheduler<D> {
    /// Gives waiting calls the free sequences, in order, as far as their cells can be reserved. A turn begins with it, too.
    pub(crate) fn admit(&mut self, now: Instant) {
        while let Some((call, prompt)) = self.queue.head() {
            let is_free = |at: usize| self.sequences[at].is_none();
            let chosen = self.cache.choose(&self.decoder, &prompt.tokens, is_free);
            let Some(sequence) = chosen else { break };
            let length = count(prompt.tokens.len());
            let max_tokens = call.request.max_tokens.min(self.limits.n_ctx - length);
            if !self.has_cells(
                sequence,
                &prompt.tokens,
                prompt.tokens.len() + max_tokens as usize,
            ) {
                break;
            }
            let Some(call) = self.queue.pop() else { break };
            self.updates.push((call.id, Update::Admitted));
            self.sequences[sequence] = self.activate(call, max_tokens, now);
            // What it shares with others counts for the next one's cells.
            self.begin_or_wait(sequence);
        }
    }

    /// Whether the cells of a call in `sequence` with `prompt`, of `total` tokens at most, can be had beside what is promised to
    /// others.
    fn has_cells(&self, sequence: usize, prompt: &[Token], total: usize) -> bool {
        if !self.limits.is_pool {
            return true;
        }
        let of_others = self.sequences.iter().enumerate();
        let promised: usize = of_others
            .filter_map(|(at, active)| Some((at, active.as_ref()?)))
            .map(|(at, active)| {
                let held = if active.has_begun {
                    self.cache.held(at)
                } else {
                    0
                };
                (active.reserved as usize).saturating_sub(held)
            })
            .sum();
        let (available, _) = self.cache.available(&self.decoder, sequence, prompt);
        let start = match self.leader(prompt, u64::MAX, available + MIN_GAIN) {
            // What it shares with a call that it waits for is not there yet.
            Some(_) => &[],
            None => self.cache.start(&self.decoder, sequence, prompt),
        };
        let is_busy = has_begun(&self.sequences);
        self.cache.has_cells(start, total, promised, is_busy)
    }

    fn activate(
        &mut self,
        call: Waiting,
        max_tokens: u32,
        now: Instant,
    ) -> Option<Active<D::Sampler>> {
        let prompt = call.prompt?;
        let length = count(prompt.tokens.len());
        let (load_ms, queue_ms) = waits(call.received, self.ready_at, now);
        self.admitted += 1;
        Some(Active {
            id: call.id,
            order: self.admitted,
            has_begun: false,
            waits_for: None,
            prefilled: 0,
            checkpoints: Vec::new(),
            reserved: length + max_tokens,
            max_tokens,
            seed: call.request.sampling.seed,
            sampler: self.decoder.sampler(
                &call.request.sampling,
                &prompt.tokens,
                prompt.grammar,
                &prompt.blocks.start,
            ),
            next: None,
            output: Output::new(prompt.thinking, call.request.stop),
            reasoning: Reasoning::new(prompt.blocks, max_tokens),
            usage: Usage {
                prompt_tokens: length,
                queue_ms,
                load_ms,
                ..Usage::default()
            },
            prompt: prompt.tokens,
            admitted_at: now,
            generating_at: None,
        })
    }
}
