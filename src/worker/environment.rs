//! The environment of a model's process: only what llama.cpp, its libraries and drivers read. Pure.
//!
//! Foreign code in that process can read all of it, and say it in an answer. A shell's environment holds keys and tokens, of which
//! nobody knows the names.

use std::env;
use std::ffi::{OsStr, OsString};

use crate::gpu;

/// Names of variables that are passed on.
const NAMES: &[&str] = &[
    "DYLD_FALLBACK_LIBRARY_PATH",
    "DYLD_INSERT_LIBRARIES",
    "DYLD_LIBRARY_PATH",
    "GLIBC_TUNABLES",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LC_NUMERIC",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LLVM_PROFILE_FILE",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "TMPDIR",
    "TZ",
    "TZDIR",
];

/// Beginnings of names that are passed on: llama.cpp's computing library, OpenMP of GNU, Intel and LLVM, allocators.
const PREFIXES: &[&str] = &[
    "GGML_",
    "GOMP_",
    "_RJEM_MALLOC_CONF",
    "KMP_",
    "MALLOC_",
    "MIMALLOC_",
    "OMP_",
];

/// What Windows needs to find and load libraries.
const WINDOWS_NAMES: &[&str] = &[
    "NUMBER_OF_PROCESSORS",
    "PATH",
    "SYSTEMDRIVE",
    "SYSTEMROOT",
    "TEMP",
    "TMP",
    "WINDIR",
];

/// Where drivers of GPUs find their settings.
const GPU_NAMES: &[&str] = &[
    "HOME",
    "LIBGL_DRIVERS_PATH",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
    "XDG_DATA_DIRS",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
];

/// Beginnings of the names of drivers' variables: NVIDIA's, Vulkan's, AMD's, Mesa's, Intel's, Apple's.
const GPU_PREFIXES: &[&str] = &[
    "AMD_", "ANV_", "CUBLAS_", "CUDA_", "DRI_", "GPU_", "HIP_", "HSA_", "INTEL_", "METAL_",
    "MESA_", "MTL_", "NVIDIA_", "RADV_", "ROCR_", "VK_", "ZES_", "ZE_", "__GLX_", "__GL_", "__NV_",
];

/// What kinds of variables a build needs, beside those of every one.
#[derive(Debug, Clone, Copy)]
struct Needs {
    /// It has a backend for a GPU.
    has_gpu: bool,
    /// It runs on Windows, where names have no case.
    is_windows: bool,
}

/// What this build needs.
const NEEDS: Needs = Needs {
    has_gpu: gpu::IN_BUILD,
    is_windows: cfg!(windows),
};

/// Returns the variables of this process that a restricted process gets.
pub(crate) fn passed_on() -> impl Iterator<Item = (OsString, OsString)> {
    env::vars_os().filter(|(name, _)| is_passed_on(name, NEEDS))
}

/// Returns whether a restricted process gets the variable `name`.
fn is_passed_on(name: &OsStr, needs: Needs) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let upper = name.to_uppercase();
    let name = if needs.is_windows { &upper } else { name };
    let is_in = |names: &[&str]| names.contains(&name);
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    is_in(NAMES)
        || begins(PREFIXES)
        || needs.is_windows && is_in(WINDOWS_NAMES)
        || needs.has_gpu && (is_in(GPU_NAMES) || begins(GPU_PREFIXES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(names: &[&'static str], needs: Needs) -> Vec<&'static str> {
        let names = names.iter().copied();
        names
            .filter(|name| is_passed_on(OsStr::new(name), needs))
            .collect()
    }

    const CPU: Needs = Needs {
        has_gpu: false,
        is_windows: false,
    };

    #[test]
    fn what_computing_needs_is_passed_on_and_nothing_else() {
        let needed = [
            "OMP_NUM_THREADS",
            "GOMP_SPINCOUNT",
            "MALLOC_TRIM_THRESHOLD_",
            "GGML_NO_BACKTRACE",
            "LD_LIBRARY_PATH",
            "RUST_LOG",
            "TZ",
        ];
        assert_eq!(passed(&needed, CPU), needed);
        let others = [
            "SECRETVAR",
            "AWS_SECRET_ACCESS_KEY",
            "HF_TOKEN",
            "HOME",
            "LC_SECRET",
            "LLAMA_ARG_API_KEY",
            "LLAMA_MCP_AUTH",
            "PATH",
            "SSH_AUTH_SOCK",
            "omp_token",
            "",
        ];
        assert!(passed(&others, CPU).is_empty());
    }

    #[test]
    fn drivers_of_gpus_get_their_settings_in_builds_for_them() {
        let names = ["CUDA_VISIBLE_DEVICES", "VK_ICD_FILENAMES", "HOME"];
        assert!(passed(&names, CPU).is_empty());
        let gpu = Needs {
            has_gpu: true,
            ..CPU
        };
        assert_eq!(passed(&names, gpu), names);
    }

    #[test]
    fn on_windows_names_have_no_case() {
        let names = ["SystemRoot", "Path", "windir", "Omp_Num_Threads"];
        let windows = Needs {
            is_windows: true,
            ..CPU
        };
        assert_eq!(passed(&names, windows), names);
    }
}
