//! GPU backend of this build: the only place that asks which one was compiled in.
//!
//! llama.cpp knows whether the machine has a GPU ([`crate::worker::machine`]). [`crate::check`] decides from both which models run on GPUs.

use std::fmt;

/// A GPU backend of llama.cpp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GpuBackend {
    Cuda,
    Vulkan,
    Metal,
}

/// GPU backend of this build; `None` if the build computes only on the CPU.
pub(crate) const BACKEND: Option<GpuBackend> = if cfg!(feature = "cuda") {
    Some(GpuBackend::Cuda)
} else if cfg!(feature = "vulkan") {
    Some(GpuBackend::Vulkan)
} else if cfg!(any(
    feature = "metal",
    // llama-cpp-2 always includes Metal on these targets.
    all(target_os = "macos", target_arch = "aarch64")
)) {
    Some(GpuBackend::Metal)
} else {
    None
};

/// Whether this build can use a GPU.
pub(crate) const IN_BUILD: bool = BACKEND.is_some();

impl GpuBackend {
    /// Returns whether GPUs of this backend may have memory of their own. Apple's GPUs use the machine's memory.
    pub(crate) const fn may_have_memory(self) -> bool {
        matches!(self, Self::Cuda | Self::Vulkan)
    }
}

impl fmt::Display for GpuBackend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cuda => "CUDA",
            Self::Vulkan => "Vulkan",
            Self::Metal => "Metal",
        })
    }
}
