//! Which tokens lie in the cache, and what of them a new prompt can start from: pure.
//!
//! Tokens lie in sequences (busy with a call, idle after one, or pinned for a tool) and in states that were saved from
//! sequences to memory. A prompt starts from the longest prefix that any of them holds; what is decoded is the rest. The last
//! token of a prompt is always decoded: its logits are needed.
//!
//! Where a model's attention looks at everything, a prefix may end at any token. Where windows slide or a state recurs,
//! what lies before the end is gone, so such a prefix is used whole or not at all ([`usable`]).

pub(crate) mod cells;
pub(crate) mod saved;

use std::cmp::Reverse;

use super::token::Token;

/// Fewer tokens than this are decoded sooner than a state of them is copied, or a step of another call is waited for.
pub(crate) const MIN_GAIN: usize = 32;

/// Fewer tokens than this are not saved when their sequence is needed: they are decoded again as soon.
const MIN_SAVED: usize = 64;

/// The length of the longest prefix of both.
pub(crate) fn common<T: PartialEq>(one: &[T], other: &[T]) -> usize {
    one.iter()
        .zip(other)
        .take_while(|(one, other)| one == other)
        .count()
}

/// How many tokens of `held` a prompt can start from; `can_cut` says whether a part of them is of use.
pub(crate) fn usable(held: &[Token], can_cut: bool, prompt: &[Token]) -> usize {
    let most = prompt.len().saturating_sub(1);
    let shared = common(held, prompt);
    if can_cut {
        shared.min(most)
    } else if shared == held.len() && shared <= most {
        shared
    } else {
        0
    }
}

/// Whether `held` tokens are worth saving before their sequence goes, when `elsewhere` of them lie in the cache anyway: copying
/// costs time by all of them, and wins the rest alone. So the few of one question to a tool with a long prompt go, and each turn
/// of a conversation stays. Measured with `SmolLM2` on 2 cores: a token is copied in 8 microseconds and decoded in 2,400.
pub(crate) fn is_worth_saving(held: usize, elsewhere: usize) -> bool {
    held.saturating_sub(elsewhere) >= MIN_SAVED.max(held / 16)
}

/// Where a prompt can start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// What its sequence holds.
    Own,
    /// Another sequence.
    Other,
    /// A saved state.
    Saved,
}

/// Where a prompt best starts from, and at how many tokens, that finds `own` tokens in its sequence, at most `other` in another one and
/// `saved` in a saved state; where cells are shared, `in_pool`, another sequence's tokens are had without a copy.
pub(crate) fn best(own: usize, other: usize, saved: usize, in_pool: bool) -> (Start, usize) {
    let takes_saved = if in_pool {
        is_worth_cells(saved, other.max(own))
    } else {
        // It needs one copy, a sequence two.
        saved + MIN_GAIN > other
    };
    let (start, length) = if takes_saved {
        (Start::Saved, saved)
    } else {
        (Start::Other, other)
    };
    if length >= own + MIN_GAIN {
        (start, length)
    } else {
        (Start::Own, own)
    }
}

/// Whether `saved` tokens are worth being copied back to a pool, where `shared` of them could be had without new cells: every step
/// of every call looks at those. Measured as above, 1,400 more cost eight streams 6 ms of 39 a step.
fn is_worth_cells(saved: usize, shared: usize) -> bool {
    saved.saturating_sub(shared) >= MIN_SAVED.max(saved / 4)
}

/// Whether `length` tokens are worth the copy of all `held` ones of another sequence, where `own` can be had without.
pub(crate) fn is_worth_copying(held: usize, length: usize, own: usize) -> bool {
    length.saturating_sub(own) >= MIN_GAIN.max(held / 16)
}

