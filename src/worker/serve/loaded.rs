//! Serves a loaded model: plans its context, and then decodes until stdin ends.

use std::thread;
use std::time::{Duration, Instant};

use super::lanes::{Job, Lanes};
use super::prompts::{Prepared, Preparer};
use super::thread_tuner::Footprint;
use super::{CallSink, Event, Input, LoopEvent, Worker};
use crate::config::LoadSettings;
use crate::engine::decoder::Decoder;
use crate::engine::limits::{Facts, Limits};
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
        mut load: LoadSettings,
        grant: &Grant,
        turns: Option<&Turns>,
        queue: Queue,
        started: Instant,
    ) -> Result<(), EngineError> {
        let facts = facts(model, &load, grant);
        let limits = Limits::plan(&load, facts);
        log_limits(&load, &limits);
        if load.mlock && telemetry::is_lock_refused() {
            warn_unlocked();
        }
        let footprint = Footprint {
            cache: u64::from(limits.kv_cells).saturating_mul(facts.bytes_per_cell),
            mapped: mapped(model, &load),
        };
        load.n_threads = self.start_tuner(model, &load, footprint, turns);
        let creation = Instant::now();
        let decoder = model.decoder(limits, &load)?;
        if let Some(tuner) = &mut self.tuner {
            tuner.created(creation.elapsed());
        }
        let template = chat_template(model, &load);
        template::limit_renderings();
        let preparer = Preparer::new(
            model.vocabulary(),
            template.as_deref(),
            load.thinking_tags.as_ref(),
            limits.context(),
            self.inputs_tx.clone(),
            self.events.clone(),
        );
        let (mut lanes, inboxes) = Lanes::new();
        thread::scope(|scope| {
            preparer.start(scope, inboxes)?;
            self.is_ready = true;
            self.events.send(&Event::Ready(Ready {
                n_ctx: limits.n_ctx,
                kv_cells: limits.kv_cells,
                load_ms: telemetry::millis(started.elapsed()),
            }));
            let timing = decoder.timing();
            let scheduler = Scheduler::new(decoder, limits, queue, Instant::now());
            self.run(scheduler, &mut lanes, turns, &timing)?;
            timing.log();
            // Ends the threads.
            drop(lanes);
            Ok(())
        })
    }

    /// Ends the observation of the load, and starts that of the loaded model. Returns the number of threads with which the model starts.
    fn start_tuner(
        &mut self,
        model: &Model,
        load: &LoadSettings,
        footprint: Footprint,
        turns: Option<&Turns>,
    ) -> usize {
        // The memory of a GPU would temporarily have to hold its cells twice, and its speed hardly depends on threads.
        let observation = self.observation.take();
        let Some(observation) = observation.filter(|_| !model.is_on_gpu(load)) else {
            return load.n_threads;
        };
        let others_compute = turns.is_some_and(Turns::are_all_taken);
        let (tuner, threads) = observation.finish(load, footprint, others_compute);
        self.tuner = Some(tuner);
        threads
    }

    /// Runs the loop of a loaded model: handles inputs, decodes, and sends updates. Blocks only if there is nothing to decode.
    ///
    /// # Errors
    /// `Load` if llama.cpp can no longer create a context.
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
                    Some(LoopEvent::Loaded(..)) | None => {}
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
            if let Some(tuner) = &mut self.tuner {
                // A change clears the KV cache, which uses a CPU and the bandwidth of the memory, so it is part of the turn.
                scheduler = tuner.after_step(scheduler, started)?;
            }
            drop(turn);
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

/// Returns the chat template of the configuration or else of the model; `None` if neither has one.
fn chat_template(model: &Model, load: &LoadSettings) -> Option<String> {
    let template = load.chat_template.clone().or_else(|| model.chat_template());
    if template.is_none() {
        tracing::info!(
            "the model has no chat template: messages are joined with blank lines, without roles"
        );
    }
    template
}

/// Returns the facts from which the limits of `model` are planned.
fn facts(model: &Model, load: &LoadSettings, grant: &Grant) -> Facts {
    // For a model on a GPU, the server has already planned the cells, from the GPU's memory.
    let is_planned = load.kv_cells > 0 && model.is_on_gpu(load);
    let memory = memory_left(model, load, grant).filter(|_| !is_planned);
    model.facts(load, memory, grant.shared_prefix_bytes)
}

/// Returns the bytes that are left for the context of a loaded model; `None` if they are unknown.
fn memory_left(model: &Model, load: &LoadSettings, grant: &Grant) -> Option<u64> {
    let free = memory::free_beside(mapped(model, load));
    let weights = model.weights_on_machine(load);
    let granted = grant.memory_limit;
    let granted = granted.map(|bytes| bytes.saturating_sub(weights));
    [free, granted].into_iter().flatten().min()
}

/// Returns the bytes of the model's file that are in the page cache, which counts as free. Other weights are already in use.
fn mapped(model: &Model, load: &LoadSettings) -> u64 {
    if load.mmap {
        model.weights_on_machine(load)
    } else {
        0
    }
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
