//! From a loaded model on: plans its context, then decodes until nobody asks any more.

use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::prompts::{Job, prepare_prompts};
use super::{Calls, Event, Input, News, Worker};
use crate::config::LoadSettings;
use crate::engine::decoder::Decoder;
use crate::engine::limits::Limits;
use crate::engine::llama::Model;
use crate::engine::queue::{Queue, Waiting};
use crate::engine::scheduler::Scheduler;
use crate::engine::spent::Spent;
use crate::engine::template::stack_size;
use crate::engine::{CancelReason, EngineError, EngineErrorKind, Stats};
use crate::process;
use crate::worker::Ready;
use crate::worker::turns::Turns;

/// How long rendering and tokenising one prompt may take: a megabyte of text takes seconds on a slow machine.
const PREPARE_LIMIT: Duration = Duration::from_mins(1);

/// Prompts that are handed out to be prepared before one is ready: the next ones need not wait for a step, and one that is
/// cancelled meanwhile costs little.
const MAX_PREPARING: usize = 8;

/// What the prompts' thread has to do.
#[derive(Default)]
struct Preparing {
    jobs: usize,
    /// Since when it has had the one that it is at.
    since: Option<Instant>,
}

impl Preparing {
    fn began(&mut self) {
        self.jobs += 1;
        self.since.get_or_insert_with(Instant::now);
    }

    fn ended(&mut self) {
        self.jobs = self.jobs.saturating_sub(1);
        self.since = (self.jobs > 0).then(Instant::now);
    }
}

impl Worker {
    pub(super) fn serve_model(
        &mut self,
        model: &Model,
        load: &LoadSettings,
        turns: Option<&Turns>,
        queue: Queue,
        started: Instant,
    ) -> Result<(), EngineError> {
        let free = process::available_memory();
        let memory = [free, load.memory_limit].into_iter().flatten().min();
        let limits = Limits::plan(load, model.facts(load, memory));
        log_limits(load, &limits);
        let decoder = model.decoder(limits, load)?;
        let template = load.chat_template.clone().or_else(|| model.chat_template());
        if template.is_none() {
            tracing::warn!(
                "the model has no chat template: it is used as a base model, the contents joined by blank lines"
            );
        }
        let stack = stack_size(template.as_deref().unwrap_or_default());
        let (jobs_tx, jobs) = channel();
        let (prepared, events) = (self.inputs_tx.clone(), self.events.clone());
        let vocabulary = model.vocabulary();
        thread::scope(|scope| {
            let builder = thread::Builder::new()
                .name("prompts".into())
                .stack_size(stack);
            builder
                .spawn_scoped(scope, || {
                    prepare_prompts(
                        vocabulary,
                        template.as_deref(),
                        load.thinking_tags.as_ref(),
                        limits.n_ctx,
                        jobs,
                        &prepared,
                        &events,
                    );
                })
                .map_err(|error| {
                    EngineError::new(
                        EngineErrorKind::Load,
                        format!("could not start a thread: {error}"),
                    )
                })?;
            self.events.send(&Event::Ready(Ready {
                n_ctx: limits.n_ctx,
                kv_cells: limits.kv_cells,
                has_chat_template: template.is_some(),
                load_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            }));
            let spent = decoder.spent();
            self.run(
                Scheduler::new(decoder, limits, queue, Instant::now()),
                &jobs_tx,
                turns,
                &spent,
            );
            spent.log();
            drop(jobs_tx);
            Ok(())
        })
    }

