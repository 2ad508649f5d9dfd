//! Tests of tokens that the schema of an answer dictates. They are not sampled, and several of them are decoded in one step.

use super::bench::{Bench, LIMITS};
use super::scripted::{Script, says};
use crate::engine::decoder::Row;
use crate::engine::limits::Limits;
use crate::engine::{CancelReason, FinishReason};

/// An answer of 8 tokens, 5 of which are dictated.
fn label() -> Script {
    Script {
        dictated: vec![1, 2, 3, 6, 7],
        ..says("{abc:xy}")
    }
}

/// Separate cells for each sequence.
const SEPARATE: Limits = Limits {
    is_pool: false,
    ..LIMITS
};

/// Returns the rows of each batch that belong to the answer of `sequence`, which has a prompt of one token.
fn answer_rows(bench: &Bench, sequence: usize) -> Vec<usize> {
    let seen = bench.seen.borrow();
    let count = |batch: &Vec<Row>| {
        let rows = batch.iter().filter(|row| row.sequence == sequence);
        rows.filter(|row| row.position > 0).count()
    };
    seen.batches
        .iter()
        .map(count)
        .filter(|rows| *rows > 0)
        .collect()
}

#[test]
fn dictated_tokens_are_decoded_with_the_sampled_one_before_them() {
    let mut bench = Bench::new(LIMITS, 8, label());
    bench.submit(1, 1, 50);
    bench.run_until_empty();
    assert_eq!(
        bench.ends(),
        [(1, FinishReason::Stop, "{abc:xy}".to_owned())]
    );
    // `{abc`, `:`, `xy}`, and then the end token is sampled.
    assert_eq!(answer_rows(&bench, 0), [4, 1, 3]);
    let usage = bench.generations().remove(0).usage;
    assert_eq!((usage.completion_tokens, usage.forced_tokens), (8, 5));
}

#[test]
fn only_the_last_row_of_a_run_requests_logits() {
    let mut bench = Bench::new(LIMITS, 8, label());
    bench.submit(1, 1, 50);
    bench.step();
    bench.step();
    let logits: Vec<bool> = bench.last_batch().iter().map(|row| row.logits).collect();
    assert_eq!(logits, [false, false, false, true]);
}

#[test]
fn an_answer_is_truncated_at_max_tokens_inside_a_run() {
    let mut bench = Bench::new(LIMITS, 8, label());
    bench.submit(1, 1, 3);
    bench.run_until_empty();
    assert_eq!(bench.ends(), [(1, FinishReason::Length, "{ab".to_owned())]);
    let usage = bench.generations().remove(0).usage;
    assert_eq!((usage.completion_tokens, usage.forced_tokens), (3, 2));
    assert_eq!(
        answer_rows(&bench, 0),
        [0; 0],
        "nothing is decoded that no token follows"
    );
}

#[test]
fn a_stop_string_inside_a_run_ends_the_answer() {
    let mut bench = Bench::new(LIMITS, 8, label());
    assert!(bench.enter(1, 50, &["c"]));
    bench.prepare(1, Ok(super::prompt_of(1)));
    bench.run_until_empty();
    assert_eq!(bench.ends(), [(1, FinishReason::Stop, "{ab".to_owned())]);
}

#[test]
fn a_call_that_is_cancelled_inside_a_run_keeps_its_text_and_frees_its_sequence() {
    let limits = Limits {
        n_batch: 34,
        ..LIMITS
    };
    let mut bench = Bench::new(limits, 8, label());
    bench.submit(1, 1, 50);
    bench.step();
    bench.cancel(1, CancelReason::Cancelled);
    bench.collect_updates();
    let ends = bench.ends();
    assert_eq!(ends, [(1, FinishReason::Cancelled, "{abc".to_owned())]);
    bench.submit(2, 1, 50);
    bench.run_until_empty();
    assert_eq!(bench.ends()[1].2, "{abc:xy}");
}

#[test]
fn in_a_pool_a_run_is_decoded_beside_other_streams() {
    let mut bench = Bench::new(LIMITS, 8, label());
    bench.submit(1, 1, 50);
    bench.step();
    bench.submit(2, 1, 50);
    bench.run_until_empty();
    assert_eq!(answer_rows(&bench, 0), [4, 1, 3]);
    assert_eq!(answer_rows(&bench, 1), [4, 1, 3]);
}

#[test]
fn without_a_pool_a_run_shorter_than_the_streams_is_decoded_token_by_token() {
    let limits = Limits {
        parallel: 3,
        ..SEPARATE
    };
    let mut bench = Bench::new(limits, 8, label());
    for id in 1..=3 {
        bench.submit(id, 1, 50);
    }
    bench.run_until_empty();
    // The run of three is as long as there are streams, the run of two is not.
    assert_eq!(answer_rows(&bench, 0), [4, 1, 1, 1, 1]);
    assert!(bench.ends().iter().all(|(_, _, text)| text == "{abc:xy}"));
}

#[test]
fn a_long_run_is_decoded_in_steps_of_limited_duration() {
    let text = "{a schema with long names dictates as many tokens as in this text at once}";
    let script = Script {
        dictated: (1..text.len()).collect(),
        ..says(text)
    };
    let mut bench = Bench::new(LIMITS, 8, script);
    bench.submit(1, 1, 90);
    bench.run_until_empty();
    assert_eq!(bench.ends()[0].2, text);
    let rows = answer_rows(&bench, 0);
    assert_eq!(rows.iter().sum::<usize>(), text.len());
    assert!(rows.len() > 1 && rows[0] <= 9, "{rows:?}");
}
