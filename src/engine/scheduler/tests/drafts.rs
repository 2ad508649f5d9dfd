//! Tests of draft tokens: the text is the same as without drafts, and rejected tokens leave no trace.

use super::bench::{Bench, LIMITS, prompt_with};
use super::scripted::{Script, endless, says};
use crate::engine::limits::{Limits, Reuse};
use crate::engine::{EngineErrorKind, FinishReason, Update};

const DRAFTING: Limits = Limits {
    is_speculative: true,
    n_ctx: 200,
    kv_cells: 400,
    ..LIMITS
};

/// Runs one call with a prompt of `prompt`, and returns its bench.
fn run(limits: Limits, prompt: &str, script: Script) -> Bench {
    let mut bench = Bench::new(limits, 8, script);
    assert!(bench.enter(1, 100, &[]));
    bench.prepare(1, Ok(prompt_with(prompt.bytes().map(i32::from))));
    bench.run_until_empty();
    bench
}

const TEXT: &str = "a crab is a crab is a crab";

#[test]
fn an_answer_that_repeats_its_prompt_takes_fewer_steps() {
    let with = run(DRAFTING, TEXT, says(TEXT));
    let without = run(
        Limits {
            is_speculative: false,
            ..DRAFTING
        },
        TEXT,
        says(TEXT),
    );
    assert_eq!(with.ends(), [(1, FinishReason::Stop, TEXT.to_owned())]);
    assert_eq!(with.ends(), without.ends());
    assert!(
        3 * with.batches() < 2 * without.batches(),
        "{} {}",
        with.batches(),
        without.batches()
    );
    let usage = with.generations().remove(0).usage;
    assert!(usage.accepted_tokens > 10, "{usage:?}");
    assert_eq!(usage.completion_tokens, 26);
}

#[test]
fn rejected_tokens_do_not_change_the_answer() {
    // The scripted decoder panics if it samples after other tokens than those of the call.
    let bench = run(
        DRAFTING,
        "a crab. a cow. a cat. a cod.",
        says("a crow. a cab. a cot."),
    );
    assert_eq!(bench.ends()[0].2, "a crow. a cab. a cot.");
    let usage = bench.generations().remove(0).usage;
    assert!(usage.accepted_tokens < usage.drafted_tokens, "{usage:?}");
}

#[test]
fn an_answer_ends_inside_a_draft_and_its_tokens_can_be_reused() {
    let limits = Limits {
        reuse: Reuse::Cells,
        ..DRAFTING
    };
    let song = "la la la la la la la la la la";
    let mut bench = run(limits, song, says("la la la la la "));
    let rows = bench.last_batch();
    let last = rows.last().unwrap();
    assert!(
        last.position as usize > song.len() + 14,
        "rows follow the end: {rows:?}"
    );
    assert!(bench.enter(2, 100, &[]));
    let next = format!("{song}la la la la la ! More!");
    bench.prepare(2, Ok(prompt_with(next.bytes().map(i32::from))));
    bench.run_until_empty();
    assert_eq!(bench.ends()[1].2, "la la la la la ");
    let cached = bench.generations()[1].usage.cached_tokens as usize;
    assert!(cached >= song.len() + 14, "{cached}");
}

#[test]
fn max_tokens_holds_inside_a_draft() {
    let mut bench = Bench::new(DRAFTING, 8, endless());
    assert!(bench.enter(1, 50, &[]));
    bench.prepare(1, Ok(prompt_with("la la la ".bytes().map(i32::from))));
    bench.run_until_empty();
    let usage = bench.generations().remove(0).usage;
    assert_eq!(usage.completion_tokens, 50);
    assert!(usage.accepted_tokens > 20, "{usage:?}");
}

#[test]
fn a_draft_contains_forced_tokens() {
    let script = Script {
        forced: (0..40).filter(|at| at % 4 != 0).collect(),
        ..says("la, la, la, la, la, la, la, la, la, la, ")
    };
    let bench = run(DRAFTING, "la, la, la, la, la, ", script);
    assert_eq!(
        bench.ends()[0].2,
        "la, la, la, la, la, la, la, la, la, la, "
    );
    let usage = bench.generations().remove(0).usage;
    assert_eq!(usage.forced_tokens, 30);
    assert!(usage.accepted_tokens >= 4, "{usage:?}");
}

#[test]
fn a_stop_string_inside_a_draft_ends_the_answer() {
    let mut bench = Bench::new(DRAFTING, 8, endless());
    assert!(bench.enter(1, 100, &["la la la la la la"]));
    bench.prepare(1, Ok(prompt_with("la la la la la ".bytes().map(i32::from))));
    bench.run_until_empty();
    assert_eq!(bench.ends(), [(1, FinishReason::Stop, String::new())]);
    assert!(bench.generations()[0].usage.accepted_tokens > 0);
}

#[test]
fn several_calls_draft_at_once_in_a_pool() {
    let mut bench = Bench::new(DRAFTING, 8, endless());
    for id in 1..=2 {
        assert!(bench.enter(id, 90, &[]));
        bench.prepare(
            id,
            Ok(prompt_with("la la la la la ".bytes().map(i32::from))),
        );
    }
    bench.run_until_empty();
    let generations = bench.generations();
    assert!(
        generations
            .iter()
            .all(|call| call.usage.accepted_tokens > 0)
    );
    assert!(
        generations
            .iter()
            .all(|call| call.text.starts_with("la la la la"))
    );
}

#[test]
fn beyond_a_sliding_window_nothing_is_drafted() {
    let limits = Limits {
        is_pool: false,
        reuse: Reuse::Copies,
        ..DRAFTING
    };
    let script = Script {
        window: Some(20),
        ..says(TEXT)
    };
    let bench = run(limits, TEXT, script);
    assert_eq!(bench.ends()[0].2, TEXT);
    assert_eq!(bench.generations()[0].usage.drafted_tokens, 0);
}

#[test]
fn a_step_with_a_prompt_has_no_drafts() {
    let mut bench = Bench::new(DRAFTING, 8, endless());
    assert!(bench.enter(1, 90, &[]));
    bench.prepare(1, Ok(prompt_with("la la la ".bytes().map(i32::from))));
    while bench.last_batch().len() < 2 || bench.last_batch()[0].position < 9 {
        bench.step();
    }
    assert!(bench.last_batch().len() > 1, "a draft");
    bench.submit(2, 150, 5);
    bench.step();
    let of_stream = bench
        .last_batch()
        .into_iter()
        .filter(|row| row.sequence == 0);
    assert_eq!(of_stream.count(), 1);
}

#[test]
fn a_call_whose_rejected_tokens_cannot_be_removed_fails_with_advice() {
    let script = Script {
        cannot_truncate: true,
        ..says("a crow. a cab. a cot.")
    };
    let mut bench = run(DRAFTING, "a crab. a cow. a cat. a cod.", script);
    assert_eq!(bench.failures(), [(1, EngineErrorKind::Decode)]);
    let Some((_, Update::Failed(error))) = bench.updates.last() else {
        panic!("the call fails last")
    };
    assert!(error.hint.as_deref().unwrap().contains("speculative"));
    bench.submit(2, 5, 10);
    bench.run_until_empty();
    assert_eq!(bench.ends().len(), 1);
}
