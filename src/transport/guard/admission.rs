//! Connection limits. There is a limit for all connections, and lower limits for one sender without a valid token and for one of several
//! tokens, so that nobody can take all connections.

use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::network::Network;
use crate::transport::counts::Counts;

/// The connection limits of a server. Clones share the counts.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Largest number of open connections.
    max: usize,
    open: Mutex<OpenConnections>,
}

impl Admission {
    /// Creates limits for `max` connections.
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Shared {
            max,
            open: Mutex::default(),
        }))
    }

    /// Admits a connection from `address`. Returns `None` if a limit is reached. Without authentication only the limit for all
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
            .add(network, max, share)
            .then(|| ConnectionPermit {
                admission: self.clone(),
                party: Mutex::new(Party::Sender(network)),
            })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how many of `max` connections one sender may have without a valid token.
fn share(max: usize) -> usize {
    (max / 4).max(1)
}

/// Returns how many of `max` connections one of several tokens may have. A token and its sender together leave a quarter to others.
fn share_of_token(max: usize) -> usize {
    (max / 2).max(1)
}

/// The owner of the share that a connection counts towards.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Party {
    /// The sender, until a request on the connection is authenticated.
    Sender(Network),
    /// The token of the last request, by name.
    Token(String),
}

/// Permit for one connection. Dropping it admits another connection.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    admission: Admission,
    party: Mutex<Party>,
}

impl ConnectionPermit {
    /// Counts the connection towards the share of `token` from now on. Returns `false` if the share is used up. A single token may have
    /// all connections; `tokens` is the number of tokens.
    pub(crate) fn assign_to_token(&self, token: &str, tokens: usize) -> bool {
        let max = self.admission.0.max;
        let share = if tokens > 1 { share_of_token(max) } else { max };
        let mut party = self.party.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(&*party, Party::Token(name) if name == token) {
            return true;
        }
        let to = Party::Token(token.to_owned());
        self.admission.0.lock().reassign(&mut party, to, share)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let party = self.party.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.admission.0.lock().remove(party);
    }
}

/// The number of open connections, in total and by party. Pure.
#[derive(Debug, Default)]
struct OpenConnections {
    total: usize,
    by_party: Counts<Party>,
}

impl OpenConnections {
    /// Counts a connection if there are fewer than `max`, and fewer than `share` of its sender. Returns whether it did.
    fn add(&mut self, network: Network, max: usize, share: usize) -> bool {
        let is_admitted = self.total < max && self.by_party.try_add(Party::Sender(network), share);
        self.total += usize::from(is_admitted);
        is_admitted
    }

    /// Moves a connection from `party` to `to` if there are fewer than `share` of `to`. Returns whether it did.
    fn reassign(&mut self, party: &mut Party, to: Party, share: usize) -> bool {
        let has_room = self.by_party.try_add(to.clone(), share);
        if has_room {
            self.by_party.remove(&mem::replace(party, to));
        }
        has_room
    }

    /// Removes a connection of `party` from the counts.
    fn remove(&mut self, party: &Party) {
        self.total -= 1;
        self.by_party.remove(party);
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
    fn a_sender_without_a_token_gets_a_quarter_and_others_are_admitted() {
        let admission = Admission::new(8);
        let permits: Vec<_> = (0..9)
            .map_while(|_| admission.admit(address(1), true))
            .collect();
        assert_eq!(permits.len(), 2);
        assert!(admission.admit(address(2), true).is_some());
        drop(permits);
        assert!(admission.admit(address(1), true).is_some());
    }

    /// Opens connections of `token`, one of `tokens`, until one is refused.
    fn open(admission: &Admission, token: &str, tokens: usize) -> Vec<ConnectionPermit> {
        let open_one = || {
            let permit = admission.admit(address(1), true)?;
            let is_admitted = permit.assign_to_token(token, tokens);
            is_admitted.then_some(permit)
        };
        std::iter::from_fn(open_one).collect()
    }

    #[test]
    fn a_single_token_may_have_all_connections() {
        let admission = Admission::new(8);
        let permits = open(&admission, "one", 1);
        assert!(
            permits
                .iter()
                .all(|permit| permit.assign_to_token("one", 1))
        );
        assert_eq!(permits.len(), 8);
        assert!(admission.admit(address(2), true).is_none());
    }

    #[test]
    fn a_token_and_its_sender_together_leave_a_quarter_to_others() {
        let admission = Admission::new(8);
        let permits = open(&admission, "one", 2);
        assert_eq!(permits.len(), 4);
        let opened = || admission.admit(address(1), true);
        let silent: Vec<_> = std::iter::from_fn(opened).collect();
        assert_eq!(silent.len(), 2);
        let others = || {
            let permit = admission.admit(address(2), true)?;
            permit.assign_to_token("other", 2).then_some(permit)
        };
        let others: Vec<_> = std::iter::from_fn(others).collect();
        assert_eq!(others.len(), 2);
        assert!(permits[0].assign_to_token("other", 2));
        drop(silent);
        assert_eq!(open(&admission, "one", 2).len(), 1);
    }

    #[test]
    fn without_authentication_there_are_no_shares() {
        let admission = Admission::new(8);
        let permits: Vec<_> = (0..9)
            .map_while(|_| admission.admit(address(1), false))
            .collect();
        assert_eq!(permits.len(), 8);
    }

    proptest! {
        #[test]
        fn counts_match_the_open_connections(steps in proptest::collection::vec((0_u8..4, 0_u8..3), 0..200)) {
            let admission = Admission::new(16);
            let mut permits = Vec::new();
            for (sender, step) in steps {
                match step {
                    0 => permits.extend(admission.admit(address(sender), true)),
                    1 => permits.iter().take(1).for_each(|permit| { permit.assign_to_token(&sender.to_string(), 3); }),
                    _ => drop(permits.pop()),
                }
                let open = admission.0.lock();
                prop_assert_eq!(open.total, permits.len());
                prop_assert_eq!(open.by_party.total(), permits.len());
            }
            drop(permits);
            let open = admission.0.lock();
            prop_assert!(open.total == 0 && open.by_party.total() == 0);
        }
    }
}
