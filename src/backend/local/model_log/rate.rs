//! The rate limit of a model's log: a token bucket. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// Number of lines a second that may pass in the long run.
pub(super) const LINES_PER_SECOND: u32 = 200;

/// Time in which one token is added.
const PER_LINE: Duration = Duration::from_millis(1000 / LINES_PER_SECOND as u64);

/// Size of the bucket, in lines. At `debug` a load writes several hundred.
const BURST: u32 = 1000;

/// Time for which all lines are dropped once the bucket is empty, so that dropped lines are reported at most once a second.
const PAUSE: Duration = Duration::from_secs(1);

/// Decides which lines of a model are logged.
#[derive(Debug)]
pub(super) struct LogRate {
    /// Number of lines that may pass, as of `filled_at`.
    tokens: u32,
    filled_at: Instant,
    /// Time until which all lines are dropped.
    closed_until: Option<Instant>,
    /// Lines dropped since the last report.
    dropped: u64,
}

/// The decision about a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// The line is logged.
    Logged,
    /// The line is logged, after a note that this many lines before it were dropped.
    After(u64),
    /// The line is dropped.
    Dropped,
}

impl LogRate {
    /// Creates a rate limit with a full bucket.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            filled_at: now,
            closed_until: None,
            dropped: 0,
        }
    }

    /// Decides about a line that arrived at `now`.
    pub(super) fn admit(&mut self, now: Instant) -> Decision {
        if self.closed_until.is_some_and(|until| now < until) {
            self.dropped += 1;
            return Decision::Dropped;
        }
        self.closed_until = None;
        self.refill(now);
        let Some(left) = self.tokens.checked_sub(1) else {
            self.closed_until = Some(now + PAUSE);
            self.dropped += 1;
            return Decision::Dropped;
        };
        self.tokens = left;
        match self.take_dropped() {
            0 => Decision::Logged,
            dropped => Decision::After(dropped),
        }
    }

    /// Returns the number of lines dropped since the last call of this function.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled_at);
        let new = elapsed.as_nanos() / PER_LINE.as_nanos();
        if let Ok(new @ 0..BURST) = u32::try_from(new) {
            self.tokens = (self.tokens + new).min(BURST);
            // The rest of the time counts towards the next line.
            self.filled_at += PER_LINE * new;
        } else {
            self.tokens = BURST;
            self.filled_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `lines` lines evenly within `time`. Returns how many were logged, how many were reported as dropped, and the number of reports.
    fn flood(rate: &mut LogRate, start: Instant, lines: u32, time: Duration) -> (u32, u64, u32) {
        let (mut passed, mut told, mut notes) = (0, 0, 0);
        for line in 0..lines {
            match rate.admit(start + time * line / lines) {
                Decision::Logged => passed += 1,
                Decision::After(dropped) => {
                    passed += 1;
                    told += dropped;
                    notes += 1;
                }
                Decision::Dropped => {}
            }
        }
        (passed, told + rate.take_dropped(), notes)
    }

    #[test]
    fn a_flood_passes_at_the_rate_and_every_line_is_counted() {
        let start = Instant::now();
        let lines = 1_000_000;
        let mut rate = LogRate::new(start);
        let (passed, told, notes) = flood(&mut rate, start, lines, Duration::from_secs(10));
        let most = BURST + 10 * 200;
        assert!(passed <= most && passed > most - 2 * 200, "{passed}");
        assert_eq!(u64::from(passed) + told, u64::from(lines));
        assert!(notes <= 10, "{notes}");
    }

    #[test]
    fn an_ordinary_log_passes_whole() {
        let start = Instant::now();
        let mut rate = LogRate::new(start);
        let load = flood(&mut rate, start, BURST, Duration::from_millis(100));
        assert_eq!(load, (BURST, 0, 0));
        let later = start + Duration::from_mins(1);
        let steady = flood(&mut rate, later, 60 * 190, Duration::from_mins(1));
        assert_eq!(steady, (60 * 190, 0, 0));
    }
}
