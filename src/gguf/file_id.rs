//! The identity of a model file, independent of its path.

use std::path::Path;

/// Identity of a file. All paths and links to the file have the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId(u64, u64);

impl FileId {
    /// Creates a distinct identity for each `number`.
    #[cfg(test)]
    pub(crate) fn numbered(number: u64) -> Self {
        Self(0, number)
    }

    /// Returns the identity of the file at `path`. Returns `None` if the file is missing.
    #[cfg(unix)]
    pub(super) fn from_path(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self(metadata.dev(), metadata.ino()))
    }

    /// Returns the identity of the file at `path`: a hash of the path with its links resolved. Returns `None` if the file is missing.
    #[cfg(not(unix))]
    pub(super) fn from_path(path: &Path) -> Option<Self> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        path.canonicalize().ok()?.hash(&mut hasher);
        Some(Self(0, hasher.finish()))
    }
}
