//! Where an admitted prompt starts, and for whom it waits.

use std::cmp::Reverse;

use super::super::decoder::Decoder;
use super::super::prefix::{MIN_GAIN, common};
use super::super::token::Token;
use super::{Scheduler, count, has_begun};

impl<D: Decoder> Scheduler<D> {
    /// The call, admitted before `order`, that is decoding the longest prefix of `prompt`, if that has `least` tokens and can be
    /// handed over: its sequence and the length. Of several the first one: the others wait for it.
    pub(super) fn leader(
        &self,
        prompt: &[Token],
        order: u64,
        least: usize,
    ) -> Option<(usize, usize)> {
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

    pub(super) fn begin_or_wait(&mut self, sequence: usize) {
        let Some(active) = &self.sequences[sequence] else {
            return;
        };
        let waited_for = active.waits_for;
        if waited_for.is_some_and(|wait| self.is_to_come(wait)) {
            return;
        }
        let prompt = &active.prompt;
        let (available, is_copied) = self.cache.available(&self.decoder, sequence, prompt);
        // Who waits already waits for the rest, however little it is.
        let gain = if waited_for.is_some() { 1 } else { MIN_GAIN };
        if let Some((leader, length)) = self.leader(prompt, active.order, available + gain) {
            self.wait(sequence, leader, length);
            return;
        }
        let streams = self.sequences.iter().flatten();
        let is_streaming = streams.into_iter().any(|active| active.next.is_some());
        if is_copied && is_streaming && self.has_copied {
            // A copy takes time that those wait for who stream: one a step.
            self.wait_for(sequence, None);
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
        self.wait_for(sequence, Some((order, length)));
    }

    fn wait_for(&mut self, sequence: usize, wait: Option<(u64, usize)>) {
        if let Some(active) = &mut self.sequences[sequence] {
            active.waits_for = wait;
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
}
