//! Who is taken in, and who is refused.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::engine::{SamplingParams, ThinkingOutput};

fn call(id: u64, client: &str) -> Waiting {
    let request = GenerateRequest {
        conversation: Conversation {
            messages: Vec::new(),
            thinking: ThinkingOutput::Strip,
            json_schema: None,
        },
        max_tokens: 1,
        sampling: SamplingParams::default(),
        stop: Vec::new(),
    };
    Waiting::new(id, client.into(), request, Instant::now())
}

/// How many calls of `client` are taken in until one is refused, and what is said of that one.
fn fill(queue: &mut Queue, client: &str, free: usize) -> (usize, String) {
    for taken in 0.. {
        if let Err(busy) = queue.push(call(0, client), free) {
            return (taken, busy.text);
        }
    }
    unreachable!("the queue is bounded")
}

#[test]
fn a_client_alone_has_all_its_places_beyond_those_that_start_at_once() {
    for (max_waiting, free, taken) in [(3, 0, 3), (3, 2, 5), (0, 2, 2), (0, 0, 0)] {
        let mut queue = Queue::new(max_waiting);
        let busy = format!("the model is busy: {max_waiting} calls are waiting, and no more may");
        assert_eq!(fill(&mut queue, "one", free), (taken, busy));
    }
}

#[test]
fn greedy_clients_leave_room_for_others_and_are_told_how_many_wait() {
    let mut queue = Queue::new(10);
    for (nth, all) in [(1, 10), (2, 20), (3, 30)] {
        let of_client = if nth == 1 {
            ""
        } else {
            ", 10 of them this client's"
        };
        assert_eq!(
            fill(&mut queue, &format!("greedy {nth}"), 0),
            (
                10,
                format!("the model is busy: {all} calls are waiting{of_client}, and no more may")
            )
        );
    }
    // Of the places that are left each takes no more than half, so there is one for who comes anew.
    let more: Vec<usize> = (4..8)
        .map(|nth| fill(&mut queue, &format!("greedy {nth}"), 0).0)
        .collect();
    assert_eq!(more, [5, 3, 1, 1]);
    assert_eq!(queue.len(), 40);
    assert_eq!(
        fill(&mut queue, "one too many", 0),
        (
            0,
            "the model is busy: 40 calls are waiting, and no more may".into()
        )
    );
}

proptest! {
    #[test]
    fn no_client_alone_keeps_others_out(
        max_waiting in 1_usize..20,
        calls in prop::collection::vec((0_u8..4, any::<bool>()), 1..200),
    ) {
        let mut queue = Queue::new(max_waiting);
        let mut own: HashMap<u8, usize> = HashMap::new();
        for (id, (client, is_served)) in (0..).zip(calls) {
            if is_served && let Some(call) = queue.pop() {
                *own.get_mut(&call.client.parse().unwrap()).unwrap() -= 1;
            }
            let had = *own.entry(client).or_default();
            let is_taken = queue.push(call(id, &client.to_string()), 0).is_ok();
            *own.get_mut(&client).unwrap() += usize::from(is_taken);
            // One that asks for little is never refused beside three others, however much they ask for.
            prop_assert!(is_taken || had > 0);
            prop_assert!(own.values().all(|own| *own <= max_waiting));
            prop_assert_eq!(own.values().sum::<usize>(), queue.len());
            prop_assert!(queue.len() <= CLIENTS * max_waiting);
        }
    }
}
