//! Shared prefixes on their way from the server to the scheduler: prepared one by one while no prompt of a call waits, and handed over
//! together. Pure.

use std::collections::VecDeque;

use crate::engine::shared_prefix::PromptSamples;
use crate::engine::token::Token;

/// Id of a set of shared prefixes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PrefixSet(u64);

/// The current set of shared prefixes.
#[derive(Debug, Default)]
pub(super) struct Warming {
    /// Id of the set. Prefixes of an earlier set that are still being prepared are dropped.
    set: PrefixSet,
    waiting: VecDeque<PromptSamples>,
    is_preparing: bool,
    /// Prepared prefixes of the set; `None` once the set was handed over.
    ready: Option<Vec<Vec<Token>>>,
}

impl Warming {
    /// Replaces the set with `prompts`.
    pub(super) fn replace(&mut self, prompts: Vec<PromptSamples>) {
        self.set.0 += 1;
        self.waiting = prompts.into();
        self.is_preparing = false;
        self.ready = Some(Vec::new());
    }

    /// Returns the next prompt to prepare, and its set.
    pub(super) fn next(&mut self) -> Option<(PrefixSet, PromptSamples)> {
        let prompt = self.waiting.pop_front()?;
        self.is_preparing = true;
        Some((self.set, prompt))
    }

    /// Adds the tokens of a prepared prefix of `set`; `None` if it is not worth keeping.
    pub(super) fn prepared(&mut self, set: PrefixSet, tokens: Option<Vec<Token>>) {
        if set != self.set {
            return;
        }
        self.is_preparing = false;
        if let (Some(ready), Some(tokens)) = (&mut self.ready, tokens)
            // Prompts of several tools may differ only in the arguments of their calls.
            && !ready.contains(&tokens)
        {
            ready.push(tokens);
        }
    }

    /// Takes the prefixes once all of the set are prepared. Returns `None` before that, and afterwards.
    pub(super) fn take_complete(&mut self) -> Option<Vec<Vec<Token>>> {
        let is_whole = self.waiting.is_empty() && !self.is_preparing;
        is_whole.then(|| self.ready.take()).flatten()
    }

    /// Returns whether the set was handed over.
    pub(super) fn is_done(&self) -> bool {
        self.ready.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Conversation;
    use crate::engine::token::tokens;

    fn prompt() -> PromptSamples {
        let sample = Conversation {
            messages: Vec::new(),
            thinking: crate::engine::ThinkingOutput::Strip,
            json_schema: None,
            thinking_budget: None,
            template_arguments: serde_json::Map::new(),
        };
        PromptSamples {
            tool: "t".into(),
            samples: [sample.clone(), sample],
        }
    }

    #[test]
    fn a_set_is_handed_over_once_complete_without_duplicates() {
        let mut warming = Warming::default();
        assert!(warming.is_done() && warming.take_complete().is_none());
        warming.replace(vec![prompt(), prompt(), prompt(), prompt()]);
        let repeated = tokens([1, 2]);
        for prefix in [
            Some(repeated.clone()),
            None,
            Some(tokens([1])),
            Some(repeated),
        ] {
            assert_eq!(warming.take_complete(), None);
            let (set, _) = warming.next().unwrap();
            assert_eq!(warming.take_complete(), None);
            warming.prepared(set, prefix);
        }
        assert!(!warming.is_done());
        assert_eq!(
            warming.take_complete(),
            Some(vec![tokens([1, 2]), tokens([1])])
        );
        assert!(warming.is_done() && warming.take_complete().is_none());
    }

    #[test]
    fn a_new_set_replaces_one_that_is_being_prepared() {
        let mut warming = Warming::default();
        warming.replace(vec![prompt(), prompt()]);
        let (former, _) = warming.next().unwrap();
        warming.replace(vec![prompt()]);
        warming.prepared(former, Some(tokens([1])));
        let (set, _) = warming.next().unwrap();
        warming.prepared(former, Some(tokens([1])));
        assert_eq!(warming.take_complete(), None);
        warming.prepared(set, Some(tokens([2])));
        assert_eq!(warming.take_complete(), Some(vec![tokens([2])]));
    }

    #[test]
    fn an_empty_set_is_complete_at_once() {
        let mut warming = Warming::default();
        warming.replace(Vec::new());
        assert_eq!(warming.take_complete(), Some(Vec::new()));
    }
}
