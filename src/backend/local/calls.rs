//! The calls that a worker has, and what each line that it writes does to them; no I/O.
//!
//! Nothing of a line is trusted: a worker runs foreign files, and whatever it writes must not break the server.

use std::collections::HashMap;

use tokio::sync::{oneshot, watch};

use crate::backend::{CallError, Progress};
use crate::engine::{Answer, EngineError, Stats, Update};
use crate::worker::{Event, Ready, WIRE_VERSION, cleaned};

/// Most bytes of an answer for each token that it may have. The longest tokens of real vocabularies, runs of blanks or of one
/// character, have 128 to 256 bytes.
const BYTES_PER_TOKEN: usize = 512;

/// A call in the process of the model.
#[derive(Debug)]
pub(crate) struct Call {
    progress: watch::Sender<Progress>,
    answer_to: oneshot::Sender<Result<Answer, CallError>>,
    /// Whether the process works on it, so that the process may die of it.
    begun: bool,
    /// Most bytes that its answer can have.
    max_bytes: usize,
}

impl Call {
    /// Makes a call that reports to `progress` and sends its answer, of at most `max_tokens` tokens, to `answer_to`.
    pub(crate) fn new(
        progress: watch::Sender<Progress>,
        answer_to: oneshot::Sender<Result<Answer, CallError>>,
        max_tokens: u32,
    ) -> Self {
        let max_tokens = usize::try_from(max_tokens).unwrap_or(usize::MAX);
        Self {
            progress,
            answer_to,
            begun: false,
            max_bytes: max_tokens.saturating_mul(BYTES_PER_TOKEN),
        }
    }

    /// Ends the call. Does nothing if the client no longer waits.
    fn end(self, result: Result<Answer, CallError>) {
        drop(self.answer_to.send(result));
    }
}

/// The calls of one worker, by the server's numbers.
#[derive(Debug)]
pub(crate) struct Calls {
    calls: HashMap<u64, Call>,
    /// The last percent; none once the model is loaded.
    loading: Option<u8>,
    /// Whether a call got a token.
    has_decoded: bool,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            calls: HashMap::new(),
            loading: Some(0),
            has_decoded: false,
        }
    }
}

/// What a line means beyond the calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing.
    Nothing,
    /// The model is loaded.
    Ready(Ready),
    /// A call has ended.
    Ended,
    /// A sign of life: the load made progress, or the thread that decodes waits for the CPUs.
    Alive,
    /// The worker received SIGTERM.
    Terminated,
    /// What was counted.
    Stats(Stats),
    /// The model could not be loaded.
    LoadFailed(EngineError),
    /// The worker is of another build, with this version of the wire.
    OtherVersion(u32),
    /// The line is no event: llama.cpp or a driver printed it.
    NoEvent,
    /// The worker broke the protocol and must be killed; the reason.
    Broken(&'static str),
}

impl Calls {
    /// Returns whether all calls have ended.
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether the model is still being loaded.
    pub(crate) fn is_loading(&self) -> bool {
        self.loading.is_some()
    }

    /// A call was sent.
    pub(crate) fn insert(&mut self, id: u64, call: Call) {
        if let Some(percent) = self.loading {
            call.progress.send_replace(Progress::Loading(percent));
        }
        self.calls.insert(id, call);
    }

    /// A call is not waited for any more; false where there is none.
    pub(crate) fn forget(&mut self, id: u64) -> bool {
        self.calls.remove(&id).is_some()
    }

    /// Takes a line of the worker.
    pub(crate) fn take(&mut self, line: &str) -> News {
        match serde_json::from_str(line) {
            Ok(Event::Hello { version }) if version != WIRE_VERSION => News::OtherVersion(version),
            Ok(Event::Hello { .. }) => News::Nothing,
            Ok(Event::LoadFailed(error)) => News::LoadFailed(cleaned(error)),
            Ok(Event::Loading(_) | Event::Ready(_)) if !self.is_loading() => {
                News::Broken("it loaded its model twice")
            }
            Ok(Event::Loading(percent)) => {
                let former = self.loading.replace(percent);
                for call in self.calls.values() {
                    call.progress.send_replace(Progress::Loading(percent));
                }
                if former == Some(percent) {
                    News::Nothing
                } else {
                    News::Alive
                }
            }
            Ok(Event::Ready(ready)) => {
                self.loading = None;
                News::Ready(ready)
            }
            Ok(Event::Stats(stats)) => News::Stats(stats),
            Ok(Event::Alive) => News::Alive,
            Ok(Event::Terminated) => News::Terminated,
            Ok(Event::Call { id, update }) => self.update(id, update),
            Err(_) => News::NoEvent,
        }
    }

