//! The calls of a worker, and the effect of each line of its output on them. Pure.
//!
//! The lines are untrusted: a worker processes foreign files, and no output may break the server.

use std::collections::HashMap;

use tokio::sync::{oneshot, watch};

use crate::backend::{CallError, CallStage, Progress, Unanswered};
use crate::engine::{Answer, CallId, EngineError, Stats, Update};
use crate::worker::{Event, Ready, WIRE_VERSION, cleaned};

/// Maximum number of bytes of an answer per token. The longest tokens of real vocabularies, which are runs of spaces or of another character,
/// have 128 to 256 bytes.
const BYTES_PER_TOKEN: usize = 512;

/// A call in the process of the model.
#[derive(Debug)]
pub(crate) struct Call {
    progress: watch::Sender<Progress>,
    answer_to: oneshot::Sender<Result<Answer, Unanswered>>,
    /// Whether the process has begun to work on the call, so that the call may be the cause if the process dies.
    begun: bool,
    /// Maximum size of the answer, in bytes.
    max_bytes: usize,
}

impl Call {
    /// Creates a call that reports to `progress` and sends its answer, of at most `max_tokens` tokens, to `answer_to`.
    pub(crate) fn new(
        progress: watch::Sender<Progress>,
        answer_to: oneshot::Sender<Result<Answer, Unanswered>>,
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

    /// Ends the call. Does nothing if the client is no longer waiting.
    fn end(self, result: Result<Answer, Unanswered>) {
        drop(self.answer_to.send(result));
    }
}

/// The calls of one worker, by id.
#[derive(Debug)]
pub(crate) struct Calls {
    calls: HashMap<CallId, Call>,
    /// Last reported percentage of the load; `None` once the model is loaded.
    loading: Option<u8>,
    /// Whether any call has received a token.
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

/// Effect of a line, in addition to its effect on the calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LineEffect {
    /// The line has no other effect.
    None,
    /// The model is loaded.
    Ready(Ready),
    /// A call has ended.
    Ended,
    /// A sign of life: the load made progress, or the thread that decodes waits for the CPUs.
    Alive,
    /// The worker received SIGTERM.
    Terminated,
    /// Statistics that the server asked for.
    Stats(Stats),
    /// The model could not be loaded.
    LoadFailed(EngineError),
    /// The loaded model cannot be served any longer.
    Failed(EngineError),
    /// The worker is from another build, with this version of the wire protocol.
    OtherVersion(u32),
    /// The line is not an event: llama.cpp or a driver printed it.
    NotAnEvent,
    /// The worker violated the wire protocol in this way, and must be killed.
    Violation(String),
}

impl Calls {
    /// Returns whether all calls have ended.
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Returns whether the model is still being loaded.
    pub(crate) fn is_loading(&self) -> bool {
        self.loading.is_some()
    }

    /// Adds a call that was sent to the worker.
    pub(crate) fn insert(&mut self, id: CallId, call: Call) {
        if let Some(percent) = self.loading {
            call.progress.send_replace(Progress::Loading(percent));
        }
        self.calls.insert(id, call);
    }

    /// Removes a call whose client is no longer waiting. Returns whether there was such a call.
    pub(crate) fn forget(&mut self, id: CallId) -> bool {
        self.calls.remove(&id).is_some()
    }

    /// Applies a line of the worker's output to the calls, and returns its other effect.
    pub(crate) fn apply_line(&mut self, line: &str) -> LineEffect {
        match serde_json::from_str(line) {
            Ok(Event::Hello { version }) if version != WIRE_VERSION => {
                LineEffect::OtherVersion(version)
            }
            Ok(Event::Hello { .. }) => LineEffect::None,
            Ok(Event::Loading(_) | Event::Ready(_) | Event::LoadFailed(_))
                if !self.is_loading() =>
            {
                LineEffect::Violation("it loaded its model twice".into())
            }
            Ok(Event::Failed(_)) if self.is_loading() => {
                LineEffect::Violation("it failed before it had loaded its model".into())
            }
            Ok(Event::LoadFailed(error)) => LineEffect::LoadFailed(cleaned(error)),
            Ok(Event::Failed(error)) => LineEffect::Failed(cleaned(error)),
            Ok(Event::Loading(percent)) => {
                let former = self.loading.replace(percent);
                for call in self.calls.values() {
                    call.progress.send_replace(Progress::Loading(percent));
                }
                if former == Some(percent) {
                    LineEffect::None
                } else {
                    LineEffect::Alive
                }
            }
            Ok(Event::Ready(ready)) => {
                self.loading = None;
                LineEffect::Ready(ready)
            }
            Ok(Event::Stats(stats)) => LineEffect::Stats(stats),
            Ok(Event::Alive) => LineEffect::Alive,
            Ok(Event::Terminated) => LineEffect::Terminated,
            Ok(Event::Call { id, update }) => self.update(id, update),
            Err(_) => LineEffect::NotAnEvent,
        }
    }

