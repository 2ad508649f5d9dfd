//! Round robin over clients, one entry each; first come first served within a client. Pure.
//!
//! A new client is placed behind all others, so no entry overtakes the head, and between two turns of a client every other client has at
//! most one. An entry that is not ready delays its own client only.
//!
//! ```text
//! push a1 a2 a3 b1 b2 c1   →   pop a1 b1 c1 a2 b2 a3
//! ```
//!
//! Clients take turns twice, independently: to have an entry prepared, and to have it popped.

use std::collections::VecDeque;

/// A round-robin queue. Every client in it has at least one entry.
#[derive(Debug)]
pub(super) struct RoundRobin<T> {
    /// Clients in the order of their next turns.
    clients: VecDeque<Client<T>>,
    /// Number of entries that [`Self::next_to_prepare`] has chosen.
    chosen: u64,
}

#[derive(Debug)]
struct Client<T> {
    name: String,
    entries: VecDeque<T>,
    /// Value of [`RoundRobin::chosen`] when an entry of this client was last chosen, or when the client was added.
    chosen: u64,
}

impl<T> RoundRobin<T> {
    pub(super) fn new() -> Self {
        Self {
            clients: VecDeque::new(),
            chosen: 0,
        }
    }

    /// Appends `entry` to the entries of its client.
    pub(super) fn push(&mut self, client: &str, entry: T) {
        match self.clients.iter_mut().find(|known| known.name == client) {
            Some(known) => known.entries.push_back(entry),
            None => self.clients.push_back(Client {
                name: client.to_owned(),
                entries: VecDeque::from([entry]),
                chosen: self.chosen,
            }),
        }
    }

    /// Returns the next entry. Skips clients whose first entry is not ready; they keep their turns.
    pub(super) fn head(&self, is_ready: impl Fn(&T) -> bool) -> Option<&T> {
        let mut heads = self
            .clients
            .iter()
            .filter_map(|client| client.entries.front());
        heads.find(|entry| is_ready(entry))
    }

    /// Removes the entry that [`Self::head`] returns, and moves its client behind the others.
    pub(super) fn pop(&mut self, is_ready: impl Fn(&T) -> bool) -> Option<T> {
        let mut clients = self.clients.iter();
        let at = clients.position(|client| client.entries.front().is_some_and(&is_ready))?;
        let mut client = self.clients.remove(at)?;
        let entry = client.entries.pop_front();
        if !client.entries.is_empty() {
            self.clients.push_back(client);
        }
        entry
    }

    /// Returns the entry to prepare next: the first entry of a client that `is_waiting`, if it `has_room`. The client that was chosen least
    /// recently comes first, so a failed entry does not earn its client another turn.
    pub(super) fn next_to_prepare(
        &mut self,
        is_waiting: impl Fn(&T) -> bool,
        has_room: impl Fn(&T) -> bool,
    ) -> Option<&mut T> {
        let candidates = self.clients.iter_mut().filter_map(|client| {
            let mut entries = client.entries.iter_mut();
            let entry = entries.find(|entry| is_waiting(entry))?;
            has_room(entry).then_some((&mut client.chosen, entry))
        });
        let (chosen, entry) = candidates.min_by_key(|(chosen, _)| **chosen)?;
        self.chosen += 1;
        *chosen = self.chosen;
        Some(entry)
    }

    /// Removes the first entry that `matches`. Its client keeps its turn.
    pub(super) fn remove(&mut self, matches: impl Fn(&T) -> bool) -> Option<T> {
        let mut clients = self.clients.iter().enumerate();
        let (client, at) = clients
            .find_map(|(client, known)| Some((client, known.entries.iter().position(&matches)?)))?;
        let known = &mut self.clients[client];
        let entry = known.entries.remove(at);
        if known.entries.is_empty() {
            self.clients.remove(client);
        }
        entry
    }

    /// Returns all entries in the order in which [`Self::pop`] will return them if all are ready and none is added or removed.
    pub(super) fn in_order(&mut self) -> impl Iterator<Item = &mut T> {
        let clients = self.clients.iter_mut().enumerate();
        let mut entries: Vec<((usize, usize), &mut T)> = clients
            .flat_map(|(client, known)| {
                let rounds = known.entries.iter_mut().enumerate();
                rounds.map(move |(round, entry)| ((round, client), entry))
            })
            .collect();
        entries.sort_by_key(|(turn, _)| *turn);
        entries.into_iter().map(|(_, entry)| entry)
    }

    /// Returns the number of entries.
    pub(super) fn len(&self) -> usize {
        self.clients.iter().map(|client| client.entries.len()).sum()
    }

    /// Returns the number of entries of `client`.
    pub(super) fn len_of(&self, client: &str) -> usize {
        let known = self.clients.iter().find(|known| known.name == client);
        known.map_or(0, |known| known.entries.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;

    use super::*;

    fn order(round_robin: &mut RoundRobin<u32>) -> Vec<u32> {
        round_robin.in_order().map(|entry| *entry).collect()
    }

    #[test]
    fn clients_take_turns_and_each_ones_entries_stay_in_order() {
        let mut round_robin = RoundRobin::new();
        for (client, entry) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5), ("c", 6)] {
            round_robin.push(client, entry);
        }
        assert_eq!(order(&mut round_robin), [1, 4, 6, 2, 5, 3]);
        let popped: Vec<u32> = std::iter::from_fn(|| round_robin.pop(|_| true)).collect();
        assert_eq!(popped, [1, 4, 6, 2, 5, 3]);
    }

