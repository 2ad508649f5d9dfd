//! Progress of a call, as shown to users.

use crate::engine::Update;

/// Latest progress of a call, as shown to users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The model's process is being started.
    #[default]
    Starting,
    /// The call waits until busy models free memory.
    WaitingForRoom,
    /// The model is being loaded, with this percentage done.
    Loading(u8),
    /// The call waits at this position in the queue; 1 is next.
    Queued(usize),
    /// The prompt is being processed.
    Prefill {
        /// Processed tokens of the prompt.
        done: u32,
        /// All tokens of the prompt.
        total: u32,
    },
    /// The model is thinking, with this many tokens so far.
    Thinking(u32),
    /// The model is writing the answer. Has the newest text, at most 200 characters.
    Generating(String),
}

/// Maximum length of the newest text, in characters: clients show up to 200 characters of a progress message.
const NEWEST_CHARS: usize = 200;

impl Progress {
    /// Applies an update of the call.
    pub(super) fn apply(&mut self, update: Update) {
        match update {
            Update::Queued(position) => *self = Self::Queued(position),
            Update::Prefill { done, total } => *self = Self::Prefill { done, total },
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

/// Keeps only the last `count` characters of `text`.
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
        let mut progress = Progress::Prefill { done: 1, total: 2 };
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
