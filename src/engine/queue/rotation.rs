//! Whose turn it is: a queue of many clients, taken from by turns. Pure.
//!
//! Clients take their turns twice: with entries that are taken out, and with entries that are made ready before. An entry that is
//! not ready holds up its own client only.
//!
//! Clients take their turns in a circle, an entry each; within a client the first come is the first served. A client that comes
//! anew begins behind all others, so nothing ever gets before the head, and between two turns of a client there is at most one of
//! each other client.

use std::collections::VecDeque;

/// See the module. No client in it is without an entry.
#[derive(Debug)]
pub(super) struct Rotation<T> {
    /// In the order of their next turns.
    clients: VecDeque<Client<T>>,
    /// The number of entries that were chosen by [`Self::next_to_prepare`].
    chosen: u64,
}

#[derive(Debug)]
struct Client<T> {
    name: String,
    entries: VecDeque<T>,
    /// The value of [`Rotation::chosen`] when an entry of this client was chosen last, or when the client came.
    chosen: u64,
}

impl<T> Rotation<T> {
    pub(super) fn new() -> Self {
        Self {
            clients: VecDeque::new(),
            chosen: 0,
        }
    }

    /// Puts `entry` behind those of the same client.
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

    /// Returns the next entry. Clients whose first entry is not ready are passed over, and keep their turns.
    pub(super) fn head(&self, is_ready: impl Fn(&T) -> bool) -> Option<&T> {
        let mut heads = self
            .clients
            .iter()
            .filter_map(|client| client.entries.front());
        heads.find(|entry| is_ready(entry))
    }

    /// Takes out what [`Self::head`] returns; its client is behind the others then.
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

    /// Chooses the entry to prepare next: the first of a client that `is_waiting` to be, if there `is_room` for it. The client that
    /// was chosen least recently comes first, so entries that fail do not earn their client another turn.
    pub(super) fn next_to_prepare(
        &mut self,
        is_waiting: impl Fn(&T) -> bool,
        is_room: impl Fn(&T) -> bool,
    ) -> Option<&mut T> {
        let candidates = self.clients.iter_mut().filter_map(|client| {
            let mut entries = client.entries.iter_mut();
            let entry = entries.find(|entry| is_waiting(entry))?;
            is_room(entry).then_some((&mut client.chosen, entry))
        });
        let (chosen, entry) = candidates.min_by_key(|(chosen, _)| **chosen)?;
        self.chosen += 1;
        *chosen = self.chosen;
        Some(entry)
    }

    /// Takes out the entry that `is_meant`; its client keeps its turn for the next one.
    pub(super) fn remove(&mut self, is_meant: impl Fn(&T) -> bool) -> Option<T> {
        let mut clients = self.clients.iter().enumerate();
        let (client, at) = clients.find_map(|(client, known)| {
            Some((client, known.entries.iter().position(&is_meant)?))
        })?;
        let known = &mut self.clients[client];
        let entry = known.entries.remove(at);
        if known.entries.is_empty() {
            self.clients.remove(client);
        }
        entry
    }

