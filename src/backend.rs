//! The interface between the registry and whatever runs a model.
//!
//! The registry decides which models are loaded. It starts no process, opens no file and speaks no wire protocol. Instead, it uses this
//! module to compute what a model [needs](need_of), to check whether its [source has changed](check_source), and to [start](Backend::start)
//! it with an [`Offer`] of memory. A started model is a [`Runner`], which takes [requests](crate::engine::Request) and reports each event
//! of its [life](Life) to the registry.
//!
//! | backend | models | module |
//! | --- | --- | --- |
//! | [`Backend::Local`] | GGUF files, each in a process of this program | `backend/local.rs` |
//! | `Backend::Scripted` | answers that a test scripts, without processes | `backend/scripted.rs` |
//!
//! # Adding a remote server
//!
//! A remote server would be a variant of [`Source`] with its settings, and a module `backend/remote.rs`, whose task owns a connection pool
//! instead of a process. It needs no memory, and its stamp never changes. The compiler finds each place that takes a GGUF file for granted:
//!
//! - here: [`Backend::start`], which starts its runners in an arm of its own, and each function that destructures a source
//! - `config/model/source.rs`; `gpu_memory_for` and `all_gpu_memory` in `config.rs`
//! - `gguf` and `gguf_mut` in `config/model.rs`, and their callers in `config/model.rs`, `config/diff.rs`, `check`, `commands` and `tools`
//!
//! # Adding a kind of work
//!
//! Embedding, for example, would be a variant of [`crate::engine::Request`] and of [`crate::engine::Answer`]. These places support only
//! generation:
//!
//! - `gguf/kind.rs`, which refuses files of models that do not generate text
//! - `worker/serve.rs` and `engine/scheduler.rs`, which do the work, and `worker/serve/loading.rs`, which ends calls of a model that loads
//! - `worker.rs`, `backend/local/calls.rs` and `backend/local/task.rs`, which bound the length of an answer
//! - `generate_once` in `registry.rs`, with what it learns from an answer: suspects, speed, and usage
//! - `tools/answering.rs`, which makes the request and the result

mod error;
pub(crate) mod footprint;
mod life;
pub(crate) mod local;
mod need;
mod progress;
mod runner;
#[cfg(test)]
pub(crate) mod scripted;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{FileFault, ModelFiles, Source, Stamp};
use crate::engine::shared_prefix::PromptSamples;
pub(crate) use crate::gguf::memory::Estimate;
use crate::threads::SystemLimit;
pub(crate) use error::{CallError, CallStage, ProcessFailure, Unanswered};
pub(crate) use life::{Ended, Life, ProcessStatus};
use local::{Launcher, memory};
pub(crate) use need::{Allowance, Need};
pub(crate) use progress::Progress;
#[cfg(test)]
pub(crate) use runner::Mail;
pub(crate) use runner::{Runner, RunningCall};

/// Shared prefixes of a model's tools, each as the prompt samples of a tool.
pub(crate) type SharedPrefixes = Arc<[PromptSamples]>;

/// Memory that the registry offers a model that it starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    /// Memory need of the model, which has the plan for its context; `None` if the files cannot be read; the load then reports
    /// the fault.
    pub need: Option<Need>,
    /// Bytes that all models together may take.
    pub memory_limit: u64,
}

/// Starts models. A server has one backend for all models, and [`Self::start`] chooses by source what runs a model.
#[derive(Debug)]
pub(crate) enum Backend {
    /// Starts processes of this program for GGUF files. A source on a remote server needs no launcher.
    Local(Launcher),
    /// Follows the script of a test, for any source.
    #[cfg(test)]
    Scripted(scripted::Script),
}

impl Backend {
    /// Creates a backend that runs models in processes of `program`, which is this program, with this log level or levels by module. Once
    /// `drain` is cancelled, SIGTERM ends no model, so that its calls can finish. Must be called within the Tokio runtime that serves them.
    ///
    /// # Errors
    /// Returns an error if the system cannot start a thread.
    pub(crate) fn local(
        program: PathBuf,
        log_level: String,
        drain: CancellationToken,
    ) -> Result<Self, SystemLimit> {
        Launcher::new(program, log_level, drain).map(Self::Local)
    }

