//! Backoff against guessing of tokens. Each further invalid token of a sender is answered later, up to a second. Valid tokens are never
//! delayed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::network::Network;

/// Number of invalid tokens that are answered without delay, since a client with an old token retries a few times.
const FREE: u32 = 5;

/// The first delay. Each further delay is twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(50);

/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// Time without an invalid token after which the count of a sender is reset.
const FORGET_AFTER: Duration = Duration::from_mins(1);

/// Most senders with counts of their own. All further senders share one count.
const MAX_SENDERS: usize = 1024;

/// Counts of invalid tokens by sender.
#[derive(Debug, Default)]
pub(crate) struct Backoff(Mutex<Recent>);

impl Backoff {
    /// Counts an invalid token from `address` and returns the delay of the response.
    pub(crate) fn invalid_token(&self, address: IpAddr) -> Duration {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.count(address.into(), Instant::now())
    }
}

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

/// Failures in the last minute by sender. The key `None` stands for all senders without a count of their own.
#[derive(Debug, Default)]
struct Recent(HashMap<Option<Network>, Failures>);

impl Recent {
    fn count(&mut self, network: Network, now: Instant) -> Duration {
        let senders = &mut self.0;
        if senders.len() >= MAX_SENDERS {
            senders.retain(|_, failures| is_recent(failures, now));
        }
        let has_own_count = senders.contains_key(&Some(network)) || senders.len() < MAX_SENDERS;
        let sender = has_own_count.then_some(network);
        let failures = senders.entry(sender).or_insert(Failures {
            count: 0,
            last: now,
        });
        if !is_recent(failures, now) {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
        delay(failures.count)
    }
}

fn is_recent(failures: &Failures, now: Instant) -> bool {
    now.saturating_duration_since(failures.last) < FORGET_AFTER
}

/// Returns the delay after the invalid token number `count`, counted from 1.
fn delay(count: u32) -> Duration {
    match count.checked_sub(FREE + 1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_DELAY
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(LONGEST_DELAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(number: u32) -> Network {
        IpAddr::from(number.to_be_bytes()).into()
    }

    #[test]
    fn the_delay_doubles_with_every_invalid_token_up_to_a_second() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        let delays: Vec<_> = (0..12)
            .map(|_| recent.count(sender(1), now).as_millis())
            .collect();
        assert_eq!(delays, [0, 0, 0, 0, 0, 50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(recent.count(sender(2), now), Duration::ZERO);
        assert_eq!(delay(u32::MAX), LONGEST_DELAY);
    }

    #[test]
    fn the_count_is_reset_after_a_minute_without_invalid_tokens() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        for _ in 0..10 {
            recent.count(sender(1), now);
        }
        assert!(recent.count(sender(1), now + FORGET_AFTER / 2) > Duration::ZERO);
        assert_eq!(
            recent.count(sender(1), now + FORGET_AFTER * 2),
            Duration::ZERO
        );
    }

    #[test]
    fn senders_beyond_the_limit_share_one_count() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        let delays: Vec<_> = (0..100_000)
            .map(|at| recent.count(sender(at), now))
            .collect();
        assert!(recent.0.len() <= MAX_SENDERS + 1);
        assert_eq!(delays[MAX_SENDERS - 1], Duration::ZERO);
        assert_eq!(delays.last(), Some(&LONGEST_DELAY));
    }
}
