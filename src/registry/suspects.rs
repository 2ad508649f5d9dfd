//! Prompts that may have killed a model's process. A prompt that killed it twice is refused for a while, so that the model stays
//! available to everybody else. Pure.
//!
//! When a process dies, the prompts of all calls that it had begun become suspects, since the cause is unknown. A prompt that is answered
//! later is no longer a suspect.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash, Hasher};
use std::io::{self, Write};
use std::time::Duration;

use tokio::time::Instant;

use super::ids::RunnerId;
use crate::engine::Conversation;

/// Number of deaths after which a prompt is refused. A death counts once for each prompt, however many calls had it.
const DEATHS_TO_REFUSE: u32 = 2;

/// Time for which a prompt remains a suspect after the last death.
const SUSPECTED_FOR: Duration = Duration::from_mins(10);

/// Maximum number of suspects. If it is reached, a new suspect replaces the oldest one.
const MAX_SUSPECTS: usize = 256;

/// Hash of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PromptHash(u64);

impl PromptHash {
    /// Returns the hash of `prompt` for the `version` of a model.
    pub(super) fn new(
        hasher: &impl BuildHasher,
        version: impl Hash,
        prompt: &Conversation,
    ) -> Self {
        let mut hasher = hasher.build_hasher();
        version.hash(&mut hasher);
        let written = serde_json::to_writer(HashWriter(&mut hasher), prompt);
        written.expect("a conversation has only string keys");
        Self(hasher.finish())
    }
}

/// A writer that hashes the written bytes.
struct HashWriter<'hasher, H>(&'hasher mut H);

impl<H: Hasher> Write for HashWriter<'_, H> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The suspects, as hashes.
#[derive(Debug, Default)]
pub(super) struct Suspects(HashMap<PromptHash, Suspect>);

#[derive(Debug)]
struct Suspect {
    deaths: u32,
    /// The process that died last.
    runner: RunnerId,
    last: Instant,
}

impl Suspects {
    /// Returns whether there are no suspects. Prompts need not be hashed then.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Records that the process of `runner` died while it worked on `prompt`.
    pub(super) fn blame(&mut self, prompt: PromptHash, runner: RunnerId, now: Instant) {
        self.0
            .retain(|_, suspect| now < suspect.last + SUSPECTED_FOR);
        if !self.0.contains_key(&prompt) && self.0.len() >= MAX_SUSPECTS {
            let oldest = self.0.iter().min_by_key(|(_, suspect)| suspect.last);
            if let Some(oldest) = oldest.map(|(oldest, _)| *oldest) {
                self.0.remove(&oldest);
            }
        }
        match self.0.entry(prompt) {
            // Another call with the same prompt.
            Entry::Occupied(known) if known.get().runner == runner => {}
            Entry::Occupied(mut known) => {
                let deaths = known.get().deaths + 1;
                known.insert(Suspect {
                    deaths,
                    runner,
                    last: now,
                });
            }
            Entry::Vacant(place) => drop(place.insert(Suspect {
                deaths: 1,
                runner,
                last: now,
            })),
        }
    }

    /// Records that `prompt` was answered, so it is no longer a suspect.
    pub(super) fn clear(&mut self, prompt: PromptHash) {
        self.0.remove(&prompt);
    }

    /// Returns for how long `prompt` is still refused; `None` if it is not.
    pub(super) fn refused_for(&self, prompt: PromptHash, now: Instant) -> Option<Duration> {
        let suspect = self.0.get(&prompt)?;
        let left = (suspect.last + SUSPECTED_FOR).checked_duration_since(now)?;
        (suspect.deaths >= DEATHS_TO_REFUSE && !left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_refused_after_two_deaths_for_ten_minutes_and_others_are_not() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        suspects.blame(PromptHash(1), RunnerId(1), now);
        assert_eq!(suspects.refused_for(PromptHash(1), now), None);
        suspects.blame(PromptHash(1), RunnerId(2), now);
        assert_eq!(
            suspects.refused_for(PromptHash(1), now),
            Some(SUSPECTED_FOR)
        );
        assert_eq!(suspects.refused_for(PromptHash(2), now), None);
        assert_eq!(
            suspects.refused_for(PromptHash(1), now + SUSPECTED_FOR),
            None
        );
    }

    #[test]
    fn an_answer_clears_only_its_own_prompt() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        for prompt in [1, 2] {
            suspects.blame(PromptHash(prompt), RunnerId(1), now);
        }
        suspects.clear(PromptHash(1));
        for prompt in [1, 2] {
            suspects.blame(PromptHash(prompt), RunnerId(2), now);
        }
        assert_eq!(suspects.refused_for(PromptHash(1), now), None);
        assert!(suspects.refused_for(PromptHash(2), now).is_some());
    }

    #[test]
    fn one_death_counts_once_however_many_calls_had_the_prompt() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        for _ in 0..10 {
            suspects.blame(PromptHash(1), RunnerId(1), now);
        }
        assert_eq!(suspects.refused_for(PromptHash(1), now), None);
        suspects.blame(PromptHash(1), RunnerId(2), now);
        assert!(suspects.refused_for(PromptHash(1), now).is_some());
    }

    #[test]
    fn an_old_death_does_not_count() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        suspects.blame(PromptHash(1), RunnerId(1), now);
        suspects.blame(PromptHash(1), RunnerId(2), now + SUSPECTED_FOR);
        assert_eq!(
            suspects.refused_for(PromptHash(1), now + SUSPECTED_FOR),
            None
        );
    }

    #[test]
    fn the_number_of_suspects_is_bounded_and_the_oldest_is_dropped_first() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        for prompt in 0..10_000 {
            suspects.blame(
                PromptHash(prompt),
                RunnerId(1),
                now + Duration::from_millis(prompt),
            );
        }
        assert_eq!(suspects.0.len(), MAX_SUSPECTS);
        assert!(
            suspects.0.contains_key(&PromptHash(9_999)) && !suspects.0.contains_key(&PromptHash(0))
        );
    }
}
