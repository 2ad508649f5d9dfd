//! Serves a loaded model: plans its context, and then decodes until stdin ends.

use std::thread;
use std::time::{Duration, Instant};

use super::lanes::{Job, Lanes};
use super::prompts::{Prepared, Preparer};
use super::{CallSink, Event, Input, LoopEvent, Worker};
use crate::config::LoadSettings;
use crate::engine::decoder::Decoder;
use crate::engine::limits::Limits;
use crate::engine::llama::Model;
use crate::engine::queue::{Queue, QueuedCall};
use crate::engine::scheduler::Scheduler;
use crate::engine::template;
use crate::engine::threaded::ThreadedDecoder;
use crate::engine::timing::Timing;
use crate::engine::{CallId, CancelReason, EngineError, Stats};
use crate::memory;
use crate::process::memory_lock;
use crate::telemetry;
use crate::worker::cpu_lock::Turns;
use crate::worker::{Grant, Ready};

impl Worker {
    pub(super) fn serve_model(
        &mut self,
        model: &Model,
        load: &LoadSettings,
        grant: &Grant,
        turns: Option<&Turns>,
        queue: Queue,
        started: Instant,
    ) -> Result<(), EngineError> {
        // For a model on a GPU, the server has already planned the cells, from the GPU's memory.
        let is_planned = load.kv_cells > 0 && model.is_on_gpu(load);
        let memory = memory_left(load, grant, model.weights_on_machine(load));
        let memory = memory.filter(|_| !is_planned);
        let limits = Limits::plan(load, model.facts(load, memory, grant.shared_prefix_bytes));
        log_limits(load, &limits);
        if load.mlock && telemetry::is_lock_refused() {
            warn_unlocked();
        }
        let decoder = model.decoder(limits, load)?;
        let template = load.chat_template.clone().or_else(|| model.chat_template());
        if template.is_none() {
            tracing::info!(
                "the model has no chat template: messages are joined with blank lines, without roles"
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
                load_ms: telemetry::millis(started.elapsed()),
            }));
            let timing = decoder.timing();
            self.run(
                Scheduler::new(decoder, limits, queue, Instant::now()),
                &mut lanes,
                turns,
                &timing,
            )?;
            timing.log();
            // Ends the threads.
            drop(lanes);
            Ok::<_, EngineError>(())
        })?;
        // Prepared prompts share the model, which must be freed before llama.cpp's backend.
        while self.inputs.try_recv().is_ok() {}
        Ok(())
    }

    /// Runs the loop of a loaded model: handles inputs, decodes, and sends updates. Blocks only if there is nothing to decode.
    ///
    /// # Errors
    /// `Load` if llama.cpp cannot create a context for another number of threads.
    fn run(
        &mut self,
        mut scheduler: Scheduler<impl ThreadedDecoder>,
        lanes: &mut Lanes,
        turns: Option<&Turns>,
        timing: &Timing,
    ) -> Result<(), EngineError> {
        loop {
            self.send_scheduler_updates(&mut scheduler, timing);
            if self.stdin_ended && scheduler.is_empty() && self.warming.is_done() {
                return Ok(());
            }
            while let Some(job) = self.next_job(&mut scheduler, lanes) {
                lanes.dispatch(job);
            }
            let mut next = self.next_input(scheduler.is_idle(), lanes);
            while let Some(input) = next {
                match self.handle(input, &mut scheduler) {
                    Some(LoopEvent::Prepared(lane, prepared)) => {
                        lanes.finish(lane);
                        match prepared {
                            Prepared::Call(id, prompt) => {
                                scheduler.set_prompt(id, prompt.map(|prompt| *prompt));
                            }
                            Prepared::SharedPrefix(set, tokens) => {
                                self.warming.prepared(set, tokens);
                            }
                        }
                    }
                    Some(LoopEvent::Shutdown) => return Ok(()),
                    // The model is already loaded.
                    Some(LoopEvent::Loaded(_)) | None => {}
                }
                next = self.inputs.try_recv().ok();
            }
            if let Some(prefixes) = self.warming.take_complete() {
                let lengths: Vec<usize> = prefixes.iter().map(Vec::len).collect();
                tracing::debug!(tokens = ?lengths, "caching shared prefixes");
                scheduler.set_shared_prefixes(prefixes);
            }
            scheduler.admit(Instant::now());
            // If the step ends the process, the server must not send the admitted calls again.
            self.send_scheduler_updates(&mut scheduler, timing);
            let turn = match turns {
                Some(turns) if !scheduler.is_idle() => {
                    turns.acquire(|| self.events.send(&Event::Alive)).ok()
                }
                _ => None,
            };
            let started = Instant::now();
            scheduler.step(started);
            drop(turn);
            if let Some(tuner) = &mut self.tuner {
                scheduler = tuner.after_step(scheduler, started)?;
            }
        }
    }

    /// Returns the next job: the prompt of a call, or a shared prefix if no prompt of a call waits or is being prepared.
    fn next_job(&mut self, scheduler: &mut Scheduler<impl Decoder>, lanes: &Lanes) -> Option<Job> {
        let call = scheduler.next_to_prepare(|bytes| lanes.has_room(bytes));
        if let Some((id, conversation)) = call {
            return Some(Job::Call(id, conversation));
        }
        if !lanes.are_idle() {
            return None;
        }
        let (set, prompt) = self.warming.next()?;
        Some(Job::SharedPrefix(set, Box::new(prompt)))
    }

    fn send_scheduler_updates(&self, scheduler: &mut Scheduler<impl Decoder>, timing: &Timing) {
        let started = Instant::now();
        self.events.send_updates(scheduler.take_updates());
        timing.add(|times| times.emit += started.elapsed());
        if scheduler.is_empty() {
            timing.log();
        }
    }

    /// Returns the next input, and waits for it if the scheduler `is_idle`. Ends the process if a job has timed out: its thread cannot be
    /// stopped, and blocks its lane.
    fn next_input(&self, is_idle: bool, lanes: &Lanes) -> Option<Input> {
        let left = lanes.time_left();
        let input = match left {
            _ if !is_idle => self.inputs.try_recv().ok(),
            None => self.inputs.recv().ok(),
            Some(left) => self.inputs.recv_timeout(left).ok(),
        };
        if input.is_none() && left == Some(Duration::ZERO) {
            tracing::error!("{}", lanes.timeout_message());
            std::process::exit(1);
        }
        input
    }
}

