//! Tests with a simulated machine, on which busy processes come and go.

use proptest::prelude::*;

use super::*;

const PERIOD: Duration = Duration::from_millis(250);
const COST: Duration = Duration::from_millis(100);

/// How busy processes share the CPUs with the threads of a model.
#[derive(Debug, Clone, Copy)]
enum Sharing {
    /// Each thread gets an equal share.
    Equal,
    /// The threads wait for each other, so a CPU is idle now and then unless the busy processes fill them all.
    Waiting,
}

/// A machine with `cpus`, on which a model computes.
struct Machine {
    cpus: usize,
    sharing: Sharing,
    count: ThreadCount,
    /// Numbers of threads, from the first on.
    seen: Vec<usize>,
}

impl Machine {
    fn new(cpus: usize, configured: usize) -> Self {
        Self {
            cpus,
            sharing: Sharing::Equal,
            count: ThreadCount::new(configured),
            seen: vec![configured],
        }
    }

    fn threads(&self) -> usize {
        *self.seen.last().unwrap()
    }

    fn changes(&self) -> usize {
        self.seen.len() - 1
    }

    /// Computes for a period with this use of the CPUs.
    fn observe(&mut self, usage: CpuUse) {
        let former = self.threads();
        if let Some(threads) = self.count.observe(former, usage) {
            self.count.changed(former, threads, COST);
            self.seen.push(threads);
        }
    }

    /// Computes for `periods` next to `busy` processes that always compute, and whose use of the CPUs varies by `noise`.
    fn run(&mut self, busy: usize, periods: usize, noise: f64) {
        for period in 0..periods {
            let mut usage = self.usage(busy);
            let sign = if period % 2 == 0 { 1.0 } else { -1.0 };
            if busy > 0 {
                usage.others += sign * noise;
                usage.own -= sign * noise;
            }
            self.observe(usage);
        }
    }

    fn usage(&self, busy: usize) -> CpuUse {
        let (all, threads, busy) = (as_f64(self.cpus), as_f64(self.threads()), as_f64(busy));
        let (own, others, share) = if threads + busy <= all {
            (threads, busy, 1.0)
        } else {
            match self.sharing {
                Sharing::Waiting if busy < all => (0.8 * (all - busy), busy, 0.6),
                _ => {
                    let share = all / (threads + busy);
                    (threads * share, busy * share, share)
                }
            }
        };
        CpuUse {
            elapsed: PERIOD,
            all,
            own,
            others,
            share,
        }
    }
}

