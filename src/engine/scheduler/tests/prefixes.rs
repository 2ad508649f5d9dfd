//! Tests of the prefix cache: common prefixes are decoded once. The scripted decoder checks that every text is sampled from its own prompt.

mod eviction;
mod windows;

use super::bench::{Bench, prompt_with};
use super::scripted::{Script, endless, says};
use super::*;
use crate::engine::limits::Reuse;
use crate::engine::token::tokens;

const COPIES: Limits = Limits {
    parallel: 4,
    n_ctx: 1000,
    n_ctx_train: u32::MAX,
    kv_cells: 4000,
    n_batch: 512,
    is_pool: false,
    has_long_shared_prefix: false,
    reuse: Reuse::Copies,
    cache_bytes: 10_000,
    is_speculative: false,
};

const CELLS: Limits = Limits {
    is_pool: true,
    has_long_shared_prefix: false,
    reuse: Reuse::Cells,
    ..COPIES
};

/// Returns a prompt of 300 common tokens and 20 tokens of its own.
fn of_tool(question: i32) -> Vec<i32> {
    let mut tokens: Vec<i32> = (1000..1300).collect();
    tokens.extend((0..20).map(|at| 2000 + 100 * question + at));
    tokens
}

impl Bench {
    fn ask(&mut self, id: u64, tokens: Vec<i32>) {
        assert!(self.enter(id, 5, &[]));
        self.prepare(id, Ok(prompt_with(tokens)));
    }

    /// Returns the ids of the calls and their cached prompt tokens, in the order in which the calls ended.
    fn cached(&self) -> Vec<(u64, u32)> {
        let done = self.updates.iter().filter_map(|(id, update)| match update {
            Update::Done(Answer::Generated(generation)) => {
                Some((*id, generation.usage.cached_tokens))
            }
            _ => None,
        });
        done.collect()
    }

    fn decoded(&self) -> usize {
        self.seen.borrow().batches.iter().map(Vec::len).sum()
    }
}

fn sorted(mut cached: Vec<(u64, u32)>) -> Vec<u32> {
    cached.sort_unstable();
    cached.into_iter().map(|(_, cached)| cached).collect()
}

#[test]
fn calls_that_arrive_together_decode_their_common_prefix_once() {
    for limits in [COPIES, CELLS] {
        let mut bench = Bench::new(limits, 8, says("x"));
        for id in 1..=4 {
            bench.ask(id, of_tool(i32::try_from(id).unwrap()));
        }
        bench.run_until_empty();
        assert_eq!(sorted(bench.cached()), [0, 300, 300, 300], "{limits:?}");
        // Each call decodes one token of its answer.
        assert_eq!(bench.decoded(), 300 + 4 * 20 + 4);
        let seen = bench.seen.borrow();
        match limits.reuse {
            Reuse::Cells => assert_eq!((&seen.shared[..], seen.saved.len()), (&[300; 3][..], 0)),
            _ => assert_eq!(
                (&seen.saved[..], &seen.restored[..]),
                (&[300][..], &[300; 3][..])
            ),
        }
    }
}

#[test]
fn a_later_call_reuses_the_prefix_of_a_busy_one() {
    for limits in [COPIES, CELLS] {
        let mut bench = Bench::new(limits, 8, endless());
        bench.ask(1, of_tool(1));
        while bench.scheduler.stats().active == 0 || bench.decoded() < 321 {
            bench.step();
        }
        bench.ask(2, of_tool(2));
        bench.run_until_empty();
        assert_eq!(sorted(bench.cached()), [0, 300], "{limits:?}");
    }
}

#[test]
fn the_next_turn_of_a_conversation_decodes_only_its_new_tokens() {
    for (limits, window) in [(COPIES, None), (CELLS, None), (COPIES, Some(50))] {
        let script = Script {
            window,
            ..says("abc")
        };
        let mut bench = Bench::new(limits, 8, script);
        bench.ask(1, of_tool(1));
        bench.run_until_empty();
        let mut next = of_tool(1);
        next.extend([b'a', b'b', b'c'].map(i32::from));
        next.extend([7, 8, 9]);
        bench.ask(2, next);
        bench.run_until_empty();
        assert_eq!(sorted(bench.cached()), [0, 323], "{limits:?}");
        assert_eq!(bench.seen.borrow().restored.len(), 0);
    }
}

