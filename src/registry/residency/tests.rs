//! The state machine under random schedules, compared with a simple model of it.

mod world;

use proptest::prelude::*;

use super::*;
use world::{Event, MODELS, World, events};

proptest! {
    #[test]
    fn no_schedule_breaks_an_invariant(
        events in events(),
        max_loaded in proptest::option::of(1..4_usize),
        pinned in proptest::option::of(0..MODELS.len()),
    ) {
        let mut world = World::with_pin(max_loaded, pinned);
        for event in &events {
            world.apply(event);
            let loaded = world.processes.len();
            prop_assert!(max_loaded.is_none_or(|max| loaded <= max), "{loaded} are loaded");
        }
        world.settle();
        prop_assert!(world.waiting.is_empty(), "forgotten: {:?}", world.waiting);
    }
}

#[test]
fn idle_time_counts_from_the_end_of_the_last_lease_and_not_while_the_model_loads() {
    let mut world = World::new(None);
    world.apply(&Event::Call(0));
    world.apply(&Event::Release(0));
    world.apply(&Event::Time(100));
    assert!(
        !world.processes[&RunnerId(1)].is_ending,
        "unloaded while loading"
    );
    world.apply(&Event::Loaded(0));
    world.apply(&Event::Call(0));
    world.apply(&Event::Time(100));
    assert!(
        !world.processes[&RunnerId(1)].is_ending,
        "unloaded under a lease"
    );
    world.apply(&Event::Release(0));
    world.apply(&Event::Time(59));
    assert!(
        !world.processes[&RunnerId(1)].is_ending,
        "unloaded before its idle timeout"
    );
    world.apply(&Event::Time(1));
    assert!(world.processes[&RunnerId(1)].is_ending);
}

#[test]
fn a_waiting_call_is_overtaken_only_for_a_few_seconds() {
    let mut world = World::new(Some(1));
    world.apply(&Event::Call(0));
    world.apply(&Event::Loaded(0));
    // The second model waits while calls of the first overlap.
    world.apply(&Event::Call(1));
    world.apply(&Event::Call(0));
    assert_eq!((world.held.len(), world.waiting.len()), (2, 1));
    world.apply(&Event::Time(5));
    world.apply(&Event::Call(0));
    assert_eq!((world.held.len(), world.waiting.len()), (2, 2));
    world.apply(&Event::Release(0));
    world.apply(&Event::Release(0));
    world.apply(&Event::Gone(0));
    assert_eq!(
        world.held.keys().copied().collect::<Vec<_>>(),
        [LeaseId(2)],
        "the first call in the queue is granted first"
    );
}

#[test]
fn the_waiting_calls_of_one_client_do_not_block_those_of_another() {
    let mut world = World::new(Some(1));
    world.apply(&Event::Call(0));
    let (busy, now) = (world.current[1], world.now);
    let mut refusals = |client: &str, calls: std::ops::Range<u64>| {
        for call in calls.map(LeaseId) {
            let stamp = Stamp::default();
            world.machine.call(call, client, busy, stamp, None, now);
        }
        let refusal = |action: &Action| match action {
            Action::Refuse(_, refusal) => Some(refusal.to_string()),
            _ => None,
        };
        let actions = world.machine.take_actions();
        actions.iter().filter_map(refusal).collect::<Vec<_>>()
    };
    let busy_text = "the model is busy: 100 calls are already waiting for other models to be unloaded; try again later";
    assert_eq!(refusals("many", 100..202), [busy_text, busy_text]);
    assert_eq!(refusals("few", 300..301), [""; 0]);
    let one = Refusal::Busy(1).to_string();
    assert!(one.contains(": 1 call is already waiting"), "{one}");
}

