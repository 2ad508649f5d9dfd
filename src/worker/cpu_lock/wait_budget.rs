//! Limit of the time that a model waits for CPU turns. Pure.

use std::time::Duration;

/// Maximum time of waiting, as a multiple of the time of computing. A model with steps of ten milliseconds may wait for steps of a second.
const SHARE: u32 = 100;

/// Time that a model may wait for turns. Waiting uses it up, and computing earns it back. So a hostile worker cannot stop a model, neither
/// by holding a turn forever nor by acquiring it again at once.
#[derive(Debug)]
pub(super) struct WaitBudget {
    max: Duration,
    left: Duration,
}

impl WaitBudget {
    /// Creates a full budget of `max`, which is also the longest wait.
    pub(super) fn new(max: Duration) -> Self {
        Self { max, left: max }
    }

    /// Returns the longest time of the next wait.
    pub(super) fn left(&self) -> Duration {
        self.left
    }

    /// Records a wait of `time`.
    pub(super) fn waited(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }

    /// Records that the model computed for `time`, with or without a turn.
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
    fn the_budget_lasts_if_all_models_have_similar_steps() {
        let mut budget = WaitBudget::new(MAX);
        for _ in 0..10_000 {
            budget.waited(Duration::from_secs(9));
            assert!(budget.left() > Duration::ZERO);
            budget.computed(Duration::from_secs(1));
        }
        assert_eq!(budget.left(), MAX);
    }

    #[test]
    fn a_worker_that_always_holds_the_turn_costs_a_bounded_share_of_the_time() {
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