    /// Starts the model `name`, and returns at once. If the model cannot start, every call gets an error. `life` is called with each event.
    /// The model keeps the shared prefixes in `prefixes` cached, and follows their changes.
    pub(crate) fn start(
        &self,
        name: &str,
        source: &Source,
        offer: Offer,
        prefixes: watch::Receiver<SharedPrefixes>,
        life: impl Fn(Life) + Send + Sync + 'static,
    ) -> Runner {
        match (self, source) {
            (Self::Local(launcher), Source::Gguf(gguf)) => {
                local::start(launcher, name, gguf, offer, prefixes, life)
            }
            #[cfg(test)]
            (Self::Scripted(script), _) => script.start(name, life),
        }
    }

    /// Sets how long a model that has work may go without finishing a step before it is killed. `None`, the initial value, means no limit.
    /// Also applies to running models.
    pub(crate) fn set_stall_timeout(&self, limit: Option<Duration>) {
        match self {
            Self::Local(launcher) => launcher.set_stall_timeout(limit),
            #[cfg(test)]
            Self::Scripted(_) => {}
        }
    }

    /// Prepares CPU turns for models that compute with at most `n_threads` each on this machine. Even a single model takes turns at the
    /// CPUs, since an edit may add another one. Blocks on the file system.
    pub(crate) fn share_cpus(&self, n_threads: usize) {
        match self {
            Self::Local(launcher) => launcher.share_cpus(n_threads),
            #[cfg(test)]
            Self::Scripted(_) => {}
        }
    }

    /// Removes the files that started models share. Called when the server ends.
    pub(crate) async fn close(&self) {
        match self {
            Self::Local(launcher) => launcher.close().await,
            #[cfg(test)]
            Self::Scripted(_) => {}
        }
    }
}

/// Result of checking a source before a load.
#[derive(Debug)]
pub(crate) struct SourceCheck {
    /// Stamp of the source when it was checked.
    pub stamp: Stamp,
    /// Memory need, or the fault that keeps the model from being loaded; `None` if the source has not changed.
    pub need: Option<Result<Need, FileFault>>,
}

/// Checks whether `source` has changed since it had the stamp `known`, and reads it again if so. Also reads it again if `is_fault_transient`: the
/// source could not be read the last time, but may be readable now. Blocks on the file system.
pub(crate) fn check_source(
    source: &Source,
    known: Stamp,
    is_fault_transient: bool,
    prefixes: &[PromptSamples],
    allowance: Allowance,
) -> SourceCheck {
    let Source::Gguf(gguf) = source;
    let stamp = gguf.settings.stamp();
    let read = || {
        let files = ModelFiles::read(&gguf.settings)?;
        Ok(memory::need_of(gguf, &files, prefixes, allowance))
    };
    SourceCheck {
        stamp,
        need: (stamp != known || is_fault_transient).then(read),
    }
}

/// Returns the memory need of a model that may take `allowance`, and whose tools have the shared prefixes `prefixes`.
///
/// # Errors
/// Returns the fault of the model's files if they could not be read.
pub(crate) fn need_of(
    source: &Source,
    prefixes: &[PromptSamples],
    allowance: Allowance,
) -> Result<Need, FileFault> {
    let Source::Gguf(gguf) = source;
    let files = gguf.files.as_ref().map_err(Clone::clone)?;
    Ok(memory::need_of(gguf, files, prefixes, allowance))
}

/// Returns the number of threads with which a model of this `need` computes on the CPUs of this machine; `None` if GPUs compute its layers.
/// If the need is unknown, the model is assumed to compute where its source says.
pub(crate) fn cpu_threads(source: &Source, need: Option<&Need>) -> Option<usize> {
    let Source::Gguf(gguf) = source;
    memory::cpu_threads(gguf, need)
}