    #[test]
    fn a_returning_client_is_last_and_a_client_whose_entry_is_removed_keeps_its_turn() {
        let mut round_robin = RoundRobin::new();
        for (client, entry) in [("a", 1), ("b", 2), ("b", 3), ("a", 4)] {
            round_robin.push(client, entry);
        }
        assert_eq!(round_robin.remove(|entry| *entry == 1), Some(1));
        assert_eq!(order(&mut round_robin), [4, 2, 3]);
        assert_eq!(round_robin.pop(|_| true), Some(4));
        round_robin.push("a", 5);
        assert_eq!(order(&mut round_robin), [2, 5, 3]);
        assert_eq!(round_robin.remove(|entry| *entry == 9), None);
    }

    #[test]
    fn an_entry_that_is_not_ready_delays_its_own_client_only() {
        let mut round_robin = RoundRobin::new();
        for (client, entry) in [("a", 1), ("a", 2), ("b", 3), ("b", 4)] {
            round_robin.push(client, entry);
        }
        let is_ready = |entry: &u32| *entry != 1;
        assert_eq!(round_robin.head(is_ready), Some(&3));
        assert_eq!(round_robin.pop(is_ready), Some(3));
        assert_eq!(round_robin.pop(|_| true), Some(1));
        assert_eq!(order(&mut round_robin), [4, 2]);
    }

    #[test]
    fn an_entry_that_fails_to_prepare_does_not_earn_its_client_another_turn() {
        let mut round_robin = RoundRobin::new();
        for (client, entry) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5)] {
            round_robin.push(client, entry);
        }
        let mut next = || {
            let entry = *round_robin.next_to_prepare(|_| true, |_| true)?;
            round_robin.remove(|other| *other == entry)
        };
        let order: Vec<u32> = std::iter::from_fn(&mut next).collect();
        assert_eq!(order, [1, 4, 2, 5, 3]);
    }

    #[test]
    fn an_entry_without_room_delays_its_own_client_only() {
        let mut round_robin = RoundRobin::new();
        for (client, entry) in [("a", 100), ("a", 1), ("b", 2)] {
            round_robin.push(client, entry);
        }
        let mut next = |room: u32| {
            let next = round_robin.next_to_prepare(|entry| *entry > 0, |entry| *entry <= room);
            next.map(std::mem::take)
        };
        assert_eq!(next(50), Some(2));
        // The entries of a client stay in order.
        assert_eq!(next(50), None);
        assert_eq!(next(100), Some(100));
        assert_eq!(next(50), Some(1));
    }

    /// An operation on the queue.
    #[derive(Debug, Clone)]
    enum Operation {
        Push(u8),
        Pop,
        Remove(u32),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            3 => (0_u8..6).prop_map(Operation::Push),
            2 => Just(Operation::Pop),
            1 => (0_u32..100).prop_map(Operation::Remove),
        ]
    }

    proptest! {
        #[test]
        fn no_entry_is_lost_overtakes_the_head_or_waits_longer_than_its_turns(
            operations in prop::collection::vec(operation(), 1..100)
        ) {
            let mut round_robin = RoundRobin::new();
            let mut there = BTreeSet::new();
            // The client of each waiting entry, and how many others may still be popped before it.
            let mut patience: HashMap<u32, (u8, usize)> = HashMap::new();
            // Number of clients. Between two turns of a client every other client has at most one turn, so the n-th entry of a client is
            // popped within n rounds.
            let clients = 6;
            for (entry, operation) in (0_u32..).zip(operations) {
                let head = round_robin.head(|_| true).copied();
                let mut gone = None;
                match operation {
                    Operation::Push(client) => {
                        let earlier = round_robin.len_of(&client.to_string());
                        round_robin.push(&client.to_string(), entry);
                        there.insert(entry);
                        patience.insert(entry, (client, (earlier + 1) * clients));
                    }
                    Operation::Pop => {
                        gone = round_robin.pop(|_| true);
                        prop_assert_eq!(gone, head);
                        for (_, left) in patience.values_mut() {
                            prop_assert!(*left > 0);
                            *left -= 1;
                        }
                    }
                    Operation::Remove(entry) => {
                        gone = round_robin.remove(|known| *known == entry);
                        prop_assert_eq!(gone.is_some(), there.contains(&entry));
                    }
                }
                if let Some(gone) = gone {
                    prop_assert!(there.remove(&gone));
                    patience.remove(&gone);
                }
                let order = order(&mut round_robin);
                prop_assert_eq!(order.len(), round_robin.len());
                prop_assert_eq!(order.first(), round_robin.head(|_| true));
                prop_assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), there.clone());
                // The head stays the head until it is removed.
                prop_assert!(head.is_none_or(|head| gone == Some(head) || round_robin.head(|_| true) == Some(&head)));
                // First come first served within a client: entries are numbered in order of arrival.
                for client in 0..6 {
                    let of_client = order.iter().filter(|entry| patience[*entry].0 == client);
                    prop_assert!(of_client.is_sorted());
                }
            }
            let expected = order(&mut round_robin);
            let popped: Vec<u32> = std::iter::from_fn(|| round_robin.pop(|_| true)).collect();
            prop_assert_eq!(popped, expected);
        }
    }
}
