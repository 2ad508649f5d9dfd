//! Changes of the number of threads.

use super::*;
use crate::engine::limits::Reuse;
use crate::engine::token::Token;

/// Changes the number of threads of the bench's scheduler.
fn change(bench: Bench) -> Bench {
    let scheduler = bench.scheduler.with_threads(2).unwrap();
    Bench { scheduler, ..bench }
}

#[test]
fn a_call_continues_with_another_number_of_threads() {
    let mut bench = Bench::new(LIMITS, 8, says("Lima."));
    bench.submit(1, 10, 50);
    bench.step();
    bench.step();
    let mut bench = change(bench);
    assert_eq!(bench.scheduler.n_threads(), 2);
    bench.run_until_empty();
    assert_eq!(bench.ends(), [(1, FinishReason::Stop, "Lima.".into())]);
}

#[test]
fn a_change_that_fails_leaves_the_former_number_of_threads_and_ends_only_running_calls() {
    let script = Script {
        failing_contexts: 1,
        ..endless()
    };
    let mut bench = Bench::new(LIMITS, 8, script);
    bench.submit(1, 10, 50);
    bench.step();
    bench.step();
    bench.enter(2, 5, &[]);
    let mut bench = change(bench);
    assert_eq!(bench.scheduler.n_threads(), 1);
    bench.collect_updates();
    assert_eq!(bench.failures(), [(1, EngineErrorKind::Decode)]);
    bench.prepare(2, Ok(prompt_of(10)));
    bench.run_until_empty();
    assert_eq!(bench.ends()[0].0, 2);
    // The next change succeeds.
    assert_eq!(change(bench).scheduler.n_threads(), 2);
}

#[test]
fn a_decoder_that_cannot_be_created_again_ends_the_model() {
    let script = Script {
        failing_contexts: 2,
        ..endless()
    };
    let bench = Bench::new(LIMITS, 8, script);
    let error = bench.scheduler.with_threads(2).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Load);
}

#[test]
fn saved_states_outlive_lost_content() {
    let script = Script {
        loses_content: true,
        ..says("Lima.")
    };
    let limits = Limits {
        reuse: Reuse::Copies,
        is_pool: false,
        cache_bytes: 1000,
        ..LIMITS
    };
    let mut bench = Bench::new(limits, 8, script);
    bench
        .scheduler
        .set_shared_prefixes(vec![vec![Token(1); 40]]);
    while !bench.scheduler.is_idle() {
        bench.step();
    }
    assert_eq!(bench.seen.borrow().saved, [40]);
    let mut bench = change(bench);
    bench.submit(1, 50, 10);
    bench.run_until_empty();
    assert_eq!(bench.seen.borrow().restored, [40]);
    assert_eq!(bench.generations()[0].usage.cached_tokens, 40);
}

#[test]
fn calls_fail_and_the_cache_is_empty_if_the_content_is_lost() {
    let script = Script {
        loses_content: true,
        ..endless()
    };
    let mut bench = Bench::new(LIMITS, 8, script);
    bench.submit(1, 10, 50);
    bench.step();
    bench.step();
    let mut bench = change(bench);
    bench.collect_updates();
    let Some((1, Update::Failed(error))) = bench.updates.last() else {
        panic!("the call fails")
    };
    assert_eq!(error.kind, EngineErrorKind::Decode);
    assert_eq!(bench.scheduler.stats().active, 0);
    // The scripted decoder panics if the next call starts from lost content.
    bench.submit(2, 10, 5);
    bench.run_until_empty();
    assert_eq!(bench.ends()[0].0, 2);
}
