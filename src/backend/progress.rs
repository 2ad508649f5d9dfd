//! How far a call is: the newest state of it, for people.

use crate::engine::Update;

/// How far a call is, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The worker is being started.
    #[default]
    Starting,
    /// Other models take the memory, and are busy.
    WaitingForRoom,
    /// The model is being loaded; percent.
    Loading(u8),
    /// Place in the queue, 1 is next.
    Queued(usize),
    /// Prompt tokens done, and all.
    Prefill(u32, u32),
    /// Tokens spent on thinking.
    Thinking(u32),
    /// The newest text of the answer, at most 200 characters of it.
    Generating(String),
}

/// Clients show up to 200 characters of a progress message.
const NEWEST_CHARS: usize = 200;

impl Progress {
    /// Applies an update of the call.
    pub(super) fn apply(&mut self, update: Update) {
        match update {
            Update::Queued(place) => *self = Self::Queued(place),
            Update::Prefill { done, total } => *self = Self::Prefill(done, total),
            Update::Thinking(tokens) => *self = Self::Thinking(tokens),
            Update::Delta(text) => {
                let mut newest = match std::mem::take(self) {
                    Self::Generating(newest) => newest,
                    _ => String::new(),
                };
                newest.push_str(&text);
                keep_last_chars(&mut newest, NEWEST_CHARS);
                *self = Self::Generating(newest);
            }
            Update::Preparing(_) | Update::Admitted | Update::Done(_) | Update::Failed(_) => {}
        }
    }
}

/// Cuts `text` to its last `count` characters.
fn keep_last_chars(text: &mut String, count: usize) {
    if let Some((from, _)) = text.char_indices().rev().nth(count.saturating_sub(1)) {
        text.drain(..from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_keeps_the_newest_text_only() {
        let mut progress = Progress::Prefill(1, 2);
        for _ in 0..300 {
            progress.apply(Update::Delta("é".into()));
        }
        progress.apply(Update::Delta("end".into()));
        let Progress::Generating(newest) = progress else {
            panic!("it generates")
        };
        assert_eq!(newest.chars().count(), NEWEST_CHARS);
        assert!(newest.ends_with("éend"));
    }
}
