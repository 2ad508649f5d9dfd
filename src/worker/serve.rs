//! The worker process: reads commands from stdin, runs the engine, and writes events to stdout.
//!
//! The main thread reads the first command itself, and enters the sandbox (`sandbox::enter`) before it starts other threads.
//!
//! | thread | does |
//! | --- | --- |
//! | main | owns queue, scheduler, model and context |
//! | `commands` | reads stdin |
//! | `loader` | loads the model, and ends |
//! | `short prompts`, `long prompts` | render and tokenise prompts, so that a long text delays neither a stream nor a short text |
//! | `signals`, `turns` | wait for SIGTERM, and for a CPU turn |
//!
//! Reader, loader and preparers send to the main thread through one channel of [`Input`]s. The channel is unbounded: in a bounded one a
//! cancel would wait behind long prompts. The queue behind it rejects excess calls.

mod commands;
mod lanes;
mod loaded;
mod loading;
mod prompts;
mod thread_count;
mod thread_tuner;
mod warming;

use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use commands::Commands;
use lanes::Lane;
use prompts::Prepared;
use thread_tuner::{LoadObservation, ThreadTuner};
use warming::Warming;

use super::cpu_lock::Turns;
use super::{COMMANDS, Command, CpuLocks, Event, Launch, SIGNALS, WIRE_VERSION, bounded, sandbox};
use crate::engine::llama::{Model, cpu_backend};
use crate::engine::queue::{Queue, QueuedCall};
use crate::engine::{CallId, CancelReason, EngineError, EngineErrorKind, Request, Stats, Update};
use crate::process;
use crate::threads::{self, SystemLimit};

/// Input of the main thread.
enum Input {
    Command(Command, Instant),
    Loaded(Box<Result<Model, EngineError>>, Option<LoadObservation>),
    /// A job of the lane has ended.
    Prepared(Lane, Prepared),
    /// Stdin has ended.
    End,
}

/// Writes events to the server, from any thread and in whole lines. The events of a step are one write, which wakes the server once.
#[derive(Clone)]
struct EventSink(Arc<Mutex<Box<dyn process::ProtocolOutput>>>);

impl EventSink {
    fn send(&self, event: &Event) {
        self.write(&to_line(event));
    }

    fn send_update(&self, id: CallId, update: Update) {
        self.send_updates([(id, update)]);
    }

    fn send_updates(&self, updates: impl IntoIterator<Item = (CallId, Update)>) {
        let events = updates.into_iter().map(|(id, update)| Event::Call {
            id,
            update: bounded(update),
        });
        let lines: Vec<u8> = events.flat_map(|event| to_line(&event)).collect();
        if !lines.is_empty() {
            self.write(&lines);
        }
    }

    fn write(&self, lines: &[u8]) {
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A server that no longer reads has ended, and the end of stdin follows.
        if let Err(error) = output.write_all(lines).and_then(|()| output.flush()) {
            tracing::debug!(%error, "could not write events: the server has ended");
        }
    }
}

fn to_line(event: &Event) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).expect("an event has only string keys");
    line.push(b'\n');
    line
}

/// Serves one model until stdin ends. Returns whether the model could be loaded.
///
/// `parent` is the process id of the server; when the server ends, the worker ends at once. A worker without a parent, which a person or a
/// test started, finishes its calls first.
pub(crate) fn run(parent: Option<u32>, output: Box<dyn process::ProtocolOutput>) -> bool {
    if parent.is_some_and(|parent| !process::die_with_parent(parent)) {
        return true;
    }
    process::name_worker();
    let signals = parent.map(|_| crate::signals::worker::leave_to_server());
    let events = EventSink(Arc::new(Mutex::new(output)));
    log_panics();
    events.send(&Event::Hello {
        version: WIRE_VERSION,
    });
    Model::capture_logs();
    let mut commands = Commands::from_stdin();
    let Some(launch) = commands.wait_for_load() else {
        return true;
    };
    let turns = launch.grant.cpu_locks.as_ref().and_then(open_turns);
    // The CPU backend is loaded here, since the sandbox denies access to its files. If none supports this CPU, the load reports the error.
    if let Ok(backend) = cpu_backend() {
        tracing::debug!("llama.cpp's code for the CPU: {backend}");
    }
    // Threads that start from now on inherit the sandbox.
    if let Err(error) = sandbox::enter(&launch) {
        events.send(&Event::LoadFailed(error));
        return false;
    }
    if let Some(signals) = signals
        && let Err(limit) = report_termination(signals, events.clone())
    {
        events.send(&Event::LoadFailed(limit.into()));
        return false;
    }
    let (inputs_tx, inputs) = channel();
    let reader_tx = inputs_tx.clone();
    let ends_at_once = parent.is_some();
    let started = threads::start(COMMANDS, move || {
        read_commands(commands, &reader_tx);
        if ends_at_once {
            // The server has ended, and a load or a decode cannot be interrupted in another way.
            #[expect(
                clippy::exit,
                reason = "the main thread may be inside llama.cpp for minutes"
            )]
            std::process::exit(0);
        }
    });
    if let Err(limit) = started {
        events.send(&Event::LoadFailed(limit.into()));
        return false;
    }
    let mut worker = Worker {
        events,
        inputs,
        inputs_tx,
        warming: Warming::default(),
        observation: None,
        tuner: None,
        is_ready: false,
        stdin_ended: false,
    };
    worker.serve(&launch, turns.as_ref())
}

