//! Limits of HTTP: messages in flight and their memory, event streams of a client, and the concurrency and rate limits of a token. Pure: the
//! time is an argument.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::token::TokenConfig;
use crate::transport::counts::Counts;

const MINUTE: Duration = Duration::from_mins(1);

/// The current usage of all limits.
#[derive(Debug, Default)]
pub(crate) struct LimitUsage {
    messages: usize,
    messages_of: Counts<String>,
    /// Bytes of memory for all messages.
    bytes: usize,
    /// Bytes of memory for the messages of each client. No entry is 0.
    bytes_of: HashMap<String, usize>,
    streams_of: Counts<String>,
    tokens: HashMap<String, TokenUsage>,
}

/// Divisor of `max_held` for the share of one client: 2 gives each client half.
pub(crate) const CLIENT_SHARE: usize = 2;

/// The limit on messages in flight that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageDenied {
    /// The limit of the client.
    Client,
    /// The limit of all clients together.
    All,
}

/// The memory limit that a message would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemoryDenied {
    /// The message alone exceeds the share of one client, in bytes.
    Message(usize),
    /// The client's messages would exceed its share.
    Client,
    /// All messages together would exceed the limit.
    All,
}

/// The usage of one token's limits.
#[derive(Debug, Default)]
struct TokenUsage {
    /// Number of calls in flight.
    calls: usize,
    /// Start times of the calls in the last minute, if the token has a rate limit.
    started: VecDeque<Instant>,
}

/// The limit of a token that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallDenied {
    /// The concurrency limit, `max_calls`, with its value.
    Concurrency(usize),
    /// The rate limit, `calls_per_minute`.
    Rate {
        /// Value of the limit.
        calls_per_minute: u32,
        /// Time until the next call is allowed, rounded up to whole seconds so that a retry succeeds.
        wait: Duration,
    },
}

impl LimitUsage {
    /// Counts a message of `client` in flight: at most `max` in total, and `share` of the client. [`Self::end_message`] must follow.
    ///
    /// # Errors
    /// Returns the limit that was reached.
    pub(crate) fn begin_message(
        &mut self,
        client: &str,
        share: usize,
        max: usize,
    ) -> Result<(), MessageDenied> {
        if self.messages >= max {
            return Err(MessageDenied::All);
        }
        if !self.messages_of.try_add(client.to_owned(), share) {
            return Err(MessageDenied::Client);
        }
        self.messages += 1;
        Ok(())
    }

    /// Removes a message of `client` from the messages in flight.
    pub(crate) fn end_message(&mut self, client: &str) {
        self.messages -= 1;
        self.messages_of.remove(client);
    }

    /// Changes the memory for a message of `client` from `held` to `wanted` bytes. The limit is `max` bytes for all messages and half of
    /// that for one client. [`Self::release`] must follow.
    ///
    /// # Errors
    /// Returns the limit that would be exceeded. The reservation is unchanged then.
    pub(crate) fn reserve(
        &mut self,
        client: &str,
        held: usize,
        wanted: usize,
        max: usize,
    ) -> Result<(), MemoryDenied> {
        let share = max / CLIENT_SHARE;
        let others = self.bytes_of.get(client).map_or(0, |bytes| bytes - held);
        if wanted > share {
            return Err(MemoryDenied::Message(share));
        }
        if others + wanted > share {
            return Err(MemoryDenied::Client);
        }
        if self.bytes - held + wanted > max {
            return Err(MemoryDenied::All);
        }
        self.bytes = self.bytes - held + wanted;
        self.set_bytes(client, others + wanted);
        Ok(())
    }

    /// Releases the `held` bytes of a message of `client`.
    pub(crate) fn release(&mut self, client: &str, held: usize) {
        self.bytes -= held;
        let left = self.bytes_of.get(client).map_or(0, |bytes| bytes - held);
        self.set_bytes(client, left);
    }

