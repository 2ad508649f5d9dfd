//! A device that llama.cpp can compute on.

use serde::{Deserialize, Serialize};

/// A device of this machine that the llama.cpp backends of this build can use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    /// Name of the device in llama.cpp: `CPU`, `CUDA0`, `Vulkan1`.
    pub name: String,
    /// Product name of the device.
    pub description: String,
    /// Whether the device is a GPU.
    pub is_gpu: bool,
    /// Whether the device has its own memory, separate from the machine's.
    pub has_memory: bool,
    /// Size of the device's memory, in bytes.
    pub memory_total: u64,
    /// Free part of the device's memory, in bytes.
    pub memory_free: u64,
}
