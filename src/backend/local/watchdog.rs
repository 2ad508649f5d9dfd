//! Decides when a model's process has stalled. Pure: the time and the process's activity are arguments.
//!
//! A step of llama.cpp is opaque, and a single one can take minutes on a slow machine: 64 prompt tokens on half a core, or one token for which
//! 30 GB must be read from disk. Loading a mapped file can take as long, and reports no progress. So the watchdog keeps two timers, which a
//! finished step resets. One measures how long the process has been inactive (stopped, deadlocked, waiting for an unreachable network drive),
//! the other how long it has read nothing from disk (an endless loop, a spinning driver). The limit of the second timer is [`PATIENCE`] times
//! as long.
//!
//! Only time during which the server itself ran is counted: a paused container, a sleeping laptop or a debugger stops both processes, but not
//! the clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::process::activity::Activity;

/// Factor by which the limit is longer for a process that computes but finishes no step.
pub(super) const PATIENCE: u32 = 10;

/// Longest time between two checks.
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Returns the time between two checks of a process whose steps may take at most `limit`.
pub(super) fn check_interval(limit: Option<Duration>) -> Duration {
    let tenth = limit.map_or(MAX_CHECK_INTERVAL, |limit| limit / 10);
    tenth.min(MAX_CHECK_INTERVAL)
}

/// Measures the time since the last finished step of a process that has work.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// Whether the process has work.
    is_watching: bool,
    last_check: Instant,
    /// Time since the last step.
    silent: Duration,
    /// The part of `silent` in which the process read nothing from a disk.
    without_reads: Duration,
    /// Time since the process last did anything.
    inactive: Duration,
    activity: Option<Activity>,
}

impl Watchdog {
    /// Creates a watchdog for a process that has just been started and loads its model.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            is_watching: true,
            last_check: now,
            silent: Duration::ZERO,
            without_reads: Duration::ZERO,
            inactive: Duration::ZERO,
            activity: None,
        }
    }

    /// Records that the process was given work. Watches it from now on if it had none before.
    pub(super) fn expect(&mut self, now: Instant) {
        if !self.is_watching {
            *self = Self::new(now);
        }
    }

    /// Records a finished step, or another sign of life.
    pub(super) fn heard(&mut self) {
        self.silent = Duration::ZERO;
        self.without_reads = Duration::ZERO;
        self.inactive = Duration::ZERO;
    }

    /// Records that the process has no more work, and stops watching it.
    pub(super) fn rest(&mut self) {
        self.is_watching = false;
    }

    /// Returns the time of the next check, `interval` after the last one; `None` if the process has no work.
    pub(super) fn next_check(&self, interval: Duration) -> Option<Instant> {
        self.is_watching.then(|| self.last_check + interval)
    }

    /// Checks the process. `activity` is its work so far; `None` means unknown and counts as work. Checks are `interval` apart, and time beyond
    /// twice that is ignored.
    pub(super) fn check(&mut self, now: Instant, interval: Duration, activity: Option<Activity>) {
        let passed = (now - self.last_check).min(interval * 2);
        self.last_check = now;
        self.silent += passed;
        let both = activity.zip(self.activity);
        if !both.is_some_and(|(now, before)| now.has_read_since(&before)) {
            self.without_reads += passed;
        }
        let is_inactive = both.is_some_and(|(now, before)| now == before);
        self.inactive = if is_inactive {
            self.inactive + passed
        } else {
            Duration::ZERO
        };
        self.activity = activity;
    }

    /// Returns the time since the last step; `None` if the process has no work.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.is_watching.then_some(self.silent)
    }

    /// Returns whether the process has stalled if a step may take at most `limit`; `None` means no limit.
    pub(super) fn has_stalled(&self, limit: Option<Duration>) -> bool {
        let Some(limit) = limit.filter(|_| self.is_watching) else {
            return false;
        };
        self.inactive >= limit || self.without_reads >= limit.saturating_mul(PATIENCE)
    }
}

#[cfg(test)]
mod tests;
