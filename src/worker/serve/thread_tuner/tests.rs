//! Tests of the tuner with a clock, CPUs and memory of their own.

use std::cell::Cell;
use std::rc::Rc;

use super::*;
use crate::engine::EngineErrorKind;

const GIB: u64 = 1 << 30;

/// Two CPUs, of which other processes use some.
#[derive(Debug)]
struct Simulated {
    start: Instant,
    elapsed: Cell<Duration>,
    others: Cell<f64>,
    free_memory: u64,
}

impl Readings for Rc<Simulated> {
    type Times = Instant;

    fn now(&self) -> Instant {
        self.start + self.elapsed.get()
    }

    fn cpu_times(&self) -> Option<Instant> {
        Some(self.now())
    }

    fn usage(&self, from: Instant, to: Instant) -> Option<CpuUse> {
        let others = self.others.get();
        Some(CpuUse {
            elapsed: to.duration_since(from),
            all: 2.0,
            own: 0.8 * (2.0 - others),
            others,
            share: 0.9,
        })
    }

    fn free_memory(&self, mapped: u64) -> Option<u64> {
        Some(self.free_memory.saturating_sub(mapped))
    }
}

/// A model with a KV cache of which some bytes are used.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Model {
    threads: usize,
    used: u64,
    change: Change,
}

/// Outcome of a change of the number of threads.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    Succeeds,
    /// The number stays.
    Fails,
    /// The model is lost.
    Ends,
}

impl Threads for Model {
    fn n_threads(&self) -> usize {
        self.threads
    }

    fn bytes_to_switch(&self) -> u64 {
        self.used
    }

    fn with_threads(self, threads: usize) -> Result<Self, EngineError> {
        match self.change {
            Change::Succeeds => Ok(Self { threads, ..self }),
            Change::Fails => Ok(self),
            Change::Ends => Err(EngineError::new(EngineErrorKind::Load, "no memory")),
        }
    }
}

struct Bench {
    machine: Rc<Simulated>,
    tuner: ThreadTuner<Rc<Simulated>>,
    model: Model,
}

impl Bench {
    /// Two threads next to a busy process, with enough memory.
    fn new() -> Self {
        Self::with_memory(
            4 * GIB,
            Footprint {
                cache: 100 << 20,
                mapped: 0,
            },
        )
    }

    fn with_memory(free_memory: u64, footprint: Footprint) -> Self {
        let machine = Rc::new(Simulated {
            start: Instant::now(),
            elapsed: Cell::new(Duration::ZERO),
            others: Cell::new(1.0),
            free_memory,
        });
        Self {
            tuner: ThreadTuner::new(Rc::clone(&machine), 2, footprint),
            machine,
            model: Model {
                threads: 2,
                used: 0,
                change: Change::Succeeds,
            },
        }
    }

    fn wait(&self, time: Duration) {
        self.machine.elapsed.set(self.machine.elapsed.get() + time);
    }

    /// Computes for `time` in steps of 50 ms, with a pause of `pause` before each.
    fn compute(&mut self, time: Duration, pause: Duration) -> Result<usize, EngineError> {
        let end = self.machine.elapsed.get() + time;
        while self.machine.elapsed.get() < end {
            self.wait(pause);
            let started = self.machine.now();
            self.wait(Duration::from_millis(50));
            self.model = self.tuner.after_step(self.model, started)?;
        }
        Ok(self.model.threads)
    }

    fn seconds(&mut self, seconds: u64) -> usize {
        let time = Duration::from_secs(seconds);
        self.compute(time, Duration::ZERO).unwrap()
    }
}

#[test]
fn a_model_that_always_computes_gets_fewer_threads_next_to_a_busy_process_and_more_after_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.seconds(1), 2);
    assert_eq!(bench.seconds(2), 1);
    bench.machine.others.set(0.0);
    assert_eq!(bench.seconds(4), 2);
}

