//! Policy of the prefix cache: what a new prompt can reuse, and what is worth saving. Pure.
//!
//! Cached tokens are in sequences (busy with a call, idle after one, or pinned for a tool) and in states that were saved from sequences
//! to memory. A prompt starts from the longest prefix of them, and prefill decodes the rest. The last token of a prompt is always
//! decoded: its logits are needed.
//!
//! With full attention, a prefix can end at any token. With a sliding window or a recurrent state, earlier states are gone, so a cached
//! sequence is reused whole or not at all ([`reusable_len`]).
//!
//! ```ignore
#![doc = include_str!("prefix/example.rs")]
//! ```

pub(crate) mod cells;
pub(crate) mod saved;

use std::cmp::Reverse;

use super::token::Token;

/// Fewest tokens for which a copy of a state, or waiting for a step of another call, is faster than decoding them.
pub(crate) const MIN_GAIN: usize = 32;

/// Fewest tokens that are saved when another call needs their sequence. Decoding fewer again takes no longer.
const MIN_SAVED: usize = 64;

/// Returns the length of the longest common prefix.
pub(crate) fn common_prefix_len<T: PartialEq>(one: &[T], other: &[T]) -> usize {
    one.iter()
        .zip(other)
        .take_while(|(one, other)| one == other)
        .count()
}

/// Returns the number of tokens of `held` that `prompt` can start from. `can_truncate` is whether a part of `held` can be used.
///
/// ```text
/// held [1 2 3 9]  prompt [1 2 3 4]      → 3 if it can be truncated, else 0
/// held [1 2]      prompt [1 2 3]        → 2
/// held [1 2 3]    prompt [1 2 3]        → 2 if it can be truncated, else 0: the last token is always decoded
/// ```
pub(crate) fn reusable_len(held: &[Token], can_truncate: bool, prompt: &[Token]) -> usize {
    let most = prompt.len().saturating_sub(1);
    let shared = common_prefix_len(held, prompt);
    if can_truncate {
        shared.min(most)
    } else if shared == held.len() && shared <= most {
        shared
    } else {
        0
    }
}

/// Returns whether `held` tokens are worth saving before their sequence is overwritten, if a prefix of `elsewhere` tokens is cached
/// elsewhere. A copy takes time for all of them and gains only the rest.
///
/// One question to a tool with a long prompt is dropped (1,600 tokens, 1,510 elsewhere); a turn of a conversation is saved (1,300 and
/// 1,150). Measured with `SmolLM2` on 2 cores: copying a token takes 8 µs, decoding it 2,400 µs.
pub(crate) fn is_worth_saving(held: usize, elsewhere: usize) -> bool {
    held.saturating_sub(elsewhere) >= MIN_SAVED.max(held / 16)
}

/// Kind of place that a prompt can start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// The sequence of the prompt.
    Own,
    /// Another sequence.
    Other,
    /// A saved state.
    Saved,
}

/// Lengths of the prefixes that a prompt can start from, in tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PrefixLengths {
    /// Length in the sequence of the prompt.
    pub own: usize,
    /// Greatest length in another sequence.
    pub other: usize,
    /// Greatest length in a saved state.
    pub saved: usize,
}

/// Returns the best source for a prompt, and the tokens to reuse from it. In a pool (`in_pool`), another sequence shares its tokens without
/// a copy.
pub(crate) fn choose_source(lengths: PrefixLengths, in_pool: bool) -> (SourceKind, usize) {
    let PrefixLengths { own, other, saved } = lengths;
    let takes_saved = if in_pool {
        is_worth_cells(saved, other.max(own))
    } else {
        // A saved state requires one copy, another sequence two.
        saved + MIN_GAIN > other
    };
    let (start, length) = if takes_saved {
        (SourceKind::Saved, saved)
    } else {
        (SourceKind::Other, other)
    };
    if length >= own + MIN_GAIN {
        (start, length)
    } else {
        (SourceKind::Own, own)
    }
}

/// Returns whether restoring `saved` tokens to a pool is worth their cells, if `shared` tokens can be shared without new ones. Attention
/// of every call reads all cells of a pool: 1,400 more cost eight streams 6 ms of a step of 39 ms (`SmolLM2`, 2 cores).
fn is_worth_cells(saved: usize, shared: usize) -> bool {
    saved.saturating_sub(shared) >= MIN_SAVED.max(saved / 4)
}

/// Returns whether `length` tokens are worth a copy of all `held` tokens of another sequence, if `own` tokens can be reused without one.
pub(crate) fn is_worth_copying(held: usize, length: usize, own: usize) -> bool {
    length.saturating_sub(own) >= MIN_GAIN.max(held / 16)
}