#[test]
fn conversations_without_a_sequence_are_restored_from_saved_states() {
    let limits = Limits {
        parallel: 1,
        ..COPIES
    };
    for window in [None, Some(50)] {
        let script = Script {
            window,
            ..says("abc")
        };
        let mut bench = Bench::new(limits, 8, script);
        let mut talks: Vec<Vec<i32>> = vec![(100..200).collect(), (300..400).collect()];
        for turn in 0..4 {
            for talk in 0..2 {
                bench.ask(
                    turn * 2 + talk + 1,
                    talks[usize::try_from(talk).unwrap()].clone(),
                );
                bench.run_until_empty();
                let answer = [b'a', b'b', b'c'].map(i32::from);
                talks[usize::try_from(talk).unwrap()].extend(answer.into_iter().chain(500..600));
            }
        }
        let expected = [0, 0, 103, 103, 206, 206, 309, 309];
        assert_eq!(sorted(bench.cached()), expected, "{window:?}");
    }
}

#[test]
fn after_a_failed_restore_the_whole_prompt_is_decoded() {
    let limits = Limits {
        parallel: 1,
        ..COPIES
    };
    let script = Script {
        failing_restores: vec![1],
        ..says("x")
    };
    let mut bench = Bench::new(limits, 8, script);
    let texts = [1000..1300, 5000..5300, 1000..1320, 5000..5320];
    for (id, text) in (1..).zip(texts) {
        bench.ask(id, text.collect());
        bench.run_until_empty();
    }
    assert_eq!(bench.seen.borrow().restored, [301, 301]);
    assert_eq!(sorted(bench.cached()), [0, 0, 0, 300]);
    assert_eq!((bench.failures(), bench.ends().len()), (vec![], 4));
}

#[test]
fn a_tools_prompt_is_decoded_ahead_of_its_calls_without_delaying_other_calls() {
    for limits in [COPIES, CELLS] {
        let mut bench = Bench::new(limits, 8, says("x"));
        bench
            .scheduler
            .set_shared_prefixes(vec![tokens(of_tool(1)[..300].to_vec())]);
        assert!(!bench.scheduler.is_idle() && bench.scheduler.is_empty());
        bench.step();
        bench.ask(9, (1..10).collect());
        while bench.ends().is_empty() {
            bench.step();
        }
        assert!(
            !bench.scheduler.is_idle(),
            "the call went first: {limits:?}"
        );
        while !bench.scheduler.is_idle() {
            bench.step();
        }
        let before = bench.decoded();
        for id in 1..=4 {
            bench.ask(id, of_tool(i32::try_from(id).unwrap()));
        }
        bench.run_until_empty();
        assert_eq!(sorted(bench.cached()), [300, 300, 300, 300, 0]);
        assert_eq!(bench.decoded() - before, 4 * 20 + 4);
    }
}

#[test]
fn a_tools_prompt_is_never_evicted_for_later_prompts() {
    for limits in [COPIES, CELLS] {
        let limits = Limits {
            kv_cells: if limits.is_pool { 1500 } else { 4000 },
            cache_bytes: 1000,
            ..limits
        };
        let mut bench = Bench::new(limits, 100, says("abc"));
        bench
            .scheduler
            .set_shared_prefixes(vec![tokens(of_tool(1)[..300].to_vec())]);
        while !bench.scheduler.is_idle() {
            bench.step();
        }
        for id in 1..=20 {
            let first = 10_000 * i32::try_from(id).unwrap();
            bench.ask(id, (first..first + 400).collect());
        }
        bench.run_until_empty();
        bench.ask(21, of_tool(5));
        bench.run_until_empty();
        assert_eq!(bench.cached().last(), Some(&(21, 300)), "{limits:?}");
    }
}

#[test]
fn the_prompt_of_a_removed_tool_is_not_kept() {
    for limits in [COPIES, CELLS] {
        let mut bench = Bench::new(limits, 8, says("x"));
        bench
            .scheduler
            .set_shared_prefixes(vec![tokens(of_tool(1)[..300].to_vec())]);
        while !bench.scheduler.is_idle() {
            bench.step();
        }
        bench.scheduler.set_shared_prefixes(Vec::new());
        assert!(bench.scheduler.is_idle());
        for id in 1..=8 {
            let first = 10_000 * i32::try_from(id).unwrap();
            bench.ask(id, (first..first + 900).collect());
            bench.run_until_empty();
        }
        for id in 10..=22 {
            let first = 10_000 * i32::try_from(id).unwrap();
            bench.ask(id, (first..first + 900).collect());
            bench.run_until_empty();
        }
        bench.ask(30, of_tool(5));
        bench.run_until_empty();
        assert_eq!(bench.cached().last(), Some(&(30, 0)), "{limits:?}");
    }
}

