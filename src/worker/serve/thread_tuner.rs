//! Adjusts the number of threads of a loaded model to the CPUs that other processes leave free, see [`super::thread_count`].

use std::time::{Duration, Instant};

use super::thread_count::{ThreadCount, as_f64, initial};
use crate::config::LoadSettings;
use crate::engine::EngineError;
use crate::engine::scheduler::Scheduler;
use crate::engine::threaded::ThreadedDecoder;
use crate::memory;
use crate::process::cpu_time::{CpuClock, CpuTimes, CpuUse};
use crate::process::{CpuQuota, cpu_quota};
use crate::telemetry::millis;
use crate::worker::HELPER_THREADS;

/// Shortest period of an observation. In a shorter one, idle times of a few percent would be lost in rounding.
const PERIOD: Duration = Duration::from_secs(1);

/// Share of a period that steps must fill. In the rest of the time, other models of the server may have computed: models take turns.
const MIN_FILLED: f64 = 0.9;

/// Longest estimated pause for a change to fewer threads.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Longest estimated pause for a change to more threads. Without it, a model whose cache has filled up meanwhile would stay slow.
const MAX_PAUSE_FOR_MORE: Duration = Duration::from_secs(3);

/// Bytes that are cleared or copied in a second, estimated low. Clearing new memory takes longest: 2.5 GB/s on an AMD EPYC.
const BYTES_PER_SECOND: u64 = 2_000_000_000;

/// The clock, CPUs and memory that a tuner observes.
pub(super) trait Readings {
    /// CPU times at one moment.
    type Times: Copy;
    /// Returns the current time.
    fn now(&self) -> Instant;
    /// Returns the current CPU times; `None` if they are unknown.
    fn cpu_times(&self) -> Option<Self::Times>;
    /// Returns the use of the CPUs between two times; `None` if it is unknown.
    fn usage(&self, from: Self::Times, to: Self::Times) -> Option<CpuUse>;
    /// See [`memory::free_beside`].
    fn free_memory(&self, mapped: u64) -> Option<u64>;
}

/// A model whose number of threads can change.
pub(super) trait Threads: Sized {
    /// Returns the number of threads that decode.
    fn n_threads(&self) -> usize;
    /// Returns the bytes of memory that [`Self::with_threads`] requires temporarily.
    fn bytes_to_switch(&self) -> u64;
    /// Returns the model with `n_threads` threads, or with the former number if that is impossible.
    ///
    /// # Errors
    /// `Load` if the model cannot continue.
    fn with_threads(self, n_threads: usize) -> Result<Self, EngineError>;
}

/// Sizes that decide whether a change of the number of threads is affordable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Footprint {
    /// Size of the KV cache, in bytes. A change clears it twice: when the context is created, and before its content is restored.
    pub cache: u64,
    /// Bytes of the model's file that are in the page cache, which counts as free memory.
    pub mapped: u64,
}

/// Observes the CPUs while a model decodes.
#[derive(Debug)]
pub(super) struct ThreadTuner<R: Readings = CpuClock> {
    readings: R,
    count: ThreadCount,
    footprint: Footprint,
    /// Time that creating the context took; `None` before it was created.
    creation: Option<Duration>,
    /// Times at the start of the current period.
    start: Option<(Instant, R::Times)>,
    /// Time of steps in the current period.
    filled: Duration,
}

/// Observes the CPUs while a model is loaded.
#[derive(Debug)]
pub(super) struct LoadObserver {
    clock: CpuClock,
    start: CpuTimes,
}

impl LoadObserver {
    /// Starts to observe the load of a model with `load`. Returns `None` if its number of threads is fixed ([`is_adaptive`]), or if the
    /// system does not report the use of its CPUs.
    pub(super) fn start(load: &LoadSettings) -> Option<Self> {
        if !is_adaptive(load, cpu_quota()) {
            return None;
        }
        let clock = CpuClock::new(&HELPER_THREADS)?;
        let start = clock.now().filter(CpuTimes::has_waits)?;
        Some(Self { clock, start })
    }

    /// Ends the observation. Call this function on the thread that has loaded the model, whose times count.
    pub(super) fn end(self) -> LoadObservation {
        let end = self.clock.now();
        LoadObservation {
            usage: end.and_then(|end| self.clock.usage(self.start, end)),
            clock: self.clock,
        }
    }
}

/// Use of the CPUs while a model was loaded.
#[derive(Debug)]
pub(super) struct LoadObservation {
    clock: CpuClock,
    usage: Option<CpuUse>,
}

impl LoadObservation {
    /// Returns the tuner of the loaded model, and the number of threads with which the model starts. If `others_compute`, other models of
    /// the server used the CPUs, with which this one will take turns.
    pub(super) fn finish(
        self,
        load: &LoadSettings,
        footprint: Footprint,
        others_compute: bool,
    ) -> (ThreadTuner, usize) {
        let configured = load.n_threads;
        // If a change may be too expensive, the model could not take its threads back.
        let is_cheap = footprint.estimated_pause(footprint.cache) <= MAX_PAUSE;
        let usage = self.usage.filter(|_| is_cheap && !others_compute);
        let threads = usage.map_or(configured, |usage| initial(configured, usage));
        if let Some(usage) = usage
            && threads < configured
        {
            tracing::info!(
                n_threads = configured,
                threads,
                free_cpus = rounded(usage.free()),
                "starting with fewer threads: other programs use the CPUs"
            );
        }
        let tuner = ThreadTuner::new(self.clock, configured, footprint);
        (tuner, threads)
    }
}

impl Footprint {
    /// Estimates the pause for a change that copies `used` bytes of cells.
    fn estimated_pause(self, used: u64) -> Duration {
        time_of(self.cache.saturating_mul(2)).saturating_add(time_of_copies(used))
    }
}

