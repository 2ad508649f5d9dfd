//! Errors of loading a model or its adapter.

use std::error::Error;
use std::path::Path;

use crate::engine::{EngineError, EngineErrorKind};
use crate::gguf::GgufError;
use crate::printable::printable;
use crate::telemetry;

/// Longest quoted text of llama.cpp, in characters.
const MAX_REASON: usize = 1000;

/// Returns the error for a model whose file has the `fault`. The file may have been replaced since the server checked it.
pub(super) fn gguf_error(fault: &GgufError) -> EngineError {
    let cause = fault.source();
    let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
    EngineError::new(EngineErrorKind::Load, format!("{fault}{cause}")).hint(fault.hint())
}

/// Returns the error for the model at `path`, which llama.cpp rejected with `error`.
pub(super) fn load_error(path: &Path, error: &str) -> EngineError {
    let kind = EngineErrorKind::Load;
    let reason = reason(error);
    let hint = if reason.contains("unknown model architecture") {
        "update this server, or choose another model"
    } else {
        "check that the file is complete and that there is enough memory"
    };
    let text = format!("could not load the model `{}`: {reason}", path.display());
    EngineError::new(kind, text).hint(hint)
}

/// Returns the error for the adapter at `path`, which llama.cpp rejected with `error`.
pub(super) fn adapter_error(path: &Path, error: &str) -> EngineError {
    let text = format!(
        "could not load the adapter `{}`: {}",
        path.display(),
        reason(error)
    );
    EngineError::new(EngineErrorKind::Load, text)
        .hint("check that the adapter was made for this model")
}

/// Returns why a load failed: the last errors of llama.cpp's log, since its functions return no reason.
pub(super) fn reason(error: &str) -> String {
    match telemetry::last_llama_errors()[..] {
        [] => format!("llama.cpp rejected it ({error})"),
        // llama.cpp quotes text of the file.
        ref lines => format!(
            "llama.cpp says: {}",
            printable(&lines.join("; "), MAX_REASON)
        ),
    }
}
