//! Counts by key, each with a limit. Pure.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// How many there are of each key.
#[derive(Debug)]
pub(super) struct Counts<K>(HashMap<K, usize>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Counts<K> {
    /// Counts one more of `key`, if there are fewer than `max`. Returns whether it did; [`Self::leave`] must follow then.
    pub(super) fn enter(&mut self, key: K, max: usize) -> bool {
        let count = self.0.get(&key).copied().unwrap_or(0);
        if count < max {
            self.0.insert(key, count + 1);
        }
        count < max
    }

    /// Counts one less of `key`.
    pub(super) fn leave<Q>(&mut self, key: &Q)
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

    /// Returns how many there are of all keys.
    #[cfg(test)]
    pub(super) fn sum(&self) -> usize {
        self.0.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_limit_and_nothing_is_kept_of_keys_without_any() {
        let mut counts = Counts::<String>::default();
        let enter = |counts: &mut Counts<String>, key: &str| counts.enter(key.to_owned(), 1);
        assert!(enter(&mut counts, "a") && !enter(&mut counts, "a") && enter(&mut counts, "b"));
        counts.leave("a");
        counts.leave("a");
        assert!(enter(&mut counts, "a"));
        counts.leave("a");
        counts.leave("b");
        assert!(counts.0.is_empty());
    }
}
