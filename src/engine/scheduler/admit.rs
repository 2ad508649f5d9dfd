//! Admission: gives queued calls a sequence once one is free and the cells of the call can be reserved.

use std::collections::VecDeque;
use std::time::Instant;

use super::super::decoder::Decoder;
use super::super::prefix::MIN_GAIN;
use super::super::prompt::Prompt;
use super::super::queue::QueuedCall;
use super::super::text::Output;
use super::super::token::Token;
use super::super::{Update, Usage};
use super::active::{ActiveCall, Reasoning};
use super::{Scheduler, count, has_begun};

impl<D: Decoder> Scheduler<D> {
    /// Admits queued calls in order, until no sequence is free or the cells of the next call cannot be reserved. [`Self::step`] calls this
    /// function, too.
    pub(crate) fn admit(&mut self, now: Instant) {
        while let Some((call, prompt)) = self.queue.head() {
            let is_free = |at: usize| self.sequences[at].is_none();
            let chosen = self
                .cache
                .choose_sequence(&self.decoder, &prompt.tokens, is_free);
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
            let Some((call, prompt)) = self.queue.pop() else {
                break;
            };
            self.updates.push((call.id, Update::Admitted));
            self.sequences[sequence] = Some(self.activate(call, prompt, max_tokens, now));
            // The next call may share cells with this one.
            self.begin_or_wait(sequence);
        }
    }

    /// Returns whether there are enough cells for a call of at most `total` tokens with `prompt` in `sequence`, in addition to the cells
    /// that are reserved for active calls.
    fn has_cells(&self, sequence: usize, prompt: &[Token], total: usize) -> bool {
        if !self.limits.is_pool {
            return true;
        }
        let of_others = self.sequences.iter().enumerate();
        let promised: usize = of_others
            .filter_map(|(at, active)| Some((at, active.as_ref()?)))
            .map(|(at, active)| {
                let held = if active.has_begun {
                    self.cache.tokens_in(at)
                } else {
                    0
                };
                (active.reserved as usize).saturating_sub(held)
            })
            .sum();
        let cached = self.cache.best_prefix(&self.decoder, sequence, prompt);
        let start = match self.leader(prompt, u64::MAX, cached.length + MIN_GAIN) {
            // It would wait for another call, whose cells do not hold the prefix yet.
            Some(_) => &[],
            None => self.cache.reused_cells(&self.decoder, sequence, prompt),
        };
        let is_busy = has_begun(&self.sequences);
        self.cache.has_cells(start, total, promised, is_busy)
    }

    fn activate(
        &mut self,
        call: QueuedCall,
        prompt: Prompt,
        max_tokens: u32,
        now: Instant,
    ) -> ActiveCall<D::Sampler> {
        let waited = call.waiting_usage(self.ready_at, now);
        let length = count(prompt.tokens.len());
        self.admitted += 1;
        ActiveCall {
            id: call.id,
            order: self.admitted,
            has_begun: false,
            waits_for: None,
            prefilled: 0,
            checkpoints: Vec::new(),
            reserved: length + max_tokens,
            max_tokens,
            seed: call.request.sampling.llama_seed(),
            sampler: self.decoder.sampler(
                &call.request.sampling,
                &prompt.tokens,
                prompt.grammar,
                &prompt.blocks.start,
            ),
            pending: VecDeque::new(),
            drafter: None,
            output: Output::new(prompt.thinking, call.request.stop),
            reasoning: Reasoning::new(prompt.blocks, max_tokens),
            usage: Usage {
                prompt_tokens: length,
                ..waited
            },
            prompt: prompt.tokens,
            admitted_at: now,
            generating_at: None,
        }
    }
}
