//! Tests of fairness among the queued calls of several clients.

use super::bench::{Bench, LIMITS, numbered, request};
use super::scripted::{endless, says};
use super::*;
use crate::engine::{GenerateRequest, Message, Role};

/// Returns a request whose prompt has yet to be prepared.
fn question(id: u64) -> GenerateRequest {
    let mut request = request(5, &[]);
    request.conversation.messages.push(Message {
        role: Role::User,
        content: format!("question {id}"),
    });
    request
}

#[test]
fn clients_take_turns_and_get_correct_queue_positions() {
    let limits = Limits {
        parallel: 1,
        ..LIMITS
    };
    let mut bench = Bench::new(limits, 20, says("x"));
    for id in 1..=10 {
        bench.submit_of("many", id, 5, 5);
    }
    bench.step();
    bench.submit_of("few", 11, 5, 5);
    bench.submit_of("few", 12, 5, 5);
    let updates = numbered(bench.scheduler.take_updates());
    assert_eq!(
        updates
            .iter()
            .filter(|(id, _)| [2, 3, 4, 11, 12].contains(id))
            .cloned()
            .collect::<Vec<_>>(),
        [
            (11, Update::Queued(2)),
            (3, Update::Queued(3)),
            (12, Update::Queued(4)),
            (4, Update::Queued(5))
        ]
    );
    bench.run_until_empty();
    let order: Vec<u64> = bench.ends().iter().map(|(id, ..)| *id).collect();
    assert_eq!(order, [1, 2, 11, 3, 12, 4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn a_short_call_of_another_client_does_not_overtake_the_head_that_waits_for_cells() {
    let limits = Limits {
        kv_cells: 110,
        ..LIMITS
    };
    let mut bench = Bench::new(limits, 8, endless());
    bench.submit_of("long", 1, 10, 50);
    bench.submit_of("long", 2, 10, 80);
    bench.step();
    bench.submit_of("short", 3, 5, 5);
    bench.submit_of("other", 4, 5, 5);
    bench.run_until_empty();
    let admitted = bench
        .updates
        .iter()
        .filter_map(|(id, update)| match update {
            Update::Admitted => Some(*id),
            _ => None,
        });
    assert_eq!(admitted.collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn prompts_are_prepared_in_the_order_of_admission() {
    let mut bench = Bench::new(LIMITS, 8, says("x"));
    for (client, id) in [("many", 1), ("many", 2), ("many", 3), ("few", 4)] {
        assert!(bench.enter_of(client, id, question(id)));
    }
    let prepared = std::iter::from_fn(|| {
        bench
            .scheduler
            .next_to_prepare(|_| true)
            .map(|(id, _)| id.0)
    });
    assert_eq!(prepared.collect::<Vec<_>>(), [1, 4, 2, 3]);
}

#[test]
fn prompts_of_cancelled_calls_are_not_prepared() {
    let mut bench = Bench::new(LIMITS, 8, says("x"));
    for id in 1..=3 {
        assert!(bench.enter_of("one", id, question(id)));
    }
    let (first, conversation) = bench.scheduler.next_to_prepare(|_| true).unwrap();
    assert_eq!(
        (first.0, conversation.messages[0].content.as_str()),
        (1, "question 1")
    );
    bench.cancel(2, CancelReason::Cancelled);
    assert_eq!(
        bench
            .scheduler
            .next_to_prepare(|_| true)
            .map(|(id, _)| id.0),
        Some(3)
    );
    assert_eq!(bench.scheduler.next_to_prepare(|_| true), None);
}
