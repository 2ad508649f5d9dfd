//! Starts the prefill of admitted calls: from a cached prefix, or after the call that is decoding the same prefix.

use std::cmp::Reverse;

use super::super::decoder::Decoder;
use super::super::prefix::{MIN_GAIN, common_prefix_len};
use super::super::token::Token;
use super::active::{ActiveCall, AwaitedPrefix};
use super::{Scheduler, count, has_begun};

/// Most tokens that a step copies in several copies while a sequence generates; a single copy may be longer. Copies delay all streams, by
/// 2 ms for this many tokens (`SmolLM2`, 2 cores). But with only one copy a step, 64 calls would take 23 s to start instead of 8 s: prompts
/// that share only the tokens of the template are copied, too.
const MAX_COPIED: usize = 256;

/// A call that is decoding a prefix of another call's prompt.
#[derive(Debug)]
pub(super) struct Leader {
    sequence: usize,
    /// Length of the common prefix, in tokens.
    length: usize,
}

impl<D: Decoder> Scheduler<D> {
    /// Returns the call that `prompt` should wait for.
    ///
    /// That call was admitted before `order`, is decoding a prefix of `prompt` of at least `least` tokens, and can share it. The call with the
    /// longest prefix is preferred, then the earliest call.
    pub(super) fn leader(&self, prompt: &[Token], order: u64, least: usize) -> Option<Leader> {
        let most = prompt.len().saturating_sub(1);
        let calls = self.sequences.iter().enumerate();
        calls
            .filter_map(|(at, active)| Some((at, active.as_ref()?)))
            .filter(|(_, active)| active.order < order && !active.is_generating())
            .map(|(at, active)| {
                (
                    at,
                    active,
                    common_prefix_len(&active.prompt, prompt).min(most),
                )
            })
            .filter(|(_, active, length)| active.will_decode(*length) && *length >= least)
            .filter(|(_, _, length)| self.cache.can_share_prefix(*length))
            .max_by_key(|(_, active, length)| (*length, Reverse(active.order)))
            .map(|(sequence, _, length)| Leader { sequence, length })
    }

    /// Starts the prefill of admitted calls, earliest first. A call waits if another one is decoding more of its prompt than is cached.
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
        if waited_for.is_some_and(|awaited| self.is_pending(awaited)) {
            return;
        }
        let prompt = &active.prompt;
        let cached = self.cache.best_prefix(&self.decoder, sequence, prompt);
        // A call that has waited keeps waiting for the rest of the prefix, however short.
        let gain = if waited_for.is_some() { 1 } else { MIN_GAIN };
        if let Some(leader) = self.leader(prompt, active.order, cached.length + gain) {
            self.wait_for(sequence, &leader);
            return;
        }
        let mut streams = self.sequences.iter().flatten();
        let is_streaming = streams.any(ActiveCall::is_generating);
        if cached.is_copied {
            // Copies delay all generating sequences.
            let is_over = self.copied > 0 && self.copied + cached.length > MAX_COPIED;
            if is_streaming && is_over {
                self.set_wait(sequence, None);
                return;
            }
            self.copied += cached.length;
        }
        self.begin(sequence);
    }

    /// Returns whether the `awaited` prefix has yet to be decoded.
    fn is_pending(&self, awaited: AwaitedPrefix) -> bool {
        let mut calls = self.sequences.iter().flatten();
        calls.any(|active| active.order == awaited.order && active.will_decode(awaited.length))
    }

    fn wait_for(&mut self, sequence: usize, leader: &Leader) {
        let copies = self.cache.copies_prefixes();
        let length = leader.length;
        let Some(active) = &mut self.sequences[leader.sequence] else {
            return;
        };
        if copies {
            active.save_at(length);
        }
        let order = active.order;
        self.set_wait(sequence, Some(AwaitedPrefix { order, length }));
    }

    fn set_wait(&mut self, sequence: usize, awaited: Option<AwaitedPrefix>) {
        if let Some(active) = &mut self.sequences[sequence] {
            active.waits_for = awaited;
        }
    }

    fn begin(&mut self, sequence: usize) {
        let Some(mut active) = self.sequences[sequence].take() else {
            return;
        };
        let known = self.cache.longest_cached(&active.prompt);
        let start = {
            let has_begun = has_begun(&self.sequences);
            let is_busy = |at: usize| at == sequence || has_begun(at);
            self.cache
                .reuse_prefix(&mut self.decoder, sequence, &active.prompt, is_busy)
        };
        active.has_begun = true;
        active.prefilled = start;
        active.usage.cached_tokens = count(start);
        active
            .checkpoints
            .extend(self.cache.unsaved_shared_prefixes(&active.prompt));
        // Another state has a longer prefix of this prompt but cannot be truncated. A checkpoint lets the next call reuse that prefix.
        let is_new = known >= start + 2 * MIN_GAIN && known < active.prompt.len();
        if is_new && self.cache.copies_prefixes() && self.cache.can_save(known) {
            active.save_at(known);
        }
        self.sequences[sequence] = Some(active);
    }
}
