//! Removes the reasoning of a model from its answer while it streams.
//!
//! Only markers that occur in the model's template or vocabulary are recognised ([`families`]). Without markers, the text is unchanged.
//!
//! - A block at the beginning of the answer, even if the template opened it, is removed as it streams, with the white space after it. If
//!   it never closes, there is no answer and [`Thinking::is_inside`] stays true.
//! - A block later in the answer is removed once it closes. If it never closes, the marker was only mentioned, and the text stays.
//! - Markers around an answer (`<|START_RESPONSE|>`) are removed. Text after the end marker is not part of the answer.

pub(crate) mod blocks;
pub(crate) mod families;
pub(crate) mod switches;
mod table;
mod tags;

use std::sync::Arc;

use families::Markers;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FilterState {
    /// All text is answer.
    Off,
    /// Before the answer, with at most white space so far. A block may begin.
    Start,
    /// Between a block and the answer. White space here belongs to neither.
    AfterBlock,
    /// In a block at the beginning. The index is that of its markers.
    Leading(usize),
    /// In the header after a marker that ends a block or begins an answer.
    Head(usize),
    /// In the answer.
    Answer,
    /// After a marker in the middle of the answer. All text since the marker is held back.
    Inner(usize),
    /// After the answer.
    Ended,
}

/// The effect of a marker at the beginning of an answer.
#[derive(Debug, Clone, Copy)]
enum MarkerEffect {
    Open(usize),
    Close(usize),
    Begin(usize),
}

/// The marker with which held text begins.
#[derive(Debug)]
enum FirstMarker {
    /// The text begins with no marker.
    Missing,
    /// The rest of a marker may still come.
    Incomplete,
    /// The longest marker.
    Complete(String, MarkerEffect),
}

/// The filter that removes the reasoning from one answer.
#[derive(Debug)]
pub(crate) struct Thinking {
    markers: Arc<[Markers]>,
    state: FilterState,
    held: String,
    /// Marker that ends the answer.
    end: Option<String>,
    /// Whether a block was closed, or a marker began the answer.
    has_begun: bool,
    /// Whether markers after the first character of the answer are text.
    is_leading_only: bool,
    keeps: bool,
}

impl Thinking {
    /// Creates a filter for a model with these `markers`.
    pub(crate) fn new(markers: Arc<[Markers]>) -> Self {
        let state = if markers.is_empty() {
            FilterState::Off
        } else {
            FilterState::Start
        };
        Self {
            markers,
            state,
            held: String::new(),
            end: None,
            has_begun: false,
            is_leading_only: false,
            keeps: false,
        }
    }

    /// Creates a filter for a model without reasoning.
    #[cfg(test)]
    pub(crate) fn never() -> Self {
        Self::new(Arc::from([]))
    }

    /// Prepares the filter for text after `prompt`, which may have opened a block or begun the answer.
    #[must_use]
    pub(crate) fn after_prompt(mut self, prompt: &str) -> Self {
        if self.state == FilterState::Off {
            return self;
        }
        let prompt = prompt.trim_end();
        let mut markers = self.markers.iter();
        if let Some(at) = markers.position(|markers| markers.is_open_at(prompt)) {
            self.state = FilterState::Leading(at);
            return self;
        }
        let ends = self.markers.iter().filter_map(|markers| {
            let headless = prompt.strip_suffix(&markers.head_end).unwrap_or(prompt);
            let mut around = markers.around.iter();
            around.find(|(begin, _)| headless.ends_with(begin))
        });
        self.end = ends.map(|(_, end)| end.clone()).next();
        let mut closes = self.markers.iter().map(|markers| markers.close.trim_end());
        let is_closed = closes.any(|close| !close.is_empty() && prompt.ends_with(close));
        self.has_begun = is_closed || self.end.is_some();
        self
    }

    /// Leaves all text in the answer, so that the filter only detects reasoning.
    #[must_use]
    pub(crate) fn keep_reasoning(mut self) -> Self {
        self.keeps = true;
        self
    }

    /// Treats markers in the answer as text, because JSON may contain any text.
    #[must_use]
    pub(crate) fn leading_only(mut self) -> Self {
        self.is_leading_only = true;
        self
    }

    /// Returns whether the next text is certainly reasoning. Within an answer, a marker may be a mention.
    pub(crate) fn is_inside(&self) -> bool {
        matches!(self.state, FilterState::Leading(_) | FilterState::Head(_))
    }