    fn update(&mut self, id: u64, update: Update) -> News {
        self.has_decoded |= matches!(
            update,
            Update::Delta(_) | Update::Thinking(_) | Update::Done(_)
        );
        match update {
            Update::Done(answer) if self.is_too_long(id, &answer) => {
                News::Broken("an answer was longer than 512 bytes per token of `max_tokens`")
            }
            Update::Done(answer) => self.finish(id, Ok(answer)),
            Update::Failed(error) => self.finish(id, Err(CallError::Engine(cleaned(error)))),
            news => {
                // A call that was cancelled is not in the table any more.
                if let Some(call) = self.calls.get_mut(&id) {
                    match news {
                        Update::Preparing(begun) => call.begun = begun,
                        Update::Admitted => call.begun = true,
                        _ => {}
                    }
                    call.progress.send_modify(|progress| progress.apply(news));
                }
                News::Nothing
            }
        }
    }

    fn is_too_long(&self, id: u64, answer: &Answer) -> bool {
        let Answer::Generated(generation) = answer;
        let call = self.calls.get(&id);
        call.is_some_and(|call| generation.text.len() > call.max_bytes)
    }

    fn finish(&mut self, id: u64, result: Result<Answer, CallError>) -> News {
        let Some(call) = self.calls.remove(&id) else {
            return News::Nothing;
        };
        call.end(result);
        News::Ended
    }

    /// Ends all calls.
    pub(crate) fn fail_all(&mut self, failure: &CallError) {
        for (_, call) in self.calls.drain() {
            let failure = match failure {
                CallError::Died { reason, .. } => CallError::Died {
                    reason: reason.clone(),
                    begun: call.begun,
                    is_first: !self.has_decoded,
                },
                CallError::Stalled { silence, .. } => CallError::Stalled {
                    silence: *silence,
                    begun: call.begun,
                },
                CallError::Terminated { .. } => CallError::Terminated { begun: call.begun },
                other => other.clone(),
            };
            call.end(Err(failure));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{EngineErrorKind, FinishReason, Generation, Phase, Usage};
    use crate::worker::MAX_TOLD;

    fn event(event: &Event) -> String {
        serde_json::to_string(event).unwrap()
    }

    fn answer(text: String) -> String {
        let update = Update::Done(Answer::Generated(Generation {
            text,
            finish_reason: FinishReason::Stop,
            phase: Phase::Generate,
            still_thinking: false,
            seed: 1,
            usage: Usage::default(),
        }));
        event(&Event::Call { id: 1, update })
    }

    /// A worker's one call of at most two tokens, and what comes of it.
    fn calls() -> (
        Calls,
        oneshot::Receiver<Result<Answer, CallError>>,
        watch::Receiver<Progress>,
    ) {
        let (progress, seen) = watch::channel(Progress::default());
        let (done, result) = oneshot::channel();
        let mut calls = Calls::default();
        calls.insert(1, Call::new(progress, done, 2));
        (calls, result, seen)
    }

    #[test]
    fn an_answer_longer_than_its_tokens_allow_is_none() {
        let (mut calls, mut result, _seen) = calls();
        let news = calls.take(&answer("x".repeat(2 * BYTES_PER_TOKEN + 1)));
        assert!(matches!(news, News::Broken(_)));
        assert!(result.try_recv().is_err());
        let longest = "x".repeat(2 * BYTES_PER_TOKEN);
        assert_eq!(calls.take(&answer(longest.clone())), News::Ended);
        let Answer::Generated(generation) = result.try_recv().unwrap().unwrap();
        assert_eq!(generation.text, longest);
    }

    #[test]
    fn error_texts_of_a_worker_are_short_and_printable() {
        let hostile = format!("why\u{1b}[31m\n\u{202e}{}", "x".repeat(9 * MAX_TOLD));
        let error = EngineError::new(EngineErrorKind::Decode, &hostile).hint(&hostile);
        let is_clean = |error: &EngineError| {
            let texts = [&error.text, error.hint.as_ref().unwrap()];
            texts
                .iter()
                .all(|text| text.starts_with("why [31m xx") && text.chars().count() == MAX_TOLD)
        };
        let (mut calls, mut result, _seen) = calls();
        let News::LoadFailed(told) = calls.take(&event(&Event::LoadFailed(error.clone()))) else {
            panic!("it is not told")
        };
        assert!(is_clean(&told), "{told:?}");
        let update = Update::Failed(error);
        calls.take(&event(&Event::Call { id: 1, update }));
        let Err(CallError::Engine(told)) = result.try_recv().unwrap() else {
            panic!("it did not fail")
        };
        assert!(is_clean(&told), "{told:?}");
    }
}
