//! llama.cpp's code for the CPU: a part of the program, or, in builds with `cpu-variants`, files beside it, one for each kind of
//! CPU, of which llama.cpp takes the best that this CPU can run.

use std::fmt;
use std::sync::OnceLock;

use crate::engine::EngineError;

/// The code for the CPU that this process computes with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CpuBackend {
    /// A part of the program, compiled for these extensions of the instruction set, or for the architecture alone.
    BuiltIn(&'static str),
    /// A file beside the program, as `libggml-cpu-icelake.so`.
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

/// The code for the CPU, loaded at the first call: before the process restricts itself, and before llama.cpp is used.
///
/// # Errors
/// `Load` where no file beside the program goes with this CPU.
pub(crate) fn cpu_backend() -> Result<CpuBackend, EngineError> {
    static FOUND: OnceLock<Result<CpuBackend, EngineError>> = OnceLock::new();
    FOUND.get_or_init(find).clone()
}

#[cfg(not(feature = "cpu-variants"))]
#[expect(clippy::unnecessary_wraps, reason = "with `cpu-variants` it may fail")]
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
        .hint("unpack the archive again: the program needs all files of the folder `lib` beside it")
    })
}

#[cfg(feature = "cpu-variants")]
mod variants {
    use std::env;
    use std::fs;
    use std::path::Path;

    use llama_cpp_2::llama_backend::load_backends_from_path;

    use super::CpuBackend;

    pub(super) fn load() -> Result<CpuBackend, String> {
        let program = env::current_exe().map_err(|error| error.to_string())?;
        let folder = program.with_file_name("lib");
        // llama-cpp-2 panics at others.
        if folder.to_str().is_none() {
            return Err(format!("the path `{}` is not UTF-8", folder.display()));
        }
        load_backends_from_path(&folder);
        match loaded_file() {
            Some(file) => Ok(CpuBackend::Chosen(file)),
            None => Err(format!(
                "no file `libggml-cpu-*.so` in `{}` goes with this CPU",
                folder.display()
            )),
        }
    }

    /// What llama.cpp has chosen stays in the process; the others it has closed again.
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
    fn a_plain_build_tells_what_it_was_compiled_for() {
        let told = cpu_backend().unwrap().to_string();
        let known = if cfg!(target_arch = "x86_64") {
            "avx2"
        } else {
            std::env::consts::ARCH
        };
        assert!(told.starts_with("built in, for "), "{told}");
        assert!(told.contains(known), "{told}");
    }
}