/// A free sequence, as seen by [`choose_sequence`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// Number of the sequence.
    pub sequence: usize,
    /// Number of tokens in the sequence.
    pub held: usize,
    /// Number of these tokens that the prompt can start from.
    pub reusable: usize,
    /// Whether the tokens that the prompt would overwrite are worth saving.
    pub is_valuable: bool,
    /// Whether a neighbouring sequence is busy, or no sequence is: llama.cpp decodes neighbours in one pass
    /// ([`compaction`](super::compaction)).
    pub is_adjacent: bool,
    /// Time of the last use; greater is later.
    pub last_used: u64,
}

/// Returns the best free sequence for a prompt, in this order of preference:
///
/// 1. one that the prompt continues,
/// 2. one that shares a prefix and holds nothing else of value,
/// 3. an empty one,
/// 4. the least recently used one.
///
/// Among equals, a neighbour of a busy sequence wins.
pub(crate) fn choose_sequence(candidates: impl Iterator<Item = Candidate>) -> Option<usize> {
    let rank = |candidate: &Candidate| {
        let Candidate { held, reusable, .. } = *candidate;
        let is_continued = held > 0 && reusable == held;
        let is_shared = reusable >= MIN_GAIN && !candidate.is_valuable;
        let kind = match (is_continued, is_shared, held) {
            (true, ..) => 3,
            (_, true, _) => 2,
            (.., 0) => 1,
            _ => 0,
        };
        let gain = if kind >= 2 { reusable } else { 0 };
        // Of equal ones the first.
        let oldest = Reverse((candidate.last_used, candidate.sequence));
        (kind, gain, candidate.is_adjacent, oldest)
    };
    candidates.max_by_key(rank).map(|best| best.sequence)
}

#[cfg(test)]
mod example;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::token::tokens;

    fn reusable<const N: usize, const M: usize>(
        held: [i32; N],
        can_truncate: bool,
        prompt: [i32; M],
    ) -> usize {
        reusable_len(&tokens(held), can_truncate, &tokens(prompt))
    }

    #[test]
    fn a_prompt_reuses_its_common_prefix_except_for_its_last_token() {
        assert_eq!(reusable([1, 2, 3, 9], true, [1, 2, 3, 4]), 3);
        assert_eq!(reusable([1, 2, 3, 4], true, [1, 2, 3, 4]), 3);
        assert_eq!(reusable([], true, [1]), 0);
    }

    #[test]
    fn tokens_that_cannot_be_truncated_are_reused_whole_or_not_at_all() {
        assert_eq!(reusable([1, 2], false, [1, 2, 3]), 2);
        assert_eq!(reusable([1, 2, 9], false, [1, 2, 3, 4]), 0);
        assert_eq!(reusable([1, 2, 3], false, [1, 2, 3]), 0);
    }

    #[test]
    fn a_conversation_is_saved_and_a_question_to_a_tool_is_not() {
        assert!(is_worth_saving(1300, 1150));
        assert!(!is_worth_saving(1600, 1510));
        assert!(!is_worth_saving(50, 0));
    }

    #[test]
    fn the_longest_prefix_wins_unless_another_one_saves_a_copy() {
        let starts = |own, other, saved| {
            let lengths = PrefixLengths { own, other, saved };
            [true, false].map(|in_pool| choose_source(lengths, in_pool))
        };
        assert_eq!(starts(100, 120, 120), [(SourceKind::Own, 100); 2]);
        assert_eq!(starts(0, 500, 0), [(SourceKind::Other, 500); 2]);
        assert_eq!(starts(0, 0, 500), [(SourceKind::Saved, 500); 2]);
        // In a pool a restored state takes new cells; without a pool it saves a second copy.
        assert_eq!(
            starts(0, 500, 490),
            [(SourceKind::Other, 500), (SourceKind::Saved, 490)]
        );
        assert_eq!(
            starts(0, 500, 560),
            [(SourceKind::Other, 500), (SourceKind::Saved, 560)]
        );
        assert_eq!(starts(0, 500, 700), [(SourceKind::Saved, 700); 2]);
        assert!(is_worth_copying(1600, 100, 0) && !is_worth_copying(1600, 99, 0));
    }

    #[test]
    fn a_prompt_gets_the_sequence_whose_content_is_least_valuable() {
        let candidate = |sequence, held, reusable, is_valuable, last_used| Candidate {
            sequence,
            held,
            reusable,
            is_valuable,
            is_adjacent: true,
            last_used,
        };
        let continued = candidate(0, 50, 50, true, 9);
        let of_a_tool = candidate(1, 1600, 1500, false, 8);
        let empty = candidate(2, 0, 0, false, 7);
        let older = candidate(3, 300, 100, true, 1);
        let newer = candidate(4, 300, 0, true, 2);
        let chosen = |list: &[Candidate]| choose_sequence(list.iter().copied());
        assert_eq!(
            chosen(&[newer, older, empty, of_a_tool, continued]),
            Some(0)
        );
        assert_eq!(chosen(&[newer, older, empty, of_a_tool]), Some(1));
        assert_eq!(chosen(&[newer, older, empty]), Some(2));
        assert_eq!(chosen(&[newer, older]), Some(3));
        assert_eq!(chosen(&[]), None);
    }
}
