//! Why a model or its adapter could not be loaded.

use std::error::Error;
use std::path::Path;

use crate::engine::{EngineError, EngineErrorKind};
use crate::gguf::{self, GgufError};
use crate::printable::printable;
use crate::telemetry;

/// Longest text of llama.cpp that is quoted, in characters.
const MAX_REASON: usize = 1000;

/// Checks that the file at `path` is not of a kind that llama.cpp loads but that writes no text, such as an embedding model. The file
/// may have been replaced since the server checked it.
///
/// # Errors
/// `Load`, with the kind of the file.
pub(super) fn check_kind(path: &Path) -> Result<(), EngineError> {
    match gguf::read_header(path) {
        Err(fault @ GgufError::OtherKind { .. }) => Err(of_file(&fault)),
        // llama.cpp reports other faults itself, or ends this process, which is isolated for that reason.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn of_file(fault: &GgufError) -> EngineError {
    let cause = fault.source();
    let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
    EngineError::new(EngineErrorKind::Load, format!("{fault}{cause}")).hint(fault.hint())
}

/// Of the model at `path`, which llama.cpp refused with `error`. What is wrong with the file tells its header, in better words:
/// it may have become another since the server looked at it.
pub(super) fn load_error(path: &Path, error: &str) -> EngineError {
    if let Err(fault) = gguf::read_header(path) {
        return of_file(&fault);
    }
    let kind = EngineErrorKind::Load;
    let reason = reason(error);
    let hint = if reason.contains("unknown model architecture") {
        "use a newer version of this server, or another model"
    } else {
        "check that the file is complete and that memory suffices"
    };
    let text = format!("could not load the model `{}`: {reason}", path.display());
    EngineError::new(kind, text).hint(hint)
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
