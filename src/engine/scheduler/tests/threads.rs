//! Changes of the number of threads.

use super::*;

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