    fn update(&mut self, id: CallId, update: Update) -> LineEffect {
        self.has_decoded |= matches!(
            update,
            Update::Delta(_) | Update::Thinking(_) | Update::Done(_)
        );
        match update {
            Update::Done(answer) if self.is_too_long(id, &answer) => {
                LineEffect::Violation(format!(
                    "an answer was longer than {BYTES_PER_TOKEN} bytes per token of `max_tokens`"
                ))
            }
            Update::Done(answer) => self.finish(id, Ok(answer)),
            Update::Failed(error) => self.finish(id, Err(CallError::Engine(cleaned(error)).into())),
            update => {
                // A cancelled call is no longer in the table.
                if let Some(call) = self.calls.get_mut(&id) {
                    match update {
                        Update::Preparing(begun) => call.begun = begun,
                        Update::Admitted => call.begun = true,
                        _ => {}
                    }
                    call.progress.send_modify(|progress| progress.apply(update));
                }
                LineEffect::None
            }
        }
    }

    fn is_too_long(&self, id: CallId, answer: &Answer) -> bool {
        let Answer::Generated(generation) = answer;
        let call = self.calls.get(&id);
        call.is_some_and(|call| generation.text.len() > call.max_bytes)
    }

    fn finish(&mut self, id: CallId, result: Result<Answer, Unanswered>) -> LineEffect {
        let Some(call) = self.calls.remove(&id) else {
            return LineEffect::None;
        };
        call.end(result);
        LineEffect::Ended
    }

    /// Ends each call with the end that `end_of` returns for its stage.
    pub(crate) fn end_all(&mut self, end_of: impl Fn(CallStage) -> Unanswered) {
        for (_, call) in self.calls.drain() {
            let stage = match (call.begun, self.has_decoded) {
                (false, _) => CallStage::Queued,
                (true, true) => CallStage::Begun,
                (true, false) => CallStage::BegunFirst,
            };
            call.end(Err(end_of(stage)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ProcessFailure;
    use crate::engine::{EngineErrorKind, FinishReason, Generation, Phase, Usage};
    use crate::worker::MAX_ERROR_CHARS;

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
        event(&Event::Call {
            id: CallId(1),
            update,
        })
    }

    /// Returns the calls of a worker, among them one of at most two tokens with id 1, its result and its progress.
    fn calls() -> (
        Calls,
        oneshot::Receiver<Result<Answer, Unanswered>>,
        watch::Receiver<Progress>,
    ) {
        let (progress, seen) = watch::channel(Progress::default());
        let (done, result) = oneshot::channel();
        let mut calls = Calls::default();
        calls.insert(CallId(1), Call::new(progress, done, 2));
        (calls, result, seen)
    }

    #[test]
    fn an_answer_longer_than_its_tokens_allow_is_a_violation() {
        let (mut calls, mut result, _seen) = calls();
        let effect = calls.apply_line(&answer("x".repeat(2 * BYTES_PER_TOKEN + 1)));
        assert!(matches!(effect, LineEffect::Violation(_)));
        assert!(result.try_recv().is_err());
        let longest = "x".repeat(2 * BYTES_PER_TOKEN);
        assert_eq!(
            calls.apply_line(&answer(longest.clone())),
            LineEffect::Ended
        );
        let Answer::Generated(generation) = result.try_recv().unwrap().unwrap();
        assert_eq!(generation.text, longest);
    }

    #[test]
    fn a_call_whose_process_ends_learns_its_stage() {
        let update = |update| {
            event(&Event::Call {
                id: CallId(1),
                update,
            })
        };
        let stage_after = |updates: &[Update]| {
            let (mut calls, mut result, _seen) = calls();
            for one in updates {
                calls.apply_line(&update(one.clone()));
            }
            calls.end_all(|stage| ProcessFailure::Terminated.of_call(stage).into());
            match result.try_recv().unwrap().unwrap_err() {
                Unanswered::Failed(CallError::Process { stage, .. }) => stage,
                other => panic!("not the end of a process: {other:?}"),
            }
        };
        assert_eq!(stage_after(&[]), CallStage::Queued);
        let preparing = [true, false].map(Update::Preparing);
        assert_eq!(stage_after(&preparing[..1]), CallStage::BegunFirst);
        assert_eq!(stage_after(&preparing), CallStage::Queued);
        assert_eq!(stage_after(&[Update::Admitted]), CallStage::BegunFirst);
        let streaming = [Update::Admitted, Update::Delta("a".into())];
        assert_eq!(stage_after(&streaming), CallStage::Begun);
    }

    #[test]
    fn error_texts_of_a_worker_are_short_and_printable() {
        let hostile = format!("why\u{1b}[31m\n\u{202e}{}", "x".repeat(9 * MAX_ERROR_CHARS));
        let error = EngineError::new(EngineErrorKind::Decode, &hostile).hint(&hostile);
        let is_clean = |error: &EngineError| {
            let texts = [&error.text, error.hint.as_ref().unwrap()];
            texts.iter().all(|text| {
                text.starts_with("why [31m xx") && text.chars().count() == MAX_ERROR_CHARS
            })
        };
        let (mut calls, mut result, _seen) = calls();
        let LineEffect::LoadFailed(cleaned) =
            calls.apply_line(&event(&Event::LoadFailed(error.clone())))
        else {
            panic!("not reported")
        };
        assert!(is_clean(&cleaned), "{cleaned:?}");
        let update = Update::Failed(error);
        calls.apply_line(&event(&Event::Call {
            id: CallId(1),
            update,
        }));
        let Err(Unanswered::Failed(CallError::Engine(cleaned))) = result.try_recv().unwrap() else {
            panic!("the call did not fail")
        };
        assert!(is_clean(&cleaned), "{cleaned:?}");
    }
}
