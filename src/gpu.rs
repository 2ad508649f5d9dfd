//! GPU support of this build.

/// Name of llama.cpp's GPU backend in this build. `None` if the build computes only on the CPU.
pub(crate) const BACKEND: Option<&str> = if cfg!(feature = "cuda") {
    Some("CUDA")
} else if cfg!(feature = "vulkan") {
    Some("Vulkan")
} else if cfg!(any(
    feature = "metal",
    // llama-cpp-2 always includes Metal on these targets.
    all(target_os = "macos", target_arch = "aarch64")
)) {
    Some("Metal")
} else {
    None
};

/// Whether GPUs of this build may have memory of their own. Apple's GPUs use the machine's memory.
pub(crate) const MAY_HAVE_MEMORY: bool = cfg!(any(feature = "cuda", feature = "vulkan"));

/// Whether this build can use a GPU.
pub(crate) const IN_BUILD: bool = BACKEND.is_some();
