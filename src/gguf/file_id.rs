//! Identity of a model's file, independent of its path.

use std::path::Path;

/// Identity of a file. It is the same for all paths and links to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId(u64, u64);

impl FileId {
    /// Makes the identity of a different file for each `number`.
    #[cfg(test)]
    pub(crate) fn numbered(number: u64) -> Self {
        Self(0, number)
    }

    /// Returns the identity of the file at `path`; `None` if the file is missing.
    #[cfg(unix)]
    pub(super) fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self(metadata.dev(), metadata.ino()))
    }

    /// Returns the identity of the file at `path`, a hash of the path with its links resolved; `None` if the file is missing.
    #[cfg(not(unix))]
    pub(super) fn of(path: &Path) -> Option<Self> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        path.canonicalize().ok()?.hash(&mut hasher);
        Some(Self(0, hasher.finish()))
    }
}
