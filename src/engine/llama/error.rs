//! Why a model or its adapter could not be loaded.

use std::error::Error;
use std::path::Path;

use crate::engine::{EngineError, EngineErrorKind};
use crate::gguf;
use crate::printable::printable;
use crate::telemetry;

/// Longest text of llama.cpp that is quoted, in characters.
const MAX_REASON: usize = 1000;

/// Of the model at `path`, which llama.cpp refused with `error`. What is wrong with the file tells its header, in better words:
/// it may have become another since the server looked at it.
pub(super) fn load_error(path: &Path, error: &str) -> EngineError {
    let kind = EngineErrorKind::Load;
    if let Err(fault) = gguf::read_header(path) {
        let cause = fault.source();
        let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
        return EngineError::new(kind, format!("{fault}{cause}")).hint(fault.hint());
    }
    let text = format!(
        "could not load the model `{}`: {}",
        path.display(),
        reason(error)
    );
    EngineError::new(kind, text)
        .hint("check that the file is a complete GGUF of an architecture that this build knows, and that memory suffices")
}

/// The same of the adapter at `path`.
pub(super) fn adapter_error(path: &Path, error: &str) -> EngineError {
    let text = format!(
        "could not load the adapter `{}`: {}",
        path.display(),
        reason(error)
    );
    EngineError::new(EngineErrorKind::Load, text)
        .hint("check that the adapter was made for this model")
}

/// Why a load failed: what llama.cpp logged last, since its functions only say that they failed.
pub(super) fn reason(error: &str) -> String {
    match telemetry::last_llama_errors()[..] {
        [] => format!("llama.cpp refused it ({error})"),
        // It quotes texts of the file.
        ref lines => format!(
            "llama.cpp says: {}",
            printable(&lines.join("; "), MAX_REASON)
        ),
    }
}