/// Starts a thread that reports every SIGTERM to the server.
///
/// # Errors
/// The system cannot start the thread.
fn report_termination(
    signals: io::Result<crate::signals::worker::Termination>,
    events: EventSink,
) -> Result<(), SystemLimit> {
    match signals {
        Ok(mut termination) => threads::start(SIGNALS, move || {
            while termination.wait() {
                events.send(&Event::Terminated);
            }
        })
        .map(drop),
        Err(error) => {
            tracing::warn!(%error, "could not set up the handling of SIGTERM");
            Ok(())
        }
    }
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
    // The receiver is only dropped when the process ends.
    drop(inputs.send(Input::End));
}

/// Handles calls: the queue while the model loads, then the scheduler.
trait CallSink {
    fn submit(&mut self, call: QueuedCall);
    fn cancel(&mut self, id: CallId, reason: CancelReason, now: Instant);
    /// Returns the statistics, or `None` before the model is loaded.
    fn stats(&self) -> Option<Stats>;
}

/// An input that [`Worker::handle`] leaves to its caller's loop.
enum LoopEvent {
    Loaded(Box<Result<Model, EngineError>>, Option<LoadObservation>),
    Prepared(Lane, Prepared),
    Shutdown,
}

struct Worker {
    events: EventSink,
    inputs: Receiver<Input>,
    inputs_tx: Sender<Input>,
    warming: Warming,
    /// Use of the CPUs while the model was loaded, until its threads are chosen; `None` if the number of threads is fixed.
    observation: Option<LoadObservation>,
    /// Adjusts the threads of the loaded model; `None` if their number is fixed.
    tuner: Option<ThreadTuner>,
    /// Whether the model is loaded.
    is_ready: bool,
    /// Whether stdin has ended. The calls that were read before are finished.
    stdin_ended: bool,
}

impl Worker {
    fn serve(&mut self, launch: &Launch, turns: Option<&Turns>) -> bool {
        let load = launch.planned_settings();
        let started = Instant::now();
        if let Err(limit) = self.start_loading(&load) {
            self.events.send(&Event::LoadFailed(limit.into()));
            return false;
        }
        let mut queue = Queue::new(load.max_queue);
        let model = match self.wait_for_model(&mut queue, load.parallel) {
            Some(Ok(model)) => model,
            Some(Err(error)) => {
                self.events.send(&Event::LoadFailed(error));
                return false;
            }
            None => return true,
        };
        let served = catch_panic(EngineErrorKind::Load, "could not serve the model", || {
            self.serve_model(&model, load, &launch.grant, turns, queue, started)
        });
        match served {
            Ok(()) => true,
            Err(error) if self.is_ready => {
                self.events.send(&Event::Failed(error));
                false
            }
            Err(error) => {
                self.events.send(&Event::LoadFailed(error));
                false
            }
        }
    }

    /// Handles an input, passing calls on to `calls`. Returns the input if it is for the caller's loop.
    fn handle(&mut self, input: Input, calls: &mut impl CallSink) -> Option<LoopEvent> {
        let (command, received) = match input {
            Input::Command(command, received) => (command, received),
            Input::Loaded(model, observation) => {
                return Some(LoopEvent::Loaded(model, observation));
            }
            Input::Prepared(lane, prepared) => return Some(LoopEvent::Prepared(lane, prepared)),
            Input::End => {
                self.stdin_ended = true;
                return None;
            }
        };
        match command {
            Command::Call {
                id,
                client,
                request,
            } => {
                let Request::Generate(request) = request;
                let request = Arc::unwrap_or_clone(request);
                calls.submit(QueuedCall::new(id, client, request, received));
            }
            Command::Cancel { id, reason } => calls.cancel(id, reason, received),
            Command::Warm(prompts) => self.warming.replace(prompts),
            Command::Stats => {
                if let Some(stats) = calls.stats() {
                    self.events.send(&Event::Stats(stats));
                } else {
                    tracing::error!("statistics are unavailable until the model is loaded");
                }
            }
            Command::Load(_) => {
                tracing::error!("a second `load` was ignored: a worker loads one model");
            }
            Command::Shutdown => return Some(LoopEvent::Shutdown),
        }
        None
    }
}

/// Opens the CPU locks. Returns `None` if they cannot be opened: models then slow each other down, which is no reason to fail.
fn open_turns(locks: &CpuLocks) -> Option<Turns> {
    Turns::open(locks)
        .inspect_err(|error| match error.kind() {
            // The server is ending.
            io::ErrorKind::NotFound => tracing::debug!(%error, "the CPU turns no longer exist"),
            _ => {
                tracing::warn!(%error, "could not open the CPU turns: busy models will slow each other down");
            }
        })
        .ok()
}

/// Logs panics as one line, without paths of the machine that built the program.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(|location| {
            let file = Path::new(location.file()).file_name().unwrap_or_default();
            format!("{}:{}", file.display(), location.line())
        });
        tracing::error!("internal error: {message} ({})", place.unwrap_or_default());
    }));
}

/// Runs `work`, and turns a panic into an error of `kind` with the text `what`: a model file or a template is untrusted input, which may
/// make the code that reads it panic.
fn catch_panic<T>(
    kind: EngineErrorKind,
    what: &str,
    work: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_panic| Err(EngineError::new(kind, what).hint("see the server's log")))
}