impl<D: ThreadedDecoder> CallSink for Scheduler<D> {
    fn submit(&mut self, call: QueuedCall) {
        self.submit(call);
    }

    fn cancel(&mut self, id: CallId, reason: CancelReason, now: Instant) {
        self.cancel(id, reason, now);
    }

    fn stats(&self) -> Option<Stats> {
        Some(self.stats())
    }
}

/// Returns the bytes that are left for a model's context once its `weights` bytes are loaded; `None` if they are unknown.
fn memory_left(load: &LoadSettings, grant: &Grant, weights: u64) -> Option<u64> {
    // Mapped weights are in the page cache, which counts as free. Other weights are no longer free.
    let counted_as_free = if load.mmap { weights } else { 0 };
    let free = memory::free().map(|bytes| bytes.saturating_sub(counted_as_free));
    let granted = grant.memory_limit;
    let granted = granted.map(|bytes| bytes.saturating_sub(weights));
    [free, granted].into_iter().flatten().min()
}

/// Warns that the weights are not locked into memory, and says what to do.
fn warn_unlocked() {
    let cause =
        memory_lock::limit().map_or_else(|| "the system denied it".to_owned(), memory_lock::advice);
    tracing::warn!("`mlock` has no effect, so the weights can be swapped out: {cause}");
}

/// Logs the limits, and warns if `n_ctx` was capped.
fn log_limits(load: &LoadSettings, limits: &Limits) {
    if load.n_ctx > limits.n_ctx {
        tracing::warn!(
            "`n_ctx` is capped at {}, the context that the model was trained for (configured: {})",
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
