//! Calls that wait for a sequence: clients by turns, each one's first come, first served; and bounded.
//!
//! A call enters when its command is read, so it has its place while its prompt is still being rendered. The head, the first
//! whose prompt is ready, is not overtaken by calls that come later, also if it waits for cells and a shorter one would fit: a long
//! prompt is not starved. A prompt that is not ready yet holds up the calls of its own client only.
//!
//! One client cannot fill it ([`limits`]), and a call that was taken in is never put out.

pub(crate) mod limits;
mod rotation;

use std::time::{Duration, Instant};

use rotation::Rotation;

use super::prompt::Prompt;
use super::{
    CancelReason, Conversation, EngineError, EngineErrorKind, GenerateRequest, Generation, Phase,
    Usage,
};
use limits::may_wait;

/// A waiting call.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// The caller's number for it.
    pub id: u64,
    /// Whose call it is.
    pub client: String,
    /// What is asked; the messages are taken out when its prompt is prepared.
    pub request: GenerateRequest,
    /// None while it is being rendered and tokenised.
    pub prompt: Option<Prompt>,
    /// When it was read.
    pub received: Instant,
    /// Bytes of its conversation.
    bytes: usize,
    /// The place that its caller was told last; 0 for none.
    place: usize,
}

impl Waiting {
    /// A call of `client` that was read when it was `received`.
    pub(crate) fn new(
        id: u64,
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
            place: 0,
        }
    }

    /// What a call that never got a sequence ends with.
    pub(crate) fn cancelled(
        &self,
        reason: CancelReason,
        phase: Phase,
        ready_at: Instant,
        now: Instant,
    ) -> Generation {
        let (load_ms, queue_ms) = waits(self.received, ready_at, now);
        Generation {
            text: String::new(),
            finish_reason: reason.into(),
            phase,
            still_thinking: false,
            seed: self.request.sampling.seed,
            usage: Usage {
                queue_ms,
                load_ms,
                ..Usage::default()
            },
        }
    }
}

/// How long a call waited for the load and how long in the queue, until `now`.
pub(super) fn waits(received: Instant, ready_at: Instant, now: Instant) -> (u64, u64) {
    let load = ready_at.saturating_duration_since(received);
    let queue = now.saturating_duration_since(received.max(ready_at));
    (milliseconds(load), milliseconds(queue))
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The bounded queue.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Rotation<Waiting>,
    max_waiting: usize,
}

impl Queue {
    /// A queue in which at most `max_waiting` calls of one client wait beyond those that start at once.
    pub(crate) fn new(max_waiting: usize) -> Self {
        Self {
            waiting: Rotation::new(),
            max_waiting,
        }
    }

    /// Takes a call; `free` sequences are about to take waiting ones.
    ///
    /// # Errors
    /// `Busy` with the number that wait.
    pub(crate) fn push(&mut self, call: Waiting, free: usize) -> Result<(), EngineError> {
        let (all, own) = (self.waiting.len(), self.waiting.len_of(&call.client));
        // Those beyond the ones that start at once.
        let (all_wait, own_wait) = (all.saturating_sub(free), own.saturating_sub(free));
        if all >= free && !may_wait(self.max_waiting, own_wait, all_wait) {
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

    /// Takes out the conversation of the next call to be prepared, if `has_room` for its bytes. Clients take turns, and each one's
    /// calls stay in order. Calls for which there is no room hold up their own client only.
    pub(crate) fn next_to_prepare(
        &mut self,
        has_room: impl Fn(usize) -> bool,
    ) -> Option<(u64, Conversation)> {
        let is_waiting = |call: &Waiting| !call.request.conversation.messages.is_empty();
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

    /// Hands a call its prompt; one that has left meanwhile is ignored.
    pub(crate) fn prepared(&mut self, id: u64, prompt: Prompt) {
        if let Some(call) = self.waiting.in_order().find(|call| call.id == id) {
            call.prompt = Some(prompt);
        }
    }

    /// Takes a call out.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Waiting> {
        self.waiting.remove(|call| call.id == id)
    }

    /// Returns the first call whose prompt is ready, and its prompt.
    pub(crate) fn head(&self) -> Option<(&Waiting, &Prompt)> {
        let head = self.waiting.head(|call| call.prompt.is_some())?;
        Some((head, head.prompt.as_ref()?))
    }

    /// Takes the head out.
    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        self.waiting.pop(|call| call.prompt.is_some())
    }

    /// The ids and places, 1 for the head, of the calls that have another place than when this was asked last.
    pub(crate) fn new_places(&mut self) -> Vec<(u64, usize)> {
        let places = (1..).zip(self.waiting.in_order());
        places
            .filter(|(place, call)| call.place != *place)
            .map(|(place, call)| {
                call.place = place;
                (call.id, place)
            })
            .collect()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.len() == 0
    }
}

#[cfg(test)]
mod tests;
