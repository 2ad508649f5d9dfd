//! A device that llama.cpp can compute on.

use serde::{Deserialize, Serialize};

/// A device of this machine that llama.cpp can use, with the backends that are in this build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    /// As llama.cpp calls it: `CPU`, `CUDA0`, `Vulkan1`.
    pub name: String,
    /// As its maker does.
    pub description: String,
    /// Whether it is a GPU.
    pub is_gpu: bool,
    /// Whether the device has its own memory, separate from the machine's.
    pub has_memory: bool,
    /// Bytes of its memory.
    pub memory_total: u64,
    /// How many of them are free.
    pub memory_free: u64,
}
