//! Who is taken in, and who is refused.

use super::*;
use crate::engine::{SamplingParams, ThinkingOutput};

fn call(client: &str) -> Waiting {
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
    Waiting::new(0, client.into(), request, Instant::now())
}

/// How many calls of `client` are taken in until one is refused, and what is said of that one.
fn fill(queue: &mut Queue, client: &str, free: usize) -> (usize, String) {
    for taken in 0.. {
        if let Err(busy) = queue.push(call(client), free) {
            return (taken, busy.text);
        }
    }
    unreachable!("the queue is bounded")
}

#[test]
fn a_client_alone_has_all_its_places_beyond_those_that_start_at_once() {
    for (max_waiting, free, taken) in [(3, 0, 3), (3, 2, 5), (0, 2, 2), (0, 0, 0)] {
        let mut queue = Queue::new(max_waiting);
        let busy = format!("the model is busy: its queue is full ({max_waiting} calls)");
        assert_eq!(fill(&mut queue, "one", free), (taken, busy));
    }
}

#[test]
fn who_is_refused_beside_others_is_told_how_many_wait_and_how_many_of_them_are_its_own() {
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