impl<R: Readings> ThreadTuner<R> {
    fn new(readings: R, configured: usize, footprint: Footprint) -> Self {
        Self {
            readings,
            count: ThreadCount::new(configured),
            footprint,
            creation: None,
            start: None,
            filled: Duration::ZERO,
        }
    }

    /// Records that creating the context took `creation`.
    pub(super) fn created(&mut self, creation: Duration) {
        self.creation = Some(creation);
    }

    /// Takes in a step from `started` to now, and changes the threads of `model` if that makes it faster.
    ///
    /// # Errors
    /// `Load` if the model cannot continue.
    pub(super) fn after_step<M: Threads>(
        &mut self,
        model: M,
        started: Instant,
    ) -> Result<M, EngineError> {
        let Some(usage) = self.period(started) else {
            return Ok(model);
        };
        match self.count.observe(model.n_threads(), usage) {
            Some(threads) => self.change(model, threads, usage),
            None => Ok(model),
        }
    }

    /// Adds a step from `started` to now to the period. Returns the use of the CPUs if the period is complete and steps have filled it.
    fn period(&mut self, started: Instant) -> Option<CpuUse> {
        let now = self.readings.now();
        self.filled += now.duration_since(started);
        let elapsed = match &self.start {
            Some((start, _)) => now.duration_since(*start),
            None => Duration::MAX,
        };
        if elapsed < PERIOD {
            return None;
        }
        let is_filled = self.filled >= elapsed.mul_f64(MIN_FILLED);
        if !is_filled {
            self.count.paused(elapsed);
        }
        let former = self.start.take();
        self.filled = Duration::ZERO;
        let times = self.readings.cpu_times()?;
        self.start = Some((now, times));
        let (_, former) = former.filter(|_| is_filled)?;
        self.readings.usage(former, times)
    }

    fn change<M: Threads>(
        &mut self,
        model: M,
        threads: usize,
        usage: CpuUse,
    ) -> Result<M, EngineError> {
        let former = model.n_threads();
        let bytes = model.bytes_to_switch();
        if let Some(reason) = self.objection(bytes, threads > former) {
            tracing::debug!(bytes, "the number of threads stays: {reason}");
            self.count.refused();
            return Ok(model);
        }
        let started = self.readings.now();
        let model = model.with_threads(threads)?;
        let cost = self.readings.now().duration_since(started);
        if model.n_threads() == threads {
            self.count.changed(former, threads, cost);
            let cause = match usage.free() {
                _ if threads < former => "other programs use the CPUs",
                free if free < as_f64(threads) => "other programs fill the CPUs",
                _ => "CPUs are free",
            };
            tracing::info!(
                from = former,
                to = threads,
                free_cpus = rounded(usage.free()),
                ms = millis(cost),
                "changed the number of threads: {cause}"
            );
        } else {
            self.count.failed();
        }
        // A period must not contain the change, which is not a step.
        self.start = None;
        Ok(model)
    }

    /// Returns the reason against a change that copies `bytes` of cells, to more or to fewer threads.
    fn objection(&self, bytes: u64, to_more: bool) -> Option<&'static str> {
        // Half of the memory stays for others.
        let free = self.readings.free_memory(self.footprint.mapped);
        if free.is_some_and(|free| bytes > free / 2) {
            return Some("too little memory to copy the used cells of the KV cache");
        }
        let estimated = self.footprint.estimated_pause(bytes);
        let measured = self.creation.map_or(Duration::MAX, |creation| {
            // Memory that is new is cleared more slowly than memory that is already there.
            (creation * 2).saturating_add(time_of_copies(bytes))
        });
        let most = if to_more {
            MAX_PAUSE_FOR_MORE
        } else {
            MAX_PAUSE
        };
        (estimated.min(measured) > most).then_some("calls would pause for too long")
    }
}

impl Readings for CpuClock {
    type Times = CpuTimes;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn cpu_times(&self) -> Option<CpuTimes> {
        self.now()
    }

    fn usage(&self, from: CpuTimes, to: CpuTimes) -> Option<CpuUse> {
        self.usage(from, to)
    }

    fn free_memory(&self, mapped: u64) -> Option<u64> {
        memory::free_beside(mapped)
    }
}

impl<D: ThreadedDecoder> Threads for Scheduler<D> {
    fn n_threads(&self) -> usize {
        self.n_threads()
    }

    fn bytes_to_switch(&self) -> u64 {
        self.bytes_to_switch()
    }

    fn with_threads(self, n_threads: usize) -> Result<Self, EngineError> {
        self.with_threads(n_threads)
    }
}

/// Returns whether the number of threads of a model on a CPU with `load` may change: the configuration allows it, there are several, and
/// `quota` does not throttle them. A throttled process looks as if others used the CPUs, and fewer threads would leave a part of the quota
/// unused.
fn is_adaptive(load: &LoadSettings, quota: Option<CpuQuota>) -> bool {
    load.adaptive_threads
        && load.n_threads > 1
        && !quota.is_some_and(|quota| quota.throttles(load.n_threads))
}

/// Returns the estimated time for saving and restoring `bytes` of cells.
fn time_of_copies(bytes: u64) -> Duration {
    time_of(bytes.saturating_mul(2))
}

/// Returns the estimated time for clearing or copying `bytes`.
fn time_of(bytes: u64) -> Duration {
    Duration::from_millis(bytes / (BYTES_PER_SECOND / 1000))
}

/// Returns `cpus` with one decimal, for the log.
fn rounded(cpus: f64) -> f64 {
    (cpus * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests;
