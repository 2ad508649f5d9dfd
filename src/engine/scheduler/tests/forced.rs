//! Tests of tokens that the schema of an answer forces. They are not sampled, and several of them are decoded in one step.

use super::bench::{Bench, LIMITS, MS};
use super::scripted::{After, Script, says};
use crate::engine::decoder::Row;
use crate::engine::limits::Limits;
use crate::engine::{CancelReason, FinishReason};

/// An answer of 8 tokens, 5 of which are forced.
fn label() -> Script {
    Script {
        forced: vec![1, 2, 3, 6, 7],
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
fn forced_tokens_are_decoded_with_the_sampled_one_before_them() {
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
        "a token after which nothing is sampled is not decoded"
    );
}

#[test]
fn an_answer_that_is_complete_at_max_tokens_is_not_truncated() {
    let script = Script {
        after: After::Nothing,
        ..label()
    };
    let mut bench = Bench::new(LIMITS, 8, script);
    bench.submit(1, 1, 8);
    bench.run_until_empty();
    assert_eq!(bench.ends()[0].1, FinishReason::Stop);
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
    let mut bench = Bench::new(LIMITS, 8, label());
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
    assert_eq!(answer_rows(&bench, 1)[0], 4);
    assert!(bench.ends().iter().all(|(_, _, text)| text == "{abc:xy}"));
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
    // For three streams, a run of three tokens is long enough, and one of two is too short.
    for batch in &bench.seen.borrow().batches {
        let rows =
            [0, 1, 2].map(|sequence| batch.iter().filter(|row| row.sequence == sequence).count());
        let are_all = rows.iter().all(|rows| *rows > 0);
        assert!(
            !are_all || rows.iter().all(|rows| [1, 4].contains(rows)),
            "{rows:?}"
        );
    }
    assert!(bench.ends().iter().all(|(_, _, text)| text == "{abc:xy}"));
}

/// An answer of which all tokens but the first are forced.
fn long() -> Script {
    let text =
        "{a schema with long names forces as many tokens at once as there are here, and even more}";
    Script {
        forced: (1..text.len()).collect(),
        ..says(text)
    }
}

#[test]
fn a_long_run_of_a_call_alone_is_decoded_in_steps_of_a_fixed_size() {
    let mut bench = Bench::new(LIMITS, 8, long());
    bench.submit(1, 1, 95);
    bench.run_until_empty();
    assert_eq!(bench.ends()[0].2, long().text);
    assert_eq!(answer_rows(&bench, 0), [64, long().text.len() - 64]);
}

#[test]
fn a_long_run_of_a_slow_model_is_decoded_in_steps_of_three_seconds() {
    let limits = Limits {
        n_ctx: 200,
        kv_cells: 400,
        ..LIMITS
    };
    let script = Script {
        step: Some(100 * 64 * MS),
        ..long()
    };
    let mut bench = Bench::new(limits, 8, script);
    bench.submit(1, 64, 95);
    bench.run_until_empty();
    let rows: Vec<usize> = bench.seen.borrow().batches.iter().map(Vec::len).collect();
    assert_eq!(rows, [64, 30, 30, long().text.len() - 60]);
}

#[test]
fn a_long_run_leaves_room_for_prompts() {
    let mut bench = Bench::new(LIMITS, 8, long());
    bench.submit(1, 1, 95);
    bench.step();
    bench.submit(2, 90, 5);
    bench.step();
    let rows = bench.last_batch();
    let of_prompt = rows.iter().filter(|row| row.sequence == 1).count();
    assert!(
        rows.len() <= LIMITS.n_batch && 2 * of_prompt >= rows.len() - 1,
        "{of_prompt} of {}",
        rows.len()
    );
}
