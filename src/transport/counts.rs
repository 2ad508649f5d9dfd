//! Counters with a limit, by key. Pure.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// A counter for each key. A key whose count is 0 takes no memory.
#[derive(Debug)]
pub(super) struct Counts<K>(HashMap<K, usize>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Counts<K> {
    /// Increments the count of `key` if it is below `max`. Returns whether it did; [`Self::remove`] must follow then.
    pub(super) fn try_add(&mut self, key: K, max: usize) -> bool {
        let count = self.0.get(&key).copied().unwrap_or(0);
        if count < max {
            self.0.insert(key, count + 1);
        }
        count < max
    }

    /// Decrements the count of `key`.
    pub(super) fn remove<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(count) = self.0.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(key);
            }
        }
    }

    /// Returns the total count of all keys.
    #[cfg(test)]
    pub(super) fn total(&self) -> usize {
        self.0.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_limit_and_a_key_without_a_count_takes_no_memory() {
        let mut counts = Counts::<String>::default();
        let add = |counts: &mut Counts<String>, key: &str| counts.try_add(key.to_owned(), 1);
        assert!(add(&mut counts, "a") && !add(&mut counts, "a") && add(&mut counts, "b"));
        counts.remove("a");
        counts.remove("a");
        assert!(add(&mut counts, "a"));
        counts.remove("a");
        counts.remove("b");
        assert!(counts.0.is_empty());
    }
}
