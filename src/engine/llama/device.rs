//! Devices that llama.cpp finds.

use llama_cpp_2::{LlamaBackendDeviceType, list_llama_ggml_backend_devices};

use crate::engine::device::Device;
use crate::gpu::{self, GpuBackend};

/// Returns all devices. Requires the CPU backend ([`super::cpu_backend`]). A GPU driver may take seconds, or abort this process.
pub(crate) fn devices() -> Vec<Device> {
    let may_have_memory = gpu::BACKEND.is_some_and(GpuBackend::may_have_memory);
    let devices = list_llama_ggml_backend_devices().into_iter();
    devices
        .map(|device| Device {
            is_gpu: matches!(
                device.device_type,
                LlamaBackendDeviceType::Gpu | LlamaBackendDeviceType::IntegratedGpu
            ),
            has_memory: may_have_memory && device.device_type == LlamaBackendDeviceType::Gpu,
            name: device.name,
            description: device.description,
            memory_total: device.memory_total as u64,
            memory_free: device.memory_free as u64,
        })
        .collect()
}
