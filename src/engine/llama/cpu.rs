//! llama.cpp's CPU backend: part of the program, or, in builds with `cpu-variants`, files beside the program for different CPUs, of which
//! llama.cpp loads the best one for this CPU.

use std::fmt;
use std::sync::OnceLock;

use crate::engine::EngineError;

/// The CPU backend of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CpuBackend {
    /// Part of the program, compiled for these extensions of the instruction set, or for this architecture.
    BuiltIn(&'static str),
    /// A file beside the program, such as `libggml-cpu-icelake.so`.
    #[cfg(feature = "cpu-variants")]
    Chosen(String),
}

impl fmt::Display for CpuBackend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(extensions) => write!(formatter, "built in, for {extensions}"),
            #[cfg(feature = "cpu-variants")]
            Self::Chosen(file) => formatter.write_str(file),
        }
    }
}

/// Returns the CPU backend. The first call loads it; make that call before the process enters the sandbox and uses llama.cpp.
///
/// # Errors
/// `Load` if no file beside the program supports this CPU.
pub(crate) fn cpu_backend() -> Result<CpuBackend, EngineError> {
    static FOUND: OnceLock<Result<CpuBackend, EngineError>> = OnceLock::new();
    FOUND.get_or_init(find).clone()
}

#[cfg(not(feature = "cpu-variants"))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "fallible with the feature `cpu-variants`"
)]
fn find() -> Result<CpuBackend, EngineError> {
    Ok(CpuBackend::BuiltIn(env!("CPU_EXTENSIONS")))
}

#[cfg(feature = "cpu-variants")]
fn find() -> Result<CpuBackend, EngineError> {
    variants::load().map_err(|cause| {
        let kind = crate::engine::EngineErrorKind::Load;
        EngineError::new(
            kind,
            format!("could not load llama.cpp's code for the CPU: {cause}"),
        )
        .hint("unpack the archive again: the program requires all files of the folder `lib` next to it")
    })
}

#[cfg(feature = "cpu-variants")]
mod variants {
    use std::path::{Path, PathBuf};
    use std::{env, fs, io};

    use llama_cpp_2::llama_backend::load_backends_from_path;

    use super::CpuBackend;

    /// A reason why no CPU backend was loaded.
    #[derive(Debug, thiserror::Error)]
    pub(super) enum LoadError {
        #[error(transparent)]
        Program(#[from] io::Error),
        #[error("the path `{}` is not UTF-8", .0.display())]
        NotUtf8(PathBuf),
        #[error("no file `libggml-cpu-*.so` in `{}` supports this CPU", .0.display())]
        Unsupported(PathBuf),
    }

    pub(super) fn load() -> Result<CpuBackend, LoadError> {
        let program = env::current_exe()?;
        let folder = program.with_file_name("lib");
        // llama-cpp-2 panics at any other path.
        if folder.to_str().is_none() {
            return Err(LoadError::NotUtf8(folder));
        }
        load_backends_from_path(&folder);
        match loaded_file() {
            Some(file) => Ok(CpuBackend::Chosen(file)),
            None => Err(LoadError::Unsupported(folder)),
        }
    }

    /// Returns the file that llama.cpp has chosen, which is the only one that it keeps mapped.
    fn loaded_file() -> Option<String> {
        let maps = fs::read_to_string("/proc/self/maps").ok()?;
        let names = maps.lines().filter_map(|line| {
            let name = Path::new(line).file_name()?.to_str()?;
            name.starts_with("libggml-cpu-").then_some(name)
        });
        names.map(str::to_owned).next()
    }
}

#[cfg(all(test, not(feature = "cpu-variants")))]
mod tests {
    use super::*;

    #[test]
    fn a_plain_build_names_the_extensions_that_it_was_compiled_for() {
        let shown = cpu_backend().unwrap().to_string();
        let known = if cfg!(target_arch = "x86_64") {
            "avx2"
        } else {
            std::env::consts::ARCH
        };
        assert!(shown.starts_with("built in, for "), "{shown}");
        assert!(shown.contains(known), "{shown}");
    }
}
