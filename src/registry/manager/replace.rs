//! Unloads a model on request, by replacing its edition with a new one.

use std::collections::HashMap;
use std::sync::Arc;

use super::{ModelManager, State};
use crate::registry::ids::Edition;
use crate::registry::residency::ModelState;

/// Result of replacing a model's edition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) struct Replaced {
    /// The model's name, even if an alias was given.
    pub(in crate::registry) name: String,
    /// The edition that new calls get.
    pub(in crate::registry) edition: Edition,
    /// State of the former edition before the replacement.
    pub(in crate::registry) was: ModelState,
    /// Calls that the former process still answers.
    pub(in crate::registry) running: usize,
}

impl ModelManager {
    /// Replaces the edition of the model that has `name` as its name or as an alias. The former process finishes its calls, and new calls
    /// start a new process. Failed loads and deaths are forgotten. Returns `None` if there is no such model.
    pub(in crate::registry) fn replace(self: &Arc<Self>, name: &str) -> Option<Replaced> {
        self.change(|state| {
            let old = state.edition_called(name)?;
            let status = state.residency.status(old)?;
            let new = state.next_edition.allocate();
            let model = state.models.remove(&old)?;
            let name = model.config.name.clone();
            state.models.insert(new, model);
            state.residency.replace(old, new);
            state.successors.replace(old, new);
            Some(Replaced {
                name,
                edition: new,
                was: status.state,
                running: match status.state {
                    // Calls that wait for the load are retried with the new edition.
                    ModelState::Loading => 0,
                    _ => status.calls,
                },
            })
        })
    }

    /// Returns the edition that replaced `edition`, or `edition` itself.
    pub(in crate::registry) fn current(&self, edition: Edition) -> Edition {
        self.lock().current(edition)
    }
}

impl State {
    /// Returns the latest edition of the model called `name`, or else of the model that has `name` as an alias. During an edit, an alias may
    /// belong to two models.
    fn edition_called(&self, name: &str) -> Option<Edition> {
        let models = self.models.iter();
        let called = models.filter(|(_, model)| model.config.is_called(name));
        called
            .map(|(edition, model)| (model.config.name == name, *edition))
            .max()
            .map(|(_, edition)| edition)
    }

    /// Returns the edition that replaced `edition`, or `edition` itself. Tools may know a former edition.
    pub(super) fn current(&self, edition: Edition) -> Edition {
        self.successors.current(edition)
    }
}

/// Maps the former editions of models that were unloaded or restarted on request to the current ones.
#[derive(Debug, Default)]
pub(super) struct Successors(HashMap<Edition, Edition>);

impl Successors {
    /// Returns the edition that replaced `edition`, or `edition` itself.
    fn current(&self, edition: Edition) -> Edition {
        self.0.get(&edition).copied().unwrap_or(edition)
    }

    /// Records that `new` replaces `old`. Tools may know any earlier edition, so all of them are mapped to `new`.
    fn replace(&mut self, old: Edition, new: Edition) {
        for current in self.0.values_mut() {
            if *current == old {
                *current = new;
            }
        }
        self.0.insert(old, new);
    }

    /// Forgets the successors of all editions except `kept`, the editions that tools know.
    pub(super) fn retain(&mut self, kept: &[Edition]) {
        self.0.retain(|edition, _| kept.contains(edition));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edition_that_a_tool_may_know_leads_to_the_current_one() {
        let mut successors = Successors::default();
        let [first, second, third, fourth, other] = [1, 2, 3, 4, 5].map(Edition);
        successors.replace(first, second);
        // A reload gives its tools the second edition, and the model is restarted before the former editions are retired.
        successors.replace(second, third);
        successors.retain(&[second]);
        assert_eq!(successors.current(second), third);
        successors.replace(third, fourth);
        assert_eq!(successors.current(second), fourth);
        assert_eq!(successors.current(other), other);
    }
}
