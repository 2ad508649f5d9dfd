//! A model's process is let go by hand: another edition of the same model takes its place.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Shelf, State};
use crate::memory;
use crate::registry::residency::{Edition, ModelState};

/// A model that was let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) struct Replaced {
    /// The model's name, whatever it was called by.
    pub(in crate::registry) name: String,
    /// The edition that new calls get.
    pub(in crate::registry) edition: Edition,
    /// The state of the former one, before.
    pub(in crate::registry) was: ModelState,
    /// Calls that its process still answers.
    pub(in crate::registry) running: usize,
}

impl Shelf {
    /// Lets go of the process of the model called `name`, which may be an alias: it answers the calls that it has, and new calls start another one. Forgets
    /// loads that failed and deaths. Returns `None` if there is no such model.
    pub(in crate::registry) fn replace(self: &Arc<Self>, name: &str) -> Option<Replaced> {
        let (free, now) = (memory::free(), Instant::now());
        self.change(|state| {
            let old = state.edition_called(name)?;
            let mut standings = state.residency.standings().into_iter();
            let (_, standing) = standings.find(|(edition, _)| *edition == old)?;
            let new = state.next_edition();
            let model = state.models.remove(&old)?;
            let name = model.config.name.clone();
            state.models.insert(new, model);
            state.residency.replace(old, new, free, now);
            state.succeed(old, new);
            Some(Replaced {
                name,
                edition: new,
                was: standing.state,
                running: match standing.state {
                    // Its calls are made again.
                    ModelState::Loading => 0,
                    _ => standing.calls,
                },
            })
        })
    }
}

impl State {
    /// Returns the edition of the model that has `name` as its name or as an alias, for new calls.
    fn edition_called(&self, name: &str) -> Option<Edition> {
        let models = self.models.iter();
        let called = models.filter(|(_, model)| model.config.is_called(name));
        called.map(|(edition, _)| *edition).max()
    }

    /// Returns the edition that took the place of `edition`, which a tool knows.
    pub(super) fn current(&self, edition: Edition) -> Edition {
        self.successors.get(&edition).copied().unwrap_or(edition)
    }

    /// Has `new` take the place of `old`.
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
