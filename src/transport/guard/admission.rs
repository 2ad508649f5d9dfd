//! Admission of connections. There is a limit for all connections, and lower limits for those of one sender without a valid token and
//! for those of one token among several: otherwise one party could take all connections by opening them.

use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::network::Network;
use crate::transport::counts::Counts;

/// The connections of a server. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Most connections at once.
    max: usize,
    open: Mutex<Open>,
}

impl Admission {
    /// Makes an admission of at most `max` connections at once.
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Shared {
            max,
            open: Mutex::default(),
        }))
    }

    /// Admits a connection from `address`, or returns `None` if a limit is reached. Without authentication only the limit for all
    /// connections applies.
    pub(crate) fn admit(
        &self,
        address: IpAddr,
        has_authentication: bool,
    ) -> Option<ConnectionPermit> {
        let max = self.0.max;
        let share = if has_authentication { share(max) } else { max };
        let network = Network::from(address);
        self.0
            .lock()
            .enter(network, max, share)
            .then(|| ConnectionPermit {
                admission: self.clone(),
                party: Mutex::new(Party::Sender(network)),
            })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how many of `max` connections one sender may have without a valid token.
fn share(max: usize) -> usize {
    (max / 4).max(1)
}

/// Returns how many of `max` connections one of several tokens may have. With the share of its sender a quarter is left to others.
fn share_of_token(max: usize) -> usize {
    (max / 2).max(1)
}

/// The party whose share a connection counts towards.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Party {
    /// A sender, as long as no request on the connection was authenticated.
    Sender(Network),
    /// The name of the token of the last request.
    Token(String),
}

/// The permit of a connection. Dropping it makes room for another connection.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    admission: Admission,
    party: Mutex<Party>,
}

impl ConnectionPermit {
    /// Counts the connection towards the share of `token`, the name of one of `tokens` tokens, since a request on it was authenticated.
    /// A single token may have all connections. Returns whether the share has room.
    pub(crate) fn authenticated(&self, token: &str, tokens: usize) -> bool {
        let max = self.admission.0.max;
        let share = if tokens > 1 { share_of_token(max) } else { max };
        let mut party = self.party.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(&*party, Party::Token(name) if name == token) {
            return true;
        }
        let to = Party::Token(token.to_owned());
        self.admission.0.lock().change(&mut party, to, share)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let party = self.party.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.admission.0.lock().leave(party);
    }
}

/// The count of open connections; pure.
#[derive(Debug, Default)]
struct Open {
    all: usize,
    of: Counts<Party>,
}

impl Open {
    /// Counts one more, if there are fewer than `max`, and fewer than `share` of its sender.
    fn enter(&mut self, network: Network, max: usize, share: usize) -> bool {
        let is_admitted = self.all < max && self.of.enter(Party::Sender(network), share);
        self.all += usize::from(is_admitted);
        is_admitted
    }

    /// Counts a connection towards `to`, no longer towards `party`, if there are fewer than `share` of `to`.
    fn change(&mut self, party: &mut Party, to: Party, share: usize) -> bool {
        let has_room = self.of.enter(to.clone(), share);
        if has_room {
            self.of.leave(&mem::replace(party, to));
        }
        has_room
    }

    /// A connection of `party` has ended.
    fn leave(&mut self, party: &Party) {
        self.all -= 1;
        self.of.leave(party);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn one_sender_without_a_token_holds_a_quarter_and_others_are_admitted() {
        let admission = Admission::new(8);
        let held: Vec<_> = (0..9)
            .map_while(|_| admission.admit(address(1), true))
            .collect();
        assert_eq!(held.len(), 2);
        assert!(admission.admit(address(2), true).is_some());
        drop(held);
        assert!(admission.admit(address(1), true).is_some());
    }

    /// Opens connections of `token`, one of `tokens`, until one is refused.
    fn open(admission: &Admission, token: &str, tokens: usize) -> Vec<ConnectionPermit> {
        let authenticated = || {
            let permit = admission.admit(address(1), true)?;
            let is_admitted = permit.authenticated(token, tokens);
            is_admitted.then_some(permit)
        };
        std::iter::from_fn(authenticated).collect()
    }

    #[test]
    fn a_single_token_may_have_all_connections() {
        let admission = Admission::new(8);
        let held = open(&admission, "one", 1);
        assert!(held.iter().all(|permit| permit.authenticated("one", 1)));
        assert_eq!(held.len(), 8);
        assert!(admission.admit(address(2), true).is_none());
    }

    #[test]
    fn one_of_several_tokens_leaves_a_quarter_to_others_with_what_its_sender_opens() {
        let admission = Admission::new(8);
        let held = open(&admission, "one", 2);
        assert_eq!(held.len(), 4);
        let opened = || admission.admit(address(1), true);
        let silent: Vec<_> = std::iter::from_fn(opened).collect();
        assert_eq!(silent.len(), 2);
        let others = || {
            let permit = admission.admit(address(2), true)?;
            permit.authenticated("other", 2).then_some(permit)
        };
        let others: Vec<_> = std::iter::from_fn(others).collect();
        assert_eq!(others.len(), 2);
        assert!(held[0].authenticated("other", 2));
        drop(silent);
        assert_eq!(open(&admission, "one", 2).len(), 1);
    }

    #[test]
    fn without_authentication_there_are_no_shares() {
        let admission = Admission::new(8);
        let held: Vec<_> = (0..9)
            .map_while(|_| admission.admit(address(1), false))
            .collect();
        assert_eq!(held.len(), 8);
    }

    proptest! {
        #[test]
        fn when_all_have_left_nothing_is_counted(steps in proptest::collection::vec((0_u8..4, 0_u8..3), 0..200)) {
            let admission = Admission::new(16);
            let mut held = Vec::new();
            for (sender, step) in steps {
                match step {
                    0 => held.extend(admission.admit(address(sender), true)),
                    1 => held.iter().take(1).for_each(|permit| { permit.authenticated(&sender.to_string(), 3); }),
                    _ => drop(held.pop()),
                }
                let open = admission.0.lock();
                prop_assert_eq!(open.all, held.len());
                prop_assert_eq!(open.of.sum(), held.len());
            }
            drop(held);
            let open = admission.0.lock();
            prop_assert!(open.all == 0 && open.of.sum() == 0);
        }
    }
}
