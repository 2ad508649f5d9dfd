//! What llama.cpp finds to compute on.

use serde::{Deserialize, Serialize};

use llama_cpp_2::{LlamaBackendDeviceType, list_llama_ggml_backend_devices};

use crate::gpu;

/// A device of this machine that llama.cpp can use, with the backends that are in this build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
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

/// All of them. The code for the CPU must be there ([`super::cpu_backend`]). A GPU's driver may take seconds, or end this process.
pub fn devices() -> Vec<Device> {
    let devices = list_llama_ggml_backend_devices().into_iter();
    devices
        .map(|device| Device {
            is_gpu: matches!(
                device.device_type,
                LlamaBackendDeviceType::Gpu | LlamaBackendDeviceType::IntegratedGpu
            ),
            has_memory: gpu::MAY_HAVE_MEMORY && device.device_type == LlamaBackendDeviceType::Gpu,
            name: device.name,
            description: device.description,
            memory_total: device.memory_total as u64,
            memory_free: device.memory_free as u64,
        })
        .collect()
}
