//! Where a model's answers come from.

use serde::Serialize;

use super::{FileFault, LoadSettings, ModelFiles, Stamp};

/// Where a model's answers come from.
///
/// A model on a remote server would be a second variant, started by an arm of its own in [`crate::backend::Backend::start`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Source {
    /// A GGUF file that llama.cpp runs on this machine.
    Gguf(GgufSource),
}

/// A GGUF file, and how llama.cpp runs it. Serialized, it is the keys of its settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct GgufSource {
    /// Settings of the model's process. Changing any of them restarts the process.
    #[serde(flatten)]
    pub settings: LoadSettings,
    /// Facts from the files' headers, or the fault that keeps the model from being loaded.
    #[serde(skip)]
    pub files: Result<ModelFiles, FileFault>,
    /// State of the files just before they were read.
    #[serde(skip)]
    pub stamp: Stamp,
    /// Whether GPUs may compute layers of the model. [`crate::check`] decides it from the build, the machine and `n_gpu_layers`; until then
    /// it is `false`. The memory need says how many layers fit.
    #[serde(skip)]
    pub is_on_gpu: bool,
}

impl GgufSource {
    /// Reads the files that `settings` name. Blocks on the file system.
    pub(crate) fn read(settings: LoadSettings) -> Self {
        let stamp = settings.stamp();
        let files = ModelFiles::read(&settings);
        Self {
            settings,
            files,
            stamp,
            is_on_gpu: false,
        }
    }

    /// Returns whether a process that was started for `other`, and loaded files with the stamp `loaded`, can also serve this source.
    fn is_loaded_like(&self, other: &Self, loaded: Stamp) -> bool {
        self.settings == other.settings && self.stamp == loaded
    }
}

impl Source {
    /// Returns whether a runner that was started for `other`, and loaded it with the stamp `loaded`, can also serve this source.
    pub(crate) fn is_loaded_like(&self, other: &Self, loaded: Stamp) -> bool {
        let (Self::Gguf(this), Self::Gguf(other)) = (self, other);
        this.is_loaded_like(other, loaded)
    }

    /// Returns the stamp of the source when it was read.
    pub(crate) fn stamp(&self) -> Stamp {
        let Self::Gguf(gguf) = self;
        gguf.stamp
    }

    /// Returns the most calls of one client that may wait for the model.
    pub(crate) fn max_queue(&self) -> usize {
        let Self::Gguf(gguf) = self;
        gguf.settings.max_queue
    }

    /// Takes over the files that `former` has read, if they cannot be read now and a process of `former` can serve this source. A file that
    /// is gone for a while, or is being copied, must not end the process that has loaded it. Files are checked again before the
    /// next load.
    pub(super) fn keep_files_of(&mut self, former: &Self) {
        let (Self::Gguf(this), Self::Gguf(former)) = (self, former);
        let is_lost = this.files.is_err() && former.files.is_ok();
        if is_lost && this.is_loaded_like(former, this.stamp) {
            this.files.clone_from(&former.files);
            this.stamp = former.stamp;
        }
    }
}
