//! The interface between the registry and whatever runs a model.
//!
//! The registry decides which models are loaded. It knows nothing about processes, files and the wire protocol. It only asks this module what a
//! model [needs](need_of), whether its [source has changed](check_source), and to [start](Backend::start) it. A started model is a [`Runner`],
//! which accepts [requests](crate::engine::Request) and reports [events](Life) to the registry.
//!
//! | backend | models | module |
//! | --- | --- | --- |
//! | [`Backend::Local`] | GGUF files, each in a process of this program | `backend/local.rs` |
//! | `Backend::Scripted` | answers that a test scripts, without processes | `backend/scripted.rs` |
//!
//! How to extend it:
//!
//! - **A remote server** would be a new [`Source`] with its settings, a module `backend/remote.rs`, and a match arm in each function here. It
//!   needs no memory, its stamp never changes, and its task owns a connection pool instead of a process.
//! - **Another kind of work**, such as embedding, would be a new variant of [`crate::engine::Request`] and of [`crate::engine::Answer`],
//!   implemented in `worker/serve`.

mod error;
pub(crate) mod footprint;
mod life;
pub(crate) mod local;
mod need;
mod progress;
mod runner;
#[cfg(test)]
pub(crate) mod scripted;

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::{FileFault, ModelFiles, Source, Stamp};
use crate::engine::shared_prefix::FixedPrompt;
use crate::worker::{Grant, Launch};
pub(crate) use error::{CallError, Unanswered};
use footprint::Mapped;
pub(crate) use life::{Ended, Life, Vitals};
use local::{Launcher, memory, planner};
pub(crate) use need::{Allowance, Need};
pub(crate) use progress::Progress;
#[cfg(test)]
pub(crate) use runner::Mail;
pub(crate) use runner::{Runner, RunningCall};

/// Shared prefixes of a model's tools, one for each tool that has a fixed prompt.
pub(crate) type FixedPrompts = Arc<[FixedPrompt]>;

/// Starts models. The server has one backend for all sources.
#[derive(Debug)]
pub(crate) enum Backend {
    /// Starts processes of this program.
    Local(Launcher),
    /// Follows the script of a test, for any source.
    #[cfg(test)]
    Scripted(scripted::Script),
}

impl Backend {
    /// Starts the model `name`, and returns at once. If the model cannot start, every call gets an error. `life` is called with each event.
    /// The model keeps the shared prefixes in `fixed` cached, and follows their changes.
    pub(crate) fn start(
        &self,
        name: &str,
        source: &Source,
        grant: Grant,
        fixed: watch::Receiver<FixedPrompts>,
        life: impl Fn(Life) + Send + Sync + 'static,
    ) -> Runner {
        match (self, source) {
            (Self::Local(launcher), Source::Gguf(gguf)) => {
                let settings = gguf.settings.clone();
                local::start(launcher, name, Launch { settings, grant }, fixed, life)
            }
            #[cfg(test)]
            (Self::Scripted(script), _) => script.start(name, life),
        }
    }
}

/// Result of checking a source before a load.
#[derive(Debug)]
pub(crate) struct SourceCheck {
    /// Stamp of the source.
    pub stamp: Stamp,
    /// Memory need, or the fault that keeps the model from being loaded; `None` if the source has not changed.
    pub need: Option<Result<Need, FileFault>>,
}

/// Checks whether `source` has changed since it had the stamp `known`, and reads it again if so. Also reads it again if `is_fault_passing`: the
/// source could not be read the last time, but may be readable now. Blocks on the file system.
pub(crate) fn check_source(
    source: &Source,
    known: Stamp,
    is_fault_passing: bool,
    fixed: &[FixedPrompt],
    allowance: Allowance,
) -> SourceCheck {
    let Source::Gguf(gguf) = source;
    let stamp = gguf.settings.stamp();
    let read = || {
        let files = ModelFiles::read(&gguf.settings)?;
        Ok(memory::need_of(gguf, &files, fixed, allowance))
    };
    SourceCheck {
        stamp,
        need: (stamp != known || is_fault_passing).then(read),
    }
}

/// Returns the memory need of a model that may take `allowance`, and whose tools have the shared prefixes `fixed`.
///
/// # Errors
/// Returns the fault of the model's files if they could not be read.
pub(crate) fn need_of(
    source: &Source,
    fixed: &[FixedPrompt],
    allowance: Allowance,
) -> Result<Need, FileFault> {
    let Source::Gguf(gguf) = source;
    let files = gguf.files.as_ref().map_err(Clone::clone)?;
    Ok(memory::need_of(gguf, files, fixed, allowance))
}

/// Returns the weights of `source` that other models can share; `None` if it has none.
pub(crate) fn mapped(source: &Source) -> Option<Mapped> {
    let Source::Gguf(gguf) = source;
    let files = gguf.files.as_ref().ok()?;
    planner::mapped_by(&gguf.settings, &files.header, gguf.is_on_gpu)
}

/// Returns whether GPUs compute layers of the model.
pub(crate) fn is_on_gpu(source: &Source) -> bool {
    let Source::Gguf(gguf) = source;
    gguf.is_on_gpu
}

/// Logs where the layers of the model `name` will be computed, if GPUs are involved.
pub(crate) fn log_offload(name: &str, source: &Source, need: &Need) {
    let Source::Gguf(gguf) = source;
    memory::log_offload(name, gguf, need);
}

/// Returns the number of threads with which the model computes on the CPUs of this machine; `None` if it does not compute there.
pub(crate) fn cpu_threads(source: &Source) -> Option<usize> {
    let Source::Gguf(gguf) = source;
    (!is_on_gpu(source)).then_some(gguf.settings.n_threads)
}
