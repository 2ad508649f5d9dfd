//! GPU support of this build.

/// Name of the GPU backend of llama.cpp in this build; `None` if it computes on the CPU only.
pub(crate) const BACKEND: Option<&str> = if cfg!(feature = "cuda") {
    Some("CUDA")
} else if cfg!(feature = "vulkan") {
    Some("Vulkan")
} else if cfg!(any(
    feature = "metal",
    // llama-cpp-2 always includes Metal there.
    all(target_os = "macos", target_arch = "aarch64")
)) {
    Some("Metal")
} else {
    None
};

/// Whether GPUs of this build may have memory of their own. Apple's GPUs share the machine's.
pub(crate) const MAY_HAVE_MEMORY: bool = cfg!(any(feature = "cuda", feature = "vulkan"));

/// Whether this build can use a GPU.
pub(crate) const IN_BUILD: bool = BACKEND.is_some();
