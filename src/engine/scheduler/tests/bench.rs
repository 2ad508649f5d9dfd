//! A test bench: a scheduler with a scripted decoder, and the updates and batches that it produced.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::scripted::{Script, Scripted, Seen};
use crate::engine::decoder::Row;
use crate::engine::limits::{Limits, Reuse};
use crate::engine::prompt::Prompt;
use crate::engine::queue::{Queue, QueuedCall};
use crate::engine::scheduler::Scheduler;
use crate::engine::thinking::Thinking;
use crate::engine::thinking::blocks::Blocks;
use crate::engine::token::Token;
use crate::engine::{
    Answer, CallId, CancelReason, Conversation, EngineError, EngineErrorKind, FinishReason,
    GenerateRequest, Generation, SamplingParams, ThinkingOutput, Update,
};

pub(super) const MS: Duration = Duration::from_millis(1);

/// Names calls by plain numbers.
pub(super) struct Bench {
    pub(super) scheduler: Scheduler<Scripted>,
    pub(super) seen: Rc<RefCell<Seen>>,
    pub(super) start: Instant,
    pub(super) updates: Vec<(u64, Update)>,
}

pub(super) const LIMITS: Limits = Limits {
    parallel: 2,
    n_ctx: 100,
    n_ctx_train: u32::MAX,
    kv_cells: 200,
    n_batch: 64,
    is_pool: true,
    has_long_shared_prefix: false,
    reuse: Reuse::Nothing,
    cache_bytes: 0,
    is_speculative: false,
};

impl Bench {
    pub(super) fn new(limits: Limits, max_queue: usize, script: Script) -> Self {
        let seen = Rc::new(RefCell::new(Seen::default()));
        let start = Instant::now();
        let decoder = Scripted::new(script, limits, Rc::clone(&seen));
        Self {
            scheduler: Scheduler::new(decoder, limits, Queue::new(max_queue), start),
            seen,
            start,
            updates: Vec::new(),
        }
    }

    pub(super) fn submit(&mut self, id: u64, prompt: usize, max_tokens: u32) {
        self.submit_of("one", id, prompt, max_tokens);
    }

    /// Submits a call of `client` with a prepared prompt.
    pub(super) fn submit_of(&mut self, client: &str, id: u64, prompt: usize, max_tokens: u32) {
        if self.enter_of(client, id, request(max_tokens, &[])) {
            self.prepare(id, Ok(prompt_of(prompt)));
        }
    }

    pub(super) fn enter(&mut self, id: u64, max_tokens: u32, stop: &[&str]) -> bool {
        self.enter_of("one", id, request(max_tokens, stop))
    }

    /// Submits a call of `client` without a prompt. Returns whether it was queued.
    pub(super) fn enter_of(&mut self, client: &str, id: u64, request: GenerateRequest) -> bool {
        let waiting = self.scheduler.stats().waiting;
        let call = QueuedCall::new(CallId(id), client.into(), request, self.start);
        self.scheduler.submit(call);
        self.scheduler.stats().waiting > waiting
    }

    pub(super) fn prepare(&mut self, id: u64, prompt: Result<Prompt, EngineError>) {
        self.scheduler.set_prompt(CallId(id), prompt);
    }

    pub(super) fn cancel(&mut self, id: u64, reason: CancelReason) {
        self.scheduler.cancel(CallId(id), reason, self.start);
    }

    /// Moves the updates of the scheduler to [`Self::updates`].
    pub(super) fn collect_updates(&mut self) {
        self.updates.extend(numbered(self.scheduler.take_updates()));
    }

    pub(super) fn step(&mut self) {
        self.scheduler.step(self.start);
        self.collect_updates();
    }

    pub(super) fn run_until_empty(&mut self) {
        for _ in 0..10_000 {
            self.step();
            if self.scheduler.is_empty() {
                return;
            }
        }
        panic!("the scheduler never becomes empty");
    }

    pub(super) fn ends(&self) -> Vec<(u64, FinishReason, String)> {
        self.updates
            .iter()
            .filter_map(|(id, update)| match update {
                Update::Done(Answer::Generated(generation)) => {
                    Some((*id, generation.finish_reason, generation.text.clone()))
                }
                _ => None,
            })
            .collect()
    }

    pub(super) fn generations(&self) -> Vec<Generation> {
        let updates = self.updates.iter();
        let done = updates.filter_map(|(_, update)| match update {
            Update::Done(Answer::Generated(generation)) => Some(generation.clone()),
            _ => None,
        });
        done.collect()
    }

    pub(super) fn failures(&self) -> Vec<(u64, EngineErrorKind)> {
        self.updates
            .iter()
            .filter_map(|(id, update)| match update {
                Update::Failed(error) => Some((*id, error.kind)),
                _ => None,
            })
            .collect()
    }

    pub(super) fn last_batch(&self) -> Vec<Row> {
        self.seen
            .borrow()
            .batches
            .last()
            .cloned()
            .unwrap_or_default()
    }

    pub(super) fn batches(&self) -> usize {
        self.seen.borrow().batches.len()
    }
}

/// Returns the updates with plain numbers for their calls.
pub(super) fn numbered(updates: Vec<(CallId, Update)>) -> Vec<(u64, Update)> {
    let updates = updates.into_iter();
    updates.map(|(id, update)| (id.0, update)).collect()
}

pub(in crate::engine::scheduler) fn request(max_tokens: u32, stop: &[&str]) -> GenerateRequest {
    GenerateRequest {
        conversation: Conversation {
            messages: Vec::new(),
            thinking: ThinkingOutput::Strip,
            json_schema: None,
            thinking_budget: None,
            template_arguments: serde_json::Map::new(),
        },
        max_tokens,
        sampling: SamplingParams {
            seed: 7,
            ..SamplingParams::default()
        },
        stop: stop.iter().map(ToString::to_string).collect(),
    }
}

pub(in crate::engine::scheduler) fn prompt_of(length: usize) -> Prompt {
    Prompt {
        tokens: vec![Token(1); length],
        thinking: Thinking::never(),
        blocks: Blocks::default(),
        grammar: None,
    }
}

pub(super) fn prompt_with(tokens: impl IntoIterator<Item = i32>) -> Prompt {
    Prompt {
        tokens: tokens.into_iter().map(Token).collect(),
        ..prompt_of(0)
    }
}