    /// All entries in the order in which [`Self::pop`] will give them if nobody comes or goes and all are ready.
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

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.clients.iter().map(|client| client.entries.len()).sum()
    }

    /// How many of them are of `client`.
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

    fn order(rotation: &mut Rotation<u32>) -> Vec<u32> {
        rotation.in_order().map(|entry| *entry).collect()
    }

    #[test]
    fn clients_take_turns_and_each_ones_entries_stay_in_order() {
        let mut rotation = Rotation::new();
        for (client, entry) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5), ("c", 6)] {
            rotation.push(client, entry);
        }
        assert_eq!(order(&mut rotation), [1, 4, 6, 2, 5, 3]);
        let popped: Vec<u32> = std::iter::from_fn(|| rotation.pop(|_| true)).collect();
        assert_eq!(popped, [1, 4, 6, 2, 5, 3]);
    }

    #[test]
    fn who_comes_back_is_behind_the_others_and_who_leaves_one_entry_keeps_its_turn() {
        let mut rotation = Rotation::new();
        for (client, entry) in [("a", 1), ("b", 2), ("b", 3), ("a", 4)] {
            rotation.push(client, entry);
        }
        assert_eq!(rotation.remove(|entry| *entry == 1), Some(1));
        assert_eq!(order(&mut rotation), [4, 2, 3]);
        assert_eq!(rotation.pop(|_| true), Some(4));
        rotation.push("a", 5);
        assert_eq!(order(&mut rotation), [2, 5, 3]);
        assert_eq!(rotation.remove(|entry| *entry == 9), None);
    }

    #[test]
    fn an_entry_that_is_not_ready_holds_up_its_own_client_only() {
        let mut rotation = Rotation::new();
        for (client, entry) in [("a", 1), ("a", 2), ("b", 3), ("b", 4)] {
            rotation.push(client, entry);
        }
        let is_ready = |entry: &u32| *entry != 1;
        assert_eq!(rotation.head(is_ready), Some(&3));
        assert_eq!(rotation.pop(is_ready), Some(3));
        assert_eq!(rotation.pop(|_| true), Some(1));
        assert_eq!(order(&mut rotation), [4, 2]);
    }

    #[test]
    fn entries_that_fail_while_they_are_prepared_do_not_earn_their_client_another_turn() {
        let mut rotation = Rotation::new();
        for (client, entry) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5)] {
            rotation.push(client, entry);
        }
        let mut next = || {
            let entry = *rotation.next_to_prepare(|_| true, |_| true)?;
            rotation.remove(|other| *other == entry)
        };
        let order: Vec<u32> = std::iter::from_fn(&mut next).collect();
        assert_eq!(order, [1, 4, 2, 5, 3]);
    }

    #[test]
    fn a_client_whose_entry_has_no_room_does_not_hold_up_the_others() {
        let mut rotation = Rotation::new();
        for (client, entry) in [("a", 100), ("a", 1), ("b", 2)] {
            rotation.push(client, entry);
        }
        let mut next = |room: u32| {
            let next = rotation.next_to_prepare(|entry| *entry > 0, |entry| *entry <= room);
            next.map(std::mem::take)
        };
        assert_eq!(next(50), Some(2));
        // Within a client the order stays.
        assert_eq!(next(50), None);
        assert_eq!(next(100), Some(100));
        assert_eq!(next(50), Some(1));
    }

    /// What may happen to a rotation.
    #[derive(Debug, Clone)]
    enum Happening {
        Push(u8),
        Pop,
        Remove(u32),
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            3 => (0_u8..6).prop_map(Happening::Push),
            2 => Just(Happening::Pop),
            1 => (0_u32..100).prop_map(Happening::Remove),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_overtakes_the_head_and_nobody_waits_longer_than_its_turns(
            happenings in prop::collection::vec(happening(), 1..100)
        ) {
            let mut rotation = Rotation::new();
            let mut there = BTreeSet::new();
            // Of each entry that waits: its client, and how many may still be popped before it.
            let mut patience: HashMap<u32, (u8, usize)> = HashMap::new();
            // All that may come. Between two turns of a client there is at most one of each other client, so an entry that is the
            // n-th of its client is popped within n turns of all of them.
            let clients = 6;
            for (entry, happening) in (0_u32..).zip(happenings) {
                let head = rotation.head(|_| true).copied();
                let mut gone = None;
                match happening {
                    Happening::Push(client) => {
                        let earlier = rotation.len_of(&client.to_string());
                        rotation.push(&client.to_string(), entry);
                        there.insert(entry);
                        patience.insert(entry, (client, (earlier + 1) * clients));
                    }
                    Happening::Pop => {
                        gone = rotation.pop(|_| true);
                        prop_assert_eq!(gone, head);
                        for (_, left) in patience.values_mut() {
                            prop_assert!(*left > 0);
                            *left -= 1;
                        }
                    }
                    Happening::Remove(entry) => {
                        gone = rotation.remove(|known| *known == entry);
                        prop_assert_eq!(gone.is_some(), there.contains(&entry));
                    }
                }
                if let Some(gone) = gone {
                    prop_assert!(there.remove(&gone));
                    patience.remove(&gone);
                }
                let order = order(&mut rotation);
                prop_assert_eq!(order.len(), rotation.len());
                prop_assert_eq!(order.first(), rotation.head(|_| true));
                prop_assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), there.clone());
                // Who is the head stays it until it goes.
                prop_assert!(head.is_none_or(|head| gone == Some(head) || rotation.head(|_| true) == Some(&head)));
                // Within a client first come, first served: entries are numbered as they come.
                for client in 0..6 {
                    let of_client = order.iter().filter(|entry| patience[*entry].0 == client);
                    prop_assert!(of_client.is_sorted());
                }
            }
            let expected = order(&mut rotation);
            let popped: Vec<u32> = std::iter::from_fn(|| rotation.pop(|_| true)).collect();
            prop_assert_eq!(popped, expected);
        }
    }
}
