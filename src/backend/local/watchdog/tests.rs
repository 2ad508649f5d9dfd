//! The watchdog with a simulated clock.

use proptest::prelude::*;

use super::*;
use crate::process::activity::Activity;

const LIMIT: Duration = Duration::from_mins(2);
const SECOND: Duration = Duration::from_secs(1);

/// A watchdog, its clock, and the work of the watched process so far.
struct World {
    dog: Watchdog,
    now: Instant,
    work: u64,
    reads: u64,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            dog: Watchdog::new(now),
            now,
            work: 0,
            reads: 0,
        }
    }

    /// Checks once, `after` the last check.
    fn check(&mut self, after: Duration) {
        self.now += after;
        let activity = Activity::new(self.work, self.reads);
        self.dog.check(self.now, SECOND, Some(activity));
    }

    /// Checks every second until the process has stalled. Returns the seconds.
    fn seconds_to_stall(&mut self, is_working: bool) -> u32 {
        for second in 1..100_000 {
            self.work += u64::from(is_working);
            self.check(SECOND);
            if self.dog.has_stalled(Some(LIMIT)) {
                return second;
            }
        }
        panic!("the process never stalls")
    }
}

#[test]
fn an_inactive_process_stalls_after_the_limit() {
    // The first check only records the work done before it.
    assert_eq!(World::new().seconds_to_stall(false), 121);
}

#[test]
fn a_process_that_works_on_a_step_gets_ten_times_as_long() {
    assert_eq!(World::new().seconds_to_stall(true), 1200);
}

#[test]
fn a_process_that_reads_from_a_slow_disk_never_stalls() {
    let mut world = World::new();
    for _ in 0..100_000 {
        world.reads += 1;
        world.check(SECOND);
        assert!(!world.dog.has_stalled(Some(LIMIT)));
    }
    // Then it hangs.
    assert_eq!(world.seconds_to_stall(false), 120);
}

#[test]
fn time_without_reads_adds_up() {
    let mut world = World::new();
    for second in 0..2400 {
        world.work += 1;
        world.reads += u64::from(second % 2 == 0);
        world.check(SECOND);
    }
    assert!(world.dog.has_stalled(Some(LIMIT)));
}

#[test]
fn a_finished_step_restarts_the_time() {
    let mut world = World::new();
    for _ in 0..1000 {
        for _ in 0..100 {
            world.check(SECOND);
        }
        assert!(!world.dog.has_stalled(Some(LIMIT)));
        world.dog.heard();
    }
}

#[test]
fn an_idle_process_never_stalls_and_one_that_gets_work_later_has_the_full_limit() {
    let mut world = World::new();
    world.dog.rest();
    assert_eq!(world.dog.next_check(SECOND), None);
    world.check(LIMIT * 100);
    assert!(!world.dog.has_stalled(Some(LIMIT)));
    world.now += LIMIT * 100;
    world.dog.expect(world.now);
    assert_eq!(world.seconds_to_stall(false), 121);
}

#[test]
fn more_work_for_a_busy_process_does_not_restart_the_time() {
    let mut world = World::new();
    for _ in 0..100 {
        world.check(SECOND);
        world.dog.expect(world.now);
    }
    assert_eq!(world.seconds_to_stall(false), 21);
}

#[test]
fn time_in_which_the_server_itself_was_stopped_is_not_counted() {
    let mut world = World::new();
    world.check(SECOND);
    world.check(Duration::from_hours(10));
    assert!(!world.dog.has_stalled(Some(LIMIT)));
    assert_eq!(world.dog.silence(), Some(SECOND * 3));
}

#[test]
fn a_process_of_unknown_activity_counts_as_working() {
    let mut world = World::new();
    for _ in 0..1000 {
        world.now += SECOND;
        world.dog.check(world.now, SECOND, None);
    }
    assert!(!world.dog.has_stalled(Some(LIMIT)));
}

#[test]
fn without_a_limit_nothing_stalls_and_the_silence_is_known() {
    let mut world = World::new();
    for _ in 0..100_000 {
        world.check(SECOND);
    }
    assert!(!world.dog.has_stalled(None));
    assert_eq!(world.dog.silence(), Some(SECOND * 100_000));
}

#[derive(Debug, Clone)]
enum Event {
    Look(u64, bool),
    Heard,
    Expect,
    Rest,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        8 => (1..5_000_u64, any::<bool>()).prop_map(|(millis, works)| Event::Look(millis, works)),
        1 => Just(Event::Heard),
        1 => Just(Event::Expect),
        1 => Just(Event::Rest),
    ];
    proptest::collection::vec(event, 1..400)
}

proptest! {
    #[test]
    fn only_a_process_that_had_work_and_gave_no_sign_for_the_limit_stalls(events in events()) {
        let mut world = World::new();
        let (mut has_work, mut silent) = (true, Duration::ZERO);
        for event in events {
            match event {
                Event::Look(millis, works) => {
                    let passed = Duration::from_millis(millis);
                    world.work += u64::from(works);
                    world.check(passed);
                    silent += passed;
                }
                Event::Heard => {
                    world.dog.heard();
                    silent = Duration::ZERO;
                }
                Event::Expect => {
                    world.dog.expect(world.now);
                    silent = if has_work { silent } else { Duration::ZERO };
                    has_work = true;
                }
                Event::Rest => {
                    world.dog.rest();
                    has_work = false;
                }
            }
            if world.dog.has_stalled(Some(SECOND * 10)) {
                prop_assert!(has_work && silent >= SECOND * 10);
            }
        }
    }
}

#[test]
fn a_limit_that_is_set_late_counts_only_time_without_reads() {
    let mut world = World::new();
    for _ in 0..3600 {
        world.reads += 1;
        world.check(SECOND);
        assert!(!world.dog.has_stalled(None));
    }
    assert!(!world.dog.has_stalled(Some(LIMIT)));
}