#[test]
fn with_the_prefix_cache_off_every_prompt_is_decoded_in_full() {
    let limits = Limits {
        reuse: Reuse::Nothing,
        ..COPIES
    };
    let mut bench = Bench::new(limits, 8, says("x"));
    bench
        .scheduler
        .set_shared_prefixes(vec![tokens(of_tool(1)[..300].to_vec())]);
    assert!(bench.scheduler.is_idle());
    for id in 1..=2 {
        bench.ask(id, of_tool(1));
        bench.run_until_empty();
    }
    assert_eq!(sorted(bench.cached()), [0, 0]);
}

#[test]
fn a_call_that_waits_for_a_cancelled_one_continues_from_its_prefix() {
    for limits in [COPIES, CELLS] {
        let limits = Limits {
            n_batch: 64,
            ..limits
        };
        let mut bench = Bench::new(limits, 8, says("x"));
        bench.ask(1, of_tool(1));
        bench.ask(2, of_tool(2));
        bench.step();
        bench.step();
        let decoded = bench.decoded();
        bench.cancel(1, CancelReason::Cancelled);
        bench.run_until_empty();
        assert_eq!(decoded, 2 * 64);
        assert_eq!(sorted(bench.cached()), [0, 2 * 64], "{limits:?}");
    }
}

#[test]
fn a_long_state_is_not_copied_for_a_short_common_prefix() {
    let mut bench = Bench::new(COPIES, 8, endless());
    bench.ask(1, (0..900).collect());
    while bench.decoded() < 901 {
        bench.step();
    }
    bench.ask(2, (0..40).chain(5000..5020).collect());
    bench.run_until_empty();
    assert_eq!(sorted(bench.cached()), [0, 0]);
    assert_eq!(bench.seen.borrow().saved.len(), 0);
}

#[test]
fn calls_of_a_tool_reuse_its_prompt_instead_of_each_others() {
    let mut bench = Bench::new(COPIES, 8, endless());
    bench
        .scheduler
        .set_shared_prefixes(vec![tokens(of_tool(1)[..299].to_vec())]);
    while !bench.scheduler.is_idle() {
        bench.step();
    }
    for id in 1..=3 {
        bench.ask(id, of_tool(i32::try_from(id).unwrap()));
        bench.step();
        bench.step();
    }
    bench.run_until_empty();
    assert_eq!(sorted(bench.cached()), [299; 3]);
    assert_eq!(bench.seen.borrow().saved, [299]);
}

#[test]
fn generating_sequences_become_neighbours_again_when_a_call_between_them_ends() {
    // There is no memory for saved states, so the sequence between them is swapped with one of them.
    let limits = Limits {
        cache_bytes: 0,
        ..COPIES
    };
    let mut bench = Bench::new(limits, 8, endless());
    for (id, max_tokens) in [(1, 50), (2, 3), (3, 50)] {
        assert!(bench.enter(id, max_tokens, &[]));
        let first = 1000 * i32::try_from(id).unwrap();
        let prompt = prompt_with(first..first + 100);
        bench.prepare(id, Ok(prompt));
    }
    while bench.ends().is_empty() {
        bench.step();
    }
    bench.step();
    bench.step();
    let sequences: Vec<usize> = bench.last_batch().iter().map(|row| row.sequence).collect();
    assert_eq!(sequences, [0, 1]);
    bench.ask(4, (2000..2150).collect());
    bench.run_until_empty();
    assert_eq!(
        bench.cached().iter().find(|(id, _)| *id == 4),
        Some(&(4, 100))
    );
    assert_eq!(bench.ends().len(), 4);
}

/// Returns how many of six calls start in one step next to a stream. They share `common` cached tokens.
fn started_beside_a_stream(common: i32) -> usize {
    let limits = Limits {
        parallel: 8,
        ..COPIES
    };
    let mut bench = Bench::new(limits, 8, endless());
    let prompt = |call: i32| (0..common).chain(2000 + 100 * call..2020 + 100 * call);
    bench.ask(1, prompt(1).collect());
    bench.run_until_empty();
    assert!(bench.enter(2, 500, &[]));
    bench.prepare(2, Ok(prompt_with(9000..9020)));
    bench.step();
    bench.step();
    for call in 3..9 {
        bench.ask(call, prompt(i32::try_from(call).unwrap()).collect());
    }
    bench.step();
    let sequences = bench.last_batch().into_iter().map(|row| row.sequence);
    sequences.collect::<BTreeSet<_>>().len() - 1
}

#[test]
fn a_step_makes_several_short_copies_or_a_long_one_beside_a_stream() {
    // The first call continues the sequence of an earlier call, without a copy.
    assert_eq!(started_beside_a_stream(40), 6);
    assert_eq!(started_beside_a_stream(300), 2);
}
