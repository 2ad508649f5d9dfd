//! Tracks whether a worker is alive: its [`Watchdog`] with the system's clock, and the state between two checks.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::watchdog::{Watchdog, check_interval};
use crate::backend::ProcessStatus;
use crate::process::activity::Activity;

/// Grace period for a worker that received SIGTERM. A service manager signals all processes at once, and the server may notice its own
/// signal later.
const TERMINATION_GRACE: Duration = Duration::from_millis(500);

/// Watches one worker, and publishes the time since its last step.
pub(super) struct Liveness {
    watchdog: Watchdog,
    /// Whether the process has yet to answer [`crate::worker::Command::Stats`].
    is_stats_pending: bool,
    /// Whether the process was already reported as stuck.
    is_reported: bool,
    /// When the process received SIGTERM.
    terminated: Option<Instant>,
    process_status: watch::Sender<ProcessStatus>,
}

impl Liveness {
    /// Watches process `pid`, which has just been started, and publishes its `process_status`.
    pub(super) fn new(pid: u32, process_status: watch::Sender<ProcessStatus>) -> Self {
        process_status.send_modify(|status| status.pid = Some(pid));
        Self {
            watchdog: Watchdog::new(Instant::now()),
            is_stats_pending: false,
            is_reported: false,
            terminated: None,
            process_status,
        }
    }

    /// Records that the process was given work.
    pub(super) fn expect(&mut self) {
        self.watchdog.expect(Instant::now());
    }

    /// Records that the process was asked for its statistics.
    pub(super) fn asked(&mut self) {
        self.is_stats_pending = true;
        self.expect();
    }

    /// Returns whether to ask the process for a sign of life: it has work, and no request is pending.
    pub(super) fn needs_ping(&self) -> bool {
        !self.is_stats_pending && self.watchdog.silence().is_some()
    }

    /// Records the answer with the statistics. `is_idle` means that the process has no call.
    pub(super) fn answered(&mut self, is_idle: bool) {
        self.is_stats_pending = false;
        self.heard(is_idle);
    }

    /// Records a sign of life. `is_idle` means that the process has no call.
    pub(super) fn heard(&mut self, is_idle: bool) {
        self.watchdog.heard();
        self.is_reported = false;
        if is_idle && !self.is_stats_pending {
            self.watchdog.rest();
        }
        self.publish();
    }

    /// Records that the process received SIGTERM.
    pub(super) fn terminated(&mut self) {
        self.terminated = Some(Instant::now());
    }

    /// Returns whether the grace period after SIGTERM has passed, and forgets the signal if so.
    pub(super) fn take_termination(&mut self) -> bool {
        let is_over = |since: &mut Instant| since.elapsed() >= TERMINATION_GRACE;
        self.terminated.take_if(is_over).is_some()
    }

    /// Marks the process as reported, and returns the time since its last step; `None` if it was already reported since that step.
    pub(super) fn report_overdue(&mut self) -> Option<Duration> {
        (!std::mem::replace(&mut self.is_reported, true)).then(|| self.silence())
    }

    /// Returns the time of the next check if a step may take at most `limit`; `None` if no check is needed.
    pub(super) fn next_check(&self, limit: Option<Duration>) -> Option<Instant> {
        let termination = self.terminated.map(|since| since + TERMINATION_GRACE);
        let check = self.watchdog.next_check(check_interval(limit));
        termination.into_iter().chain(check).min()
    }

    /// Checks the process: a step may take at most `limit`, and `activity` is the work so far.
    pub(super) fn check(&mut self, limit: Option<Duration>, activity: Option<Activity>) {
        self.watchdog
            .check(Instant::now(), check_interval(limit), activity);
        self.publish();
    }

    /// Returns whether the process has stalled.
    pub(super) fn has_stalled(&self, limit: Option<Duration>) -> bool {
        self.watchdog.has_stalled(limit)
    }

    /// Returns the time since the last step; zero if the process has no work.
    pub(super) fn silence(&self) -> Duration {
        self.watchdog.silence().unwrap_or_default()
    }

    fn publish(&self) {
        let silence = self.watchdog.silence();
        self.process_status
            .send_if_modified(|status| std::mem::replace(&mut status.silence, silence) != silence);
    }
}
