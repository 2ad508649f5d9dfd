//! Why a model or its adapter could not be loaded.

use std::error::Error;
use std::path::Path;

use crate::engine::{EngineError, EngineErrorKind};
use crate::gguf;
use crate::printable::printable;
use crate::telemetry;

/// Longest text of llama.cpp that is quoted, in characters.
const MAX_REASON: usize = 1000;

/// Checks that the header of the file at `path` is that of a model which writes text.
///
/// # Errors
/// `Load`, with the fault of the file.
pub(super) fn check_header(path: &Path) -> Result<(), EngineError> {
    gguf::read_header(path).map(drop).map_err(|fault| {
        let cause = fault.source();
        let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
        EngineError::new(EngineErrorKind::Load, format!("{fault}{cause}")).hint(fault.hint())
    })
}

/// Of the model at `path`, which llama.cpp refused with `error`. If the header of the file has a fault, that fault is the cause:
/// the file may have changed since it was checked.
pub(super) fn load_error(path: &Path, error: &str) -> EngineError {
    if let Err(fault) = check_header(path) {
        return fault;
    }
    let kind = EngineErrorKind::Load;
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
