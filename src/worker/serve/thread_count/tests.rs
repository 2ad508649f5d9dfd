//! Tests with a simulated machine, on which busy processes come and go.

use proptest::prelude::*;

use super::*;

const PERIOD: Duration = Duration::from_millis(250);
const COST: Duration = Duration::from_millis(100);

/// A machine with `cpus`, on which a model computes.
struct Machine {
    cpus: usize,
    count: ThreadCount,
    /// Numbers of threads, from the first on.
    seen: Vec<usize>,
}

impl Machine {
    fn new(cpus: usize, configured: usize) -> Self {
        Self {
            cpus,
            count: ThreadCount::new(configured, configured),
            seen: vec![configured],
        }
    }

    fn threads(&self) -> usize {
        *self.seen.last().unwrap()
    }

    fn changes(&self) -> usize {
        self.seen.len() - 1
    }

    /// Computes for a period in which others left `unused` CPUs.
    fn observe(&mut self, unused: f64) {
        let free = free(PERIOD, unused);
        if let Some(threads) = self.count.observe(free) {
            self.count.changed(threads, COST);
            self.seen.push(threads);
        }
    }

    /// Computes for `periods` next to `busy` processes that always compute, and whose use of the CPUs varies by `noise`.
    ///
    /// The threads wait for each other, so together they take one share of the CPUs. Measured on 2 CPUs with 2 threads: 1 busy process gets
    /// 1.0 CPUs, and 2 get 1.2.
    fn run(&mut self, busy: usize, periods: usize, noise: f64) {
        for period in 0..periods {
            let (cpus, busy) = (as_f64(self.cpus), as_f64(busy));
            let share = (cpus / (busy + 1.0)).min(1.0);
            let sign = if period % 2 == 0 { 1.0 } else { -1.0 };
            self.observe(cpus - busy * share + sign * noise);
        }
    }
}

fn free(elapsed: Duration, cpus: f64) -> FreeCpus {
    FreeCpus {
        elapsed,
        unused: cpus,
        available: cpus,
    }
}

fn periods(time: Duration) -> usize {
    whole(time.div_duration_f64(PERIOD))
}

#[test]
fn the_number_falls_next_to_a_busy_process_and_rises_after_it() {
    let mut machine = Machine::new(2, 2);
    machine.run(0, 40, 0.1);
    machine.run(1, 40, 0.1);
    machine.run(0, 40, 0.1);
    assert_eq!(machine.seen, [2, 1, 2]);
}

#[test]
fn a_change_takes_two_seconds_down_and_three_up() {
    let mut machine = Machine::new(2, 2);
    machine.run(1, 7, 0.0);
    assert_eq!(machine.threads(), 2);
    machine.run(1, 1, 0.0);
    assert_eq!(machine.threads(), 1);
    machine.run(0, 11, 0.0);
    assert_eq!(machine.threads(), 1);
    machine.run(0, 1, 0.0);
    assert_eq!(machine.threads(), 2);
}

#[test]
fn with_idle_cpus_on_a_larger_machine_the_number_stays() {
    let mut machine = Machine::new(16, 4);
    machine.run(12, 400, 0.3);
    assert_eq!(machine.seen, [4]);
    machine.run(14, 40, 0.1);
    assert_eq!(machine.threads(), 2);
}

#[test]
fn short_work_of_others_changes_nothing() {
    let mut machine = Machine::new(2, 2);
    for _ in 0..100 {
        machine.run(1, 4, 0.0);
        machine.run(0, 4, 0.0);
    }
    assert_eq!(machine.seen, [2]);
}

#[test]
fn work_of_low_priority_does_not_prevent_a_rise() {
    let mut count = ThreadCount::new(2, 1);
    let period = FreeCpus {
        elapsed: Duration::from_secs(3),
        unused: 1.0,
        available: 2.0,
    };
    assert_eq!(count.observe(period), Some(2));
}

#[test]
fn an_expensive_change_is_rare() {
    let mut count = ThreadCount::new(2, 2);
    count.changed(1, Duration::from_secs(10));
    let period = free(Duration::from_mins(1), 2.0);
    assert_eq!(count.observe(period), None);
    assert_eq!(count.observe(period), Some(2));
}

#[test]
fn a_refused_change_is_tried_again_later() {
    let mut count = ThreadCount::new(2, 2);
    let period = free(Duration::from_secs(40), 1.0);
    assert_eq!(count.observe(period), Some(1));
    count.refused();
    assert_eq!(count.observe(period), None);
    assert_eq!(count.observe(period), Some(1));
}

#[test]
fn a_model_starts_with_the_threads_that_have_a_cpu() {
    let loaded = |cpus| initial(4, free(Duration::from_secs(1), cpus));
    assert_eq!([8.0, 3.9, 2.4, 0.7, 0.4].map(loaded), [4, 4, 2, 1, 4]);
    assert_eq!(initial(4, free(Duration::from_millis(100), 1.0)), 4);
}

proptest! {
    #[test]
    fn the_threads_follow_busy_processes_without_flapping(
        cpus in 2_usize..9,
        configured in 2_usize..9,
        phases in prop::collection::vec((0_usize..9, 1_u64..120), 1..20),
    ) {
        let configured = configured.min(cpus);
        let mut machine = Machine::new(cpus, configured);
        for (busy, seconds) in phases {
            let before = machine.changes();
            machine.run(busy, periods(Duration::from_secs(seconds)), 0.15);
            // The phase before may cause one of the changes.
            prop_assert!(machine.changes() - before <= 3, "{:?}", machine.seen);
            if seconds > 80 && busy < cpus {
                prop_assert_eq!(machine.threads(), configured.min(cpus - busy));
            }
        }
    }

    #[test]
    fn no_pattern_of_other_work_makes_the_number_change_often(unused in prop::collection::vec(0.0..2.0, 2000)) {
        let mut machine = Machine::new(2, 2);
        for cpus in unused {
            // The worst case: other work starts when a thread is added, and stops when it is removed.
            let worst = if machine.threads() == 2 { 1.0 } else { 2.0 };
            machine.observe(if cpus < 1.9 { worst } else { cpus });
        }
        let time = PERIOD * 2000;
        // Two changes for each period of probation or doubled wait, and those until the wait has doubled to its maximum.
        let most = 2 * (periods(time) / periods(PROBATION) + 6);
        prop_assert!(machine.changes() <= most, "{} changes", machine.changes());
    }
}