/// Returns the use of `all` CPUs of which others leave `free` to the model, whose threads do not use all of them.
fn usage(elapsed: Duration, all: f64, free: f64) -> CpuUse {
    CpuUse {
        elapsed,
        all,
        own: 0.5 * free,
        others: all - free,
        share: (0.5 * free).min(1.0),
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
    machine.run(14, 40, 0.05);
    assert_eq!(machine.threads(), 2);
}

#[test]
fn all_threads_stay_next_to_processes_that_alone_fill_the_cpus() {
    for (cpus, busy, threads) in [(2, 2, 2), (8, 12, 8), (8, 8, 8), (16, 32, 4), (16, 16, 16)] {
        let mut machine = Machine::new(cpus, threads);
        machine.run(busy, 1000, 0.05);
        assert_eq!(
            machine.seen,
            [threads],
            "{busy} busy processes on {cpus} CPUs"
        );
    }
}

#[test]
fn threads_return_if_more_processes_fill_the_cpus() {
    let mut machine = Machine::new(8, 8);
    machine.run(5, 40, 0.05);
    machine.run(12, 40, 0.05);
    assert_eq!(machine.seen, [8, 3, 8]);
    machine.run(5, 40, 0.05);
    assert_eq!(machine.threads(), 3);
}

#[test]
fn threads_that_wait_for_each_other_make_way_too() {
    let mut machine = Machine::new(8, 8);
    machine.sharing = Sharing::Waiting;
    machine.run(5, 40, 0.05);
    assert_eq!(machine.seen, [8, 3]);
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
fn an_expensive_change_is_rare() {
    let mut count = ThreadCount::new(2);
    count.changed(2, 1, Duration::from_secs(10));
    let period = usage(Duration::from_mins(1), 2.0, 2.0);
    assert_eq!(count.observe(1, period), None);
    assert_eq!(count.observe(1, period), Some(2));
}

#[test]
fn a_refused_change_is_tried_again_later() {
    let mut count = ThreadCount::new(2);
    let period = usage(Duration::from_secs(40), 2.0, 1.0);
    assert_eq!(count.observe(2, period), Some(1));
    count.refused();
    assert_eq!(count.observe(2, period), None);
    assert_eq!(count.observe(2, period), Some(1));
}

#[test]
fn periods_before_a_long_pause_say_nothing() {
    let mut count = ThreadCount::new(2);
    let period = usage(Duration::from_millis(1500), 2.0, 1.0);
    assert_eq!(count.observe(2, period), None);
    count.paused(Duration::from_hours(1));
    assert_eq!(count.observe(2, period), None);
    count.paused(Duration::from_secs(1));
    assert_eq!(count.observe(2, period), Some(1));
}

#[test]
fn a_model_starts_with_the_threads_that_have_a_cpu_or_with_all_if_none_is_left() {
    let second = Duration::from_secs(1);
    let loaded = |free| initial(4, usage(second, 4.0, free));
    assert_eq!([4.0, 3.9, 2.4, 0.7, 0.2].map(loaded), [4, 4, 2, 1, 4]);
    // Two busy processes on two CPUs: the thread that loads gets a third of the time.
    let full = CpuUse {
        elapsed: second,
        all: 2.0,
        own: 2.0 / 3.0,
        others: 4.0 / 3.0,
        share: 2.0 / 3.0,
    };
    assert_eq!(initial(2, full), 2);
    let short = usage(Duration::from_millis(100), 4.0, 1.0);
    assert_eq!(initial(4, short), 4);
}

proptest! {
    #[test]
    fn the_threads_follow_busy_processes_without_flapping(
        cpus in 2_usize..9,
        configured in 2_usize..9,
        waits: bool,
        phases in prop::collection::vec((0_usize..17, 1_u64..120), 1..20),
    ) {
        let configured = configured.min(cpus);
        let mut machine = Machine::new(cpus, configured);
        machine.sharing = if waits { Sharing::Waiting } else { Sharing::Equal };
        for (busy, seconds) in phases {
            let before = machine.changes();
            machine.run(busy, periods(Duration::from_secs(seconds)), 0.05);
            // One change may come from periods of the phase before.
            prop_assert!(machine.changes() - before <= 3, "{:?}", machine.seen);
            if seconds > 80 {
                // In between, the number stays.
                if busy < cpus {
                    prop_assert_eq!(machine.threads(), configured.min(cpus - busy));
                } else if 2 * busy >= 3 * cpus {
                    prop_assert_eq!(machine.threads(), configured);
                }
            }
        }
    }

    #[test]
    fn no_work_of_others_makes_the_threads_change_often(free in prop::collection::vec(0.0..2.0, 2000)) {
        let mut machine = Machine::new(2, 2);
        for cpus in free {
            // Others react as badly as they can: they come when a thread is added, and go when it is removed.
            let worst = if machine.threads() == 2 { 1.0 } else { 2.0 };
            machine.observe(usage(PERIOD, 2.0, if cpus < 1.9 { worst } else { cpus }));
        }
        let time = PERIOD * 2000;
        // Two changes for each period of probation or doubled wait, and those until the wait has doubled to its maximum.
        let most = 2 * (periods(time) / periods(PROBATION) + 6);
        prop_assert!(machine.changes() <= most, "{} changes", machine.changes());
    }
}
