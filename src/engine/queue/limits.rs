//! How many calls of a model may wait: `max_queue` in the presence of several clients. Pure.
//!
//! One client cannot fill the places. It may have `max_queue` of four times as many, and never more than there are places left.
//! So up to three clients may each have all of theirs, and however many there are, they leave room for who comes anew, until
//! there are about as many clients as places. Whoever was let in stays in: nothing is taken from a call that waits.

/// How many clients' places there are: a few that ask as much as they may leave room for others, and memory stays bounded.
const CLIENTS: usize = 4;

/// Whether one more call may wait of a client that has `own` of `all` the waiting ones, `max_queue` being a client's places.
pub(crate) fn may_wait(max_queue: usize, own: usize, all: usize) -> bool {
    let left = CLIENTS.saturating_mul(max_queue).saturating_sub(all);
    own < left.min(max_queue)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn greedy_clients_leave_a_place_for_who_comes_anew() {
        let mut all = 0;
        let mut taken = || {
            let own = (0..=10)
                .find(|own| !may_wait(10, *own, all + own))
                .expect("it ends");
            all += own;
            own
        };
        assert_eq!([(); 8].map(|()| taken()), [10, 10, 10, 5, 3, 1, 1, 0]);
        assert!(!may_wait(0, 0, 0));
    }

    proptest! {
        #[test]
        fn no_client_alone_keeps_others_out(
            max_queue in 1_usize..20,
            calls in prop::collection::vec((0_u8..4, 0_u8..4, any::<bool>()), 1..200),
        ) {
            let mut own: HashMap<u8, usize> = HashMap::new();
            for (client, other, is_served) in calls {
                if is_served && let Some(waiting) = own.get_mut(&other) {
                    *waiting = waiting.saturating_sub(1);
                }
                let all: usize = own.values().sum();
                let waiting = own.entry(client).or_default();
                let is_taken = may_wait(max_queue, *waiting, all);
                // One that asks for little is never refused beside three others, however much they ask for.
                prop_assert!(is_taken || *waiting > 0);
                *waiting += usize::from(is_taken);
                prop_assert!(*waiting <= max_queue);
                prop_assert!(own.values().sum::<usize>() <= CLIENTS * max_queue);
            }
        }
    }
}
