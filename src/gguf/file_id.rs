//! Which file a model is, whatever its path.

use std::path::Path;

/// Number of a file: the same for all paths and links to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(u64, u64);

impl FileId {
    /// A file of its own for each `number`.
    #[cfg(test)]
    pub(crate) fn numbered(number: u64) -> Self {
        Self(0, number)
    }

    /// Returns the number of the file at `path`; `None` if there is none.
    #[cfg(unix)]
    pub(super) fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self(metadata.dev(), metadata.ino()))
    }

    /// Returns a number for the path with its links resolved; `None` if the file is missing.
    #[cfg(not(unix))]
    pub(super) fn of(path: &Path) -> Option<Self> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        path.canonicalize().ok()?.hash(&mut hasher);
        Some(Self(0, hasher.finish()))
    }
}
