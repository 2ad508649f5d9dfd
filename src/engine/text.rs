//! Turns the bytes of tokens into the text of the answer while it streams.
//!
//! The stages are [`Utf8`], [`Thinking`] and [`Stops`]. Each holds back only what it cannot decide yet, because a character, a
//! marker or a stop string can span several tokens. The text depends only on the bytes, not on how they are split into tokens.

use super::thinking::{Thinking, overlap};

/// Incremental UTF-8 decoder. It holds back an incomplete character, and replaces invalid bytes with U+FFFD.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    tail: Vec<u8>,
}

impl Utf8 {
    /// Adds `bytes`, and appends all complete characters to `out`.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut String) {
        self.tail.extend_from_slice(bytes);
        let mut used = 0;
        for chunk in self.tail.utf8_chunks() {
            out.push_str(chunk.valid());
            used += chunk.valid().len();
            let invalid = chunk.invalid();
            if invalid.is_empty()
                || (used + invalid.len() == self.tail.len() && is_incomplete(invalid))
            {
                break;
            }
            out.push(char::REPLACEMENT_CHARACTER);
            used += invalid.len();
        }
        self.tail.drain(..used);
    }
}

/// Returns whether `bytes` may be the beginning of a character.
fn is_incomplete(bytes: &[u8]) -> bool {
    matches!(std::str::from_utf8(bytes), Err(error) if error.error_len().is_none())
}

/// Detector of stop strings. It holds back text that may be the beginning of a stop string.
#[derive(Debug, Default)]
pub(crate) struct Stops {
    stops: Vec<String>,
    held: String,
}

impl Stops {
    /// Creates a detector of `stops`, none of which is empty.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Adds `text`, and appends the text that is decided to `out`. Returns whether a stop string is complete; `out` does not contain it.
    pub(crate) fn push(&mut self, text: &str, out: &mut String) -> bool {
        if self.stops.is_empty() {
            out.push_str(text);
            return false;
        }
        self.held.push_str(text);
        // The stop string that is complete first wins, so that the result does not depend on how the text is split into pieces.
        let matches = self
            .stops
            .iter()
            .filter_map(|stop| Some((self.held.find(stop.as_str())?, stop.len())));
        if let Some((at, _)) = matches.min_by_key(|(at, length)| (at + length, *at)) {
            out.push_str(&self.held[..at]);
            self.held.clear();
            return true;
        }
        let undecided = self
            .stops
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max()
            .unwrap_or(0);
        out.extend(self.held.drain(..self.held.len() - undecided));
        false
    }

    /// Appends the text that was held back, which is not a stop string, to `out`.
    pub(crate) fn finish(&mut self, out: &mut String) {
        out.push_str(&std::mem::take(&mut self.held));
    }
}

/// The text of an answer, from the bytes of its tokens.
///
/// ```text
/// let mut output = Output::new(thinking, vec!["STOP".into()]);
/// output.push(b"<think>hm</think>Lima ST")    // "Lima "
/// output.push(b"OP more")                     // "", and `is_stopped()` is true
/// ```
#[derive(Debug)]
pub(crate) struct Output {
    utf8: Utf8,
    thinking: Thinking,
    stops: Stops,
    text: String,
    stopped: bool,
}

impl Output {
    /// Creates the text of a new answer. `thinking` knows whether the template opened a block.
    pub(crate) fn new(thinking: Thinking, stops: Vec<String>) -> Self {
        Self {
            utf8: Utf8::default(),
            thinking,
            stops: Stops::new(stops),
            text: String::new(),
            stopped: false,
        }
    }

