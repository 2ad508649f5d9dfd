//! Tags in a chat template, and whether their names suggest reasoning.

use std::sync::LazyLock;

use regex::Regex;

/// A tag such as `<think>`, `[/THINK]` or `<|inner_prefix|>`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag<'text> {
    pub(super) text: &'text str,
    left: &'text str,
    name: &'text str,
    right: &'text str,
}

/// Returns the tags of `text` in order.
pub(super) fn tags_of(text: &str) -> impl Iterator<Item = Tag<'_>> {
    static TAG: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?P<left><\|?|\[|◁)(?P<name>/?[A-Za-z][A-Za-z0-9_:.-]{1,40})(?P<right>\|?>|\]|▷)",
        )
        .expect("the constant pattern is valid")
    });
    TAG.captures_iter(text).map(|found| {
        let part = |name| found.name(name).map_or("", |part| part.as_str());
        Tag {
            text: found.get_match().as_str(),
            left: part("left"),
            name: part("name"),
            right: part("right"),
        }
    })
}

impl Tag<'_> {
    fn has_word(&self, words: &[&str]) -> bool {
        let name = self.name.to_lowercase();
        let is_setting = ["instruct", "budget", "mode", "effort", "tool"]
            .iter()
            .any(|word| name.contains(word));
        !is_setting && words.iter().any(|word| name.contains(word))
    }

    /// Returns whether a pair of such tags certainly encloses reasoning.
    pub(super) fn is_reasoning(&self) -> bool {
        self.has_word(&["think", "thought", "reason"])
    }

    /// Returns whether such a tag may begin reasoning, although its closing tag is unknown.
    pub(super) fn looks_like_reasoning(&self) -> bool {
        let words = [
            "think",
            "thought",
            "reason",
            "ponder",
            "reflect",
            "deliberat",
            "scratchpad",
            "monolog",
            "rationale",
            "analysis",
            "inner_",
            "channel",
        ];
        // A Jinja index such as `message['thinking']` has quotes. An index with a variable is not a tag.
        let is_index = self.left == "[" && self.name.chars().any(char::is_lowercase);
        !is_index && self.has_word(&words)
    }

    /// Returns the possible spellings of the tag that closes this one.
    pub(super) fn partners(&self) -> Vec<String> {
        let Self {
            left, name, right, ..
        } = self;
        let mut partners = vec![format!("{left}/{name}{right}")];
        for (begin, end) in [
            ("begin", "end"),
            ("start", "end"),
            ("START", "END"),
            ("BEGIN", "END"),
            ("open", "close"),
            ("prefix", "suffix"),
        ] {
            if name.contains(begin) {
                partners.push(format!("{left}{}{right}", name.replacen(begin, end, 1)));
            }
        }
        partners
    }
}
