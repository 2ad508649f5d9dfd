//! States that were saved from sequences to memory: an LRU cache with a limit of bytes. Pure.

use super::{common_prefix_len, reusable_len};
use crate::engine::token::Token;

/// The state of a sequence, saved to memory.
#[derive(Debug)]
pub(crate) struct SavedState<S> {
    /// The state.
    pub state: S,
    /// Size of the state, in bytes.
    pub bytes: u64,
    /// Whether a part of the state can be used.
    pub can_truncate: bool,
}

/// A saved state and its tokens.
#[derive(Debug)]
struct Entry<S> {
    tokens: Vec<Token>,
    saved: SavedState<S>,
    is_pinned: bool,
    last_used: u64,
}

/// A prefix of a prompt in a saved state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SavedPrefix {
    /// Index of the state.
    pub state: usize,
    /// Length of the prefix, in tokens.
    pub length: usize,
}

/// Saved states. The least recently used ones are evicted first, pinned ones never.
#[derive(Debug)]
pub(crate) struct SavedStates<S> {
    entries: Vec<Entry<S>>,
    max_bytes: u64,
}

impl<S> SavedStates<S> {
    /// Creates an empty cache of at most `max_bytes`.
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self {
            entries: Vec::new(),
            max_bytes,
        }
    }

    /// Returns the bytes of all states.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.saved.bytes).sum()
    }

    /// Returns whether a state of `bytes` fits beside the pinned ones.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        let pinned = self.entries.iter().filter(|entry| entry.is_pinned);
        pinned.map(|entry| entry.saved.bytes).sum::<u64>() + bytes <= self.max_bytes
    }

    /// Returns whether any state can be saved.
    pub(crate) fn is_enabled(&self) -> bool {
        self.max_bytes > 0
    }

    /// Returns whether the state of exactly `tokens` is saved. Pins that state if `is_pinned`.
    pub(crate) fn contains(&mut self, tokens: &[Token], is_pinned: bool) -> bool {
        let at = self.find(tokens);
        if let Some(at) = at {
            self.entries[at].is_pinned |= is_pinned;
        }
        at.is_some()
    }

    /// Returns the index of the state of exactly `tokens`.
    pub(crate) fn find(&self, tokens: &[Token]) -> Option<usize> {
        self.entries.iter().position(|entry| entry.tokens == tokens)
    }

    /// Inserts the state of `tokens`, last used at `now`. Evicts unpinned states until it fits; does nothing if that is not enough.
    pub(crate) fn insert(&mut self, tokens: Vec<Token>, saved: SavedState<S>, now: u64) {
        let SavedState {
            bytes,
            can_truncate,
            ..
        } = saved;
        if !self.fits(bytes) {
            return;
        }
        // A state that can be truncated makes all its prefixes redundant, any other state only an older one of the same tokens.
        self.entries.retain(|old| {
            let is_within = old.tokens.len() <= tokens.len() && tokens.starts_with(&old.tokens);
            old.is_pinned || !is_within || (!can_truncate && old.tokens.len() < tokens.len())
        });
        while self.bytes() + bytes > self.max_bytes {
            let unpinned = (0..self.entries.len()).filter(|at| !self.entries[*at].is_pinned);
            let oldest = unpinned.min_by_key(|at| self.entries[*at].last_used);
            let Some(oldest) = oldest else { break };
            self.entries.swap_remove(oldest);
        }
        self.entries.push(Entry {
            tokens,
            saved,
            is_pinned: false,
            last_used: now,
        });
    }

    /// Pins the states of `prefixes`, and unpins all others.
    pub(crate) fn pin_only(&mut self, prefixes: &[Vec<Token>]) {
        for entry in &mut self.entries {
            entry.is_pinned = prefixes.contains(&entry.tokens);
        }
    }

    /// Returns the longest reusable prefix of `prompt`.
    pub(crate) fn longest_prefix(&self, prompt: &[Token]) -> Option<SavedPrefix> {
        let entries = self.entries.iter().enumerate();
        entries
            .map(|(state, entry)| SavedPrefix {
                state,
                length: reusable_len(&entry.tokens, entry.saved.can_truncate, prompt),
            })
            .filter(|prefix| prefix.length > 0)
            .max_by_key(|prefix| prefix.length)
    }

    /// Returns the length of the longest prefix of `tokens` in any state, whether or not it can be reused.
    pub(crate) fn longest_common_prefix(&self, tokens: &[Token]) -> usize {
        let shared = self
            .entries
            .iter()
            .map(|entry| common_prefix_len(&entry.tokens, tokens));
        shared.max().unwrap_or(0)
    }

    /// Returns the tokens of the state `at`.
    pub(crate) fn tokens(&self, at: usize) -> &[Token] {
        &self.entries[at].tokens
    }

    /// Returns the state `at` and its tokens, and records its use at `now`.
    pub(crate) fn get(&mut self, at: usize, now: u64) -> (&S, &[Token]) {
        let entry = &mut self.entries[at];
        entry.last_used = now;
        (&entry.saved.state, &entry.tokens)
    }

    /// Removes the state `at`.
    pub(crate) fn remove(&mut self, at: usize) {
        self.entries.swap_remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::token::tokens;

    fn saved(max_bytes: u64) -> SavedStates<&'static str> {
        SavedStates::new(max_bytes)
    }

    fn state(state: &'static str, bytes: u64, can_truncate: bool) -> SavedState<&'static str> {
        SavedState {
            state,
            bytes,
            can_truncate,
        }
    }

    fn longest<const N: usize>(
        saved: &mut SavedStates<&'static str>,
        prompt: [i32; N],
    ) -> Option<(&'static str, usize)> {
        let SavedPrefix { state, length } = saved.longest_prefix(&tokens(prompt))?;
        Some((*saved.get(state, 0).0, length))
    }

    #[test]
    fn a_state_that_does_not_fit_evicts_nothing() {
        let mut saved = saved(100);
        saved.insert(tokens([1, 2]), state("fits", 90, true), 1);
        saved.insert(tokens([1, 2, 3]), state("too large", 110, true), 2);
        assert_eq!(longest(&mut saved, [1, 2, 3, 4]), Some(("fits", 2)));
    }

    #[test]
    fn the_longest_prefix_is_found() {
        let mut saved = saved(100);
        saved.insert(tokens([1, 2]), state("short", 10, true), 1);
        saved.insert(tokens([1, 3, 4, 5]), state("long", 10, true), 2);
        assert_eq!(longest(&mut saved, [1, 3, 4, 9]), Some(("long", 3)));
        assert_eq!(longest(&mut saved, [1, 2, 9]), Some(("short", 2)));
        assert_eq!(longest(&mut saved, [7, 2, 9]), None);
    }

    #[test]
    fn a_longer_state_replaces_its_prefixes_only_if_it_can_be_truncated() {
        let mut truncatable = saved(100);
        truncatable.insert(tokens([1]), state("one", 10, true), 1);
        truncatable.insert(tokens([1, 2]), state("two", 10, true), 2);
        assert_eq!(truncatable.bytes(), 10);
        let mut whole = saved(100);
        whole.insert(tokens([1]), state("one", 10, false), 1);
        whole.insert(tokens([1, 2]), state("two", 10, false), 2);
        whole.insert(tokens([1, 2]), state("again", 10, false), 3);
        assert_eq!(whole.bytes(), 20);
        assert_eq!(longest(&mut whole, [1, 9, 9]), Some(("one", 1)));
        assert_eq!(longest(&mut whole, [1, 2, 9]), Some(("again", 2)));
    }

    #[test]
    fn the_least_recently_used_states_are_evicted_first_and_pinned_ones_never() {
        let mut saved = saved(30);
        saved.insert(tokens([1]), state("pinned", 10, true), 1);
        assert!(saved.contains(&tokens([1]), true));
        saved.insert(tokens([2]), state("two", 10, true), 2);
        saved.insert(tokens([3]), state("three", 10, true), 3);
        let two = saved.longest_prefix(&tokens([2, 9])).unwrap();
        saved.get(two.state, 4);
        saved.insert(tokens([4]), state("four", 10, true), 5);
        assert_eq!(longest(&mut saved, [3, 9]), None);
        assert!(
            saved.contains(&tokens([1]), false)
                && saved.contains(&tokens([2]), false)
                && saved.contains(&tokens([4]), false)
        );
        saved.insert(tokens([5]), state("five", 20, true), 6);
        assert!(saved.contains(&tokens([1]), false) && saved.contains(&tokens([5]), false));
        assert_eq!(saved.bytes(), 30);
        saved.insert(tokens([6]), state("too large", 21, true), 7);
        assert!(!saved.contains(&tokens([6]), false));
        saved.pin_only(&[]);
        saved.insert(tokens([7]), state("all", 30, true), 8);
        assert_eq!(
            (saved.bytes(), longest(&mut saved, [7, 9])),
            (30, Some(("all", 1)))
        );
    }
}
