//! Loads the model, and meanwhile queues and cancels calls.

use std::time::Instant;

use super::thread_tuner::LoadObserver;
use super::{CallSink, Event, EventSink, Input, LoopEvent, Worker, catch_panic};
use crate::config::LoadSettings;
use crate::engine::llama::Model;
use crate::engine::queue::{Queue, QueuedCall};
use crate::engine::{
    Answer, CallId, CancelReason, EngineError, EngineErrorKind, Phase, Stats, Update,
};
use crate::threads::{self, SystemLimit};

/// Threads in addition to those that compute: two prepare prompts, one tokenises, and one waits for the CPUs.
const OTHER_THREADS: usize = 4;

impl Worker {
    /// Starts to load the model on a thread of its own. Meanwhile calls can be queued and cancelled, and the end of stdin ends the load.
    ///
    /// # Errors
    /// The system cannot start the threads of a model.
    pub(super) fn start_loading(&self, load: &LoadSettings) -> Result<(), SystemLimit> {
        // If OpenMP lacks a thread, it ends the process in the middle of a call.
        threads::check_room(load.n_threads + OTHER_THREADS)?;
        let observer = LoadObserver::start(load);
        let load = load.clone();
        let (events, inputs) = (self.events.clone(), self.inputs_tx.clone());
        threads::start("loader", move || {
            let model = catch_panic(EngineErrorKind::Load, "could not load the model", || {
                Model::load(&load, move |percent| {
                    events.send(&Event::Loading(percent));
                })
            });
            let observation = observer.map(LoadObserver::end);
            drop(inputs.send(Input::Loaded(Box::new(model), observation)));
        })
        .map(drop)
    }

    /// Waits for the model, and handles calls meanwhile. Returns `None` if the worker must end before the model is loaded.
    pub(super) fn wait_for_model(
        &mut self,
        queue: &mut Queue,
        parallel: usize,
    ) -> Option<Result<Model, EngineError>> {
        let mut calls = LoadingCalls {
            queue,
            parallel,
            events: self.events.clone(),
        };
        loop {
            let input = self.inputs.recv().ok()?;
            match self.handle(input, &mut calls) {
                Some(LoopEvent::Loaded(model, observation)) => {
                    self.observation = observation;
                    return Some(*model);
                }
                Some(LoopEvent::Shutdown) => return None,
                // No prompt is prepared yet.
                Some(LoopEvent::Prepared(..)) | None => {}
            }
        }
    }
}

/// Queues calls until the model is loaded.
struct LoadingCalls<'queue> {
    queue: &'queue mut Queue,
    /// Number of calls that start at once when the model is loaded.
    parallel: usize,
    events: EventSink,
}

impl CallSink for LoadingCalls<'_> {
    fn submit(&mut self, call: QueuedCall) {
        let id = call.id;
        if let Err(busy) = self.queue.push(call, self.parallel) {
            self.events.send_update(id, Update::Failed(busy));
        }
    }

    fn cancel(&mut self, id: CallId, reason: CancelReason, now: Instant) {
        if let Some(call) = self.queue.remove(id) {
            let generation = call.cancelled(reason, Phase::Load, now, now);
            self.events
                .send_update(id, Update::Done(Answer::Generated(generation)));
        }
    }

    fn stats(&self) -> Option<Stats> {
        None
    }
}
