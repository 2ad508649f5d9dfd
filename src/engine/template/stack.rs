//! The thread on which a template is rendered, and its limits of stack, time and memory.
//!
//! Values can be nested as deep as fuel allows, and each level takes stack when it is dropped, printed, compared or sorted. Some
//! operators, such as `list + list`, cost no fuel: limits of time and memory bound them.
//!
//! [`on_deep_stack`] waits for its thread. Only threads that may block call it: those of a worker and of [`crate::worker::trials`]. The
//! server renders no chat template.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{EngineError, EngineErrorKind};
use crate::heap::Heap;
use crate::threads::SystemLimit;

/// The stack for one level of a nested value, which costs one fuel at least. Measured: 63 bytes to drop it, 383 to compare or sort it, 447
/// to print it.
const LEVEL_STACK: usize = 1024;

/// The largest stack, and so the most memory that a rendering can take there. Longer conversations have more fuel, and no use for deeper
/// values: one that exhausts the stack ends the process.
const MAX_STACK: usize = 256 * 1024 * 1024;

/// The smallest stack on which a template is rendered.
const MIN_STACK: usize = 4 * 1024 * 1024;

/// How long the rendering of a short conversation may take. The thread may have a low priority on a busy machine.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The time that each fuel adds: 16 µs for each byte of a conversation. The slowest template takes half a microsecond.
const TIME_PER_FUEL: Duration = Duration::from_micros(1);

/// Bytes of memory that the rendering of a short conversation may take, four times what the largest template takes.
const MEMORY_LIMIT: usize = 128 << 20;

/// Bytes of memory that each fuel adds, 64 for each byte of a conversation.
const MEMORY_PER_FUEL: usize = 4;

/// Time between two checks of a rendering.
const PERIOD: Duration = Duration::from_millis(20);

/// Limits of one rendering.
#[derive(Clone, Copy)]
struct Limits {
    time: Duration,
    /// Bytes.
    memory: usize,
}

/// Bytes that the renderings in progress may take together.
static ALLOWED: AtomicUsize = AtomicUsize::new(0);

/// Whether this process ends if a rendering takes too much.
static IS_EXPENDABLE: AtomicBool = AtomicBool::new(false);

/// Lets this process end if a rendering takes too much time or memory: its thread cannot be stopped. For a model's process.
pub(crate) fn limit_renderings() {
    IS_EXPENDABLE.store(true, Ordering::Relaxed);
}

/// The heap of all renderings.
static HEAP: LazyLock<Heap> = LazyLock::new(Heap::create);

/// Runs `render`, which may take as much work as `fuel`, on a stack large enough for the deepest value that `fuel` allows. Only address
/// space is reserved. If the system refuses so much, the stack is smaller.
///
/// Ends this process after [`limit_renderings`], if `render` takes too much time or memory.
pub(super) fn on_deep_stack<T: Send>(
    fuel: u64,
    render: impl Fn() -> Result<T, EngineError> + Sync,
) -> Result<T, EngineError> {
    let fuel = u32::try_from(fuel).unwrap_or(u32::MAX);
    let limits = Limits::of(fuel);
    let mut stack = MAX_STACK.min(LEVEL_STACK.saturating_mul(fuel as usize));
    ALLOWED.fetch_add(limits.memory, Ordering::Relaxed);
    let rendered = loop {
        match watched(stack, limits, &render) {
            Err(_) if stack > MIN_STACK => stack /= 2,
            rendered => break rendered,
        }
    };
    ALLOWED.fetch_sub(limits.memory, Ordering::Relaxed);
    rendered?.unwrap_or_else(|| {
        Err(EngineError::new(
            EngineErrorKind::Template,
            "the model's chat template could not be rendered: its renderer panicked",
        )
        .hint("the server's log holds the details"))
    })
}

/// Runs `render` on a thread with `stack` bytes of stack, and checks `limits` meanwhile. Returns `None` if it panics.
///
/// # Errors
/// The system starts no such thread.
fn watched<T: Send>(
    stack: usize,
    limits: Limits,
    render: &(impl Fn() -> T + Sync),
) -> Result<Option<T>, SystemLimit> {
    thread::scope(|scope| {
        let (sender, rendered) = channel();
        let work = move || {
            HEAP.enter();
            // The other end waits for it.
            drop(sender.send(render()));
        };
        let thread = thread::Builder::new().stack_size(stack);
        let thread = thread.spawn_scoped(scope, work);
        let thread = thread.map_err(SystemLimit::from_thread_error)?;
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

/// Ends this process, if it may end, when the rendering that began at `started` takes too long, or all renderings take too much memory.
fn end_if_excessive(started: Instant, limits: Limits) {
    if !IS_EXPENDABLE.load(Ordering::Relaxed) {
        return;
    }
    let allowed = ALLOWED.load(Ordering::Relaxed);
    let taken = HEAP.bytes().unwrap_or(0);
    if let Some(exceeded) = limits.exceeded(started.elapsed(), taken, allowed) {
        tracing::error!(
            "the model's chat template takes more than {exceeded} to render; configure another `chat_template`"
        );
        #[expect(clippy::exit, reason = "the renderer's thread cannot be stopped")]
        std::process::exit(1)
    }
}

impl Limits {
    /// Returns the limits of a rendering that may take as much work as `fuel`.
    fn of(fuel: u32) -> Self {
        Self {
            time: TIME_LIMIT + TIME_PER_FUEL * fuel,
            memory: MEMORY_LIMIT.saturating_add(MEMORY_PER_FUEL.saturating_mul(fuel as usize)),
        }
    }

    /// Returns the limit that a rendering exceeds after `elapsed`, if all renderings take `taken` of `allowed` bytes.
    fn exceeded(self, elapsed: Duration, taken: usize, allowed: usize) -> Option<String> {
        if elapsed > self.time {
            Some(format!("{} s", self.time.as_secs()))
        } else if taken > allowed {
            Some(format!("{} MiB of memory", allowed >> 20))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendering_may_take_more_for_a_longer_conversation() {
        let short = Limits::of(2_000_000);
        let seconds = Duration::from_secs;
        assert_eq!(short.exceeded(seconds(12), 0, short.memory), None);
        assert_eq!(
            short.exceeded(seconds(13), 0, short.memory).as_deref(),
            Some("12 s")
        );
        let long = Limits::of(66_000_000);
        assert_eq!(long.exceeded(seconds(76), 300 << 20, long.memory), None);
    }

    #[test]
    fn renderings_together_may_take_what_each_of_them_may_take() {
        let limits = Limits::of(2_000_000);
        let both = 2 * limits.memory;
        assert_eq!(limits.exceeded(Duration::ZERO, both, both), None);
        assert_eq!(
            limits.exceeded(Duration::ZERO, both + 1, both).as_deref(),
            Some("271 MiB of memory")
        );
    }
}