/// What is known of a sequence that is not busy, when one is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// Which.
    pub sequence: usize,
    /// Tokens that it holds.
    pub held: usize,
    /// Of these the prompt can start from.
    pub usable: usize,
    /// What would be lost with it is worth saving.
    pub is_valuable: bool,
    /// A sequence beside it is busy, or none is: llama.cpp decodes neighbouring sequences together (`neighbours`).
    pub is_beside: bool,
    /// When it was used last; greater is later.
    pub used: u64,
}

/// Which of the sequences that are not busy a prompt is decoded in: the one that it continues; else one that shares a prefix and
/// holds nothing else of value; else an empty one; else the one that was used the longest ago, if there are any beside those at work
/// of these.
pub(crate) fn choose(candidates: impl Iterator<Item = Candidate>) -> Option<usize> {
    let rank = |candidate: &Candidate| {
        let Candidate { held, usable, .. } = *candidate;
        let is_continued = held > 0 && usable == held;
        let is_shared = usable >= MIN_GAIN && !candidate.is_valuable;
        let kind = match (is_continued, is_shared, held) {
            (true, ..) => 3,
            (_, true, _) => 2,
            (.., 0) => 1,
            _ => 0,
        };
        let gain = if kind >= 2 { usable } else { 0 };
        // Of equal ones the first.
        let oldest = Reverse((candidate.used, candidate.sequence));
        (kind, gain, candidate.is_beside, oldest)
    };
    candidates.max_by_key(rank).map(|best| best.sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_starts_from_what_it_shares_but_for_its_last_token() {
        assert_eq!(usable(&[1, 2, 3, 9], true, &[1, 2, 3, 4]), 3);
        assert_eq!(usable(&[1, 2, 3, 4], true, &[1, 2, 3, 4]), 3);
        assert_eq!(usable(&[], true, &[1]), 0);
    }

    #[test]
    fn what_cannot_be_cut_is_used_whole_or_not_at_all() {
        assert_eq!(usable(&[1, 2], false, &[1, 2, 3]), 2);
        assert_eq!(usable(&[1, 2, 9], false, &[1, 2, 3, 4]), 0);
        assert_eq!(usable(&[1, 2, 3], false, &[1, 2, 3]), 0);
    }

    #[test]
    fn a_conversation_is_saved_and_a_question_to_a_tool_is_not() {
        assert!(is_worth_saving(1300, 1150));
        assert!(!is_worth_saving(1600, 1510));
        assert!(!is_worth_saving(50, 0));
    }

    #[test]
    fn a_prompt_starts_where_it_has_most_for_the_least_copying() {
        let starts =
            |own, other, saved| [true, false].map(|in_pool| best(own, other, saved, in_pool));
        assert_eq!(starts(100, 120, 120), [(Start::Own, 100); 2]);
        assert_eq!(starts(0, 500, 0), [(Start::Other, 500); 2]);
        assert_eq!(starts(0, 0, 500), [(Start::Saved, 500); 2]);
        // A copy takes cells in a pool, and spares one without.
        assert_eq!(
            starts(0, 500, 490),
            [(Start::Other, 500), (Start::Saved, 490)]
        );
        assert_eq!(
            starts(0, 500, 560),
            [(Start::Other, 500), (Start::Saved, 560)]
        );
        assert_eq!(starts(0, 500, 700), [(Start::Saved, 700); 2]);
        assert!(is_worth_copying(1600, 100, 0) && !is_worth_copying(1600, 99, 0));
    }

    #[test]
    fn the_sequence_that_loses_least_is_chosen() {
        let candidate = |sequence, held, usable, is_valuable, used| Candidate {
            sequence,
            held,
            usable,
            is_valuable,
            is_beside: true,
            used,
        };
        let continued = candidate(0, 50, 50, true, 9);
        let of_a_tool = candidate(1, 1600, 1500, false, 8);
        let empty = candidate(2, 0, 0, false, 7);
        let older = candidate(3, 300, 100, true, 1);
        let newer = candidate(4, 300, 0, true, 2);
        let chosen = |list: &[Candidate]| choose(list.iter().copied());
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
