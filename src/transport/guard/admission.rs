//! Admission of connections. There is a limit for all connections, and a lower limit for connections of one sender without a valid
//! token: otherwise anybody who reaches the server could take all connections by opening them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::network::Network;

/// The connections of a server. Clones share it.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Most connections at once.
    max: usize,
    open: Mutex<Open>,
}

impl Admission {
    /// Makes an admission of at most `max` connections at once.
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Shared {
            max,
            open: Mutex::default(),
        }))
    }

    /// Admits a connection from `address`, or returns `None` if a limit is reached. Without authentication only the limit for all
    /// connections applies.
    pub fn admit(&self, address: IpAddr, has_authentication: bool) -> Option<ConnectionPermit> {
        let max = self.0.max;
        let share = if has_authentication { share(max) } else { max };
        let network = Network::from(address);
        self.0
            .lock()
            .enter(network, max, share)
            .then(|| ConnectionPermit {
                admission: self.clone(),
                network: Mutex::new(Some(network)),
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

/// The permit of a connection. Dropping it makes room for another connection.
#[derive(Debug)]
pub struct ConnectionPermit {
    admission: Admission,
    /// The sender towards whose share the connection counts; `None` once a request was authenticated.
    network: Mutex<Option<Network>>,
}

impl ConnectionPermit {
    /// Ends the counting of the connection towards the share of its sender, since a request on it was authenticated.
    pub fn authenticated(&self) {
        if let Some(network) = self.take_network() {
            self.admission.0.lock().known(network);
        }
    }

    fn take_network(&self) -> Option<Network> {
        let mut network = self.network.lock().unwrap_or_else(PoisonError::into_inner);
        network.take()
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let network = self.take_network();
        self.admission.0.lock().leave(network);
    }
}

/// The count of open connections; pure.
#[derive(Debug, Default)]
struct Open {
    all: usize,
    /// Connections of each sender on which no request was authenticated; no entry is 0.
    unauthenticated: HashMap<Network, usize>,
}

impl Open {
    /// Counts one more, if there are fewer than `max`, and fewer than `share` of its sender.
    fn enter(&mut self, network: Network, max: usize, share: usize) -> bool {
        let of_sender = self.unauthenticated.get(&network).copied().unwrap_or(0);
        if self.all >= max || of_sender >= share {
            return false;
        }
        self.all += 1;
        self.unauthenticated.insert(network, of_sender + 1);
        true
    }

    /// One of `network` was authenticated.
    fn known(&mut self, network: Network) {
        if let Some(count) = self.unauthenticated.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.unauthenticated.remove(&network);
            }
        }
    }

    /// One has ended; of `network` if no request on it was authenticated.
    fn leave(&mut self, network: Option<Network>) {
        self.all -= 1;
        if let Some(network) = network {
            self.known(network);
        }
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

    #[test]
    fn a_connection_that_was_authenticated_counts_to_no_share() {
        let admission = Admission::new(8);
        let held: Vec<_> = (0..8)
            .map_while(|_| {
                let permit = admission.admit(address(1), true)?;
                permit.authenticated();
                permit.authenticated();
                Some(permit)
            })
            .collect();
        assert_eq!(held.len(), 8);
        assert!(admission.admit(address(2), true).is_none());
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
                    1 => held.iter().take(1).for_each(ConnectionPermit::authenticated),
                    _ => drop(held.pop()),
                }
                let open = admission.0.lock();
                prop_assert_eq!(open.all, held.len());
                prop_assert!(open.unauthenticated.values().all(|count| (1..=4).contains(count)));
            }
            drop(held);
            let open = admission.0.lock();
            prop_assert!(open.all == 0 && open.unauthenticated.is_empty());
        }
    }
}