#[test]
fn periods_that_the_model_does_not_fill_change_nothing() {
    let mut bench = Bench::new();
    let time = Duration::from_mins(2);
    let pause = Duration::from_millis(20);
    assert_eq!(bench.compute(time, pause).unwrap(), 2);
}

#[test]
fn periods_before_and_after_an_idle_time_are_not_added() {
    let mut bench = Bench::new();
    for _ in 0..10 {
        assert_eq!(bench.seconds(2), 2);
        bench.wait(Duration::from_hours(1));
    }
    assert_eq!(bench.seconds(3), 1);
}

#[test]
fn short_pauses_between_calls_keep_the_evidence() {
    let mut bench = Bench::new();
    assert_eq!(bench.seconds(2), 2);
    bench.wait(Duration::from_millis(300));
    assert_eq!(bench.seconds(2), 1);
}

#[test]
fn a_mapped_model_leaves_no_memory_for_the_copy_of_its_cells() {
    // A machine with 32 GiB: 6 GiB are used cells, and 30 GiB of weights in the page cache seem to be free.
    let footprint = |mapped| Footprint {
        cache: 100 << 20,
        mapped,
    };
    let mut bench = Bench::with_memory(26 * GIB, footprint(30 * GIB));
    bench.model.used = GIB / 4;
    assert_eq!(bench.seconds(10), 2);
    let mut bench = Bench::with_memory(26 * GIB, footprint(0));
    bench.model.used = GIB / 4;
    assert_eq!(bench.seconds(10), 1);
}

#[test]
fn a_change_that_would_stop_calls_for_seconds_is_refused() {
    let footprint = |cache| Footprint { cache, mapped: 0 };
    let mut bench = Bench::with_memory(64 * GIB, footprint(16 * GIB));
    assert_eq!(bench.seconds(10), 2);
    // Creating the context was fast.
    let mut bench = Bench::with_memory(64 * GIB, footprint(16 * GIB));
    bench.tuner.created(Duration::from_millis(300));
    assert_eq!(bench.seconds(10), 1);
    let mut bench = Bench::with_memory(64 * GIB, footprint(16 * GIB));
    bench.tuner.created(Duration::from_millis(800));
    assert_eq!(bench.seconds(10), 2);
}

#[test]
fn many_used_cells_prevent_a_change_to_fewer_threads_but_not_the_way_back() {
    let mut bench = Bench::with_memory(64 * GIB, Bench::new().tuner.footprint);
    bench.model.used = 2 * GIB;
    assert_eq!(bench.seconds(10), 2);
    let mut bench = Bench::with_memory(64 * GIB, Bench::new().tuner.footprint);
    assert_eq!(bench.seconds(10), 1);
    bench.model.used = 2 * GIB;
    bench.machine.others.set(0.0);
    assert_eq!(bench.seconds(10), 2);
}

#[test]
fn a_model_that_cannot_continue_after_a_change_ends() {
    let mut bench = Bench::new();
    bench.model.change = Change::Ends;
    let end = bench.compute(Duration::from_secs(5), Duration::ZERO);
    assert_eq!(end.unwrap_err().kind, EngineErrorKind::Load);
}

#[test]
fn a_change_that_failed_is_not_tried_again() {
    let mut bench = Bench::new();
    bench.model.change = Change::Fails;
    assert_eq!(bench.seconds(5), 2);
    bench.model.change = Change::Succeeds;
    assert_eq!(bench.seconds(300), 2);
}

#[test]
fn the_number_of_threads_is_fixed_under_a_throttling_quota_or_if_there_is_only_one() {
    let load = |n_threads| LoadSettings {
        n_threads,
        ..LoadSettings::default()
    };
    assert!(is_adaptive(&load(2), None));
    assert!(is_adaptive(&load(2), Some(CpuQuota(2000))));
    assert!(!is_adaptive(&load(2), Some(CpuQuota(1999))));
    assert!(!is_adaptive(&load(1), None));
    assert!(LoadObserver::start(&load(1)).is_none());
}
