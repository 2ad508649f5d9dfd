//! Whatever happens to a scheduler, its promises hold.

use std::collections::HashMap;

use proptest::prelude::*;

use super::bench::{Bench, LIMITS, Script, endless, prompt_of, request};
use crate::engine::limits::Limits;
use crate::engine::{CancelReason, Update};

/// What may happen to a scheduler.
#[derive(Debug, Clone)]
enum Happening {
    Submit {
        client: u8,
        prompt: usize,
        max_tokens: u32,
        is_prepared: bool,
    },
    Prepare(u64),
    Cancel(u64),
    Turn,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0_u8..4, 1_usize..120, 1_u32..60, any::<bool>()).prop_map(
            |(client, prompt, max_tokens, is_prepared)| {
                Happening::Submit {
                    client,
                    prompt,
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

proptest! {
    #[test]
    fn whatever_happens_each_call_ends_once_and_nothing_is_over_its_limit(
        happenings in prop::collection::vec(happening(), 1..80),
        failing in prop::collection::vec(1_usize..60, 0..3),
    ) {
        let mut bench = Bench::new(Limits { kv_cells: 150, ..LIMITS }, 3, Script { failing, ..endless() });
        let mut ids = 0;
        for happening in happenings {
            match happening {
                Happening::Submit { client, prompt, max_tokens, is_prepared } => {
                    ids += 1;
                    let request = request(max_tokens, &[]);
                    if bench.enter_of(&client.to_string(), ids, request) && is_prepared {
                        bench.scheduler.prepared(ids, Ok(prompt_of(prompt)));
                    }
                }
                Happening::Prepare(id) => bench.scheduler.prepared(id, Ok(prompt_of(7))),
                Happening::Cancel(id) => bench.scheduler.cancel(id, CancelReason::Cancelled, bench.start),
                Happening::Turn => bench.turn(),
            }
            let stats = bench.scheduler.stats();
            prop_assert!(stats.reserved_cells <= 150 && stats.active <= LIMITS.parallel);
        }
        for id in 1..=ids {
            bench.scheduler.prepared(id, Ok(prompt_of(7)));
        }
        bench.turns_until_empty();
        prop_assert_eq!(bench.scheduler.stats().reserved_cells, 0);
        for id in 1..=ids {
            let ends = bench.updates.iter().filter(|(of, update)| {
                *of == id && matches!(update, Update::Done(_) | Update::Failed(_))
            });
            prop_assert_eq!(ends.count(), 1, "call {}", id);
        }
        let mut positions: HashMap<usize, u32> = HashMap::new();
        for batch in &bench.seen.borrow().batches {
            prop_assert!(!batch.is_empty() && batch.len() <= LIMITS.n_batch);
            for row in batch {
                let next = positions.entry(row.sequence).or_insert(0);
                prop_assert!(row.position == *next || row.position == 0, "a gap: {:?}", row);
                *next = row.position + 1;
            }
        }
    }
}
