//! Limits of HTTP: messages in flight and their bytes, streams of a client, and the concurrency and rate limits of a token. Pure: time comes in as
//! an argument.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::token::TokenConfig;
use crate::transport::counts::Counts;

const MINUTE: Duration = Duration::from_mins(1);

/// The current use of all limits.
#[derive(Debug, Default)]
pub(crate) struct Allowances {
    messages: usize,
    messages_of: Counts<String>,
    /// Bytes that all messages hold.
    bytes: usize,
    /// Bytes that the messages of each client hold; no entry is 0.
    bytes_of: HashMap<String, usize>,
    streams_of: Counts<String>,
    tokens: HashMap<String, Used>,
}

/// Share of `max_held` per client: 1/`CLIENT_SHARE`.
pub(crate) const CLIENT_SHARE: usize = 2;

/// The limit on messages in flight that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageDenied {
    /// That of the client.
    Client,
    /// That of all clients together.
    All,
}

/// The memory limit that a message would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemoryDenied {
    /// The message alone exceeds the share of one client, which is so many bytes.
    Message(usize),
    /// The client's messages would exceed its share.
    Client,
    /// All messages together would exceed the limit.
    All,
}

/// The use of one token.
#[derive(Debug, Default)]
struct Used {
    /// Calls in flight.
    calls: usize,
    /// Start times of the calls of the last minute, if the token has a rate limit.
    begun: VecDeque<Instant>,
}

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The concurrency limit, with its value.
    Busy(usize),
    /// The rate limit.
    TooOften {
        /// The limit.
        calls_per_minute: u32,
        /// Time until the next call is allowed, rounded up to whole seconds so that a retry is not refused again.
        wait: Duration,
    },
}

impl Allowances {
    /// Begins a message of `client` if fewer than `max` are in flight, and fewer than `share` of the client. [`Self::end_message`] must
    /// follow.
    ///
    /// # Errors
    /// Returns the limit that is reached.
    pub(crate) fn begin_message(
        &mut self,
        client: &str,
        share: usize,
        max: usize,
    ) -> Result<(), MessageDenied> {
        if self.messages >= max {
            return Err(MessageDenied::All);
        }
        if !self.messages_of.enter(client.to_owned(), share) {
            return Err(MessageDenied::Client);
        }
        self.messages += 1;
        Ok(())
    }

    /// Ends a message of `client`.
    pub(crate) fn end_message(&mut self, client: &str) {
        self.messages -= 1;
        self.messages_of.leave(client);
    }

