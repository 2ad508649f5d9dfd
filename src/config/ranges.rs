//! Allowed ranges of settings. They are the same for the configuration and for arguments of a call.

use std::fmt::{self, Display};

/// Range from `min` to `max`, both included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Range<T> {
    /// Smallest allowed value.
    pub min: T,
    /// Largest allowed value.
    pub max: T,
}

impl<T: Copy + PartialOrd> Range<T> {
    /// Returns whether `value` is in the range. NaN is in no range.
    pub(crate) fn contains(&self, value: T) -> bool {
        self.min <= value && value <= self.max
    }
}

impl<T: Display> Display for Range<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} to {}", self.min, self.max)
    }
}

const fn range<T: Copy>(min: T, max: T) -> Range<T> {
    Range { min, max }
}

/// Range of the maximum length of a string in an answer, in characters. The automaton of the grammar grows with it.
pub(crate) const JSON_MAX_STRING: Range<i64> = range(1, 1_000_000);
/// Range of the maximum number of items of an array, or of properties of a map, in an answer.
pub(crate) const JSON_MAX_ITEMS: Range<i64> = range(1, 100_000);
/// Range of `max_tokens`. The context limits it further.
pub(crate) const MAX_TOKENS: Range<i64> = range(1, 1_000_000_000);
/// Range of `thinking_budget`, in tokens. 0 allows no reasoning.
pub(crate) const THINKING_BUDGET: Range<i64> = range(0, 1_000_000_000);
/// Range of the length of a thinking tag, in characters.
pub(crate) const THINKING_TAG: Range<usize> = range(1, 100);
/// Range of `deadline`, in seconds: from the resolution of timers to a week.
pub(crate) const DEADLINE: Range<f64> = range(0.001, 604_800.0);
/// Range of `drain_time`, in seconds. An hour is longer than any supervisor waits.
pub(crate) const DRAIN_TIME: Range<f64> = range(0.0, 3600.0);
/// Range of the timeouts of HTTP, in seconds. Less would disconnect clients on slow networks; more would keep dead connections.
pub(crate) const HTTP_TIME: Range<f64> = range(1.0, 3600.0);
/// Range of `stall_timeout`, in seconds: pauses under a second are common on a busy machine, and the maximum is a year.
pub(crate) const STALL_TIMEOUT: Range<f64> = range(1.0, 31_536_000.0);
/// Range of `max_connections`. The maximum exceeds the file descriptors that systems allow.
pub(crate) const MAX_CONNECTIONS: Range<usize> = range(1, 1_000_000);
/// Range of `max_calls`. The maximum exceeds every queue.
pub(crate) const MAX_CALLS: Range<usize> = range(1, 1_000_000);
/// Range of `calls_per_minute`. 0 would allow no call.
pub(crate) const CALLS_PER_MINUTE: Range<u32> = range(1, 1_000_000);
/// Range of `n_gpu_layers`. The maximum exceeds the layers of every model.
pub(crate) const N_GPU_LAYERS: Range<i64> = range(0, 1_000_000);
/// Range of `n_ctx`, in tokens. 0 is the context that the model was trained for.
pub(crate) const N_CTX: Range<i64> = range(0, 100_000_000);
/// Range of `n_batch`, in tokens. Larger batches only take memory.
pub(crate) const N_BATCH: Range<i64> = range(1, 65_536);
/// Range of `n_threads`. The number of CPUs limits it further.
pub(crate) const N_THREADS: Range<i64> = range(0, 4096);
/// Range of `spin_count`, in iterations. The maximum is seconds on every machine.
pub(crate) const SPIN_COUNT: Range<i64> = range(0, 1_000_000_000);
/// Range of `parallel`. llama.cpp supports 256 sequences, and a batch must hold prompts in addition to one token of each sequence.
pub(crate) const PARALLEL: Range<i64> = range(1, 128);
/// Range of `max_queue`. Queued calls keep their prompts in memory.
pub(crate) const MAX_QUEUE: Range<i64> = range(0, 100_000);

/// Range of the scale of a `LoRA` adapter. A larger scale leaves nothing of the model.
pub(crate) const LORA_SCALE: Range<f64> = range(-10.0, 10.0);
/// Maximum number of stop strings. Each is searched for in every piece of text.
pub(crate) const MAX_STOPS: usize = 16;
/// Maximum length of a stop string, in characters. That much text may be held back.
pub(crate) const MAX_STOP_CHARS: usize = 1024;
/// Range of `max_sessions`. Sessions are small, so the maximum exceeds the needs of one machine.
pub(crate) const MAX_SESSIONS: Range<i64> = range(1, 1_000_000);

/// Converts a number that was checked against its range to `f32`, which llama.cpp uses.
#[cfg(feature = "llama")]
pub(crate) fn to_f32(value: f64) -> f32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "every range is within the range of f32, and the sampler needs no more precision"
    )]
    let narrow = value as f32;
    narrow
}
