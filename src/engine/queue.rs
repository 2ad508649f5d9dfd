//! Calls that wait for a sequence: first come, first served, and bounded.
//!
//! A call enters when its command is read, so it has its place while its prompt is still being rendered. The head is
//! never overtaken, also where it waits for cells and a shorter one would fit: a long prompt is not starved.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::prompt::Prompt;
use super::{
    CancelReason, Conversation, EngineError, EngineErrorKind, GenerateRequest, Generation, Phase,
    Usage,
};

/// A waiting call.
#[derive(Debug)]
pub struct Waiting {
    /// The caller's number for it.
    pub id: u64,
    /// What is asked; the messages are taken out when its prompt is prepared.
    pub request: GenerateRequest,
    /// None while it is being rendered and tokenised.
    pub prompt: Option<Prompt>,
    /// When it was read.
    pub received: Instant,
}

impl Waiting {
    /// What a call that never got a sequence ends with.
    pub fn cancelled(
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
pub struct Queue {
    waiting: VecDeque<Waiting>,
    max_waiting: usize,
}

impl Queue {
    /// A queue in which at most `max_waiting` wait beyond those that start at once.
    pub fn new(max_waiting: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            max_waiting,
        }
    }

    /// Takes a call; `free` sequences are about to take waiting ones.
    ///
    /// # Errors
    /// `Busy` with the number that wait.
    pub fn push(&mut self, call: Waiting, free: usize) -> Result<(), EngineError> {
        if self.waiting.len() >= self.max_waiting + free {
            let waiting = self.waiting.len() - free.min(self.waiting.len());
            return Err(EngineError::new(
                EngineErrorKind::Busy,
                format!("the model is busy: {waiting} calls are waiting, and no more may"),
            )
            .hint("try again later"));
        }
        self.waiting.push_back(call);
        Ok(())
    }

    /// Takes out the messages of the first call that has none of its prompt yet, to be prepared.
    pub fn next_to_prepare(&mut self) -> Option<(u64, Conversation)> {
        let call = self
            .waiting
            .iter_mut()
            .find(|call| !call.request.conversation.messages.is_empty())?;
        let conversation = &mut call.request.conversation;
        let messages = std::mem::take(&mut conversation.messages);
        let prepared = Conversation {
            messages,
            thinking: conversation.thinking,
            json_schema: conversation.json_schema.take(),
        };
        Some((call.id, prepared))
    }

    /// Hands a call its prompt; one that has left meanwhile is ignored.
    pub fn prepared(&mut self, id: u64, prompt: Prompt) {
        if let Some(call) = self.waiting.iter_mut().find(|call| call.id == id) {
            call.prompt = Some(prompt);
        }
    }

    /// Takes a call out.
    pub fn remove(&mut self, id: u64) -> Option<Waiting> {
        let at = self.waiting.iter().position(|call| call.id == id)?;
        self.waiting.remove(at)
    }

    /// The head and its prompt, once it is ready.
    pub fn head(&self) -> Option<(&Waiting, &Prompt)> {
        let head = self.waiting.front()?;
        Some((head, head.prompt.as_ref()?))
    }

    /// Takes the head out.
    pub fn pop(&mut self) -> Option<Waiting> {
        self.waiting.pop_front()
    }

    /// The ids of the waiting calls, head first.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        self.waiting.iter().map(|call| call.id)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