    /// Adds the bytes of a token. Returns the part of the answer that they decide.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> &str {
        let mut decoded = String::new();
        self.utf8.push(bytes, &mut decoded);
        let mut visible = String::new();
        self.thinking.push(&decoded, &mut visible);
        self.append(&visible)
    }

    /// Ends the answer. Returns the text that was held back, without an incomplete character at its end.
    pub(crate) fn finish(&mut self) -> &str {
        if self.stopped {
            return "";
        }
        let from = self.text.len();
        let mut visible = String::new();
        self.thinking.finish(&mut visible);
        self.append(&visible);
        if !self.stopped {
            self.stops.finish(&mut self.text);
        }
        &self.text[from..]
    }

    fn append(&mut self, visible: &str) -> &str {
        let from = self.text.len();
        if !self.stopped {
            self.stopped = self.stops.push(visible, &mut self.text);
        }
        &self.text[from..]
    }

    /// Returns whether the answer has ended: at a stop string, or at the marker that ends an answer.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped || self.thinking.has_ended()
    }

    /// Returns the reasoning filter in its current state.
    pub(crate) fn thinking(&self) -> &Thinking {
        &self.thinking
    }

    /// Treats all text from here on as the answer.
    pub(crate) fn begin_answer(&mut self) {
        self.thinking.begin_answer();
    }

    /// Discards the text of the answer so far.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
    }

    /// Returns whether the text so far ends inside a block of reasoning.
    pub(crate) fn is_thinking(&self) -> bool {
        self.thinking.is_inside()
    }

    /// Returns the answer so far.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the answer.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::thinking::families::markers_of;

    fn run(output: &mut Output, bytes: &[u8], cuts: &[usize]) -> (String, String) {
        let mut streamed = String::new();
        let mut from = 0;
        for cut in cuts
            .iter()
            .map(|cut| cut % (bytes.len() + 1))
            .chain([bytes.len()])
        {
            if cut > from {
                streamed.push_str(output.push(&bytes[from..cut]));
                from = cut;
            }
        }
        streamed.push_str(output.finish());
        (streamed, output.text().to_owned())
    }

    fn plain(stops: &[&str]) -> Output {
        Output::new(
            Thinking::never(),
            stops.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn a_character_split_over_tokens_comes_out_whole() {
        let mut output = plain(&[]);
        let crab = "🦀".as_bytes();
        assert_eq!(output.push(&crab[..2]), "");
        assert_eq!(output.push(&crab[2..]), "🦀");
    }

    #[test]
    fn invalid_bytes_are_replaced_and_an_incomplete_end_is_omitted() {
        let mut output = plain(&[]);
        assert_eq!(output.push(b"a\xffb\xf0\x9f"), "a\u{fffd}b");
        assert_eq!(output.finish(), "");
    }

    #[test]
    fn a_stop_string_is_found_across_tokens_and_is_not_in_the_text() {
        let mut output = plain(&["END"]);
        assert_eq!(output.push(b"one E"), "one ");
        assert_eq!(output.push(b"N"), "");
        assert_eq!(output.push(b"D two"), "");
        assert!(output.is_stopped());
        assert_eq!(output.text(), "one ");
    }

    #[test]
    fn an_incomplete_stop_string_at_the_end_is_text() {
        let mut output = plain(&["END"]);
        assert_eq!(output.push(b"the EN"), "the ");
        assert_eq!(output.finish(), "EN");
    }

    #[test]
    fn the_stop_string_that_is_complete_first_wins() {
        let mut output = plain(&["longer", "on"]);
        output.push(b"a longer");
        assert_eq!(output.text(), "a l");
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_text(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'<'), Just(0xf0), Just(0x9f), Just(b'a')], 0..60),
            mut cuts in prop::collection::vec(any::<usize>(), 0..20),
        ) {
            let (_, whole) = run(&mut plain(&["a<aa", "<a", "aa"]), &bytes, &[]);
            cuts = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let (streamed, text) = run(&mut plain(&["a<aa", "<a", "aa"]), &bytes, &cuts);
            prop_assert_eq!(&streamed, &text);
            prop_assert_eq!(text, whole);
        }

        #[test]
        fn any_split_gives_the_same_text_around_thinking(
            parts in prop::collection::vec(prop_oneof![
                Just("<think>"), Just("</think>"), Just("<th"), Just("ink>"), Just("</"), Just("\n"), Just(" "), Just("é"), Just("STOP"), Just("ST"), Just("x"),
                Just("<|channel|>"), Just("final"), Just("analysis"), Just("<|message|>"), Just("<|end|>"), Just("[THINK]"), Just("[/THINK]"), Just("<response>"), Just("</response>"),
            ], 0..16),
            prompt in prop_oneof![Just(""), Just("<think>"), Just("[THINK]"), Just("<|channel|>analysis")],
            keeps: bool,
            mut cuts in prop::collection::vec(any::<usize>(), 0..20),
        ) {
            let text = parts.concat();
            let markers = markers_of("<think></think><response>[THINK]<|channel|><|message|>", &[], None);
            let new = || {
                let thinking = Thinking::new(markers.clone().into()).after_prompt(prompt);
                let thinking = if keeps { thinking.keep_reasoning() } else { thinking };
                Output::new(thinking, vec!["STOP".into()])
            };
            let mut whole = new();
            run(&mut whole, text.as_bytes(), &[]);
            cuts = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
            cuts.sort_unstable();
            let mut split = new();
            let (streamed, _) = run(&mut split, text.as_bytes(), &cuts);
            prop_assert_eq!(&streamed, split.text());
            prop_assert_eq!(split.text(), whole.text());
            prop_assert_eq!(split.is_thinking(), whole.is_thinking());
        }

        #[test]
        fn text_without_stop_strings_and_reasoning_is_unchanged(text in ".*") {
            let mut output = plain(&[]);
            run(&mut output, text.as_bytes(), &[]);
            prop_assert_eq!(output.text(), text);
        }
    }
}
