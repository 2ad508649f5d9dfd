//! Tests of the queue's limits and of its error.

use super::*;
use crate::engine::{SamplingParams, ThinkingOutput};

fn call(client: &str) -> QueuedCall {
    let request = GenerateRequest {
        conversation: Conversation {
            messages: Vec::new(),
            thinking: ThinkingOutput::Strip,
            json_schema: None,
            thinking_budget: None,
            template_arguments: serde_json::Map::new(),
        },
        max_tokens: 1,
        sampling: SamplingParams::default(),
        stop: Vec::new(),
    };
    QueuedCall::new(CallId(0), client.into(), request, Instant::now())
}

/// Queues calls of `client` until one is rejected. Returns the number of queued ones, and the error.
fn fill(queue: &mut Queue, client: &str, free: usize) -> (usize, String) {
    for taken in 0.. {
        if let Err(busy) = queue.push(call(client), free) {
            return (taken, busy.text);
        }
    }
    unreachable!("the queue is bounded")
}

#[test]
fn calls_that_start_at_once_do_not_count_toward_the_limit() {
    for (max_queue, free, taken) in [(3, 0, 3), (3, 2, 5), (0, 2, 2), (0, 0, 0)] {
        let mut queue = Queue::new(max_queue);
        let busy = format!("the model is busy: its queue is full ({max_queue} calls)");
        assert_eq!(fill(&mut queue, "one", free), (taken, busy));
    }
}

#[test]
fn the_error_of_a_full_queue_says_how_many_calls_wait_and_how_many_of_them_are_from_this_client() {
    let mut queue = Queue::new(10);
    fill(&mut queue, "greedy", 0);
    assert_eq!(
        fill(&mut queue, "another", 0),
        (
            10,
            "the model is busy: its queue is full (20 calls, 10 of them from this client)".into()
        )
    );
    for nth in 0..10 {
        fill(&mut queue, &format!("one of many {nth}"), 0);
    }
    assert_eq!(
        fill(&mut queue, "one too many", 0),
        (0, "the model is busy: its queue is full (40 calls)".into())
    );
}
