//! How a call comes into a sequence and where its prompt starts, and what is decoded when there is no call.

use std::cmp::Reverse;
use std::time::Instant;

use super::super::decoder::Decoder;
use super::super::neighbours;
use super::super::pace::Work;
use super::super::prefix::{MIN_GAIN, common};
use super::super::prompt::{ThinkingMode, Token};
use super::super::queue::{Waiting, waits};
use super::super::text::Output;
use super::super::thinking::Thinking;
use super::super::{Update, Usage};
use super::active::Active;
use super::{Scheduler, count, has_begun};

/// The share of a step that a fixed prompt takes when nothing else is to be done: a call that comes waits for it.
const WARM_SHARE: usize = 4;

impl<D: Decoder> Scheduler<D> {
    /// Gives waiting calls the free sequences, in order, as far as their cells can be reserved. A turn begins with it, too.
    pub fn admit(&mut self, now: Instant) {
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
        let thinking = match prompt.thinking {
            ThinkingMode::Never => Thinking::never(),
            ThinkingMode::Possible => Thinking::new(false),
            ThinkingMode::Opened => Thinking::new(true),
        };
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
            sampler: self
                .decoder
                .sampler(&call.request.sampling, &prompt.tokens, prompt.grammar),
            next: None,
            output: Output::new(thinking, call.request.stop),
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

    /// The call, admitted before `order`, that is decoding the longest prefix of `prompt`, if that has `least` tokens and can be
    /// handed over: its sequence and the length. Of several the first one: it decodes that, where the others may start behind it.
    fn leader(&self, prompt: &[Token], order: u64, least: usize) -> Option<(usize, usize)> {
        let most = prompt.len().saturating_sub(1);
        let calls = self.sequences.iter().enumerate();
        calls
            .filter_map(|(at, active)| Some((at, active.as_ref()?)))
            .filter(|(_, active)| active.order < order && active.next.is_none())
            .map(|(at, active)| (at, active, common(&active.prompt, prompt).min(most)))
            .filter(|(_, active, length)| active.is_to_decode(*length) && *length >= least)
            .filter(|(_, _, length)| self.cache.can_hand_over(*length))
            .max_by_key(|(_, active, length)| (*length, Reverse(active.order)))
            .map(|(at, _, length)| (at, length))
    }

    /// Lets the admitted prompts start from what of them lies in the cache; those of which another call is decoding more wait.
    pub(super) fn begin_prompts(&mut self) {
        let calls = self.sequences.iter().enumerate();
        let mut waiting: Vec<_> = calls
            .filter_map(|(at, active)| Some((at, active.as_ref()?)))
            .filter(|(_, active)| !active.has_begun)
            .map(|(at, active)| (active.order, at))
            .collect();
        waiting.sort_unstable();
        for (_, sequence) in waiting {
            self.begin_or_wait(sequence);
        }
    }

    fn begin_or_wait(&mut self, sequence: usize) {
        let Some(active) = &self.sequences[sequence] else {
            return;
        };
        if active.waits_for.is_some_and(|wait| self.is_to_come(wait)) {
            return;
        }
        let prompt = &active.prompt;
        let (available, is_copied) = self.cache.available(&self.decoder, sequence, prompt);
        // Who waits already waits for the rest, however little it is.
        let gain = if active.waits_for.is_some() {
            1
        } else {
            MIN_GAIN
        };
        if let Some((leader, length)) = self.leader(prompt, active.order, available + gain) {
            self.wait(sequence, leader, length);
            return;
        }
        let streams = self.sequences.iter().flatten();
        let is_streaming = streams.into_iter().any(|active| active.next.is_some());
        if is_copied && is_streaming && self.has_copied {
            // A copy takes time that those wait for who stream: one a step.
            return;
        }
        self.has_copied |= is_copied;
        self.begin(sequence);
    }

    /// Whether the call of this order is still to decode so much.
    fn is_to_come(&self, (order, length): (u64, usize)) -> bool {
        let mut calls = self.sequences.iter().flatten();
        calls.any(|active| active.order == order && active.is_to_decode(length))
    }

    fn wait(&mut self, sequence: usize, leader: usize, length: usize) {
        let copies = self.cache.copies();
        let Some(leader) = &mut self.sequences[leader] else {
            return;
        };
        if copies {
            leader.save_at(length);
        }
        let order = leader.order;
        if let Some(active) = &mut self.sequences[sequence] {
            active.waits_for = Some((order, length));
        }
    }

    fn begin(&mut self, sequence: usize) {
        let Some(mut active) = self.sequences[sequence].take() else {
            return;
        };
        let known = self.cache.known(&active.prompt);
        let start = {
            let has_begun = has_begun(&self.sequences);
            let is_busy = |at: usize| at == sequence || has_begun(at);
            self.cache
                .begin(&mut self.decoder, sequence, &active.prompt, is_busy)
        };
        active.has_begun = true;
        active.prefilled = start;
        active.usage.cached_tokens = count(start);
        active
            .checkpoints
            .extend(self.cache.to_save(&active.prompt));
        // What others share and cannot be cut from what they hold: the next one finds it.
        let is_new = known >= start + 2 * MIN_GAIN && known < active.prompt.len();
        if is_new && self.cache.copies() && self.cache.can_keep(known) {
            active.save_at(known);
        }
        self.sequences[sequence] = Some(active);
    }

    /// Moves a sequence that streams beside the others, where one stands apart.
    pub(super) fn move_together(&mut self) {
        let streams: Vec<bool> = self
            .sequences
            .iter()
            .map(|active| active.as_ref().is_some_and(|active| active.next.is_some()))
            .collect();
        let is_free = |at: usize| self.sequences[at].is_none();
        let can_move = |at: usize| self.cache.can_move(at);
        let Some((from, to)) = neighbours::closer(&streams, is_free, can_move) else {
            return;
        };
        if !self.has_copied && self.cache.move_to(&mut self.decoder, from, to) {
            self.has_copied = true;
            self.sequences.swap(from, to);
        }
    }

    /// Decodes a part of a tool's prompt.
    pub(super) fn warm(&mut self) {
        let chunk = self
            .pace
            .chunk(Work::default(), self.limits.n_batch)
            .div_ceil(WARM_SHARE);
        let rows = self.cache.warm(&mut self.decoder, chunk);
        if rows.is_empty() {
            return;
        }
        self.cache.make_room(
            &mut self.decoder,
            rows.len(),
            |at| at == rows[0].sequence,
            true,
        );
        match self.decoder.decode(&rows) {
            Ok(elapsed) => {
                self.pace.observe(0, rows.len(), elapsed);
                self.cache.warmed(&mut self.decoder, &rows);
            }
            Err(cause) => {
                tracing::warn!(
                    cause,
                    "a tool's prompt could not be decoded before its calls"
                );
                self.cache.give_up();
                self.cache.forget(&mut self.decoder, rows[0].sequence);
            }
        }
    }
}
