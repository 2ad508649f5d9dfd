//! From a loaded model on: plans its context, then decodes until nobody asks any more.

use std::thread;
use std::time::{Duration, Instant};

use super::lanes::{Job, Lanes};
use super::prompts::{Prepared, Preparer};
use super::{Calls, Event, Input, News, Worker};
use crate::config::LoadSettings;
use crate::engine::decoder::Decoder;
use crate::engine::limits::Limits;
use crate::engine::llama::Model;
use crate::engine::queue::{Queue, Waiting};
use crate::engine::scheduler::Scheduler;
use crate::engine::template;
use crate::engine::timing::Timing;
use crate::engine::{CancelReason, EngineError, Stats};
use crate::memory;
use crate::process::memory_lock;
use crate::telemetry;
use crate::worker::Ready;
use crate::worker::cpu_lock::Turns;

impl Worker {
    pub(super) fn serve_model(
        &mut self,
        model: &Model,
        load: &LoadSettings,
        turns: Option<&Turns>,
        queue: Queue,
        started: Instant,
    ) -> Result<(), EngineError> {
        let free = memory::free();
        // What a GPU holds was planned by the server, with the GPU's memory.
        let is_planned = load.kv_cells > 0 && model.is_on_gpu(load);
        let memory = [free, load.memory_limit].into_iter().flatten().min();
        let memory = memory.filter(|_| !is_planned);
        let limits = Limits::plan(load, model.facts(load, memory));
        log_limits(load, &limits);
        if load.mlock && telemetry::is_lock_refused() {
            warn_of_lock();
        }
        let decoder = model.decoder(limits, load)?;
        let template = load.chat_template.clone().or_else(|| model.chat_template());
        if template.is_none() {
            tracing::info!(
                "the model has no chat template: its messages are joined with blank lines, without roles"
            );
        }
        template::limit_renderings();
        let (mut lanes, inboxes) = Lanes::new();
        let preparer = Preparer::new(
            model.vocabulary(),
            template.as_deref(),
            load.thinking_tags.as_ref(),
            limits.context(),
            self.inputs_tx.clone(),
            self.events.clone(),
        );
        thread::scope(|scope| {
            preparer.start(scope, inboxes)?;
            self.events.send(&Event::Ready(Ready {
                n_ctx: limits.n_ctx,
                kv_cells: limits.kv_cells,
                has_chat_template: template.is_some(),
                load_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            }));
            let spent = decoder.spent();
            self.run(
                Scheduler::new(decoder, limits, queue, Instant::now()),
                &mut lanes,
                turns,
                &spent,
            );
            spent.log();
            // That ends the threads.
            drop(lanes);
            Ok(())
        })
    }

    /// The loop of a loaded model: take what came, decode, tell. Blocks only when there is nothing to decode.
    fn run(
        &mut self,
        mut scheduler: Scheduler<impl Decoder>,
        lanes: &mut Lanes,
        turns: Option<&Turns>,
        spent: &Timing,
    ) {
        loop {
            self.tell(&mut scheduler, spent);
            if self.ended && scheduler.is_empty() && self.warming.is_done() {
                return;
            }
            while let Some(job) = self.next_job(&mut scheduler, lanes) {
                lanes.begin(job);
            }
            let mut next = self.next_input(scheduler.is_idle(), lanes);
            while let Some(input) = next {
                match self.take(input, &mut scheduler) {
                    Some(News::Prepared(lane, prepared)) => {
                        lanes.end(lane);
                        match prepared {
                            Prepared::Call(id, prompt) => scheduler.prepared(id, prompt),
                            Prepared::Fixed(set, tokens) => self.warming.prepared(set, tokens),
                        }
                    }
                    Some(News::Shutdown) => return,
                    // The one model is here.
                    Some(News::Loaded(_)) | None => {}
                }
                next = self.inputs.try_recv().ok();
            }
            if let Some(prefixes) = self.warming.take_whole() {
                let lengths: Vec<usize> = prefixes.iter().map(Vec::len).collect();
                tracing::debug!(tokens = ?lengths, "fixed prompts are cached");
                scheduler.keep_warm(prefixes);
            }
            scheduler.admit(Instant::now());
            // Should the step end the process, the server must not send the same calls again.
            self.tell(&mut scheduler, spent);
            let turn = match turns {
                Some(turns) if !scheduler.is_idle() => {
                    turns.take(|| self.events.send(&Event::Alive)).ok()
                }
                _ => None,
            };
            scheduler.turn(Instant::now());
            drop(turn);
        }
    }

    /// Returns what to prepare next: a call's prompt, or a fixed prompt while no call's waits or is being prepared.
    fn next_job(&mut self, scheduler: &mut Scheduler<impl Decoder>, lanes: &Lanes) -> Option<Job> {
        let call = scheduler.next_to_prepare(|bytes| lanes.has_room(bytes));
        if let Some((id, conversation)) = call {
            return Some(Job::Call(id, conversation));
        }
        if !lanes.are_idle() {
            return None;
        }
        let (set, prompt) = self.warming.next()?;
        Some(Job::Fixed(set, Box::new(prompt)))
    }

    fn tell(&self, scheduler: &mut Scheduler<impl Decoder>, spent: &Timing) {
        let started = Instant::now();
        self.events.calls(scheduler.take_updates());
        spent.add(|times| times.emit += started.elapsed());
        if scheduler.is_empty() {
            spent.log();
        }
    }

    /// What came; waits for it only when there is nothing else to do. A prompt that is never ready ends the process: its
    /// thread cannot be stopped, and no other call of its lane would ever be prepared.
    fn next_input(&self, is_idle: bool, lanes: &Lanes) -> Option<Input> {
        let left = lanes.time_left();
        let input = match left {
            _ if !is_idle => self.inputs.try_recv().ok(),
            None => self.inputs.recv().ok(),
            Some(left) => self.inputs.recv_timeout(left).ok(),
        };
        if input.is_none() && left == Some(Duration::ZERO) {
            tracing::error!("{}", lanes.overdue());
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

/// Logs that the weights are not locked into memory, and what to do about it.
fn warn_of_lock() {
    let cause = memory_lock::limit()
        .map_or_else(|| "the system refused it".to_owned(), memory_lock::way_out);
    tracing::warn!("`mlock` has no effect, so the weights can be swapped out: {cause}");
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
