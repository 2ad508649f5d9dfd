//! The worker's side: commands from stdin → engine → events to stdout.
//!
//! The main thread reads the first command itself, and restricts itself by it before it starts another (`sandbox::enter`).
//!
//! Threads: the main one owns queue, scheduler, model and context; one reads stdin; one loads the model and ends; one
//! renders and tokenises prompts, so that a long text never holds up a running stream. All speak to the main thread
//! through one channel of `Input`s, whose end is the end of stdin. The channel has no bound: a bound would hide a
//! cancel behind long prompts, and the queue behind it refuses what is too much.

mod commands;
mod prompts;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use commands::Commands;

use super::turns::Turns;
use super::{Command, Event, Ready, WIRE_VERSION, sandbox};
use crate::config::LoadSettings;
use crate::engine::decoder::Decoder;
use crate::engine::limits::Limits;
use crate::engine::llama::Model;
use crate::engine::prompt::Prompt;
use crate::engine::queue::{Queue, Waiting};
use crate::engine::scheduler::Scheduler;
use crate::engine::template::stack_size;
use crate::engine::{Conversation, EngineError, EngineErrorKind, Phase, Update};
use crate::process;

/// How long rendering and tokenising one prompt may take: a megabyte of text takes seconds on a slow machine.
const PREPARE_LIMIT: Duration = Duration::from_mins(1);

/// What reaches the main thread.
enum Input {
    Command(Command, Instant),
    Loaded(Box<Result<Model, EngineError>>),
    Prepared(u64, Result<Prompt, EngineError>),
    /// Stdin has ended.
    End,
}

/// Where events go: any thread may send, each line whole.
#[derive(Clone)]
struct Events(Arc<Mutex<Box<dyn process::ProtocolOutput>>>);

impl Events {
    fn send(&self, event: &Event) {
        let mut line = serde_json::to_vec(event).expect("an event has only string keys");
        line.push(b'\n');
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A server that does not read any more has ended, and the end of stdin follows.
        if let Err(error) = output.write_all(&line).and_then(|()| output.flush()) {
            tracing::debug!(%error, "nobody reads the events");
        }
    }

    fn call(&self, id: u64, update: Update) {
        self.send(&Event::Call { id, update });
    }
}

/// Serves one model until stdin ends. `parent` is the server's process, and its end ends the worker at once; without one,
/// a worker driven by hand finishes what it was asked.
///
/// Returns whether the model could be loaded.
pub fn run(parent: Option<u32>, output: Box<dyn process::ProtocolOutput>) -> bool {
    if parent.is_some_and(|parent| !process::die_with_parent(parent)) {
        return true;
    }
    process::name_worker();
    if parent.is_some()
        && let Err(error) = process::leave_signals_to_parent()
    {
        tracing::warn!(%error, "signals are not left to the server");
    }
    let events = Events(Arc::new(Mutex::new(output)));
    events.send(&Event::Hello {
        version: WIRE_VERSION,
    });
    Model::capture_logs();
    let mut commands = Commands::of_stdin();
    let Some(load) = commands.wait_for_load() else {
        return true;
    };
    let turns = turns_of(&load);
    // Every thread that is started from here on is restricted likewise.
    sandbox::enter(&load);
    let (inputs_tx, inputs) = channel();
    let reader_tx = inputs_tx.clone();
    let ends_at_once = parent.is_some();
    thread::spawn(move || {
        read_commands(commands, &reader_tx);
        if ends_at_once {
            // The server is gone: nobody wants the rest, and a load or a decode cannot be interrupted otherwise.
            #[expect(
                clippy::exit,
                reason = "the main thread may be inside llama.cpp for minutes"
            )]
            std::process::exit(0);
        }
    });
    let mut worker = Worker {
        events,
        inputs,
        inputs_tx,
        ended: false,
    };
    worker.serve(&load, turns.as_ref())
}

fn read_commands(commands: Commands, inputs: &Sender<Input>) {
    for command in commands {
        if inputs
            .send(Input::Command(command, Instant::now()))
            .is_err()
        {
            return;
        }
    }
    // The receiver is gone only when the process ends anyway.
    drop(inputs.send(Input::End));
}

struct Worker {
    events: Events,
    inputs: Receiver<Input>,
    inputs_tx: Sender<Input>,
    /// Stdin has ended; what was read is finished.
    ended: bool,
}

impl Worker {
    fn serve(&mut self, load: &LoadSettings, turns: Option<&Turns>) -> bool {
        let started = Instant::now();
        self.start_loading(load);
        let mut queue = Queue::new(load.max_queue);
        let model = match self.wait_for_model(&mut queue, load.parallel) {
            Some(Ok(model)) => model,
            Some(Err(error)) => {
                self.events.send(&Event::LoadFailed(error));
                return false;
            }
            None => return true,
        };
        match self.serve_model(&model, load, turns, queue, started) {
            Ok(()) => true,
            Err(error) => {
                self.events.send(&Event::LoadFailed(error));
                false
            }
        }
    }

