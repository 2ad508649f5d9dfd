//! The calls that a worker has, and what each line that it writes does to them; no I/O.
//!
//! Nothing of a line is trusted: a worker runs foreign files, and whatever it writes must not break the server.

use std::collections::HashMap;

use tokio::sync::{oneshot, watch};

use super::{CallError, Progress};
use crate::engine::{EngineError, Generation, Stats, Update};
use crate::worker::{Event, Ready, WIRE_VERSION};

/// A call that waits for its end.
#[derive(Debug)]
pub struct Call {
    progress: watch::Sender<Progress>,
    done: oneshot::Sender<Result<Generation, CallError>>,
    /// Its sequence or its prompt may be what the worker dies of.
    begun: bool,
}

impl Call {
    /// A call that tells its news to `progress` and its end to `done`.
    pub fn new(
        progress: watch::Sender<Progress>,
        done: oneshot::Sender<Result<Generation, CallError>>,
    ) -> Self {
        Self {
            progress,
            done,
            begun: false,
        }
    }

    /// Ends it. One that nobody waits for any more has been dropped just now.
    pub(super) fn fail(self, failure: CallError) {
        drop(self.done.send(Err(failure)));
    }
}

/// The calls of one worker, by the server's numbers.
#[derive(Debug)]
pub struct Calls {
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
pub enum News {
    /// Nothing.
    Nothing,
    /// The model is loaded.
    Ready(Ready),
    /// A call has ended.
    Ended,
    /// What was counted.
    Stats(Stats),
    /// The model could not be loaded.
    LoadFailed(EngineError),
    /// The worker is of another build, with this version of the wire.
    OtherVersion(u32),
    /// The line is no event: llama.cpp or a driver printed it.
    NoEvent,
}

impl Calls {
    /// Whether the model is still being loaded.
    pub fn is_loading(&self) -> bool {
        self.loading.is_some()
    }

    /// A call was sent.
    pub fn insert(&mut self, id: u64, call: Call) {
        if let Some(percent) = self.loading {
            call.progress.send_replace(Progress::Loading(percent));
        }
        self.calls.insert(id, call);
    }

    /// A call is not waited for any more; false where there is none.
    pub fn forget(&mut self, id: u64) -> bool {
        self.calls.remove(&id).is_some()
    }

    /// Takes a line of the worker.
    pub fn take(&mut self, line: &str) -> News {
        match serde_json::from_str(line) {
            Ok(Event::Hello { version }) if version != WIRE_VERSION => News::OtherVersion(version),
            Ok(Event::Hello { .. }) => News::Nothing,
            Ok(Event::LoadFailed(error)) => News::LoadFailed(error),
            Ok(Event::Loading(percent)) => {
                self.loading = Some(percent);
                for call in self.calls.values() {
                    call.progress.send_replace(Progress::Loading(percent));
                }
                News::Nothing
            }
            Ok(Event::Ready(ready)) => {
                self.loading = None;
                News::Ready(ready)
            }
            Ok(Event::Stats(stats)) => News::Stats(stats),
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
            Update::Done(generation) => self.finish(id, Ok(generation)),
            Update::Failed(error) => self.finish(id, Err(CallError::Engine(error))),
            news => {
                // A call that was cancelled is not in the table any more.
                if let Some(call) = self.calls.get_mut(&id) {
                    match news {
                        Update::Preparing(begun) => call.begun = begun,
                        Update::Admitted => call.begun = true,
                        _ => {}
                    }
                    call.progress.send_modify(|progress| progress.take(news));
                }
                News::Nothing
            }
        }
    }

    fn finish(&mut self, id: u64, result: Result<Generation, CallError>) -> News {
        let Some(call) = self.calls.remove(&id) else {
            return News::Nothing;
        };
        // One that does not wait any more has been dropped just now.
        drop(call.done.send(result));
        News::Ended
    }

    /// Ends all calls.
    pub fn fail_all(&mut self, failure: &CallError) {
        for (_, call) in self.calls.drain() {
            let failure = match failure {
                CallError::Died { reason, .. } => CallError::Died {
                    reason: reason.clone(),
                    begun: call.begun,
                    is_first: !self.has_decoded,
                },
                other => other.clone(),
            };
            call.fail(failure);
        }
    }
}
