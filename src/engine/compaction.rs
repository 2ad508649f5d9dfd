//! Compaction: chooses a move that brings the generating sequences closer together. Pure.
//!
//! If each sequence has cells of its own, llama.cpp decodes several sequences in one pass over the weights only if their numbers are
//! consecutive (`split_equal` of `llama-batch.cpp`, `sequential`). A call that ends leaves a gap, and then a step takes two passes: four
//! streams of `SmolLM2` in two groups were a fifth slower than in one.

use std::ops::Range;

/// A sequence to move, and the free sequence to move it to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub from: usize,
    pub to: usize,
}

/// Returns the next move. Returns `None` if all generating sequences are neighbours, or if no sequence beside the largest group is free.
///
/// The last sequence of the smallest group moves to the largest group, if `can_move` allows it.
///
/// ```text
/// generating   0 1 . 3 .        → from 3 to 2
/// generating   . 1 2            → None
/// ```
pub(crate) fn next_move(
    streams: &[bool],
    is_free: impl Fn(usize) -> bool,
    can_move: impl Fn(usize) -> bool,
) -> Option<Move> {
    let groups = groups(streams);
    let (largest, home) = (0..groups.len())
        .map(|at| (at, &groups[at]))
        .rev()
        .max_by_key(|(_, group)| group.len())?;
    let others = (0..groups.len()).filter(|at| *at != largest && can_move(groups[*at].end - 1));
    let smallest = others.min_by_key(|at| groups[*at].len())?;
    let beside = [Some(home.end), home.start.checked_sub(1)];
    let to = beside
        .into_iter()
        .flatten()
        .find(|at| *at < streams.len() && is_free(*at))?;
    Some(Move {
        from: groups[smallest].end - 1,
        to,
    })
}

/// Returns the runs of consecutive generating sequences.
fn groups(streams: &[bool]) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for at in (0..streams.len()).filter(|at| streams[*at]) {
        match groups.last_mut() {
            Some(group) if group.end == at => group.end += 1,
            _ => groups.push(at..at + 1),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sequence_apart_moves_beside_the_largest_group() {
        let streams = [true, true, false, true, false];
        assert_eq!(
            next_move(&streams, |at| !streams[at], |_| true),
            Some(Move { from: 3, to: 2 })
        );
        assert_eq!(next_move(&streams, |at| at == 4, |_| true), None);
        assert_eq!(next_move(&[false, true, true], |_| true, |_| true), None);
        assert_eq!(next_move(&[false; 3], |_| true, |_| true), None);
        // Of two sequences apart, only the second one can move.
        let streams = [true, true, false, true, false, true];
        let moved = next_move(&streams, |at| !streams[at], |at| at != 3);
        assert_eq!(moved, Some(Move { from: 5, to: 2 }));
    }

    proptest! {
        #[test]
        fn repeated_moves_leave_one_group(mut streams in prop::collection::vec(any::<bool>(), 0..20)) {
            let all = streams.iter().filter(|streams| **streams).count();
            for _ in 0..20 {
                let Some(Move { from, to }) = next_move(&streams, |at| !streams[at], |_| true) else { break };
                prop_assert!(streams[from] && !streams[to]);
                streams.swap(from, to);
            }
            prop_assert!(groups(&streams).len() <= 1, "{:?}", streams);
            prop_assert_eq!(streams.iter().filter(|streams| **streams).count(), all);
        }
    }
}
