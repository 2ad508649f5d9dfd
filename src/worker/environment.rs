//! Environment variables of a worker: only those that llama.cpp, its libraries and drivers read. Pure.
//!
//! Untrusted code in a worker can read them all and leak them in an answer. A shell's environment contains keys and tokens under any name,
//! so this is a list of what is allowed.

use std::env;
use std::ffi::{OsStr, OsString};

use crate::gpu;

/// Names of variables that a worker inherits.
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

/// Prefixes of names that a worker inherits: of ggml, OpenMP (GNU, Intel and LLVM) and allocators.
const PREFIXES: &[&str] = &[
    "GGML_",
    "GOMP_",
    "_RJEM_MALLOC_CONF",
    "KMP_",
    "MALLOC_",
    "MIMALLOC_",
    "OMP_",
];

/// Names that Windows requires to find and load libraries.
const WINDOWS_NAMES: &[&str] = &[
    "NUMBER_OF_PROCESSORS",
    "PATH",
    "SYSTEMDRIVE",
    "SYSTEMROOT",
    "TEMP",
    "TMP",
    "WINDIR",
];

/// Names with which GPU drivers find their settings.
const GPU_NAMES: &[&str] = &[
    "HOME",
    "LIBGL_DRIVERS_PATH",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
    "XDG_DATA_DIRS",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
];

/// Prefixes of the names of GPU drivers' variables: NVIDIA, Vulkan, AMD, Mesa, Intel and Apple.
const GPU_PREFIXES: &[&str] = &[
    "AMD_", "ANV_", "CUBLAS_", "CUDA_", "DRI_", "GPU_", "HIP_", "HSA_", "INTEL_", "METAL_",
    "MESA_", "MTL_", "NVIDIA_", "RADV_", "ROCR_", "VK_", "ZES_", "ZE_", "__GLX_", "__GL_", "__NV_",
];

/// Properties of a build that decide which variables a worker inherits.
#[derive(Debug, Clone, Copy)]
struct Needs {
    /// Whether the build has a GPU backend.
    has_gpu: bool,
    /// Whether the build is for Windows, where names have no case.
    is_windows: bool,
}

/// Properties of this build.
const NEEDS: Needs = Needs {
    has_gpu: gpu::IN_BUILD,
    is_windows: cfg!(windows),
};

/// Returns the variables of this process that a worker inherits.
pub(crate) fn passed_on() -> impl Iterator<Item = (OsString, OsString)> {
    env::vars_os().filter(|(name, _)| is_passed_on(name, NEEDS))
}

/// Returns whether a worker inherits the variable `name`.
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
    fn a_worker_inherits_the_variables_of_computing_and_no_others() {
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
    fn gpu_drivers_get_their_settings_in_builds_with_a_gpu_backend() {
        let names = ["CUDA_VISIBLE_DEVICES", "VK_ICD_FILENAMES", "HOME"];
        assert!(passed(&names, CPU).is_empty());
        let gpu = Needs {
            has_gpu: true,
            ..CPU
        };
        assert_eq!(passed(&names, gpu), names);
    }

    #[test]
    fn names_have_no_case_on_windows() {
        let names = ["SystemRoot", "Path", "windir", "Omp_Num_Threads"];
        let windows = Needs {
            is_windows: true,
            ..CPU
        };
        assert_eq!(passed(&names, windows), names);
    }
}
