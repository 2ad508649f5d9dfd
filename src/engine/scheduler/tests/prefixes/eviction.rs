//! Tests of the cells of a pool: shared cells count once, and reserved cells are available.

use super::*;

#[test]
fn in_a_pool_a_long_prompt_is_shared_and_never_copied() {
    let limits = Limits {
        n_ctx: 2000,
        kv_cells: 8000,
        ..CELLS
    };
    let common: Vec<i32> = (10_000..11_400).collect();
    for prefixes in [Vec::new(), vec![tokens(common.clone())]] {
        let mut bench = Bench::new(limits, 8, says("abc"));
        bench.scheduler.set_shared_prefixes(prefixes.clone());
        for id in 1..=12 {
            let own = 100 * i32::try_from(id).unwrap();
            bench.ask(id, common.iter().copied().chain(own..own + 20).collect());
            if id % 4 == 0 {
                bench.run_until_empty();
                // The rest of the shared prefix is decoded now.
                bench.step();
            }
        }
        let cached = sorted(bench.cached());
        assert!(
            cached[1..].iter().all(|cached| *cached == 1400),
            "{cached:?}"
        );
        assert_eq!(bench.seen.borrow().restored.len(), 0, "{}", prefixes.len());
    }
}

#[test]
fn shared_cells_count_once_so_more_calls_fit() {
    let limits = Limits {
        kv_cells: 620,
        ..CELLS
    };
    let mut bench = Bench::new(limits, 8, endless());
    bench
        .scheduler
        .set_shared_prefixes(vec![tokens(of_tool(1)[..300].to_vec())]);
    while !bench.scheduler.is_idle() {
        bench.step();
    }
    for id in 1..=4 {
        bench.ask(id, of_tool(i32::try_from(id).unwrap()));
    }
    bench.step();
    // The common prefix is known once the first call has started.
    bench.step();
    assert_eq!(bench.scheduler.stats().active, 4);
    bench.run_until_empty();
    assert_eq!(bench.ends().len(), 4);
}

#[test]
fn a_prefix_too_short_to_reuse_takes_cells_of_its_own() {
    let limits = Limits {
        kv_cells: 150,
        ..CELLS
    };
    let mut bench = Bench::new(limits, 8, endless());
    for (id, length) in [(1, 47), (2, 20)] {
        assert!(bench.enter(id, 43, &[]));
        bench.prepare(id, Ok(prompt_with(0..length)));
        bench.step();
    }
    // 90 and 63 cells: the common prefix of 19 tokens is too short to be reused.
    bench.step();
    assert_eq!(bench.scheduler.stats().active, 1);
    bench.run_until_empty();
    assert_eq!(bench.ends().len(), 2);
}

#[test]
fn a_waiting_call_takes_no_cells_from_the_call_that_it_waits_for() {
    let limits = Limits {
        parallel: 2,
        kv_cells: 1024,
        ..CELLS
    };
    let mut bench = Bench::new(limits, 8, says("x"));
    bench.ask(1, (5000..5980).collect());
    bench.run_until_empty();
    // One of the two calls is admitted to the sequence that still has the tokens of the first call.
    for id in 2..=3 {
        let last = i32::try_from(id).unwrap();
        bench.ask(id, (0..99).chain([last]).collect());
    }
    bench.run_until_empty();
    assert_eq!(bench.failures(), []);
    assert_eq!(sorted(bench.cached()), [0, 0, 99]);
}