    fn set_bytes(&mut self, client: &str, bytes: usize) {
        if bytes == 0 {
            self.bytes_of.remove(client);
        } else if let Some(known) = self.bytes_of.get_mut(client) {
            *known = bytes;
        } else {
            self.bytes_of.insert(client.to_owned(), bytes);
        }
    }

    /// Counts an event stream of `client`. Returns `false` if `max` are open; otherwise [`Self::end_stream`] must follow.
    pub(crate) fn begin_stream(&mut self, client: &str, max: usize) -> bool {
        self.streams_of.try_add(client.to_owned(), max)
    }

    /// Removes an event stream of `client` from the open ones.
    pub(crate) fn end_stream(&mut self, client: &str) {
        self.streams_of.remove(client);
    }

    /// Counts a call with `token`. [`Self::end_call`] must follow.
    ///
    /// # Errors
    /// Returns the limit of the token that was reached.
    pub(crate) fn begin_call(
        &mut self,
        token: &TokenConfig,
        now: Instant,
    ) -> Result<(), CallDenied> {
        let used = self.tokens.entry(token.name.clone()).or_default();
        if let Some(max) = token.max_calls.filter(|max| used.calls >= *max) {
            return Err(CallDenied::Concurrency(max));
        }
        match token.calls_per_minute {
            None => used.started.clear(),
            Some(calls_per_minute) => {
                let is_past = |started: &Instant| now.saturating_duration_since(*started) >= MINUTE;
                while used.started.front().is_some_and(is_past) {
                    used.started.pop_front();
                }
                let max = usize::try_from(calls_per_minute).unwrap_or(usize::MAX);
                if used.started.len() >= max {
                    // A reload may have lowered the limit, so the wait ends when fewer than `max` calls are left in the window.
                    let last = used.started[used.started.len() - max];
                    let wait = (last + MINUTE).saturating_duration_since(now);
                    let rounded = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                    return Err(CallDenied::Rate {
                        calls_per_minute,
                        wait: Duration::from_secs(rounded.max(1)),
                    });
                }
                used.started.push_back(now);
            }
        }
        used.calls += 1;
        Ok(())
    }

