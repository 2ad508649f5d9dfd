//! How long GNU OpenMP's threads spin at a barrier before they sleep (`GOMP_SPINCOUNT`).
//!
//! llama.cpp's threads meet at a barrier after every operation, hundreds of times for each token. Waking a thread that sleeps there takes
//! as long as hundreds of iterations of the spin loop. But a spinning thread keeps a CPU from threads of other processes. If the thread
//! that the others wait for shares its CPU with such a thread, every barrier takes as long as the spin. So a thread spins for about
//! [`WAKE_UPS`] wake-ups of this machine, and then sleeps. By default, OpenMP's threads spin for milliseconds.
//!
//! The spin is short for a model with layers on a GPU, a throttling quota or a single thread: a long spin does not pay there.
//!
//! Measured with `SmolLM2` 135M and 2 threads on 2 cores, in tokens a second: one stream, and prefill. On the AMD machine a wake-up takes
//! 7 µs and a pause 28 ns, so the count there is about 2,500. Next to a busy process, every count is slow:
//!
//! | spin count | AMD, alone | AMD, prefill | AMD, next to 1 busy process | Xeon, alone | Xeon, next to 1 busy process |
//! | --- | --- | --- | --- | --- | --- |
//! | 300 | 84 | 194 | 29 | 75 | 45 |
//! | 1000 | | | | 113 to 130 | 36 |
//! | 3000 | | | | 113 to 130 | 23 |
//! | 10000 | 83 | 237 | 11 | 113 to 130 | 13 |
//! | 100000 | | | | 113 to 130 | 5 |

use std::fmt;
use std::hint;
use std::ops::RangeInclusive;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use crate::config::units::SpinCount;
use crate::process::CpuQuota;

/// Variable that sets the number of iterations.
const SPIN_COUNT: &str = "GOMP_SPINCOUNT";

/// Variable that sets whether threads spin for long, or hardly at all. [`SPIN_COUNT`] takes precedence, unless there are more threads
/// than CPUs.
const WAIT_POLICY: &str = "OMP_WAIT_POLICY";

/// Duration of a spin, in wake-ups. The other threads usually arrive at a barrier within a few wake-ups, since each has the same work.
const WAKE_UPS: u128 = 10;

/// Range of the count. A measurement on a busy machine may be far off.
const COUNTS: RangeInclusive<u128> = 1000..=10_000;

/// Count if a measurement is impossible, or if a long spin does not pay ([`Waits::are_short`]).
const FALLBACK: u128 = *COUNTS.start();

/// Number of measured wake-ups.
const ROUNDS: usize = 200;

/// Number of iterations of OpenMP's loop in a measurement.
const PAUSES: u32 = 100;

/// Costs of waiting on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitCosts {
    /// Time from waking a thread until it runs (90th percentile).
    wake_up: Duration,
    /// Time of [`PAUSES`] iterations of OpenMP's loop.
    pauses: Duration,
}

impl WaitCosts {
    /// Returns the costs; `None` if the system starts no thread for the measurement. Blocks: the first call measures for milliseconds.
    pub(crate) fn measured() -> Option<Self> {
        static MEASURED: OnceLock<Option<WaitCosts>> = OnceLock::new();
        *MEASURED.get_or_init(|| {
            let costs = Self {
                wake_up: measure_wake_up()?,
                pauses: measure_pauses(),
            };
            tracing::debug!(wake_up = ?costs.wake_up, pause = ?costs.pause(), "cost of waiting threads");
            Some(costs)
        })
    }

    /// Returns the time of one iteration of OpenMP's loop.
    fn pause(self) -> Duration {
        self.pauses / PAUSES
    }
}

/// How long the threads of a model spin, and what decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spin {
    /// The build has no OpenMP, so nothing can be set.
    Unused,
    /// The number of iterations in `spin_count`.
    Configured(u32),
    /// The environment variable of this name, which the worker inherits.
    Inherited(&'static str),
    /// The number of iterations that suits this machine.
    Measured {
        /// Number of iterations.
        count: u128,
        /// Costs from which it follows; `None` if it does not depend on the machine.
        costs: Option<WaitCosts>,
    },
}

impl Spin {
    /// Returns how long the threads `waits` of a model with the key `spin_count = key` spin. Blocks if the machine is measured.
    pub(crate) fn choose(key: SpinCount, waits: Waits) -> Self {
        if !has_openmp() {
            return Self::Unused;
        }
        Self::from_sources(key, inherited_variable(), || {
            Self::measured(WaitCosts::measured, waits)
        })
    }

    /// Returns how long threads spin with the number `count` in `spin_count`.
    pub(crate) const fn configured(count: u32) -> Self {
        if has_openmp() {
            Self::Configured(count)
        } else {
            Self::Unused
        }
    }

    fn from_sources(
        key: SpinCount,
        inherited: Option<&'static str>,
        measured: impl FnOnce() -> Self,
    ) -> Self {
        match (key, inherited) {
            (SpinCount::Count(count), _) => Self::Configured(count),
            (SpinCount::Auto, Some(variable)) => Self::Inherited(variable),
            (SpinCount::Auto, None) => measured(),
        }
    }

    /// Calls `measure` only if the number depends on the machine.
    fn measured(measure: impl FnOnce() -> Option<WaitCosts>, waits: Waits) -> Self {
        let costs = if waits.are_short() { None } else { measure() };
        let count = costs.and_then(WaitCosts::count).unwrap_or(FALLBACK);
        let count = count.clamp(*COUNTS.start(), *COUNTS.end());
        Self::Measured { count, costs }
    }

