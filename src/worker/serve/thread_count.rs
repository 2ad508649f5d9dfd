//! Decides how many threads a worker computes with, from the CPUs that other processes leave free. Pure.
//!
//! llama.cpp's threads meet at a barrier after every operation, so all of them wait for a thread that has no CPU. Next to a busy process,
//! one thread fewer is faster. Measured on 2 cores, `SmolLM2`, in tokens a second of one stream:
//!
//! | | 1 thread | 2 threads |
//! | --- | --- | --- |
//! | alone | 53 | 84 |
//! | next to 1 busy process | 50 | 29 |
//!
//! The number falls if the threads have lacked at least half a CPU for two seconds. It rises if another thread would have had most of a CPU
//! for three seconds. If a rise proves wrong, the next one waits twice as long, so that no pattern of other work makes the number change
//! often.

use std::time::Duration;

use crate::process::cpu_time::FreeCpus;

/// Time for which the threads must lack CPUs before the number falls.
const LOWER_AFTER: Duration = Duration::from_secs(2);

/// Shortest time for which CPUs must be free before the number rises.
const RAISE_AFTER: Duration = Duration::from_secs(3);

/// Longest time for which CPUs must be free before the number rises.
const MAX_RAISE_AFTER: Duration = Duration::from_mins(1);

/// Time after a rise within which a fall proves the rise wrong.
const PROBATION: Duration = Duration::from_secs(30);

/// Share of a CPU that must be free for one more thread. It is lower than 1, since other processes always do some short work.
const FREE_FOR_A_THREAD: f64 = 0.7;

/// Shortest time between changes, as a multiple of what the last change took. So changes take at most a tenth of the time.
const COST_FACTOR: u32 = 10;

/// Shortest load during which the free CPUs are known well enough. The system counts CPU time in hundredths of a second.
const MIN_LOAD: Duration = Duration::from_millis(250);

/// The number of threads, and what the last periods say about it.
#[derive(Debug)]
pub(super) struct ThreadCount {
    configured: usize,
    current: usize,
    fewer: Agreement,
    more: Agreement,
    raise_after: Duration,
    /// Time since the last change.
    unchanged_for: Duration,
    /// Whether the last change was a rise.
    has_risen: bool,
    /// Shortest time between changes.
    min_between: Duration,
}

/// Consecutive periods that call for the same change.
#[derive(Debug, Clone, Copy, Default)]
struct Agreement {
    lasted: Duration,
    /// Mean of the free CPUs.
    mean: f64,
}

impl Agreement {
    /// Adds a period with `cpus` free CPUs if it `agrees`, and starts over otherwise.
    fn add(&mut self, agrees: bool, elapsed: Duration, cpus: f64) {
        if !agrees {
            *self = Self::default();
            return;
        }
        self.lasted += elapsed;
        self.mean += (cpus - self.mean) * elapsed.div_duration_f64(self.lasted);
    }
}

impl ThreadCount {
    /// Creates the state of a model that computes with `current` of its `configured` threads.
    pub(super) fn new(configured: usize, current: usize) -> Self {
        Self {
            configured,
            current,
            fewer: Agreement::default(),
            more: Agreement::default(),
            raise_after: RAISE_AFTER,
            unchanged_for: Duration::ZERO,
            has_risen: false,
            min_between: Duration::ZERO,
        }
    }

    /// Records a period in which the model computed all the time. Returns a better number of threads; `None` if the number stays.
    pub(super) fn observe(&mut self, free: FreeCpus) -> Option<usize> {
        let FreeCpus {
            elapsed,
            unused,
            available,
        } = free;
        let current = as_f64(self.current);
        self.unchanged_for = self.unchanged_for.saturating_add(elapsed);
        let has_too_many = self.current > 1 && unused < current - 0.5;
        self.fewer.add(has_too_many, elapsed, unused);
        let has_room = self.current < self.configured && available >= current + FREE_FOR_A_THREAD;
        self.more.add(has_room, elapsed, available);
        if self.unchanged_for < self.min_between {
            return None;
        }
        if self.fewer.lasted >= LOWER_AFTER {
            return Some(whole(self.fewer.mean.round()).clamp(1, self.current - 1));
        }
        if self.more.lasted >= self.raise_after {
            let most = whole(self.more.mean + 1.0 - FREE_FOR_A_THREAD);
            return Some(most.clamp(self.current + 1, self.configured));
        }
        None
    }

    /// Records that the number has changed to `current`, and that this took `cost`.
    pub(super) fn changed(&mut self, current: usize, cost: Duration) {
        let is_rise = current > self.current;
        if !is_rise && self.has_risen {
            self.raise_after = if self.unchanged_for < PROBATION {
                (self.raise_after * 2).min(MAX_RAISE_AFTER)
            } else {
                RAISE_AFTER
            };
        }
        self.current = current;
        self.has_risen = is_rise;
        self.unchanged_for = Duration::ZERO;
        self.min_between = cost * COST_FACTOR;
        (self.fewer, self.more) = Default::default();
    }

    /// Records that the number could not change. The next attempt follows after [`MAX_RAISE_AFTER`].
    pub(super) fn refused(&mut self) {
        self.unchanged_for = Duration::ZERO;
        self.min_between = MAX_RAISE_AFTER;
    }
}

/// Returns the number of threads with which a model starts. `free` are the CPUs that other processes left free while it was loaded.
///
/// If less than half a CPU was free, all threads start, since each gets a share of the CPUs. Next to two busy processes on two cores, two
/// threads get half of the CPU time, and one thread gets a third.
pub(super) fn initial(configured: usize, free: FreeCpus) -> usize {
    if free.elapsed < MIN_LOAD || free.available < 0.5 {
        return configured;
    }
    whole(free.available.round()).clamp(1, configured)
}

fn as_f64(threads: usize) -> f64 {
    u32::try_from(threads).map_or(f64::MAX, f64::from)
}

/// Returns the integer part of a number of CPUs.
fn whole(cpus: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of CPUs is small and not negative"
    )]
    let whole = cpus.max(0.0) as usize;
    whole
}

#[cfg(test)]
mod tests;
