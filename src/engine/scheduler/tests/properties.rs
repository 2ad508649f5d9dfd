//! Whatever happens to a scheduler, its promises hold. The scripted decoder panics where a text is sampled from another prompt
//! than its own, where positions have gaps, and where cells are wanting.

use proptest::prelude::*;

use super::bench::{Bench, LIMITS, prompt_of, prompt_with, request};
use super::scripted::{Script, endless};
use crate::engine::limits::{Limits, Reuse};
use crate::engine::prompt::Prompt;
use crate::engine::token::Token;
use crate::engine::{CancelReason, Update};

/// What may happen to a scheduler.
#[derive(Debug, Clone)]
enum Happening {
    Submit {
        client: u8,
        prompt: usize,
        /// Which of some beginnings it has.
        family: u8,
        max_tokens: u32,
        is_prepared: bool,
    },
    Prepare(u64),
    Cancel(u64),
    Turn,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0_u8..4, 1_usize..120, 0_u8..6, 1_u32..60, any::<bool>()).prop_map(
            |(client, prompt, family, max_tokens, is_prepared)| {
                Happening::Submit {
                    client,
                    prompt,
                    family,
                    max_tokens,
                    is_prepared,
                }
            }
        ),
        (1_u64..30).prop_map(Happening::Prepare),
        (1_u64..30).prop_map(Happening::Cancel),
        Just(Happening::Turn),
        Just(Happening::Turn),
    ]
}

/// A prompt that has its first 40 tokens in common with two thirds of the others, and 70 with a sixth.
fn of_family(family: u8, length: usize) -> Prompt {
    let token = |at: usize| {
        let parts_at = if family < 4 { 40 } else { 0 };
        let at_number = Token::try_from(at).unwrap();
        match at {
            _ if at < parts_at => at_number,
            _ if at < 70 => 1000 * Token::from(family / 2 + 1) + at_number,
            _ => 1000 * Token::from(family + 10) + at_number,
        }
    };
    prompt_with((0..length).map(token).collect())
}

fn kinds() -> impl Strategy<Value = (Limits, Option<usize>)> {
    let of = |is_pool, reuse| Limits {
        is_pool,
        reuse,
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
    fn whatever_happens_each_call_ends_once_and_nothing_is_over_its_limit(
        (limits, window) in kinds(),
        fixed in prop::collection::vec((0_u8..6, 35_usize..90), 0..3),
        happenings in prop::collection::vec(happening(), 1..80),
        failing in prop::collection::vec(1_usize..60, 0..3),
        failing_restores in prop::collection::vec(1_usize..20, 0..3),
    ) {
        let script = Script { failing, failing_restores, window, ..endless() };
        let mut bench = Bench::new(limits, 3, script);
        let fixed = fixed.into_iter().map(|(family, length)| of_family(family, length).tokens);
        bench.scheduler.keep_warm(fixed.collect());
        let mut ids = 0;
        for happening in happenings {
            match happening {
                Happening::Submit { client, prompt, family, max_tokens, is_prepared } => {
                    ids += 1;
                    let request = request(max_tokens, &[]);
                    if bench.enter_of(&client.to_string(), ids, request) && is_prepared {
                        bench.scheduler.set_prompt(ids, Ok(of_family(family, prompt)));
                    }
                }
                Happening::Prepare(id) => bench.scheduler.set_prompt(id, Ok(prompt_of(7))),
                Happening::Cancel(id) => bench.scheduler.cancel(id, CancelReason::Cancelled, bench.start),
                Happening::Turn => bench.step(),
            }
            let stats = bench.scheduler.stats();
            prop_assert!(stats.active <= LIMITS.parallel);
        }
        for id in 1..=ids {
            bench.scheduler.set_prompt(id, Ok(prompt_of(7)));
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
        prop_assert!(bench.scheduler.is_idle(), "it warms for ever");
        for batch in &bench.seen.borrow().batches {
            prop_assert!(!batch.is_empty() && batch.len() <= LIMITS.n_batch);
        }
    }
}
