//! How long a model waits for turns at the CPUs. Pure.

use std::time::Duration;

/// A model waits for turns at most this many times as long as it computes. Others may have steps of a second where its own take ten
/// milliseconds.
const SHARE: u32 = 100;

/// The time that a model has left for waiting: used up by waiting, and earned by computing. So neither a turn that is held for ever
/// nor one that is given back and taken again at once can stop a model.
#[derive(Debug)]
pub(super) struct WaitBudget {
    max: Duration,
    left: Duration,
}

impl WaitBudget {
    /// Lasts for a wait of `max` at first, and never for a longer one.
    pub(super) fn new(max: Duration) -> Self {
        Self { max, left: max }
    }

    /// Returns how long the next wait may be.
    pub(super) fn left(&self) -> Duration {
        self.left
    }

    /// Notes that a turn was waited for.
    pub(super) fn waited(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }

    /// Notes that the model computed, with a turn or without.
    pub(super) fn computed(&mut self, time: Duration) {
        let earned = time.saturating_mul(SHARE);
        self.left = self.left.saturating_add(earned).min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(10);

    #[test]
    fn it_lasts_among_models_whose_steps_are_alike() {
        let mut budget = WaitBudget::new(MAX);
        for _ in 0..10_000 {
            budget.waited(Duration::from_secs(9));
            assert!(budget.left() > Duration::ZERO);
            budget.computed(Duration::from_secs(1));
        }
        assert_eq!(budget.left(), MAX);
    }

    #[test]
    fn a_turn_that_is_held_again_and_again_costs_a_bounded_share_of_the_time() {
        let mut budget = WaitBudget::new(MAX);
        let step = Duration::from_millis(10);
        let (mut waited, mut computed) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..10_000 {
            let wait = budget.left().min(Duration::from_secs(9));
            budget.waited(wait);
            budget.computed(step);
            waited += wait;
            computed += step;
        }
        assert!(waited <= MAX + computed * SHARE);
    }
}