    /// Returns the environment variables of the worker that differ from those of this process. `None` removes a variable.
    pub(crate) fn variables(self) -> Vec<(&'static str, Option<String>)> {
        let count = match self {
            Self::Configured(count) => count.into(),
            Self::Measured { count, .. } => count,
            Self::Unused | Self::Inherited(_) => return Vec::new(),
        };
        vec![(SPIN_COUNT, Some(count.to_string())), (WAIT_POLICY, None)]
    }
}

impl fmt::Display for Spin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unused => f.write_str("this build has no OpenMP, so `spin_count` has no effect"),
            Self::Configured(count) => {
                write!(
                    f,
                    "they spin {count} times before they sleep (`spin_count`)"
                )
            }
            Self::Inherited(name) => {
                write!(
                    f,
                    "the environment variable `{name}` sets how long they spin"
                )
            }
            Self::Measured { count, costs } => {
                write!(f, "they spin {count} times before they sleep")?;
                costs.map_or(Ok(()), |costs| {
                    write!(
                        f,
                        " (wake-up {:.1} µs, pause {} ns)",
                        costs.wake_up.as_secs_f64() * 1e6,
                        costs.pause().as_nanos()
                    )
                })
            }
        }
    }
}

/// Returns the name of the environment variable with which the user sets how long threads spin; `None` if no such variable has a valid
/// value.
pub(crate) fn inherited_variable() -> Option<&'static str> {
    let mut variables = [SPIN_COUNT, WAIT_POLICY].into_iter();
    variables.find(|name| std::env::var(name).is_ok_and(|value| is_valid(name, &value)))
}

/// Returns whether OpenMP uses the `value` of a variable. It ignores others, with a message on stderr (`env.c` of libgomp).
fn is_valid(name: &str, value: &str) -> bool {
    let value = value.trim().to_ascii_lowercase();
    if name == WAIT_POLICY {
        return matches!(value.as_str(), "active" | "passive");
    }
    let number = value.trim_end_matches(['k', 'm', 'g', 't']);
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number || matches!(value.as_str(), "infinite" | "infinity")
}

/// The threads of a model, as far as it matters for how long they wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// Number of threads.
    pub n_threads: usize,
    /// Whether a GPU computes layers of the model.
    pub is_on_gpu: bool,
    /// CPU quota of the process.
    pub quota: Option<CpuQuota>,
}

impl Waits {
    /// Returns whether the threads spin briefly on any machine. A throttled thread is missing for milliseconds, in which the others would
    /// use up the quota. Threads next to a GPU have little to do, and their number does not follow the load of the machine.
    fn are_short(self) -> bool {
        let is_throttled = |quota: CpuQuota| quota.throttles(self.n_threads);
        self.n_threads < 2 || self.is_on_gpu || self.quota.is_some_and(is_throttled)
    }
}

/// Returns whether the build has OpenMP threads. Those of ggml do not read the variables.
const fn has_openmp() -> bool {
    cfg!(feature = "openmp")
}

impl WaitCosts {
    /// Returns the number of iterations after which threads sleep.
    fn count(self) -> Option<u128> {
        let spin = self.wake_up.as_nanos() * WAKE_UPS;
        (spin * u128::from(PAUSES)).checked_div(self.pauses.as_nanos())
    }
}

/// Returns the 90th percentile of the time of a wake-up; `None` if the system starts no thread. Two threads take turns waking each other.
/// The median would be too low on a busy machine: the threads often share a CPU there, and then most wake-ups take half the time.
fn measure_wake_up() -> Option<Duration> {
    let turn = AtomicUsize::new(0);
    let wait_for = |awaited| {
        while turn.load(Ordering::Acquire) != awaited {
            thread::park();
        }
    };
    let this = thread::current();
    thread::scope(|scope| {
        let answer = || {
            for round in 1..=ROUNDS {
                wait_for(2 * round - 1);
                turn.store(2 * round, Ordering::Release);
                this.unpark();
            }
        };
        let partner = Builder::new().spawn_scoped(scope, answer).ok()?;
        let both_ways = |round| {
            let started = Instant::now();
            turn.store(2 * round - 1, Ordering::Release);
            partner.thread().unpark();
            wait_for(2 * round);
            started.elapsed()
        };
        let mut times: Vec<Duration> = (1..=ROUNDS).map(both_ways).collect();
        times.sort_unstable();
        Some(times[ROUNDS * 9 / 10] / 2)
    })
}

/// Returns the time of [`PAUSES`] iterations of OpenMP's loop: the fastest of several measurements, since another process may interrupt
/// some.
fn measure_pauses() -> Duration {
    let awaited = AtomicUsize::new(0);
    let measure = |_| {
        let started = Instant::now();
        for _ in 0..PAUSES {
            hint::black_box(awaited.load(Ordering::Acquire));
            // `cpu_relax` of GNU OpenMP pauses on x86. On ARM it does nothing.
            if cfg!(any(target_arch = "x86", target_arch = "x86_64")) {
                hint::spin_loop();
            }
        }
        started.elapsed()
    };
    let times = (0..20).map(measure);
    times.min().unwrap_or_default()
}

#[cfg(test)]
mod tests;
