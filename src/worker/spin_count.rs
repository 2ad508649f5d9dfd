//! How long GNU OpenMP's threads spin at a barrier before they sleep (`GOMP_SPINCOUNT`).
//!
//! llama.cpp's threads meet at a barrier after every operation, hundreds of times for each token. A thread that sleeps there must be woken,
//! which takes as long as many spins. A thread that spins keeps the CPU from a thread of another process, and if that is what the others
//! wait for, every barrier takes as long as the spin. So a thread spins for about [`WAKE_UPS`] wake-ups of this machine, and then sleeps. The
//! default of OpenMP is milliseconds.
//!
//! Measured with `SmolLM2` 135M and 2 threads on 2 cores, in tokens a second of one stream. On the AMD machine a wake-up takes 7 µs and
//! a pause 28 ns, so the count there is about 2,500. Next to busy processes no count is good:
//!
//! The spin is short if the number of threads does not follow the load of the machine, for a reason that is known when the worker starts:
//! the layers are on a GPU, a quota throttles the threads, or there is only one, which waits for nobody.
//!
//! | spin count | AMD, alone | prompt | next to 1 busy process | Xeon, alone | next to 1 busy process |
//! | --- | --- | --- | --- | --- | --- |
//! | 300 | 84 | 194 | 29 | 75 | 45 |
//! | 1000 | | | | 113 to 130 | 36 |
//! | 3000 | | | | 113 to 130 | 23 |
//! | 10000 | 83 | 237 | 11 | 113 to 130 | 13 |
//! | 100000 | | | | 113 to 130 | 5 |

use std::hint;
use std::ops::RangeInclusive;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use crate::process::CpuQuota;

/// Variables with which a user sets how long threads spin.
const VARIABLES: [&str; 2] = ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"];

/// Duration of a spin, in wake-ups. The other threads usually arrive at a barrier within a few wake-ups, since each has the same work.
const WAKE_UPS: u128 = 10;

/// Range of the count. A measurement on a busy machine may be far off.
const COUNTS: RangeInclusive<u128> = 1000..=10_000;

/// Count if a measurement is impossible, and if a long spin does not pay ([`Waits::are_short`]).
const FALLBACK: u128 = *COUNTS.start();

/// Number of measured wake-ups.
const ROUNDS: usize = 200;

/// Number of pauses in a measurement.
const PAUSES: u32 = 100;

/// Costs of waiting on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitCosts {
    /// Time from waking a thread until it runs, which few wake-ups exceed.
    pub wake_up: Duration,
    /// Time of [`PAUSES`] turns of OpenMP's loop.
    pauses: Duration,
}

impl WaitCosts {
    /// Returns the costs, which the first call measures in a few milliseconds. Blocks. `None` if the system starts no thread for it.
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

    /// Returns the time of one turn of OpenMP's loop.
    pub(crate) fn pause(self) -> Duration {
        self.pauses / PAUSES
    }
}

/// Returns the variable of this process's environment that says how long threads spin; `None` if no variable does.
pub(crate) fn overriding_variable() -> Option<&'static str> {
    let mut variables = VARIABLES.into_iter();
    variables.find(|name| std::env::var_os(name).is_some())
}

/// The threads of a model, as far as it matters for how long they wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// Number of threads.
    pub n_threads: usize,
    /// Whether a GPU computes layers of the model.
    pub is_on_gpu: bool,
    /// Quota of the process.
    pub quota: Option<CpuQuota>,
}

impl Waits {
    /// Returns whether the threads spin shortly on any machine. A thread that is stopped for lack of quota is missing for milliseconds, in
    /// which the others would use up the quota. Threads next to a GPU have little to do, and their number does not follow other programs.
    pub(crate) fn are_short(self) -> bool {
        let is_throttled = |quota: CpuQuota| quota.throttles(self.n_threads);
        self.n_threads < 2 || self.is_on_gpu || self.quota.is_some_and(is_throttled)
    }
}

/// Returns whether the build has OpenMP threads. Those of ggml do not read the variables.
pub(crate) const fn has_openmp() -> bool {
    cfg!(feature = "openmp")
}

/// Returns the variable for a worker; `None` if it has no effect, or if the user has set one. Blocks if the machine is measured.
pub(crate) fn variable(waits: Waits) -> Option<(&'static str, String)> {
    if !has_openmp() || overriding_variable().is_some() {
        return None;
    }
    let count = spin_count(WaitCosts::measured, waits);
    Some((VARIABLES[0], count.to_string()))
}

/// Returns the number of turns for which the threads spin before they sleep. Calls `costs` only if the number depends on the machine.
pub(crate) fn spin_count(costs: impl FnOnce() -> Option<WaitCosts>, waits: Waits) -> u128 {
    if waits.are_short() {
        return FALLBACK;
    }
    let count = costs().and_then(|WaitCosts { wake_up, pauses }| {
        let spin = wake_up.as_nanos() * WAKE_UPS;
        (spin * u128::from(PAUSES)).checked_div(pauses.as_nanos())
    });
    let count = count.unwrap_or(FALLBACK);
    count.clamp(*COUNTS.start(), *COUNTS.end())
}

/// Returns the time that nine of ten wake-ups take at most; `None` if the system starts no thread. Two threads wake each other in turns. On a
/// busy machine they often share a CPU, and then most wake-ups take half the time.
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

/// Returns the time of [`PAUSES`] turns of OpenMP's loop: the fastest of several measurements, since another process may interrupt some.
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
mod tests {
    use super::*;

    fn costs(wake_up_ns: u64, pause_ns: u64) -> WaitCosts {
        WaitCosts {
            wake_up: Duration::from_nanos(wake_up_ns),
            pauses: Duration::from_nanos(pause_ns) * PAUSES,
        }
    }

    const TWO: Waits = Waits {
        n_threads: 2,
        is_on_gpu: false,
        quota: None,
    };

    fn count(costs: WaitCosts) -> u128 {
        spin_count(|| Some(costs), TWO)
    }

    #[test]
    fn threads_spin_for_ten_wake_ups() {
        assert_eq!(count(costs(7000, 28)), 2500);
        assert_eq!(count(costs(5000, 10)), 5000);
    }

    #[test]
    fn the_count_is_bounded() {
        let measured = [(100, 40), (2_000_000, 28), (5000, 0)];
        let counts = measured.map(|(wake_up, pause)| count(costs(wake_up, pause)));
        assert_eq!(counts, [1000, 10_000, 1000]);
    }

    #[test]
    fn without_a_measurement_the_spin_is_short() {
        assert_eq!(spin_count(|| None, TWO), 1000);
    }

    #[test]
    fn threads_whose_number_is_fixed_spin_shortly_and_nothing_is_measured_for_them() {
        let quota = |thousandths| Waits {
            quota: Some(CpuQuota(thousandths)),
            ..TWO
        };
        let on_gpu = Waits {
            is_on_gpu: true,
            ..TWO
        };
        let single = Waits {
            n_threads: 1,
            ..TWO
        };
        for waits in [quota(1500), on_gpu, single] {
            let measure = || panic!("the machine is measured");
            assert_eq!(spin_count(measure, waits), 1000, "{waits:?}");
        }
        assert_eq!(spin_count(|| Some(costs(7000, 28)), quota(2000)), 2500);
    }

    #[test]
    fn this_machine_can_be_measured() {
        let costs = WaitCosts::measured().unwrap();
        assert!(costs.wake_up > Duration::ZERO && costs.pauses > Duration::ZERO);
    }
}
