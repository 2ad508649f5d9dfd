//! What values a setting may have, the same for flags and for arguments of a call.

use std::fmt::{self, Display};

/// From `min` to `max`, both included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range<T> {
    /// The least value.
    pub min: T,
    /// The greatest value.
    pub max: T,
}

impl<T: Copy + PartialOrd> Range<T> {
    /// Whether `value` may be used; what is not a number may not.
    pub fn contains(&self, value: T) -> bool {
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

/// Characters of a string; the grammar's automaton grows with them.
pub(crate) const JSON_MAX_STRING: Range<i64> = range(1, 1_000_000);
/// Items of an array, and properties of a map.
pub(crate) const JSON_MAX_ITEMS: Range<i64> = range(1, 100_000);
/// The context cuts it further.
pub(crate) const MAX_TOKENS: Range<i64> = range(1, 1_000_000_000);
/// Tokens of reasoning; 0 allows none.
pub(crate) const THINKING_BUDGET: Range<i64> = range(0, 1_000_000_000);
/// Characters of a marker of reasoning.
pub(crate) const THINKING_TAG: Range<usize> = range(1, 100);
/// Seconds: from what a timer can tell to a week.
pub(crate) const DEADLINE: Range<f64> = range(0.001, 604_800.0);
/// Seconds: an hour is longer than any supervisor waits.
pub(crate) const DRAIN_TIME: Range<f64> = range(0.0, 3600.0);
/// Seconds: less would cut clients on slow networks, more holds a place for who is gone.
pub(crate) const HTTP_TIME: Range<f64> = range(1.0, 3600.0);
/// Range of `stall_timeout`, in seconds: pauses under a second are common on a busy machine, and the maximum is a year.
pub(crate) const STALL_TIMEOUT: Range<f64> = range(1.0, 31_536_000.0);
/// More descriptors than systems give.
pub(crate) const MAX_CONNECTIONS: Range<usize> = range(1, 1_000_000);
/// Beyond any queue.
pub(crate) const MAX_CALLS: Range<usize> = range(1, 1_000_000);
/// No call may begin at 0, and more than the greatest is no limit.
pub(crate) const CALLS_PER_MINUTE: Range<u32> = range(1, 1_000_000);
/// More layers than any model has.
pub(crate) const N_GPU_LAYERS: Range<i64> = range(0, 1_000_000);
/// Tokens; 0 is what the model was trained for.
pub(crate) const N_CTX: Range<i64> = range(0, 100_000_000);
/// Tokens; wider batches than this only take memory.
pub(crate) const N_BATCH: Range<i64> = range(1, 65_536);
/// Capped by the CPUs there are.
pub(crate) const N_THREADS: Range<i64> = range(0, 4096);
/// llama.cpp has 256 sequences; a batch needs room for prompts beside one token for each.
pub(crate) const PARALLEL: Range<i64> = range(1, 128);
/// Waiting calls hold their prompts in memory.
pub(crate) const MAX_QUEUE: Range<i64> = range(0, 100_000);

/// Beyond, the adapter is all that is left of the model.
pub(crate) const LORA_SCALE: Range<f64> = range(-10.0, 10.0);
/// More stop strings than any use has; each is searched for in every piece of text.
pub(crate) const MAX_STOPS: usize = 16;
/// The end of the text that may be held back for one.
pub(crate) const MAX_STOP_CHARS: usize = 1024;
/// Sessions are small; more than this is no use of one machine.
pub(crate) const MAX_SESSIONS: Range<i64> = range(1, 1_000_000);

/// A checked number in the width in which llama.cpp takes it.
#[cfg(feature = "llama")]
pub(crate) fn to_f32(value: f64) -> f32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "all ranges are far inside those of f32"
    )]
    let narrow = value as f32;
    narrow
}
