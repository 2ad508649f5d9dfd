//! A reading of the free memory, and which loaded models it already includes.

use tokio::time::Instant;

/// Free memory of the machine or container at one moment.
///
/// A reading of any age is safe. It may be too low if a process has exited since then. A load never makes it too high: the memory of a
/// model that finished loading after the reading is subtracted, like that of a model that is still loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FreeMemory {
    /// Bytes that could be allocated.
    pub bytes: u64,
    /// Time just before the reading.
    pub read_at: Instant,
}

impl FreeMemory {
    /// Returns whether the reading includes all memory of a model that was loaded at `loaded_at`.
    pub(super) fn shows(self, loaded_at: Instant) -> bool {
        loaded_at <= self.read_at
    }
}
