//! The files of a model on disk: facts from their headers, or the fault that keeps the model from being loaded.
//!
//! A file may be missing for a while (a network drive, a download), so a fault of a file is data here, not an error of the
//! configuration. A new [`LoadSettings::stamp`] shows that the files must be read again.

use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::iter;
use std::path::{Path, PathBuf};

use super::LoadSettings;
use crate::config::address::Address;
use crate::config::paths;
use crate::gguf::{self, GgufError, Header};

/// State of a model's files on disk. The number changes once any of the files is replaced, changed or removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Stamp(u64);

#[cfg(test)]
impl Stamp {
    /// Returns a stamp that differs from those with other numbers.
    pub(crate) fn numbered(number: u64) -> Self {
        Self(number)
    }
}

/// Facts from the headers of a model's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelFiles {
    /// Header of the GGUF file.
    pub header: Header,
    /// Size of the adapter's tensors, in bytes; 0 without an adapter.
    pub adapter_bytes: u64,
}

/// Fault of a model's files: the model cannot be loaded until they change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {hint}")]
pub(crate) struct FileFault {
    /// Parts of the model's key that the fault belongs to.
    key: &'static [&'static str],
    /// Whether the fault may disappear without a change of the files, such as an error of a network drive.
    pub is_transient: bool,
    /// Description of the fault.
    pub message: String,
    /// Advice for the operator.
    pub hint: String,
}

impl FileFault {
    fn new(key: &'static [&'static str], error: &GgufError) -> Self {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
        Self {
            key,
            is_transient: matches!(error, GgufError::Unreadable { .. }),
            message: format!("{error}{}", cause.unwrap_or_default()),
            hint: match error {
                GgufError::Missing(path) => paths::model_hint(path).unwrap_or_else(|| error.hint()),
                error => error.hint(),
            },
        }
    }

    /// Returns the address of the key that the fault belongs to, for the model called `name`.
    pub(crate) fn address(&self, name: &str) -> Address {
        let model = Address::new(["models", name]);
        self.key
            .iter()
            .fold(model, |address, key| address.join(*key))
    }
}

impl ModelFiles {
    /// Reads the headers of the files that `load` names, and checks that its settings fit them.
    ///
    /// # Errors
    /// A file is missing, truncated, unreadable or of the wrong kind, or the settings do not fit it.
    pub(crate) fn read(load: &LoadSettings) -> Result<Self, FileFault> {
        let header =
            gguf::read_header(&load.path).map_err(|error| FileFault::new(&["path"], &error))?;
        let adapter_bytes = load.adapter().map_or(Ok(0), |adapter| {
            gguf::read_adapter(adapter, &header.architecture)
                .map_err(|error| FileFault::new(&["lora", "path"], &error))
        })?;
        let files = Self {
            header,
            adapter_bytes,
        };
        files.check_cache_types(load)?;
        Ok(files)
    }

    /// Checks that the cache can be quantized as `load` says: a head's length must be a multiple of 32.
    fn check_cache_types(&self, load: &LoadSettings) -> Result<(), FileFault> {
        let keys: [(&[&str], _, _); 2] = [
            (&["cache_type_k"], load.cache_type_k, self.header.key_length),
            (
                &["cache_type_v"],
                load.cache_type_v,
                self.header.value_length,
            ),
        ];
        for (key, kind, length) in keys {
            if kind.is_quantized() && !length.is_multiple_of(32) {
                return Err(FileFault {
                    key,
                    is_transient: false,
                    message: format!(
                        "the model's heads have {length} numbers, and quantized types take 32 at a time"
                    ),
                    hint: "choose `f16`".into(),
                });
            }
        }
        Ok(())
    }
}

impl LoadSettings {
    /// Returns the path of the adapter.
    fn adapter(&self) -> Option<&Path> {
        let adapter = self.lora.as_ref().map(|lora| lora.path.as_path());
        // A missing path is a problem of the settings.
        adapter.filter(|path| !path.as_os_str().is_empty())
    }

    /// Returns the files to load: all parts of the GGUF file, and the adapter.
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let adapter = self.adapter().map(Path::to_path_buf);
        iter::once(self.path.clone())
            .chain(gguf::other_parts_of(&self.path))
            .chain(adapter)
    }

    /// Returns the state of the files on disk: their lengths, modification times and, on Unix, inodes and permissions.
    ///
    /// Take the stamp before you read the files, so that a change in between shows as another stamp later.
    pub(crate) fn stamp(&self) -> Stamp {
        let mut hasher = DefaultHasher::new();
        for path in self.files() {
            let metadata = std::fs::metadata(path).ok();
            let state = metadata.map(|metadata| {
                (
                    metadata.len(),
                    metadata.modified().ok(),
                    identity(&metadata),
                )
            });
            state.hash(&mut hasher);
        }
        Stamp(hasher.finish())
    }
}

/// Returns the identity of the file and its permissions.
#[cfg(unix)]
fn identity(metadata: &Metadata) -> impl Hash + use<> {
    use std::os::unix::fs::MetadataExt as _;
    let owner = (metadata.uid(), metadata.gid());
    (metadata.ino(), metadata.mode(), owner)
}

/// Returns nothing: on other systems only lengths and times identify a file.
#[cfg(not(unix))]
fn identity(_: &Metadata) -> impl Hash + use<> {}
