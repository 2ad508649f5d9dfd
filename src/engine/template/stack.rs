//! Renders a template on a thread of its own, with limits of stack, time and memory.
//!
//! Values may nest as deep as fuel allows, and each level takes stack when the value is dropped, printed, compared or sorted. Some
//! operators, such as `list + list`, cost no fuel, so time and memory have limits, too.
//!
//! [`on_deep_stack`] blocks until its thread ends. Only workers and the processes of [`crate::worker::trials`] call it: the server itself
//! renders no chat template.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{EngineError, EngineErrorKind};
use crate::heap::Heap;
use crate::threads::SystemLimit;

/// Stack for one level of a nested value, in bytes. A level costs at least one unit of fuel. Measured: 63 bytes to drop it, 383 to compare
/// or sort it, 447 to print it.
const LEVEL_STACK: usize = 1024;

/// Maximum stack, in bytes. Longer conversations have more fuel, but do not need deeper values. A value that overflows the stack ends the
/// process.
const MAX_STACK: usize = 256 * 1024 * 1024;

/// Minimum stack on which a template is rendered, in bytes.
const MIN_STACK: usize = 4 * 1024 * 1024;

/// Maximum time to render a short conversation. The thread may have a low priority on a busy machine.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Additional time for each unit of fuel, and so 16 µs for each byte of a conversation. The slowest known template takes half a
/// microsecond for each unit.
const TIME_PER_FUEL: Duration = Duration::from_micros(1);

/// Maximum memory to render a short conversation, in bytes: four times what the largest known template takes.
const MEMORY_LIMIT: usize = 128 << 20;

/// Additional bytes of memory for each unit of fuel, and so 64 for each byte of a conversation.
const MEMORY_PER_FUEL: usize = 4;

/// Time between two checks of the limits.
const PERIOD: Duration = Duration::from_millis(20);

/// Limits of one rendering.
#[derive(Clone, Copy)]
struct Limits {
    time: Duration,
    /// Maximum memory, in bytes.
    memory: usize,
}

/// Maximum memory of all renderings in progress together, in bytes.
static ALLOWED: AtomicUsize = AtomicUsize::new(0);

/// Whether this process ends if a rendering exceeds a limit.
static IS_EXPENDABLE: AtomicBool = AtomicBool::new(false);

/// Ends this process from now on if a rendering exceeds its time or memory, since its thread cannot be stopped. Call it only in a worker.
pub(crate) fn limit_renderings() {
    IS_EXPENDABLE.store(true, Ordering::Relaxed);
}

/// The heap of all renderings.
static HEAP: LazyLock<Heap> = LazyLock::new(Heap::create);

/// Runs `render` on a stack that is large enough for the deepest value that `fuel` allows. The stack only reserves address space. If the
/// system refuses to reserve that much, the stack is smaller.
///
/// After [`limit_renderings`], ends this process if `render` takes too much time or memory.
pub(super) fn on_deep_stack<T: Send>(
    fuel: u64,
    render: impl Fn() -> Result<T, EngineError> + Sync,
) -> Result<T, EngineError> {
    let fuel = u32::try_from(fuel).unwrap_or(u32::MAX);
    let limits = Limits::for_fuel(fuel);
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
        .hint("see the server's log"))
    })
}

/// Runs `render` on a thread with `stack` bytes of stack, and checks `limits` meanwhile. Returns `None` if `render` panics.
///
/// # Errors
/// Fails if the system cannot start such a thread.
fn watched<T: Send>(
    stack: usize,
    limits: Limits,
    render: &(impl Fn() -> T + Sync),
) -> Result<Option<T>, SystemLimit> {
    thread::scope(|scope| {
        let (sender, rendered) = channel();
        let work = move || {
            HEAP.enter();
            // The receiver waits until this thread ends, so sending cannot fail.
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
        // The panic handler has logged a panic.
        drop(thread.join());
        Ok(result)
    })
}

/// Ends this process if the rendering that began at `started` takes too long, or all renderings together take too much memory. Does
/// nothing before [`limit_renderings`].
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
    /// Returns the limits of a rendering with `fuel`.
    fn for_fuel(fuel: u32) -> Self {
        Self {
            time: TIME_LIMIT + TIME_PER_FUEL * fuel,
            memory: MEMORY_LIMIT.saturating_add(MEMORY_PER_FUEL.saturating_mul(fuel as usize)),
        }
    }

    /// Returns the limit that is exceeded after `elapsed`, if all renderings together take `taken` of `allowed` bytes.
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
        let short = Limits::for_fuel(2_000_000);
        let seconds = Duration::from_secs;
        assert_eq!(short.exceeded(seconds(12), 0, short.memory), None);
        assert_eq!(
            short.exceeded(seconds(13), 0, short.memory).as_deref(),
            Some("12 s")
        );
        let long = Limits::for_fuel(66_000_000);
        assert_eq!(long.exceeded(seconds(76), 300 << 20, long.memory), None);
    }

    #[test]
    fn renderings_in_progress_share_the_sum_of_their_memory_limits() {
        let limits = Limits::for_fuel(2_000_000);
        let both = 2 * limits.memory;
        assert_eq!(limits.exceeded(Duration::ZERO, both, both), None);
        assert_eq!(
            limits.exceeded(Duration::ZERO, both + 1, both).as_deref(),
            Some("271 MiB of memory")
        );
    }
}
