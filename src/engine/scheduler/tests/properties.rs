//! Property tests: the guarantees of the scheduler hold for any sequence of operations. The scripted decoder panics if a text is sampled
//! from the wrong prompt, if positions have gaps, or if no cell is free.

use proptest::prelude::*;

use super::bench::{Bench, LIMITS, prompt_of, prompt_with, request};
use super::scripted::{Script, endless};
use crate::engine::limits::{Limits, Reuse};
use crate::engine::prompt::Prompt;
use crate::engine::{CancelReason, Update};

/// An operation on the scheduler.
#[derive(Debug, Clone)]
enum Operation {
    Submit {
        client: u8,
        prompt: usize,
        /// Number of the prefix that the prompt begins with.
        family: u8,
        max_tokens: u32,
        is_prepared: bool,
    },
    Prepare(u64),
    Cancel(u64),
    Step,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (0_u8..4, 1_usize..120, 0_u8..6, 1_u32..60, any::<bool>()).prop_map(
            |(client, prompt, family, max_tokens, is_prepared)| {
                Operation::Submit {
                    client,
                    prompt,
                    family,
                    max_tokens,
                    is_prepared,
                }
            }
        ),
        (1_u64..30).prop_map(Operation::Prepare),
        (1_u64..30).prop_map(Operation::Cancel),
        Just(Operation::Step),
        Just(Operation::Step),
    ]
}

/// Returns a prompt that has its first 40 tokens in common with two thirds of the others, and 70 with a sixth.
fn of_family(family: u8, length: usize) -> Prompt {
    let token = |at: usize| {
        let parts_at = if family < 4 { 40 } else { 0 };
        let at_number = i32::try_from(at).unwrap();
        match at {
            _ if at < parts_at => at_number,
            _ if at < 70 => 1000 * i32::from(family / 2 + 1) + at_number,
            _ => 1000 * i32::from(family + 10) + at_number,
        }
    };
    prompt_with((0..length).map(token))
}

fn kinds() -> impl Strategy<Value = (Limits, Option<usize>)> {
    let of = |is_pool, reuse| Limits {
        is_pool,
        reuse,
        is_speculative: true,
        kv_cells: if is_pool { 150 } else { 200 },
        cache_bytes: 300,
        ..LIMITS
    };
    prop_oneof![
        Just((of(true, Reuse::Nothing), None)),
        Just((of(true, Reuse::Cells), None)),
        Just((of(false, Reuse::Copies), None)),
        Just((of(false, Reuse::Copies), Some(20))),
        Just((of(true, Reuse::Copies), Some(20))),
    ]
}

proptest! {
    #[test]
    fn every_call_ends_once_and_no_limit_is_exceeded(
        (limits, window) in kinds(),
        prefixes in prop::collection::vec((0_u8..6, 35_usize..90), 0..3),
        operations in prop::collection::vec(operation(), 1..80),
        failing in prop::collection::vec(1_usize..60, 0..3),
        failing_restores in prop::collection::vec(1_usize..20, 0..3),
        forced in prop_oneof![prop::collection::vec(0_usize..60, 0..20), (1_usize..60).prop_map(|length| (1..length).collect())],
    ) {
        let script = Script { forced, failing, failing_restores, window, ..endless() };
        let mut bench = Bench::new(limits, 3, script);
        let prefixes = prefixes.into_iter().map(|(family, length)| of_family(family, length).tokens);
        bench.scheduler.set_shared_prefixes(prefixes.collect());
        let mut ids = 0;
        for operation in operations {
            match operation {
                Operation::Submit { client, prompt, family, max_tokens, is_prepared } => {
                    ids += 1;
                    let request = request(max_tokens, &[]);
                    if bench.enter_of(&client.to_string(), ids, request) && is_prepared {
                        bench.prepare(ids, Ok(of_family(family, prompt)));
                    }
                }
                Operation::Prepare(id) => bench.prepare(id, Ok(prompt_of(7))),
                Operation::Cancel(id) => bench.cancel(id, CancelReason::Cancelled),
                Operation::Step => bench.step(),
            }
            let stats = bench.scheduler.stats();
            prop_assert!(stats.active <= LIMITS.parallel);
        }
        for id in 1..=ids {
            bench.prepare(id, Ok(prompt_of(7)));
        }
        bench.run_until_empty();
        prop_assert_eq!(bench.scheduler.stats().reserved_cells, 0);
        for id in 1..=ids {
            let ends = bench.updates.iter().filter(|(of, update)| {
                *of == id && matches!(update, Update::Done(_) | Update::Failed(_))
            });
            prop_assert_eq!(ends.count(), 1, "call {}", id);
        }
        for _ in 0..1000 {
            if bench.scheduler.is_idle() {
                break;
            }
            bench.step();
        }
        prop_assert!(bench.scheduler.is_idle(), "the scheduler never becomes idle");
        for batch in &bench.seen.borrow().batches {
            prop_assert!(!batch.is_empty() && batch.len() <= LIMITS.n_batch);
        }
    }
}