    /// Removes a call with the token `name` from the calls in flight.
    pub(crate) fn end_call(&mut self, name: &str) {
        if let Some(used) = self.tokens.get_mut(name) {
            used.calls -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::config::token::BearerToken;

    fn token(max_calls: Option<usize>, calls_per_minute: Option<u32>) -> TokenConfig {
        TokenConfig {
            name: "alice".into(),
            secret: Ok(BearerToken::parse("secret").unwrap()),
            admin: false,
            tools: None,
            is_scraper: false,
            max_calls,
            calls_per_minute,
        }
    }

    #[test]
    fn messages_in_flight_are_limited_for_each_client_and_in_total() {
        let mut usage = LimitUsage::default();
        let begin = |usage: &mut LimitUsage, client| usage.begin_message(client, 2, 3);
        assert_eq!(begin(&mut usage, "a"), Ok(()));
        assert_eq!(begin(&mut usage, "a"), Ok(()));
        assert_eq!(begin(&mut usage, "a"), Err(MessageDenied::Client));
        assert_eq!(begin(&mut usage, "b"), Ok(()));
        assert_eq!(begin(&mut usage, "b"), Err(MessageDenied::All));
        usage.end_message("a");
        assert_eq!(begin(&mut usage, "b"), Ok(()));
    }

    #[test]
    fn memory_for_messages_is_limited_to_half_for_each_client_and_in_total() {
        let mut usage = LimitUsage::default();
        assert_eq!(
            usage.reserve("a", 0, 51, 100),
            Err(MemoryDenied::Message(50))
        );
        assert_eq!(usage.reserve("a", 0, 30, 100), Ok(()));
        assert_eq!(usage.reserve("a", 0, 21, 100), Err(MemoryDenied::Client));
        assert_eq!(usage.reserve("b", 0, 50, 100), Ok(()));
        assert_eq!(usage.reserve("c", 0, 21, 100), Err(MemoryDenied::All));
        assert_eq!(usage.reserve("a", 30, 50, 100), Ok(()));
        usage.release("a", 50);
        assert_eq!(usage.reserve("c", 0, 50, 100), Ok(()));
    }

    proptest! {
        #[test]
        fn reserved_memory_is_the_sum_over_all_messages(
            steps in vec((0..3_usize, 0..5_usize, 0..60_usize), 0..60),
        ) {
            let (mut usage, max) = (LimitUsage::default(), 100);
            let mut held: HashMap<(usize, usize), usize> = HashMap::new();
            for (client, message, wanted) in steps {
                let name = client.to_string();
                let now = held.get(&(client, message)).copied().unwrap_or(0);
                if wanted == 0 {
                    usage.release(&name, now);
                    held.remove(&(client, message));
                } else if usage.reserve(&name, now, wanted, max).is_ok() {
                    held.insert((client, message), wanted);
                }
                let of = |client| {
                    let own = held.iter().filter(|((owner, _), _)| *owner == client);
                    own.map(|(_, bytes)| bytes).sum::<usize>()
                };
                prop_assert_eq!(usage.bytes, held.values().sum::<usize>());
                prop_assert!(usage.bytes <= max);
                for client in 0..3 {
                    let counted = usage.bytes_of.get(&client.to_string()).copied();
                    prop_assert_eq!(counted.unwrap_or(0), of(client));
                    prop_assert!(of(client) <= max / CLIENT_SHARE);
                }
            }
        }
    }

    #[test]
    fn calls_in_flight_are_limited_for_each_token() {
        let (mut usage, now) = (LimitUsage::default(), Instant::now());
        let alice = token(Some(2), None);
        let bob = TokenConfig {
            name: "bob".into(),
            ..alice.clone()
        };
        for _ in 0..2 {
            assert_eq!(usage.begin_call(&alice, now), Ok(()));
        }
        assert_eq!(
            usage.begin_call(&alice, now),
            Err(CallDenied::Concurrency(2))
        );
        assert_eq!(usage.begin_call(&bob, now), Ok(()));
        usage.end_call("alice");
        assert_eq!(usage.begin_call(&alice, now), Ok(()));
    }

    #[test]
    fn calls_are_limited_in_every_minute_and_the_wait_is_returned() {
        let (mut usage, start) = (LimitUsage::default(), Instant::now());
        let alice = token(None, Some(2));
        let mut call = |seconds: u64| {
            let began = usage.begin_call(&alice, start + Duration::from_secs(seconds));
            began.map_err(|denied| match denied {
                CallDenied::Rate { wait, .. } => wait.as_secs(),
                CallDenied::Concurrency(_) => panic!("there is no concurrency limit"),
            })
        };
        assert_eq!((call(0), call(20)), (Ok(()), Ok(())));
        assert_eq!((call(30), call(59)), (Err(30), Err(1)));
        assert_eq!((call(60), call(61), call(80)), (Ok(()), Err(19), Ok(())));
    }

    #[test]
    fn event_streams_are_limited_for_each_client() {
        let mut usage = LimitUsage::default();
        assert!(usage.begin_stream("a", 1));
        assert!(!usage.begin_stream("a", 1));
        assert!(usage.begin_stream("b", 1));
        usage.end_stream("a");
        assert!(usage.begin_stream("a", 1));
    }

    #[test]
    fn a_lowered_rate_limit_applies_at_once() {
        let (mut usage, now) = (LimitUsage::default(), Instant::now());
        for _ in 0..5 {
            usage.begin_call(&token(None, Some(5)), now).unwrap();
        }
        let denied = usage.begin_call(&token(None, Some(1)), now + MINUTE / 2);
        assert!(matches!(denied, Err(CallDenied::Rate { wait, .. }) if wait == MINUTE / 2));
    }
}
