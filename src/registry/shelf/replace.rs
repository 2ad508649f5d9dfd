//! Unloads a model by hand: another edition of the same model replaces it.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Shelf, State};
use crate::memory;
use crate::registry::residency::{Edition, ModelState};

/// Result of replacing a model's edition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registry) struct Replaced {
    /// The edition that new calls get.
    pub(in crate::registry) edition: Edition,
    /// State of the former edition before the replacement.
    pub(in crate::registry) was: ModelState,
    /// Calls that the former process still answers.
    pub(in crate::registry) running: usize,
}

impl Shelf {
    /// Replaces the edition of the model called `name`. The process answers the calls that it has, and new calls start another process.
    /// Failed loads and deaths are forgotten. Returns `None` if there is no such model.
    pub(in crate::registry) fn replace(self: &Arc<Self>, name: &str) -> Option<Replaced> {
        let (free, now) = (memory::free(), Instant::now());
        self.change(|state| {
            let old = state.edition_called(name)?;
            let mut standings = state.residency.standings().into_iter();
            let (_, standing) = standings.find(|(edition, _)| *edition == old)?;
            let new = state.next_edition();
            let model = state.models.remove(&old)?;
            state.models.insert(new, model);
            state.residency.replace(old, new, free, now);
            state.succeed(old, new);
            Some(Replaced {
                edition: new,
                was: standing.state,
                running: match standing.state {
                    // Calls that wait for the load are repeated with the new edition.
                    ModelState::Loading => 0,
                    _ => standing.calls,
                },
            })
        })
    }
}

impl State {
    /// Returns the edition of the model called `name` that new calls get.
    fn edition_called(&self, name: &str) -> Option<Edition> {
        let models = self.models.iter();
        let called = models.filter(|(_, model)| model.config.name == name);
        called.map(|(edition, _)| *edition).max()
    }

    /// Returns the edition that replaced `edition`, which is the one that a tool knows.
    pub(super) fn current(&self, edition: Edition) -> Edition {
        self.successors.get(&edition).copied().unwrap_or(edition)
    }

    /// Records that `new` replaces `old`.
    fn succeed(&mut self, old: Edition, new: Edition) {
        let mut is_known = false;
        for current in self.successors.values_mut() {
            if *current == old {
                *current = new;
                is_known = true;
            }
        }
        if !is_known {
            self.successors.insert(old, new);
        }
    }
}