    /// Changes the bytes that a message of `client` holds from `held` to `wanted`. All messages may hold `max` bytes, those of one client
    /// half as many. [`Self::release`] must follow.
    ///
    /// # Errors
    /// Returns the limit that would be exceeded. The message still holds `held` bytes then.
    pub(crate) fn hold(
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

    /// Ends the hold of a message of `client` on `held` bytes.
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

    /// Opens a stream of `client`, which may have at most `max`. [`Self::end_stream`] must follow.
    ///
    /// # Errors
    /// The client has `max` open streams.
    pub(crate) fn begin_stream(&mut self, client: &str, max: usize) -> Result<(), Denied> {
        let is_open = self.streams_of.enter(client.to_owned(), max);
        is_open.then_some(()).ok_or(Denied::Busy(max))
    }

    /// Closes a stream of `client`.
    pub(crate) fn end_stream(&mut self, client: &str) {
        self.streams_of.leave(client);
    }

    /// Begins a call with `token`. [`Self::end_call`] must follow.
    ///
    /// # Errors
    /// A limit of the token is reached.
    pub(crate) fn begin_call(&mut self, token: &TokenConfig, now: Instant) -> Result<(), Denied> {
        let used = self.tokens.entry(token.name.clone()).or_default();
        if let Some(max) = token.max_calls.filter(|max| used.calls >= *max) {
            return Err(Denied::Busy(max));
        }
        match token.calls_per_minute {
            None => used.begun.clear(),
            Some(calls_per_minute) => {
                let is_past = |begun: &Instant| now.saturating_duration_since(*begun) >= MINUTE;
                while used.begun.front().is_some_and(is_past) {
                    used.begun.pop_front();
                }
                let max = usize::try_from(calls_per_minute).unwrap_or(usize::MAX);
                if used.begun.len() >= max {
                    // An edit may have lowered the limit, so the call must wait until fewer than `max` calls are left in the window.
                    let last = used.begun[used.begun.len() - max];
                    let wait = (last + MINUTE).saturating_duration_since(now);
                    let rounded = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                    return Err(Denied::TooOften {
                        calls_per_minute,
                        wait: Duration::from_secs(rounded.max(1)),
                    });
                }
                used.begun.push_back(now);
            }
        }
        used.calls += 1;
        Ok(())
    }

    /// Ends a call with the token called `name`.
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
            token: Some(BearerToken::parse("secret").unwrap()),
            fault: None,
            admin: false,
            tools: None,
            is_scraper: false,
            max_calls,
            calls_per_minute,
        }
    }

    #[test]
    fn messages_in_flight_are_limited_for_each_client_and_in_total() {
        let mut allowances = Allowances::default();
        let begin = |allowances: &mut Allowances, client| allowances.begin_message(client, 2, 3);
        assert_eq!(begin(&mut allowances, "a"), Ok(()));
        assert_eq!(begin(&mut allowances, "a"), Ok(()));
        assert_eq!(begin(&mut allowances, "a"), Err(MessageDenied::Client));
        assert_eq!(begin(&mut allowances, "b"), Ok(()));
        assert_eq!(begin(&mut allowances, "b"), Err(MessageDenied::All));
        allowances.end_message("a");
        assert_eq!(begin(&mut allowances, "b"), Ok(()));
    }

    #[test]
    fn a_client_holds_half_of_the_bytes_and_all_hold_no_more_than_there_are() {
        let mut allowances = Allowances::default();
        assert_eq!(
            allowances.hold("a", 0, 51, 100),
            Err(MemoryDenied::Message(50))
        );
        assert_eq!(allowances.hold("a", 0, 30, 100), Ok(()));
        assert_eq!(allowances.hold("a", 0, 21, 100), Err(MemoryDenied::Client));
        assert_eq!(allowances.hold("b", 0, 50, 100), Ok(()));
        assert_eq!(allowances.hold("c", 0, 21, 100), Err(MemoryDenied::All));
        assert_eq!(allowances.hold("a", 30, 50, 100), Ok(()));
        allowances.release("a", 50);
        assert_eq!(allowances.hold("c", 0, 50, 100), Ok(()));
    }

    proptest! {
        #[test]
        fn what_is_held_is_the_sum_of_what_messages_hold(
            steps in vec((0..3_usize, 0..5_usize, 0..60_usize), 0..60),
        ) {
            let (mut allowances, max) = (Allowances::default(), 100);
            let mut held: HashMap<(usize, usize), usize> = HashMap::new();
            for (client, message, wanted) in steps {
                let name = client.to_string();
                let now = held.get(&(client, message)).copied().unwrap_or(0);
                if wanted == 0 {
                    allowances.release(&name, now);
                    held.remove(&(client, message));
                } else if allowances.hold(&name, now, wanted, max).is_ok() {
                    held.insert((client, message), wanted);
                }
                let of = |client| {
                    let own = held.iter().filter(|((owner, _), _)| *owner == client);
                    own.map(|(_, bytes)| bytes).sum::<usize>()
                };
                prop_assert_eq!(allowances.bytes, held.values().sum::<usize>());
                prop_assert!(allowances.bytes <= max);
                for client in 0..3 {
                    let counted = allowances.bytes_of.get(&client.to_string()).copied();
                    prop_assert_eq!(counted.unwrap_or(0), of(client));
                    prop_assert!(of(client) <= max / CLIENT_SHARE);
                }
            }
        }
    }

    #[test]
    fn a_token_makes_as_many_calls_at_once_as_it_may_and_others_are_not_counted() {
        let (mut allowances, now) = (Allowances::default(), Instant::now());
        let alice = token(Some(2), None);
        let bob = TokenConfig {
            name: "bob".into(),
            ..alice.clone()
        };
        for _ in 0..2 {
            assert_eq!(allowances.begin_call(&alice, now), Ok(()));
        }
        assert_eq!(allowances.begin_call(&alice, now), Err(Denied::Busy(2)));
        assert_eq!(allowances.begin_call(&bob, now), Ok(()));
        allowances.end_call("alice");
        assert_eq!(allowances.begin_call(&alice, now), Ok(()));
    }

    #[test]
    fn in_no_minute_more_calls_begin_than_may_and_the_wait_is_told() {
        let (mut allowances, start) = (Allowances::default(), Instant::now());
        let alice = token(None, Some(2));
        let mut call = |seconds: u64| {
            let began = allowances.begin_call(&alice, start + Duration::from_secs(seconds));
            began.map_err(|denied| match denied {
                Denied::TooOften { wait, .. } => wait.as_secs(),
                Denied::Busy(_) => panic!("nothing is too much at once"),
            })
        };
        assert_eq!((call(0), call(20)), (Ok(()), Ok(())));
        assert_eq!((call(30), call(59)), (Err(30), Err(1)));
        assert_eq!((call(60), call(61), call(80)), (Ok(()), Err(19), Ok(())));
    }

    #[test]
    fn a_client_opens_as_many_streams_as_it_may_and_others_are_not_counted() {
        let mut allowances = Allowances::default();
        assert_eq!(allowances.begin_stream("a", 1), Ok(()));
        assert_eq!(allowances.begin_stream("a", 1), Err(Denied::Busy(1)));
        assert_eq!(allowances.begin_stream("b", 1), Ok(()));
        allowances.end_stream("a");
        assert_eq!(allowances.begin_stream("a", 1), Ok(()));
    }

    #[test]
    fn a_lowered_number_counts_at_once() {
        let (mut allowances, now) = (Allowances::default(), Instant::now());
        for _ in 0..5 {
            allowances.begin_call(&token(None, Some(5)), now).unwrap();
        }
        let denied = allowances.begin_call(&token(None, Some(1)), now + MINUTE / 2);
        assert!(matches!(denied, Err(Denied::TooOften { wait, .. }) if wait == MINUTE / 2));
    }
}