    /// Returns whether a block was closed or a marker began the answer, so that the next text is the answer.
    pub(crate) fn is_after_block(&self) -> bool {
        self.has_begun && !self.is_inside()
    }

    /// Returns whether the answer has ended, whatever text follows.
    pub(crate) fn has_ended(&self) -> bool {
        self.state == FilterState::Ended && !self.keeps
    }

    /// Returns the index of the markers of the current block.
    pub(crate) fn block(&self) -> Option<usize> {
        match self.state {
            FilterState::Leading(at) | FilterState::Head(at) => Some(at),
            _ => None,
        }
    }

    /// Treats all text from here on as the answer.
    pub(crate) fn begin_answer(&mut self) {
        self.state = FilterState::Off;
    }

    /// Adds `text`, and appends the part of the answer that is decided to `out`.
    pub(crate) fn push(&mut self, text: &str, out: &mut String) {
        if self.state == FilterState::Off {
            out.push_str(text);
            return;
        }
        self.held.push_str(text);
        let mut visible = String::new();
        while self.step(&mut visible) {}
        out.push_str(if self.keeps { text } else { &visible });
    }

    /// Makes one transition. Returns whether another may follow without more text.
    fn step(&mut self, out: &mut String) -> bool {
        match self.state {
            FilterState::Off => {
                out.push_str(&std::mem::take(&mut self.held));
                false
            }
            FilterState::Start | FilterState::AfterBlock => self.step_at_start(false),
            FilterState::Leading(at) => {
                let close = self.markers[at].close.clone();
                if let Some(found) = self.held.find(&close) {
                    self.held.drain(..found + close.len());
                    self.close(at);
                    true
                } else {
                    let keep = overlap(&self.held, &close);
                    self.held.drain(..self.held.len() - keep);
                    false
                }
            }
            FilterState::Head(at) => {
                let end = &self.markers[at].head_end;
                if let Some(found) = self.held.find(end.as_str()) {
                    self.held.drain(..found + end.len());
                    self.state = FilterState::AfterBlock;
                    true
                } else {
                    let keep = overlap(&self.held, end);
                    self.held.drain(..self.held.len() - keep);
                    false
                }
            }
            FilterState::Answer => self.step_in_answer(out),
            FilterState::Inner(at) => {
                let Markers {
                    close, head_end, ..
                } = &self.markers[at];
                let behind = |from: usize, text: &str| {
                    let found = self.held[from..].find(text)?;
                    Some(from + found + text.len())
                };
                let closed = behind(0, close).and_then(|closed| behind(closed, head_end));
                let Some(closed) = closed else { return false };
                self.held.drain(..closed);
                self.state = FilterState::Answer;
                true
            }
            FilterState::Ended => {
                self.held.clear();
                false
            }
        }
    }

    /// Enters the state after a marker with the index `at`, which closes a block or begins an answer.
    fn close(&mut self, at: usize) {
        let markers = &self.markers[at];
        let same = |(begin, _): &&(String, String)| *begin == markers.close;
        if let Some((_, end)) = markers.around.iter().find(same) {
            self.end = Some(end.clone());
        }
        self.has_begun = true;
        self.state = if markers.head_end.is_empty() {
            FilterState::AfterBlock
        } else {
            FilterState::Head(at)
        };
    }

    /// Makes one transition at the beginning of an answer. `is_end`: no more text will follow.
    fn step_at_start(&mut self, is_end: bool) -> bool {
        let begun = self.held.trim_start();
        let blank = self.held.len() - begun.len();
        match self.first_marker(begun, is_end) {
            FirstMarker::Incomplete => return false,
            FirstMarker::Missing if begun.is_empty() => return false,
            FirstMarker::Missing => {
                if self.state == FilterState::AfterBlock {
                    self.held.drain(..blank);
                }
                self.state = if self.is_leading_only {
                    FilterState::Off
                } else {
                    FilterState::Answer
                };
            }
            FirstMarker::Complete(text, effect) => {
                self.held.drain(..blank + text.len());
                self.pass(&text, effect);
            }
        }
        true
    }

