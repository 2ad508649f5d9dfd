//! The thread on which a template is rendered, and its limits of stack, time and memory.
//!
//! Values can be nested as deep as fuel allows, and each level takes stack where they are dropped, printed, compared or sorted. Some
//! operators cost no fuel, such as `list + list`: what they take is bounded by time and memory.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{EngineError, EngineErrorKind};
use crate::heap::Heap;

/// The stack for one level of a nested value, which costs one fuel at least. Measured: 63 bytes to drop it, 383 to compare or sort it, 447
/// to print it.
const LEVEL_STACK: usize = 1024;

/// The most levels for which there is stack: longer conversations have more fuel, and no use for such values.
const MAX_LEVELS: usize = 8_000_000;

/// The smallest stack on which a template is rendered.
const MIN_STACK: usize = 4 * 1024 * 1024;

/// How long the rendering of a short conversation may take. The thread may have a low priority on a busy machine.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The time that each fuel adds: 16 µs for each byte of a conversation. The slowest template takes half a microsecond.
const TIME_PER_FUEL: Duration = Duration::from_micros(1);

/// Bytes of memory that all renderings may take together for short conversations, four times what the largest template takes.
const MEMORY_LIMIT: usize = 128 << 20;

/// Bytes of memory that each fuel adds, 64 for each byte of a conversation.
const MEMORY_PER_FUEL: usize = 4;

/// How often a rendering is looked at.
const PERIOD: Duration = Duration::from_millis(20);

/// What a rendering may take.
#[derive(Clone, Copy)]
struct Limits {
    time: Duration,
    /// Bytes of all renderings together.
    memory: usize,
}

/// Whether this process ends if a rendering takes too much.
static IS_EXPENDABLE: AtomicBool = AtomicBool::new(false);

/// Lets this process end if a rendering takes too much time or memory: its thread cannot be stopped. For a model's process.
pub fn limit_renderings() {
    IS_EXPENDABLE.store(true, Ordering::Relaxed);
}

/// The heap of all renderings.
static HEAP: LazyLock<Heap> = LazyLock::new(Heap::new);

/// Does `render`, which may take as much work as `fuel`, on a stack that the deepest value cannot exhaust which a template can make of
/// it. Only address space is reserved. If the system refuses so much, the stack is smaller.
///
/// Ends this process after [`limit_renderings`], if `render` takes too much time or memory.
pub(super) fn on_deep_stack<T: Send>(
    fuel: u64,
    render: impl Fn() -> Result<T, EngineError> + Sync,
) -> Result<T, EngineError> {
    let fuel = u32::try_from(fuel).unwrap_or(u32::MAX);
    let limits = Limits {
        time: TIME_LIMIT + TIME_PER_FUEL * fuel,
        memory: MEMORY_LIMIT.saturating_add(MEMORY_PER_FUEL.saturating_mul(fuel as usize)),
    };
    let mut stack = LEVEL_STACK * MAX_LEVELS.min(fuel as usize);
    loop {
        match watched(stack, limits, &render) {
            Ok(Some(rendered)) => return rendered,
            Err(_) if stack > MIN_STACK => stack /= 2,
            failed => {
                let cause = match failed {
                    Ok(_) => "its renderer failed".into(),
                    Err(error) => format!("the system started no thread: {error}"),
                };
                return Err(EngineError::new(
                    EngineErrorKind::Template,
                    format!("the model's chat template could not be rendered: {cause}"),
                )
                .hint("the server's log holds the details"));
            }
        }
    }
}

/// Does `render` on a thread with `stack` bytes of stack. Returns `None` if it panics. Checks the `limits` meanwhile.
///
/// # Errors
/// The system starts no such thread.
fn watched<T: Send>(
    stack: usize,
    limits: Limits,
    render: &(impl Fn() -> T + Sync),
) -> std::io::Result<Option<T>> {
    thread::scope(|scope| {
        let (sender, rendered) = channel();
        let work = move || {
            HEAP.enter();
            // The other end waits for it.
            drop(sender.send(render()));
        };
        let thread = thread::Builder::new().stack_size(stack);
        let thread = thread.spawn_scoped(scope, work)?;
        let started = Instant::now();
        let result = loop {
            match rendered.recv_timeout(PERIOD) {
                Ok(rendered) => break Some(rendered),
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) => end_if_excessive(started, limits),
            }
        };
        // Its panic has been logged, and has no result.
        drop(thread.join());
        Ok(result)
    })
}

/// Ends this process, if it may end, when the rendering that began at `started` takes more than `limits`.
fn end_if_excessive(started: Instant, limits: Limits) {
    if !IS_EXPENDABLE.load(Ordering::Relaxed) {
        return;
    }
    let limit = if started.elapsed() > limits.time {
        format!("{} s", limits.time.as_secs())
    } else if HEAP.bytes().is_some_and(|bytes| bytes > limits.memory) {
        format!("{} MiB of memory", limits.memory >> 20)
    } else {
        return;
    };
    tracing::error!(
        "the model's chat template takes more than {limit} to render; configure another `chat_template`"
    );
    std::process::exit(1)
}
