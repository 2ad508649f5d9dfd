//! States that were saved from sequences to memory, each with the tokens that it stands for; bounded by bytes: pure.

use super::{common, usable};
use crate::engine::token::Token;

/// A saved state.
#[derive(Debug)]
struct Entry<S> {
    tokens: Vec<Token>,
    state: S,
    bytes: u64,
    can_cut: bool,
    is_pinned: bool,
    used: u64,
}

/// The states, the least recently used of which go first; pinned ones stay.
#[derive(Debug)]
pub(crate) struct Saved<S> {
    entries: Vec<Entry<S>>,
    max_bytes: u64,
}

impl<S> Saved<S> {
    /// None yet; at most `max_bytes` of them.
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self {
            entries: Vec::new(),
            max_bytes,
        }
    }

    /// Bytes of all states.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    /// Whether a state of `bytes` can be kept beside those that are pinned.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        let pinned = self.entries.iter().filter(|entry| entry.is_pinned);
        pinned.map(|entry| entry.bytes).sum::<u64>() + bytes <= self.max_bytes
    }

    /// Whether anything can be kept.
    pub(crate) fn has_room(&self) -> bool {
        self.max_bytes > 0
    }

    /// Whether a state of exactly `tokens` is here; it is pinned from now on if `is_pinned` says so.
    pub(crate) fn has(&mut self, tokens: &[Token], is_pinned: bool) -> bool {
        let at = self.position(tokens);
        if let Some(at) = at {
            self.entries[at].is_pinned |= is_pinned;
        }
        at.is_some()
    }

    /// Which state stands for exactly `tokens`.
    pub(crate) fn position(&self, tokens: &[Token]) -> Option<usize> {
        self.entries.iter().position(|entry| entry.tokens == tokens)
    }

    /// Keeps a state of `bytes` that stands for `tokens`; `can_cut` says whether a part of it is of use. Others go until it
    /// fits, but pinned ones; where that does not suffice it is not kept.
    pub(crate) fn keep(
        &mut self,
        tokens: Vec<Token>,
        state: S,
        bytes: u64,
        can_cut: bool,
        now: u64,
    ) {
        if !self.fits(bytes) {
            return;
        }
        // What the new one holds too: of those that can be cut, and of those that it replaces.
        self.entries.retain(|old| {
            let is_within = old.tokens.len() <= tokens.len() && tokens.starts_with(&old.tokens);
            old.is_pinned || !is_within || (!can_cut && old.tokens.len() < tokens.len())
        });
        while self.bytes() + bytes > self.max_bytes {
            let unpinned = (0..self.entries.len()).filter(|at| !self.entries[*at].is_pinned);
            let oldest = unpinned.min_by_key(|at| self.entries[*at].used);
            let Some(oldest) = oldest else { break };
            self.entries.swap_remove(oldest);
        }
        self.entries.push(Entry {
            tokens,
            state,
            bytes,
            can_cut,
            is_pinned: false,
            used: now,
        });
    }

    /// Pins what stands for one of `fixed` and unpins what does not.
    pub(crate) fn pin_only(&mut self, fixed: &[Vec<Token>]) {
        for entry in &mut self.entries {
            entry.is_pinned = fixed.contains(&entry.tokens);
        }
    }

    /// The longest prefix of `prompt` that one of them can begin: which, and how many tokens.
    pub(crate) fn longest(&self, prompt: &[Token]) -> Option<(usize, usize)> {
        self.entries
            .iter()
            .enumerate()
            .map(|(at, entry)| (at, usable(&entry.tokens, entry.can_cut, prompt)))
            .filter(|(_, length)| *length > 0)
            .max_by_key(|(_, length)| *length)
    }

    /// The longest prefix of `tokens` that one of them shares, of use or not.
    pub(crate) fn shared(&self, tokens: &[Token]) -> usize {
        let shared = self
            .entries
            .iter()
            .map(|entry| common(&entry.tokens, tokens));
        shared.max().unwrap_or(0)
    }

    /// The tokens that the state `at` stands for.
    pub(crate) fn tokens(&self, at: usize) -> &[Token] {
        &self.entries[at].tokens
    }

    /// The state `at` and the tokens that it stands for; it was used `now`.
    pub(crate) fn get(&mut self, at: usize, now: u64) -> (&S, &[Token]) {
        let entry = &mut self.entries[at];
        entry.used = now;
        (&entry.state, &entry.tokens)
    }

    /// Forgets the state `at`.
    pub(crate) fn remove(&mut self, at: usize) {
        self.entries.swap_remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(max_bytes: u64) -> Saved<&'static str> {
        Saved::new(max_bytes)
    }

    fn longest(saved: &mut Saved<&'static str>, prompt: &[Token]) -> Option<(&'static str, usize)> {
        let (at, length) = saved.longest(prompt)?;
        Some((*saved.get(at, 0).0, length))
    }

    #[test]
    fn what_does_not_fit_takes_nothing_with_it() {
        let mut saved = saved(100);
        saved.keep(vec![1, 2], "fits", 90, true, 1);
        saved.keep(vec![1, 2, 3], "too large", 110, true, 2);
        assert_eq!(longest(&mut saved, &[1, 2, 3, 4]), Some(("fits", 2)));
    }

    #[test]
    fn the_longest_prefix_is_found() {
        let mut saved = saved(100);
        saved.keep(vec![1, 2], "short", 10, true, 1);
        saved.keep(vec![1, 3, 4, 5], "long", 10, true, 2);
        assert_eq!(longest(&mut saved, &[1, 3, 4, 9]), Some(("long", 3)));
        assert_eq!(longest(&mut saved, &[1, 2, 9]), Some(("short", 2)));
        assert_eq!(longest(&mut saved, &[7, 2, 9]), None);
    }

    #[test]
    fn what_a_longer_one_holds_goes_where_it_can_be_cut_and_stays_where_not() {
        let mut cut = saved(100);
        cut.keep(vec![1], "one", 10, true, 1);
        cut.keep(vec![1, 2], "two", 10, true, 2);
        assert_eq!(cut.bytes(), 10);
        let mut whole = saved(100);
        whole.keep(vec![1], "one", 10, false, 1);
        whole.keep(vec![1, 2], "two", 10, false, 2);
        whole.keep(vec![1, 2], "again", 10, false, 3);
        assert_eq!(whole.bytes(), 20);
        assert_eq!(longest(&mut whole, &[1, 9, 9]), Some(("one", 1)));
        assert_eq!(longest(&mut whole, &[1, 2, 9]), Some(("again", 2)));
    }

    #[test]
    fn the_least_recently_used_go_first_and_pinned_ones_stay() {
        let mut saved = saved(30);
        saved.keep(vec![1], "pinned", 10, true, 1);
        assert!(saved.has(&[1], true));
        saved.keep(vec![2], "two", 10, true, 2);
        saved.keep(vec![3], "three", 10, true, 3);
        let (two, _) = saved.longest(&[2, 9]).unwrap();
        saved.get(two, 4);
        saved.keep(vec![4], "four", 10, true, 5);
        assert_eq!(longest(&mut saved, &[3, 9]), None);
        assert!(saved.has(&[1], false) && saved.has(&[2], false) && saved.has(&[4], false));
        saved.keep(vec![5], "five", 20, true, 6);
        assert!(saved.has(&[1], false) && saved.has(&[5], false));
        assert_eq!(saved.bytes(), 30);
        saved.keep(vec![6], "too large", 21, true, 7);
        assert!(!saved.has(&[6], false));
        saved.pin_only(&[]);
        saved.keep(vec![7], "all", 30, true, 8);
        assert_eq!(
            (saved.bytes(), longest(&mut saved, &[7, 9])),
            (30, Some(("all", 1)))
        );
    }
}