    /// On a thread of its own, so that calls can be queued and cancelled meanwhile, and the end of stdin ends the load.
    fn start_loading(&self, load: &LoadSettings) {
        let load = load.clone();
        let (events, inputs) = (self.events.clone(), self.inputs_tx.clone());
        thread::spawn(move || {
            let model = caught(
                EngineErrorKind::Load,
                "the model could not be loaded",
                || {
                    Model::load(&load, move |percent| {
                        events.send(&Event::Loading(percent));
                    })
                },
            );
            drop(inputs.send(Input::Loaded(Box::new(model))));
        });
    }

    /// None when the worker is to end before the model is there.
    fn wait_for_model(
        &mut self,
        queue: &mut Queue,
        parallel: usize,
    ) -> Option<Result<Model, EngineError>> {
        loop {
            match self.inputs.recv().ok()? {
                Input::Loaded(model) => return Some(*model),
                Input::Command(
                    Command::Generate {
                        id,
                        client,
                        request,
                    },
                    received,
                ) => {
                    let call = Waiting::new(id, client, request, received);
                    if let Err(busy) = queue.push(call, parallel) {
                        self.events.call(id, Update::Failed(busy));
                    }
                }
                Input::Command(Command::Cancel { id, reason }, now) => {
                    if let Some(call) = queue.remove(id) {
                        let generation = call.cancelled(reason, Phase::Load, now, now);
                        self.events.call(id, Update::Done(generation));
                    }
                }
                Input::Command(Command::Shutdown, _) => return None,
                Input::End => self.ended = true,
                other => tracing::error!(
                    command = other.name(),
                    "unexpected while the model is loaded"
                ),
            }
        }
    }

    fn serve_model(
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
        let (prompts_tx, conversations) = channel();
        let (prepared, events) = (self.inputs_tx.clone(), self.events.clone());
        let vocabulary = model.vocabulary();
        thread::scope(|scope| {
            let builder = thread::Builder::new()
                .name("prompts".into())
                .stack_size(stack);
            builder
                .spawn_scoped(scope, || {
                    prompts::prepare_prompts(
                        vocabulary,
                        template.as_deref(),
                        limits.n_ctx,
                        conversations,
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
            self.run(
                Scheduler::new(decoder, limits, queue, Instant::now()),
                &prompts_tx,
                turns,
            );
            drop(prompts_tx);
            Ok(())
        })
    }

    /// The loop of a loaded model: take what came, decode, tell. Blocks only when there is nothing to decode.
    fn run(
        &mut self,
        mut scheduler: Scheduler<impl Decoder>,
        prompts: &Sender<(u64, Conversation)>,
        turns: Option<&Turns>,
    ) {
        let mut preparing_since = None;
        loop {
            self.tell(&mut scheduler);
            if self.ended && scheduler.is_empty() {
                return;
            }
            if preparing_since.is_none()
                && let Some(prompt) = scheduler.next_to_prepare()
            {
                drop(prompts.send(prompt));
                preparing_since = Some(Instant::now());
            }
            let mut next = self.next_input(scheduler.is_idle(), preparing_since);
            while let Some(input) = next {
                match input {
                    Input::Command(
                        Command::Generate {
                            id,
                            client,
                            request,
                        },
                        received,
                    ) => {
                        scheduler.submit(Waiting::new(id, client, request, received));
                    }
                    Input::Prepared(id, prompt) => {
                        preparing_since = None;
                        scheduler.prepared(id, prompt);
                    }
                    Input::Command(Command::Cancel { id, reason }, now) => {
                        scheduler.cancel(id, reason, now);
                    }
                    Input::Command(Command::Stats, _) => {
                        self.events.send(&Event::Stats(scheduler.stats()));
                    }
                    Input::Command(Command::Shutdown, _) => return,
                    Input::End => self.ended = true,
                    other => {
                        tracing::error!(command = other.name(), "unexpected, a model is loaded");
                    }
                }
                next = self.inputs.try_recv().ok();
            }
            scheduler.admit(Instant::now());
            // Should the step end the process, the server must not send the same calls again.
            self.tell(&mut scheduler);
            let turn = match turns {
                Some(turns) if !scheduler.is_idle() => turns.take().ok(),
                _ => None,
            };
            scheduler.turn(Instant::now());
            drop(turn);
        }
    }

    fn tell(&self, scheduler: &mut Scheduler<impl Decoder>) {
        for (id, update) in scheduler.take_updates() {
            self.events.call(id, update);
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

/// The turns at the CPUs; none where a GPU computes, or where they cannot be had: slower, but no reason to fail.
fn turns_of(load: &LoadSettings) -> Option<Turns> {
    let turns = load.cpu_turns.as_ref()?;
    Turns::open(turns)
        .inspect_err(|error| tracing::warn!(%error, "no turns at the CPUs: models at work hold each other up"))
        .ok()
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
        "context planned"
    );
}

/// A file or a template is untrusted input: should it make the code over it panic, that is an error of `kind` like others.
fn caught<T>(
    kind: EngineErrorKind,
    what: &str,
    work: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_panic| {
        Err(EngineError::new(kind, what).hint("the server's log holds the details"))
    })
}

impl Input {
    fn name(&self) -> &'static str {
        match self {
            Self::Command(command, _) => command.name(),
            Self::Loaded(_) => "loaded",
            Self::Prepared(..) => "prepared",
            Self::End => "end of input",
        }
    }
}
