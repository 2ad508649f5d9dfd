//! A circuit breaker for one model: a process that keeps dying is not started again. Pure.

use crate::config::Stamp;

/// Number of deaths in a row that opens the breaker.
pub(super) const DEATHS_TO_OPEN: u32 = 3;

/// Counts how often the model's process died in a row, while it loaded or served, without finishing a call in between. The count restarts
/// when the file changes.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    deaths: u32,
    /// The cause of the last death.
    cause: String,
    /// Stamp of the file that the process had loaded.
    stamp: Stamp,
}

impl Breaker {
    /// Records that the process, which had loaded the file `stamp`, died of `cause`.
    pub(super) fn died(&mut self, cause: &str, stamp: Stamp) {
        let before = if self.stamp == stamp { self.deaths } else { 0 };
        *self = Self {
            deaths: before + 1,
            cause: cause.to_owned(),
            stamp,
        };
    }

    /// Closes the breaker and resets the count, since the process finished a call, or reported why it could not load the model.
    pub(super) fn close(&mut self) {
        *self = Self::default();
    }

    /// Returns the cause of the last death if the breaker is open.
    pub(super) fn open(&self) -> Option<&str> {
        (self.deaths >= DEATHS_TO_OPEN).then_some(&self.cause)
    }

    /// Returns the cause of the last death if the breaker is open for a model whose file is `stamp`.
    pub(super) fn open_for(&self, stamp: Stamp) -> Option<&str> {
        self.open().filter(|_| self.stamp == stamp)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Event {
        Died(Stamp),
        Finished,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            3 => (0..2_u64).prop_map(|number| Event::Died(Stamp::numbered(number))),
            1 => Just(Event::Finished),
        ];
        proptest::collection::vec(event, 0..20)
    }

    proptest! {
        #[test]
        fn the_breaker_is_open_exactly_if_the_last_three_events_were_deaths_with_the_same_file(events in events()) {
            let mut breaker = Breaker::default();
            for event in &events {
                match event {
                    Event::Died(stamp) => breaker.died("a cause", *stamp),
                    Event::Finished => breaker.close(),
                }
            }
            let last = events.iter().rev().take(3);
            for stamp in [0, 1].map(Stamp::numbered) {
                let deaths = last.clone().filter(|event| matches!(event, Event::Died(died) if *died == stamp));
                prop_assert_eq!(breaker.open_for(stamp).is_some(), deaths.count() == 3);
            }
        }
    }
}
