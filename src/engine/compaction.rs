//! Which sequence is moved so that those that stream are neighbours: pure.
//!
//! Where each sequence has cells of its own, llama.cpp decodes sequences in one pass over the weights only if their numbers
//! follow each other (`split_equal` of `llama-batch.cpp`, `sequential`). A call that ends leaves a hole, and two passes take twice as
//! long: four streams of `SmolLM2` in two groups were a fifth slower than in one.

use std::ops::Range;

/// The sequence to be moved, and the free one that it is moved to; none where those that stream are neighbours, or no place
/// beside them is free. Of several groups the smallest one comes to the largest.
///
/// Only those are moved that `can_move` allows.
pub(crate) fn closer(
    streams: &[bool],
    is_free: impl Fn(usize) -> bool,
    can_move: impl Fn(usize) -> bool,
) -> Option<(usize, usize)> {
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
    Some((groups[smallest].end - 1, to))
}

/// The neighbours among those that stream.
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
    fn one_that_stands_apart_comes_to_the_others() {
        let streams = [true, true, false, true, false];
        assert_eq!(closer(&streams, |at| !streams[at], |_| true), Some((3, 2)));
        assert_eq!(closer(&streams, |at| at == 4, |_| true), None);
        assert_eq!(closer(&[false, true, true], |_| true, |_| true), None);
        assert_eq!(closer(&[false; 3], |_| true, |_| true), None);
        // Of two that stand apart the one that is short enough.
        let streams = [true, true, false, true, false, true];
        let moved = closer(&streams, |at| !streams[at], |at| at != 3);
        assert_eq!(moved, Some((5, 2)));
    }

    proptest! {
        #[test]
        fn moves_end_with_neighbours(mut streams in prop::collection::vec(any::<bool>(), 0..20)) {
            let all = streams.iter().filter(|streams| **streams).count();
            for _ in 0..20 {
                let Some((from, to)) = closer(&streams, |at| !streams[at], |_| true) else { break };
                prop_assert!(streams[from] && !streams[to]);
                streams.swap(from, to);
            }
            prop_assert!(groups(&streams).len() <= 1, "{:?}", streams);
            prop_assert_eq!(streams.iter().filter(|streams| **streams).count(), all);
        }
    }
}
