//! Adjusts the number of threads of a loaded model to the CPUs that other processes leave free, see [`super::thread_count`].

use std::time::{Duration, Instant};

use super::thread_count::{ThreadCount, initial};
use crate::config::LoadSettings;
use crate::engine::EngineError;
use crate::engine::scheduler::Scheduler;
use crate::engine::threaded::ThreadedDecoder;
use crate::memory;
use crate::process::cpu_time::{CpuClock, CpuTimes, FreeCpus};
use crate::process::{CpuLimits, CpuQuota};
use crate::telemetry::millis;

/// Shortest period of an observation.
const PERIOD: Duration = Duration::from_millis(250);

/// Share of a period that steps must fill. In the rest of the time, other models of the server may have computed: models take turns.
const MIN_FILLED: f64 = 0.9;

/// Observes the CPUs while a model decodes.
#[derive(Debug)]
pub(super) struct ThreadTuner {
    clock: CpuClock,
    count: ThreadCount,
    /// Times at the start of the current period.
    start: Option<(Instant, CpuTimes)>,
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
    /// Starts to observe the CPUs before a model with the settings `load` is loaded. Returns `None` if the number of its threads stays
    /// ([`is_adaptive`]), or if the system does not report the use of its CPUs.
    pub(super) fn start(load: &LoadSettings) -> Option<Self> {
        if !is_adaptive(load, CpuLimits::now().quota) {
            return None;
        }
        let clock = CpuClock::new()?;
        let start = clock.now()?;
        Some(Self { clock, start })
    }

    /// Returns the tuner of the loaded model, and the number of threads with which the model starts. With `others_compute`, the observation
    /// is ignored: it shows the work of other models of the server, with which this one will take turns.
    pub(super) fn finish(self, load: &LoadSettings, others_compute: bool) -> (ThreadTuner, usize) {
        let configured = load.n_threads;
        let end = self.clock.now();
        let free = end.and_then(|end| self.clock.free(self.start, end));
        let free = free.filter(|_| !others_compute);
        let threads = free.map_or(configured, |free| initial(configured, free));
        if let Some(free) = free
            && threads < configured
        {
            tracing::info!(
                n_threads = configured,
                threads,
                free_cpus = rounded(free.available),
                "starting with fewer threads: other programs use the CPUs"
            );
        }
        let tuner = ThreadTuner {
            clock: self.clock,
            count: ThreadCount::new(configured, threads),
            start: None,
            filled: Duration::ZERO,
        };
        (tuner, threads)
    }
}

impl ThreadTuner {
    /// Records a step from `started` to now, and changes the number of threads of `scheduler` if that makes it faster.
    ///
    /// # Errors
    /// `Load` if llama.cpp cannot create another context. The scheduler and its calls are lost then.
    pub(super) fn after_step<D: ThreadedDecoder>(
        &mut self,
        scheduler: Scheduler<D>,
        started: Instant,
    ) -> Result<Scheduler<D>, EngineError> {
        let Some(free) = self.period(started) else {
            return Ok(scheduler);
        };
        match self.count.observe(free) {
            Some(threads) => self.change(scheduler, threads, free),
            None => Ok(scheduler),
        }
    }

    /// Adds a step from `started` to now to the period. Returns the free CPUs if the period is complete.
    fn period(&mut self, started: Instant) -> Option<FreeCpus> {
        let now = Instant::now();
        self.filled += now.duration_since(started);
        let elapsed = match &self.start {
            Some((start, _)) => now.duration_since(*start),
            None => Duration::MAX,
        };
        if elapsed < PERIOD {
            return None;
        }
        let is_filled = self.filled >= elapsed.mul_f64(MIN_FILLED);
        let former = self.start.take();
        self.filled = Duration::ZERO;
        let times = self.clock.now()?;
        self.start = Some((now, times));
        let (_, former) = former.filter(|_| is_filled)?;
        self.clock.free(former, times)
    }

    fn change<D: ThreadedDecoder>(
        &mut self,
        scheduler: Scheduler<D>,
        threads: usize,
        free: FreeCpus,
    ) -> Result<Scheduler<D>, EngineError> {
        let former = scheduler.n_threads();
        let bytes = scheduler.bytes_to_switch();
        // Leaves half of the free memory to other processes.
        if memory::free().is_some_and(|free| bytes > free / 2) {
            tracing::debug!(bytes, "too little memory to change the number of threads");
            self.count.refused();
            return Ok(scheduler);
        }
        let started = Instant::now();
        let scheduler = scheduler.with_threads(threads)?;
        let cost = started.elapsed();
        if scheduler.n_threads() == threads {
            self.count.changed(threads, cost);
            let cause = if threads < former {
                "other programs use the CPUs"
            } else {
                "CPUs are free"
            };
            tracing::info!(
                from = former,
                to = threads,
                free_cpus = rounded(free.available),
                ms = millis(cost),
                "changed the number of threads: {cause}"
            );
        } else {
            self.count.refused();
        }
        // A period must not contain the change, which is not a step.
        self.start = None;
        Ok(scheduler)
    }
}

/// Returns whether the number of threads of a model with `load` may change: the configuration allows it, there are several threads, and no
/// `quota` limits the process. The effect of a quota looks like that of other processes.
fn is_adaptive(load: &LoadSettings, quota: Option<CpuQuota>) -> bool {
    load.adaptive_threads && load.n_threads > 1 && quota.is_none()
}

/// Returns `cpus` with one decimal, for the log.
fn rounded(cpus: f64) -> f64 {
    (cpus * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_threads_is_fixed_by_the_key_by_a_quota_or_if_there_is_only_one() {
        let load = |n_threads, adaptive_threads| LoadSettings {
            n_threads,
            adaptive_threads,
            ..LoadSettings::default()
        };
        assert!(is_adaptive(&load(2, true), None));
        assert!(!is_adaptive(&load(2, false), None));
        assert!(!is_adaptive(&load(1, true), None));
        assert!(!is_adaptive(&load(2, true), Some(CpuQuota(2000))));
        assert!(LoadObserver::start(&load(2, false)).is_none());
    }
}
