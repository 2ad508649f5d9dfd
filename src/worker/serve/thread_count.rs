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
//! If other processes alone could fill the CPUs, every thread more is one more share of the CPUs. Next to two busy processes on the same
//! machine, a prompt runs at 100 tokens a second with two threads, and at 71 with one. So the model keeps all its threads there.
//!
//! Both follow from the CPUs that the others would leave if the model made way ([`CpuUse::left`], [`fitting`]). CPUs that are free at
//! the moment say too little: with fewer threads a model gets fewer shares, which looks like less room each time.
//!
//! The number falls if for two seconds at least half a thread too many has computed, and rises if for three seconds most of a CPU was left
//! for another thread. In between it stays. If a rise proves wrong, the next one waits twice as long: no pattern of other work makes the
//! number change often.

use std::time::Duration;

use crate::process::cpu_time::CpuUse;

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

/// If other processes leave fewer CPUs than this, they fill the machine.
const FULL: f64 = 0.5;

/// Part of a thread's time that short work of other processes may take. Without it, such work next to seven busy processes on
/// eight CPUs would look like an eighth busy process, and bring all threads back.
const SLACK: f64 = 0.1;

/// Longest pause between two periods that count as consecutive.
const MAX_GAP: Duration = Duration::from_secs(3);

/// Shortest load during which the use of the CPUs is known well enough. The system counts CPU time in hundredths of a second.
const MIN_LOAD: Duration = Duration::from_millis(250);

/// Decides on the number of threads from the last periods. The decoder has the current number.
#[derive(Debug)]
pub(super) struct ThreadCount {
    configured: usize,
    fewer: Agreement,
    more: Agreement,
    raise_after: Duration,
    /// Time since the last period.
    gap: Duration,
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
    /// Mean of [`fitting`].
    mean: f64,
}

impl Agreement {
    /// Adds a period in which `threads` were best if it `agrees`, and starts over otherwise.
    fn add(&mut self, agrees: bool, elapsed: Duration, threads: f64) {
        if !agrees {
            *self = Self::default();
            return;
        }
        self.lasted += elapsed;
        self.mean += (threads - self.mean) * elapsed.div_duration_f64(self.lasted);
    }
}

impl ThreadCount {
    /// Creates the policy for a model with at most `configured` threads.
    pub(super) fn new(configured: usize) -> Self {
        Self {
            configured,
            fewer: Agreement::default(),
            more: Agreement::default(),
            raise_after: RAISE_AFTER,
            gap: Duration::ZERO,
            unchanged_for: Duration::ZERO,
            has_risen: false,
            min_between: Duration::ZERO,
        }
    }

    /// Takes in a period in which the model computed all the time with `current` threads. Returns a better number of threads; `None` if the
    /// number is right.
    pub(super) fn observe(&mut self, current: usize, usage: CpuUse) -> Option<usize> {
        let elapsed = usage.elapsed;
        let threads = as_f64(current);
        let with_slack = |slack| fitting(self.configured, usage.left(slack));
        let (fewer, more) = (with_slack(0.0), with_slack(SLACK));
        self.unchanged_for = self.unchanged_for.saturating_add(elapsed);
        self.gap = Duration::ZERO;
        let has_too_many = current > 1 && fewer < threads - 0.5;
        self.fewer.add(has_too_many, elapsed, fewer);
        let has_room = current < self.configured && more >= threads + FREE_FOR_A_THREAD;
        self.more.add(has_room, elapsed, more);
        if self.unchanged_for < self.min_between {
            return None;
        }
        if self.fewer.lasted >= LOWER_AFTER {
            return Some(whole(self.fewer.mean.round()).clamp(1, current - 1));
        }
        if self.more.lasted >= self.raise_after {
            let most = whole(self.more.mean + 1.0 - FREE_FOR_A_THREAD);
            return Some(most.clamp(current + 1, self.configured));
        }
        None
    }

    /// Records that for `pause` the model did not compute all the time. After a long pause, earlier periods say nothing about the moment.
    pub(super) fn paused(&mut self, pause: Duration) {
        self.gap = self.gap.saturating_add(pause);
        if self.gap > MAX_GAP {
            (self.fewer, self.more) = Default::default();
        }
    }

    /// Records that the number has changed from `former` to `current`, and that this took `cost`.
    pub(super) fn changed(&mut self, former: usize, current: usize, cost: Duration) {
        let is_rise = current > former;
        if !is_rise && self.has_risen {
            self.raise_after = if self.unchanged_for < PROBATION {
                (self.raise_after * 2).min(MAX_RAISE_AFTER)
            } else {
                RAISE_AFTER
            };
        }
        self.has_risen = is_rise;
        self.unchanged_for = Duration::ZERO;
        self.min_between = cost * COST_FACTOR;
        (self.fewer, self.more) = Default::default();
    }

    /// Records that a change failed, which may have ended calls. The number no longer changes.
    pub(super) fn failed(&mut self) {
        self.min_between = Duration::MAX;
    }

    /// Records that the number could not change. The next attempt follows after [`MAX_RAISE_AFTER`].
    pub(super) fn refused(&mut self) {
        self.unchanged_for = Duration::ZERO;
        self.min_between = MAX_RAISE_AFTER;
    }
}

/// Returns the number of threads with which a model starts, from the use of the CPUs while it was loaded.
pub(super) fn initial(configured: usize, usage: CpuUse) -> usize {
    if usage.elapsed < MIN_LOAD {
        return configured;
    }
    whole(fitting(configured, usage.left(SLACK)).round()).clamp(1, configured)
}

/// Returns the best number of threads, with a fraction, of a model with `configured` threads that other processes would leave `left` CPUs.
fn fitting(configured: usize, left: f64) -> f64 {
    let configured = as_f64(configured);
    if left < FULL {
        configured
    } else {
        left.min(configured)
    }
}

pub(super) fn as_f64(threads: usize) -> f64 {
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