    /// The loop of a loaded model: take what came, decode, tell. Blocks only when there is nothing to decode.
    fn run(
        &mut self,
        mut scheduler: Scheduler<impl Decoder>,
        jobs: &Sender<Job>,
        turns: Option<&Turns>,
        spent: &Spent,
    ) {
        let mut preparing = Preparing::default();
        loop {
            self.tell(&mut scheduler, spent);
            if self.ended && scheduler.is_empty() && self.warming.is_done() {
                return;
            }
            while preparing.jobs < MAX_PREPARING
                && let Some(job) = self.next_job(&mut scheduler, preparing.jobs)
            {
                drop(jobs.send(job));
                preparing.began();
            }
            let mut next = self.next_input(scheduler.is_idle(), preparing.since);
            while let Some(input) = next {
                match self.take(input, &mut scheduler) {
                    Some(News::Prepared(id, prompt)) => {
                        preparing.ended();
                        scheduler.prepared(id, prompt);
                    }
                    Some(News::PreparedFixed(set, tokens)) => {
                        preparing.ended();
                        self.warming.prepared(set, tokens);
                    }
                    Some(News::Shutdown) => return,
                    // The one model is here.
                    Some(News::Loaded(_)) | None => {}
                }
                next = self.inputs.try_recv().ok();
            }
            if let Some(prefixes) = self.warming.take_whole() {
                let lengths: Vec<usize> = prefixes.iter().map(Vec::len).collect();
                tracing::debug!(tokens = ?lengths, "fixed prompts are kept ready");
                scheduler.keep_warm(prefixes);
            }
            scheduler.admit(Instant::now());
            // Should the step end the process, the server must not send the same calls again.
            self.tell(&mut scheduler, spent);
            let turn = match turns {
                Some(turns) if !scheduler.is_idle() => turns.take().ok(),
                _ => None,
            };
            scheduler.turn(Instant::now());
            drop(turn);
        }
    }

    /// What is prepared next, behind `before` others: no fixed prompt while a call's waits, or where one would have to wait for it.
    fn next_job(&mut self, scheduler: &mut Scheduler<impl Decoder>, before: usize) -> Option<Job> {
        if let Some((id, conversation)) = scheduler.next_to_prepare() {
            return Some(Job::Call(id, conversation));
        }
        if before > 0 {
            return None;
        }
        let (set, prompt) = self.warming.next()?;
        Some(Job::Fixed(set, prompt))
    }

    fn tell(&self, scheduler: &mut Scheduler<impl Decoder>, spent: &Spent) {
        let started = Instant::now();
        self.events.calls(scheduler.take_updates());
        spent.add(|times| times.emit += started.elapsed());
        if scheduler.is_empty() {
            spent.log();
        }
    }

    /// What came; waits for it only when there is nothing else to do. A prompt that is never ready ends the process: its
    /// thread cannot be stopped, and no other call would ever be prepared.
    fn next_input(&self, is_idle: bool, preparing_since: Option<Instant>) -> Option<Input> {
        let left = preparing_since.map(|since| PREPARE_LIMIT.saturating_sub(since.elapsed()));
        let input = match left {
            _ if !is_idle => self.inputs.try_recv().ok(),
            None => self.inputs.recv().ok(),
            Some(left) => self.inputs.recv_timeout(left).ok(),
        };
        if input.is_none() && left == Some(Duration::ZERO) {
            tracing::error!(
                "a prompt was not ready after {PREPARE_LIMIT:?}: the model's chat template does not end"
            );
            std::process::exit(1);
        }
        input
    }
}

impl<D: Decoder> Calls for Scheduler<D> {
    fn submit(&mut self, call: Waiting) {
        self.submit(call);
    }

    fn cancel(&mut self, id: u64, reason: CancelReason, now: Instant) {
        self.cancel(id, reason, now);
    }

    fn stats(&self) -> Option<Stats> {
        Some(self.stats())
    }
}

/// Says where the worker gives less than was asked.
fn log_limits(load: &LoadSettings, limits: &Limits) {
    if load.n_ctx > limits.n_ctx {
        tracing::warn!(
            "n_ctx is {}, what the model was trained for, not {}",
            limits.n_ctx,
            load.n_ctx
        );
    }
    tracing::info!(
        n_ctx = limits.n_ctx,
        kv_cells = limits.kv_cells,
        parallel = limits.parallel,
        n_batch = limits.n_batch,
        is_pool = limits.is_pool,
        reuse = ?limits.reuse,
        "context planned"
    );
}