#[test]
fn a_failed_load_is_retried_after_a_backoff_and_after_three_deaths_only_once_the_file_changes() {
    let mut world = World::new(None);
    let refusal = |world: &mut World, stamp: Stamp| {
        world.machine.call(
            LeaseId(999),
            "one",
            world.current[0],
            stamp,
            None,
            world.now,
        );
        world.machine.admit(None, world.now);
        let actions = world.machine.take_actions();
        match &actions[..] {
            [Action::Refuse(LeaseId(999), refusal)] => refusal.to_string(),
            other => panic!("not refused: {other:?}"),
        }
    };
    for pause in [1, 2, 4] {
        world.apply(&Event::Call(0));
        world.apply(&Event::LoadFails(0, true));
        world.apply(&Event::Gone(0));
        if pause < 4 {
            let text = refusal(&mut world, Stamp::default());
            assert_eq!(
                text,
                format!("the model could not be loaded: it is broken; try again in {pause} s")
            );
        }
        world.apply(&Event::Time(pause));
    }
    let text = refusal(&mut world, Stamp::default());
    assert_eq!(
        text,
        "the model's process died 3 times in a row without finishing a call (it is broken); to start it again, change its file (`touch` is enough) or its configuration, or run `llama-mcp-server restart MODEL`"
    );
    let changed = Stamp::numbered(1);
    world.machine.call(
        LeaseId(1000),
        "one",
        world.current[0],
        changed,
        None,
        world.now,
    );
    world.machine.admit(None, world.now);
    assert!(matches!(
        world.machine.take_actions()[..],
        [Action::Start(..), Action::Grant(LeaseId(1000), _)]
    ));
}

/// Loads the first model and lets its process die while it serves.
fn die_serving(world: &mut World) {
    world.apply(&Event::Call(0));
    world.apply(&Event::Loaded(0));
    world.apply(&Event::Dies(0));
    world.apply(&Event::Gone(0));
}

#[test]
fn a_model_that_dies_three_times_while_it_serves_is_given_up_and_shown_as_failed() {
    let mut world = World::new(None);
    let model = world.current[0];
    for _ in 0..2 {
        die_serving(&mut world);
        assert_eq!(world.machine.given_up(model), None);
    }
    die_serving(&mut world);
    assert!(world.machine.given_up(model).is_some());
    let statuses = world.machine.statuses();
    assert_eq!(statuses[0].1.state, ModelState::Failed);
    world.apply(&Event::Call(0));
    assert_eq!((world.waiting.len(), world.processes.len()), (0, 0));
}

#[test]
fn an_answered_call_resets_the_count_of_deaths() {
    let mut world = World::new(None);
    for _ in 0..3 {
        die_serving(&mut world);
        die_serving(&mut world);
        world.apply(&Event::Call(0));
        world.apply(&Event::Loaded(0));
        world.apply(&Event::Finish(0));
        assert_eq!(world.machine.given_up(world.current[0]), None);
    }
}

#[test]
fn a_model_that_was_given_up_starts_again_after_a_restart_on_request() {
    let mut world = World::new(None);
    for _ in 0..3 {
        die_serving(&mut world);
    }
    let new = Edition(1000);
    let former = std::mem::replace(&mut world.current[0], new);
    world.needs.insert(new, MODELS[0]);
    world.machine.replace(former, new);
    world.apply(&Event::Call(0));
    assert_eq!((world.held.len(), world.processes.len()), (1, 1));
}

#[test]
fn a_reading_that_is_older_than_a_load_does_not_count_its_memory_as_free() {
    let mut world = World::new(None);
    let old = FreeMemory {
        bytes: 70,
        read_at: world.now,
    };
    world.apply(&Event::Call(0));
    world.apply(&Event::Time(1));
    world.apply(&Event::Loaded(0));
    world.apply(&Event::Time(1));
    let (call, second) = (LeaseId(1000), world.current[1]);
    world.waiting.insert(call);
    let stamp = Stamp::default();
    world
        .machine
        .call(call, "one", second, stamp, Some(old), world.now);
    // The loaded model has taken 40 of the 70 bytes.
    world.machine.admit(Some(old), world.now);
    assert_eq!(world.machine.take_actions(), []);
    let new = FreeMemory {
        read_at: world.now,
        ..old
    };
    world.machine.admit(Some(new), world.now);
    let actions = world.machine.take_actions();
    assert!(matches!(
        actions[..],
        [Action::Start(..), Action::Grant(..)]
    ));
}
