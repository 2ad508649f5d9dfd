//! Limit of the queue for each client: `max_queue` with several clients. Pure.
//!
//! The queue holds four times `max_queue` calls. A client may queue `max_queue` of them, and never more than are left. Three clients can
//! therefore use their full share. With more clients each one gets less, and the last places go one by one to new clients. A queued call
//! is never rejected later.
//!
//! With `max_queue = 10`, eight greedy clients one after the other queue 10, 10, 10, 5, 3, 1, 1 and 0 calls.

/// Capacity of the queue, in shares of one client.
const CLIENTS: usize = 4;

/// Returns whether a client with `own` of the `all` queued calls may queue one more. `max_queue` is the share of one client.
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
    fn greedy_clients_leave_room_for_new_clients() {
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
        fn a_client_without_queued_calls_is_never_rejected_beside_three_others(
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
                prop_assert!(is_taken || *waiting > 0);
                *waiting += usize::from(is_taken);
                prop_assert!(*waiting <= max_queue);
                prop_assert!(own.values().sum::<usize>() <= CLIENTS * max_queue);
            }
        }
    }
}
