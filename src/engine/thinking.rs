//! Removes `<think>…</think>` from an answer while it streams.
//!
//! Only for a model that thinks (its template or its vocabulary knows the tag); the text of any other passes untouched.
//!
//! - A block at the beginning of the answer, also one that the template opened, is dropped as it comes, with the white
//!   space after it. If it never closes, there is no answer and [`Thinking::is_inside`] stays true.
//! - A block later in the answer is dropped once it has closed; one that never closes was a literal mention of the
//!   tag, and stays.

use super::text::overlap;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The model does not think.
    Off,
    /// Nothing of the answer yet, at most white space: a block may begin.
    Start,
    /// The same after a block: the white space between belongs to neither.
    AfterBlock,
    /// In a block at the beginning.
    Leading,
    /// In the answer.
    Answer,
    /// Behind a tag in the middle of the answer; all since then is held.
    Inner,
}

/// The filter of one answer.
#[derive(Debug)]
pub struct Thinking {
    state: State,
    held: String,
}

impl Thinking {
    /// For a model that thinks; `opened` when the prompt ends inside a block.
    pub fn new(opened: bool) -> Self {
        let state = if opened { State::Leading } else { State::Start };
        Self {
            state,
            held: String::new(),
        }
    }

    /// For a model that does not think.
    pub fn never() -> Self {
        Self {
            state: State::Off,
            held: String::new(),
        }
    }

    /// What comes now is thinking, for certain: in the answer a tag may be a mention.
    pub fn is_inside(&self) -> bool {
        self.state == State::Leading
    }

    /// Appends what of the answer is decided to `out`.
    pub fn push(&mut self, text: &str, out: &mut String) {
        if self.state == State::Off {
            out.push_str(text);
            return;
        }
        self.held.push_str(text);
        while self.step(out) {}
    }

    /// One transition; false when more text is needed.
    fn step(&mut self, out: &mut String) -> bool {
        match self.state {
            State::Off => false,
            State::Start | State::AfterBlock => {
                let begun = self.held.trim_start().to_owned();
                if begun.starts_with(OPEN) {
                    let at = self.held.len() - begun.len() + OPEN.len();
                    self.held.drain(..at);
                    self.state = State::Leading;
                    return true;
                }
                if OPEN.starts_with(begun.as_str()) {
                    return false;
                }
                if self.state == State::AfterBlock {
                    self.held.drain(..self.held.len() - begun.len());
                }
                self.state = State::Answer;
                true
            }
            State::Leading => {
                if let Some(at) = self.held.find(CLOSE) {
                    self.held.drain(..at + CLOSE.len());
                    self.state = State::AfterBlock;
                    true
                } else {
                    let keep = overlap(&self.held, CLOSE);
                    self.held.drain(..self.held.len() - keep);
                    false
                }
            }
            State::Answer => {
                if let Some(at) = self.held.find(OPEN) {
                    out.extend(self.held.drain(..at));
                    self.state = State::Inner;
                    true
                } else {
                    let keep = overlap(&self.held, OPEN);
                    out.extend(self.held.drain(..self.held.len() - keep));
                    false
                }
            }
            State::Inner => {
                let Some(at) = self.held.find(CLOSE) else {
                    return false;
                };
                self.held.drain(..at + CLOSE.len());
                self.state = State::Answer;
                true
            }
        }
    }

    /// No text will follow: what was held for a tag that did not come is text.
    pub fn finish(&mut self, out: &mut String) {
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Off | State::Leading => {}
            State::Start | State::Answer => out.push_str(&held),
            State::AfterBlock => out.push_str(held.trim_start()),
            State::Inner => {
                out.push_str(&held);
                self.state = State::Answer;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(mut thinking: Thinking, text: &str) -> (String, bool) {
        let mut out = String::new();
        thinking.push(text, &mut out);
        thinking.finish(&mut out);
        (out, thinking.is_inside())
    }

    #[test]
    fn a_block_and_the_white_space_after_it_are_removed() {
        assert_eq!(
            filter(Thinking::new(false), "<think>\nhm\n</think>\n\nLima."),
            ("Lima.".into(), false)
        );
        assert_eq!(
            filter(
                Thinking::new(false),
                "\n<think></think><think>b</think> Lima."
            ),
            ("Lima.".into(), false)
        );
    }

    #[test]
    fn a_block_that_the_template_opened_is_removed() {
        assert_eq!(
            filter(Thinking::new(true), "hm</think>Lima."),
            ("Lima.".into(), false)
        );
    }

    #[test]
    fn a_block_that_never_closes_leaves_no_answer_and_says_so() {
        assert_eq!(
            filter(Thinking::new(false), "<think>hm <b"),
            (String::new(), true)
        );
        assert_eq!(filter(Thinking::new(true), "hm"), (String::new(), true));
    }

    #[test]
    fn a_later_block_is_removed_when_it_closes_and_is_text_when_it_does_not() {
        assert_eq!(
            filter(Thinking::new(false), "One <think>x</think>two"),
            ("One two".into(), false)
        );
        assert_eq!(
            filter(Thinking::new(false), "The tag <think> opens"),
            ("The tag <think> opens".into(), false)
        );
    }

    #[test]
    fn a_model_that_does_not_think_may_write_the_tag() {
        let text = "<think> is a tag</think>";
        assert_eq!(filter(Thinking::never(), text), (text.into(), false));
    }

    #[test]
    fn white_space_at_the_start_of_an_answer_without_a_block_stays() {
        assert_eq!(
            filter(Thinking::new(false), "  Lima <"),
            ("  Lima <".into(), false)
        );
    }
}