    /// Returns the longest marker at the start of `begun`, the text of an answer without leading white space. `is_end` means that no more
    /// text follows.
    fn first_marker(&self, begun: &str, is_end: bool) -> FirstMarker {
        let markers = self.markers.iter().enumerate();
        let effects = markers.flat_map(|(at, markers)| {
            let begins = markers.around.iter();
            let begins = begins.map(move |(begin, _)| (begin.as_str(), MarkerEffect::Begin(at)));
            [
                (markers.open.as_str(), MarkerEffect::Open(at)),
                (markers.close.as_str(), MarkerEffect::Close(at)),
            ]
            .into_iter()
            .chain(begins)
            .filter(|(text, _)| !text.is_empty())
        });
        let mut longest: Option<(&str, MarkerEffect)> = None;
        for (text, effect) in effects {
            if !is_end && text.len() > begun.len() && text.starts_with(begun) {
                return FirstMarker::Incomplete;
            }
            let is_longer = longest.is_none_or(|(other, _)| text.len() > other.len());
            if is_longer && begun.starts_with(text) {
                longest = Some((text, effect));
            }
        }
        match longest {
            Some((text, effect)) => FirstMarker::Complete(text.to_owned(), effect),
            None => FirstMarker::Missing,
        }
    }

    /// Enters the state after the marker `text` at the beginning of an answer.
    fn pass(&mut self, text: &str, effect: MarkerEffect) {
        match effect {
            MarkerEffect::Open(at) => self.state = FilterState::Leading(at),
            // The opening marker was not visible to the filter.
            MarkerEffect::Close(at) => self.close(at),
            MarkerEffect::Begin(at) => {
                let mut around = self.markers[at].around.iter();
                self.end = around
                    .find(|(begin, _)| begin == text)
                    .map(|(_, end)| end.clone());
                self.has_begun = true;
                let has_head = !self.markers[at].head_end.is_empty();
                self.state = if has_head {
                    FilterState::Head(at)
                } else {
                    FilterState::AfterBlock
                };
            }
        }
    }

    fn step_in_answer(&mut self, out: &mut String) -> bool {
        let markers = self.markers.iter().enumerate();
        let opens = markers.filter(|(_, markers)| !markers.open.is_empty());
        let opens = opens.map(|(at, markers)| (markers.open.as_str(), FilterState::Inner(at)));
        let ends = self
            .end
            .iter()
            .map(|end| (end.as_str(), FilterState::Ended));
        let marks: Vec<_> = opens.chain(ends).collect();
        let found = marks
            .iter()
            .filter_map(|(text, state)| Some((self.held.find(text)?, text.len(), *state)));
        // The marker that is complete first wins, so that the result does not depend on how the text is split into pieces.
        if let Some((at, length, state)) = found.min_by_key(|(at, length, _)| (at + length, *at)) {
            out.push_str(&self.held[..at]);
            self.held.drain(..at);
            if state == FilterState::Ended {
                self.held.drain(..length);
            }
            self.state = state;
            return true;
        }
        let kept = marks.iter().map(|(text, _)| overlap(&self.held, text));
        let kept = kept.max().unwrap_or(0);
        out.extend(self.held.drain(..self.held.len() - kept));
        false
    }

    /// Ends the filter. Text that was held back for an incomplete marker belongs to the answer.
    pub(crate) fn finish(&mut self, out: &mut String) {
        let mut visible = String::new();
        if matches!(self.state, FilterState::Start | FilterState::AfterBlock)
            && self.step_at_start(true)
        {
            while self.step(&mut visible) {}
        }
        let held = std::mem::take(&mut self.held);
        match self.state {
            FilterState::Off
            | FilterState::Leading(_)
            | FilterState::Head(_)
            | FilterState::Ended => {}
            FilterState::Start | FilterState::Answer => visible.push_str(&held),
            FilterState::AfterBlock => visible.push_str(held.trim_start()),
            FilterState::Inner(_) => {
                visible.push_str(&held);
                self.state = FilterState::Answer;
            }
        }
        if !self.keeps {
            out.push_str(&visible);
        }
    }
}

/// Returns the length of the longest end of `text` that is a beginning of `word`.
pub(super) fn overlap(text: &str, word: &str) -> usize {
    // The text that is held is short, the word may not be: so look from the text's side.
    let from = text.len().saturating_sub(word.len());
    text.char_indices()
        .map(|(at, _)| &text[at..])
        .filter(|end| text.len() - end.len() >= from)
        .find(|end| word.starts_with(*end))
        .map_or(0, str::len)
}

#[cfg(test)]
mod tests;
