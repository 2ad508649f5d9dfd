//! Tests of the scheduler with a scripted decoder, without a model or a clock.

mod bench;
mod drafts;
mod fairness;
mod forced;
mod prefixes;
mod properties;
mod reasoning;
mod scripted;
mod threads;

use std::rc::Rc;

use bench::{Bench, LIMITS, MS, numbered};
pub(super) use bench::{prompt_of, request};
use scripted::{Script, Scripted, endless, says};

use super::*;
use crate::engine::EngineErrorKind;
use crate::engine::prompt::Prompt;
use crate::engine::thinking::Thinking;
use crate::engine::thinking::families::markers_of;

/// Returns an idle scheduler whose decoder writes `text` in every answer.
pub(super) fn scheduler_that_writes(text: &'static str) -> Scheduler<impl Decoder> {
    Bench::new(LIMITS, 8, says(text)).scheduler
}

#[test]
fn a_call_is_answered_and_frees_its_sequence() {
    let mut bench = Bench::new(LIMITS, 8, says("Lima."));
    bench.submit(1, 10, 50);
    bench.run_until_empty();
    assert_eq!(bench.ends(), [(1, FinishReason::Stop, "Lima.".into())]);
    let deltas: String = bench
        .updates
        .iter()
        .filter_map(|(_, update)| match update {
            Update::Delta(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(deltas, "Lima.");
    assert_eq!(bench.scheduler.stats().reserved_cells, 0);
    assert_eq!(bench.seen.borrow().cleared, [0]);
}

#[test]
fn positions_have_no_gaps_and_only_the_last_row_of_a_prompt_requests_logits() {
    let mut bench = Bench::new(LIMITS, 8, says("abc"));
    bench.submit(1, 70, 20);
    bench.run_until_empty();
    let rows: Vec<Row> = bench.seen.borrow().batches.concat();
    let positions: Vec<u32> = rows.iter().map(|row| row.position).collect();
    assert_eq!(positions, (0..73).collect::<Vec<u32>>());
    assert!(rows.iter().all(|row| row.logits == (row.position >= 69)));
}

#[test]
fn an_answer_is_truncated_at_max_tokens_and_at_the_end_of_the_context() {
    let mut bench = Bench::new(LIMITS, 8, endless());
    bench.submit(1, 10, 7);
    bench.submit(2, 95, 50);
    bench.run_until_empty();
    assert_eq!(
        bench.ends(),
        [
            (2, FinishReason::Length, "la la".into()),
            (1, FinishReason::Length, "la la l".into())
        ]
    );
}

#[test]
fn a_prompt_that_fills_the_context_is_rejected_with_both_numbers() {
    let mut bench = Bench::new(LIMITS, 8, endless());
    bench.submit(1, 100, 1);
    bench.step();
    let Some((1, Update::Failed(error))) = bench.updates.last() else {
        panic!("the call is rejected")
    };
    assert_eq!(error.kind, EngineErrorKind::ContextOverflow);
    assert_eq!(
        error.text,
        "the prompt has 100 tokens, but the model's context holds only 100, including the answer"
    );
}

#[test]
fn every_batch_starts_with_a_token_of_each_generating_sequence() {
    let mut bench = Bench::new(LIMITS, 8, endless());
    bench.submit(1, 1, 50);
    bench.step();
    bench.submit(2, 90, 5);
    bench.step();
    let batch = bench.last_batch();
    assert_eq!((batch[0].sequence, batch[0].logits), (0, true));
    assert!(batch[1..].iter().all(|row| row.sequence == 1));
    assert!(batch.len() > 1 && batch.len() <= LIMITS.n_batch);
}

#[test]
fn a_long_prompt_does_not_delay_a_short_one() {
    let limits = Limits {
        n_ctx: 10_000,
        kv_cells: 20_000,
        ..LIMITS
    };
    let mut bench = Bench::new(limits, 8, says("x"));
    bench.submit(1, 9000, 5);
    bench.submit(2, 20, 5);
    while bench.ends().is_empty() {
        bench.step();
    }
    assert_eq!(bench.ends()[0].0, 2);
    assert!(bench.batches() <= 3);
}

#[test]
fn no_step_of_a_single_prompt_is_shorter_than_a_tile() {
    let limits = Limits {
        n_ctx: 1000,
        kv_cells: 2000,
        n_batch: 512,
        ..LIMITS
    };
    // One tile before any speed is known, and then whole ubatches.
    for (prompt, expected) in [
        (110, vec![110]),
        (300, vec![64, 236]),
        (330, vec![64, 192, 74]),
    ] {
        let mut bench = Bench::new(limits, 8, endless());
        bench.submit(1, prompt, 1);
        bench.run_until_empty();
        let batches = bench.seen.borrow().batches.clone();
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn prompts_share_a_chunk_evenly() {
    let mut bench = Bench::new(LIMITS, 8, endless());
    bench.submit(1, 90, 5);
    bench.submit(2, 90, 5);
    bench.step();
    let of_first = bench
        .last_batch()
        .iter()
        .filter(|row| row.sequence == 0)
        .count();
    assert_eq!((of_first, bench.last_batch().len()), (32, 64));
}

#[test]
fn calls_are_admitted_in_order_and_get_queue_positions() {
    let mut bench = Bench::new(LIMITS, 8, says("x"));
    for id in 1..=4 {
        bench.submit(id, 5, 5);
    }
    bench.collect_updates();
    bench.step();
    let positions: Vec<_> = bench
        .updates
        .iter()
        .filter(|(id, _)| *id >= 3)
        .cloned()
        .collect();
    assert_eq!(
        positions,
        [
            (3, Update::Queued(3)),
            (4, Update::Queued(4)),
            (3, Update::Queued(1)),
            (4, Update::Queued(2))
        ]
    );
    bench.run_until_empty();
    let order: Vec<u64> = bench.ends().iter().map(|(id, ..)| *id).collect();
    assert_eq!(order, [1, 2, 3, 4]);
}

#[test]
fn a_call_waits_until_the_cells_of_its_prompt_and_answer_can_be_reserved() {
    let limits = Limits {
        kv_cells: 110,
        ..LIMITS
    };
    let mut bench = Bench::new(limits, 8, endless());
    bench.submit(1, 10, 50);
    bench.submit(2, 10, 50);
    bench.submit(3, 10, 10);
    bench.step();
    assert_eq!(
        (
            bench.scheduler.stats().active,
            bench.scheduler.stats().reserved_cells
        ),
        (1, 60)
    );
    bench.run_until_empty();
    let order: Vec<u64> = bench.ends().iter().map(|(id, ..)| *id).collect();
    // The third call would fit next to the first, but does not overtake the second.
    assert_eq!(order, [1, 3, 2]);
}

#[test]
fn a_call_whose_prompt_is_not_ready_keeps_its_position() {
    let mut bench = Bench::new(LIMITS, 8, says("x"));
    assert!(bench.enter(1, 5, &[]));
    bench.submit(2, 5, 5);
    bench.step();
    assert_eq!(bench.batches(), 0);
    assert!(bench.scheduler.is_idle() && !bench.scheduler.is_empty());
    bench.prepare(1, Ok(prompt_of(5)));
    bench.step();
    assert_eq!(bench.scheduler.stats().active, 2);
}

#[test]
fn the_error_of_a_full_queue_says_how_many_calls_wait() {
    let mut bench = Bench::new(LIMITS, 3, endless());
    for id in 1..=6 {
        bench.submit(id, 5, 5);
    }
    bench.step();
    assert_eq!(bench.failures(), [(6, EngineErrorKind::Busy)]);
    let busy = bench.updates.iter().find_map(|(_, update)| match update {
        Update::Failed(error) => Some(error.text.clone()),
        _ => None,
    });
    assert_eq!(
        busy.unwrap(),
        "the model is busy: its queue is full (3 calls)"
    );
}

#[test]
fn a_cancelled_call_ends_before_the_next_decode_in_every_phase() {
    let mut bench = Bench::new(LIMITS, 8, endless());
    bench.submit(1, 1, 50);
    bench.step();
    bench.submit(2, 90, 5);
    bench.submit(3, 5, 5);
    assert!(bench.enter(4, 5, &[]));
    bench.step();
    for id in 1..=5 {
        bench.cancel(id, CancelReason::Cancelled);
    }
    assert_eq!(bench.scheduler.stats().reserved_cells, 0);
    assert!(bench.scheduler.is_empty());
    let batches = bench.batches();
    bench.prepare(4, Ok(prompt_of(5)));
    bench.step();
    assert_eq!(bench.batches(), batches);
    assert!(
        bench
            .ends()
            .iter()
            .all(|(_, reason, _)| *reason == FinishReason::Cancelled)
    );
    let phases: Vec<Phase> = bench
        .updates
        .iter()
        .filter_map(|(_, update)| match update {
            Update::Done(Answer::Generated(generation)) => Some(generation.phase),
            _ => None,
        })
        .collect();
    assert_eq!(
        phases,
        [Phase::Generate, Phase::Prefill, Phase::Queue, Phase::Queue]
    );
}

#[test]
fn a_deadline_ends_a_call_with_its_text_so_far() {
    let mut bench = Bench::new(LIMITS, 8, endless());
    bench.submit(1, 1, 50);
    for _ in 0..4 {
        bench.step();
    }
    bench.cancel(1, CancelReason::Deadline);
    bench.step();
    assert_eq!(bench.ends(), [(1, FinishReason::Deadline, "la l".into())]);
}

#[test]
fn a_stop_string_ends_a_call_and_is_not_in_its_text() {
    let mut bench = Bench::new(LIMITS, 8, says("one two three"));
    assert!(bench.enter(1, 50, &["two"]));
    bench.prepare(1, Ok(prompt_of(3)));
    bench.run_until_empty();
    assert_eq!(bench.ends(), [(1, FinishReason::Stop, "one ".into())]);
}

#[test]
fn a_failed_decode_fails_only_the_calls_of_its_batch() {
    let script = Script {
        failing: vec![2],
        ..says("x")
    };
    let mut bench = Bench::new(LIMITS, 8, script);
    for id in 1..=3 {
        bench.submit(id, 5, 5);
    }
    bench.run_until_empty();
    assert_eq!(
        bench.failures(),
        [(1, EngineErrorKind::Decode), (2, EngineErrorKind::Decode)]
    );
    assert_eq!(bench.ends(), [(3, FinishReason::Stop, "x".into())]);
    assert_eq!(bench.scheduler.stats().reserved_cells, 0);
}

#[test]
fn a_prompt_that_cannot_be_made_fails_only_its_call() {
    let mut bench = Bench::new(LIMITS, 8, says("x"));
    assert!(bench.enter(1, 5, &[]));
    bench.prepare(1, Err(EngineError::new(EngineErrorKind::Template, "no")));
    bench.submit(2, 5, 5);
    bench.run_until_empty();
    assert_eq!(bench.failures(), [(1, EngineErrorKind::Template)]);
    assert_eq!(bench.ends().len(), 1);
}

#[test]
fn load_time_and_queue_time_are_separate() {
    let start = Instant::now();
    let waited = |received| {
        let call = QueuedCall::new(CallId(1), "one".into(), request(5, &[]), received);
        let usage = call.waiting_usage(start + 30 * MS, start + 50 * MS);
        (usage.load_ms, usage.queue_ms)
    };
    assert_eq!(waited(start), (30, 20));
    assert_eq!(waited(start + 40 * MS), (0, 10));
}

#[test]
fn calls_that_waited_for_the_load_get_queue_positions() {
    let mut queue = Queue::new(8);
    for id in [3, 4] {
        let call = QueuedCall::new(CallId(id), "one".into(), request(5, &[]), Instant::now());
        queue.push(call, 0).unwrap();
    }
    let decoder = Scripted::new(endless(), LIMITS, Rc::default());
    let mut scheduler = Scheduler::new(decoder, LIMITS, queue, Instant::now());
    assert_eq!(
        numbered(scheduler.take_updates()),
        [(3, Update::Queued(1)), (4, Update::Queued(2))]
    );
}

#[test]
fn a_stop_string_in_text_that_was_held_back_ends_the_answer() {
    // The stop string is held back together with the tag.
    let mut bench = Bench::new(LIMITS, 8, says("a <think> STOP b"));
    assert!(bench.enter(1, 50, &["STOP"]));
    let prompt = Prompt {
        thinking: Thinking::new(markers_of("<think>", &[], None).into()),
        ..prompt_of(3)
    };
    bench.prepare(1, Ok(prompt));
    bench.run_until_empty();
    assert_eq!(bench.ends(), [(1, FinishReason::Stop, "a <think> ".into())]);
}
