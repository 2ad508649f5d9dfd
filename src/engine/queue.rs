//! The bounded queue of calls that wait for a sequence: round robin over clients, first come first served within a client.
//!
//! A call is queued when its command is read, so it keeps its position while its prompt is being prepared. The head is the first call
//! whose prompt is ready. No later call overtakes it, even if it waits for cells and a shorter call would fit: long prompts do not starve.
//! A prompt that is not ready delays the calls of its own client only.
//!
//! One client cannot fill the queue ([`limits`]), and a queued call is never rejected later.

pub(crate) mod limits;
mod round_robin;

use std::time::Instant;

use round_robin::RoundRobin;

use super::prompt::Prompt;
use super::{
    CallId, CancelReason, Conversation, EngineError, EngineErrorKind, GenerateRequest, Generation,
    Phase, Usage,
};
use crate::telemetry::millis;
use limits::may_wait;

/// A queued call.
#[derive(Debug)]
pub(crate) struct QueuedCall {
    /// Id of the call, chosen by the server.
    pub id: CallId,
    /// Name of the client, for fairness.
    pub client: String,
    /// Request of the call. [`Queue::next_to_prepare`] moves the conversation out of it.
    pub request: GenerateRequest,
    /// Prompt; `None` until it is rendered and tokenised. [`Queue::pop`] moves it out of the call.
    prompt: Option<Prompt>,
    /// Time at which the command was read.
    pub received: Instant,
    /// Size of the conversation, in bytes.
    bytes: usize,
    /// Queue position in the last update; 0 if none was sent.
    reported_position: usize,
}

impl QueuedCall {
    /// Creates a call of `client` without a prompt.
    pub(crate) fn new(
        id: CallId,
        client: String,
        request: GenerateRequest,
        received: Instant,
    ) -> Self {
        Self {
            id,
            client,
            bytes: request.conversation.bytes(),
            request,
            prompt: None,
            received,
            reported_position: 0,
        }
    }

    /// Returns the usage of a call that has waited until `now`: for its model, which was loaded at `ready_at`, and then in the queue.
    pub(super) fn waiting_usage(&self, ready_at: Instant, now: Instant) -> Usage {
        let load = ready_at.saturating_duration_since(self.received);
        let queue = now.saturating_duration_since(self.received.max(ready_at));
        Usage {
            load_ms: millis(load),
            queue_ms: millis(queue),
            ..Usage::default()
        }
    }

    /// Returns the result of a call that was cancelled before it got a sequence.
    pub(crate) fn cancelled(
        &self,
        reason: CancelReason,
        phase: Phase,
        ready_at: Instant,
        now: Instant,
    ) -> Generation {
        Generation {
            text: String::new(),
            finish_reason: reason.into(),
            phase,
            still_thinking: false,
            seed: self.request.sampling.llama_seed(),
            usage: self.waiting_usage(ready_at, now),
        }
    }
}

/// Queue of calls, with a limit for each client.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: RoundRobin<QueuedCall>,
    max_queue: usize,
}

impl Queue {
    /// Creates a queue for at most `max_queue` calls of one client, in addition to calls that start at once.
    pub(crate) fn new(max_queue: usize) -> Self {
        Self {
            waiting: RoundRobin::new(),
            max_queue,
        }
    }

    /// Queues a call. The first `free` queued calls do not count as waiting, since that many sequences are free.
    ///
    /// # Errors
    /// `Busy` if the queue is full, with the number of waiting calls.
    pub(crate) fn push(&mut self, call: QueuedCall, free: usize) -> Result<(), EngineError> {
        let (all, own) = (self.waiting.len(), self.waiting.len_of(&call.client));
        // Calls that start at once do not count.
        let (all_wait, own_wait) = (all.saturating_sub(free), own.saturating_sub(free));
        if all >= free && !may_wait(self.max_queue, own_wait, all_wait) {
            let of_client = if own_wait > 0 && own_wait < all_wait {
                format!(", {own_wait} of them from this client")
            } else {
                String::new()
            };
            let calls = if all_wait == 1 { "call" } else { "calls" };
            return Err(EngineError::new(
                EngineErrorKind::Busy,
                format!("the model is busy: its queue is full ({all_wait} {calls}{of_client})"),
            )
            .hint("try again later"));
        }
        let client = call.client.clone();
        self.waiting.push(&client, call);
        Ok(())
    }

    /// Moves out the conversation of the next call to prepare, if `has_room` for its bytes. Clients take turns, and the calls of a client
    /// stay in order. A call without room delays its own client only.
    pub(crate) fn next_to_prepare(
        &mut self,
        has_room: impl Fn(usize) -> bool,
    ) -> Option<(CallId, Conversation)> {
        let is_waiting = |call: &QueuedCall| !call.request.conversation.messages.is_empty();
        let call = self
            .waiting
            .next_to_prepare(is_waiting, |call| has_room(call.bytes))?;
        let conversation = &mut call.request.conversation;
        let prepared = Conversation {
            messages: std::mem::take(&mut conversation.messages),
            thinking: conversation.thinking,
            json_schema: conversation.json_schema.take(),
            thinking_budget: conversation.thinking_budget,
            template_arguments: std::mem::take(&mut conversation.template_arguments),
        };
        Some((call.id, prepared))
    }

    /// Sets the prompt of a call. Does nothing if the call is no longer queued.
    pub(crate) fn set_prompt(&mut self, id: CallId, prompt: Prompt) {
        if let Some(call) = self.waiting.in_order().find(|call| call.id == id) {
            call.prompt = Some(prompt);
        }
    }

    /// Removes a call and returns it.
    pub(crate) fn remove(&mut self, id: CallId) -> Option<QueuedCall> {
        self.waiting.remove(|call| call.id == id)
    }

    /// Returns the first call whose prompt is ready, and its prompt.
    pub(crate) fn head(&self) -> Option<(&QueuedCall, &Prompt)> {
        let head = self.waiting.head(|call| call.prompt.is_some())?;
        Some((head, head.prompt.as_ref()?))
    }

    /// Removes the head. Returns it and its prompt.
    pub(crate) fn pop(&mut self) -> Option<(QueuedCall, Prompt)> {
        let mut call = self.waiting.pop(|call| call.prompt.is_some())?;
        let prompt = call.prompt.take()?;
        Some((call, prompt))
    }

    /// Returns the ids and positions of the calls whose position has changed since the last call of this function. The head is at 1.
    pub(crate) fn changed_positions(&mut self) -> Vec<(CallId, usize)> {
        let positions = (1..).zip(self.waiting.in_order());
        positions
            .filter(|(position, call)| call.reported_position != *position)
            .map(|(position, call)| {
                call.reported_position = position;
                (call.id, position)
            })
            .collect()
    }

    /// Returns the number of queued calls.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns whether no call is queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.len() == 0
    }
}

#[cfg(test)]
mod tests;
