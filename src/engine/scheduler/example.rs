use std::time::Instant;

use super::tests::{prompt_of, request, scheduler_that_writes};
use crate::engine::queue::QueuedCall;
use crate::engine::{Answer, CallId, Update};

#[test]
fn a_call_is_answered() {
    let now = Instant::now();
    let mut scheduler = scheduler_that_writes("Lima.");
    scheduler.submit(QueuedCall::new(
        CallId(1),
        "client".into(),
        request(50, &[]),
        now,
    ));
    // A worker builds prompts on other threads: `PromptBuilder::build`, for each conversation of `next_to_prepare`.
    scheduler.set_prompt(CallId(1), Ok(prompt_of(9)));

    let mut updates = Vec::new();
    while !scheduler.is_idle() {
        scheduler.step(now);
        updates.extend(scheduler.take_updates());
    }

    assert_eq!(updates[0], (CallId(1), Update::Admitted));
    assert_eq!(
        updates[1],
        (CallId(1), Update::Prefill { done: 9, total: 9 })
    );
    assert_eq!(updates[2], (CallId(1), Update::Delta("L".into())));
    let Some((CallId(1), Update::Done(Answer::Generated(generation)))) = updates.pop() else {
        panic!("the last update is the answer")
    };
    assert_eq!(generation.text, "Lima.");
    assert_eq!(generation.usage.completion_tokens, 5);
}
