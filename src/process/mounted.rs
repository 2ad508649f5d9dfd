//! Files that are mounted individually, for example by `docker run -v ./x.toml:/config/x.toml`, as a secret of Compose or with `subPath` of
//! Kubernetes.
//!
//! Such a mount always shows the same file. A program that saves by renaming a new file into its place does so outside of the mount, which
//! keeps showing the old file.

use std::path::Path;

/// How a file is mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mounted {
    /// Whether the file is mounted individually. Always `false` before Linux 5.8, which does not report it.
    pub is_single: bool,
    /// Whether the file was replaced or removed outside of its mount: the file that the mount shows no longer has a name.
    pub is_stale: bool,
}

impl Mounted {
    /// Returns how `file` is mounted, or the file that it links to.
    #[cfg(target_os = "linux")]
    pub(crate) fn check(file: &Path) -> Self {
        use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
        let Ok(found) = statx(CWD, file, AtFlags::empty(), StatxFlags::NLINK) else {
            return Self::default();
        };
        let is_root =
            |attributes: StatxAttributes| attributes.contains(StatxAttributes::MOUNT_ROOT);
        let is_single = is_root(found.stx_attributes);
        let is_unlinked = found.stx_mask & StatxFlags::NLINK.bits() != 0 && found.stx_nlink == 0;
        Self {
            is_single,
            // Some FUSE file systems do not count links.
            is_stale: is_unlinked && (is_single || !is_root(found.stx_attributes_mask)),
        }
    }

    /// Returns that the file is not mounted individually: this system mounts no single files.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn check(_: &Path) -> Self {
        Self::default()
    }
}

/// Advice for a file that [is stale](Mounted::is_stale).
pub(crate) const ADVICE: &str = "mount its folder instead of the file, or restart the container";

/// Returns the message about a `file` that [is stale](Mounted::is_stale).
pub(crate) fn stale(file: &Path) -> String {
    let file = file.display();
    format!("`{file}`: the file was replaced outside of this mount")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_a_folder_and_a_missing_file_are_not_mounted_individually() {
        let program = std::env::current_exe().unwrap();
        assert_eq!(Mounted::check(&program), Mounted::default());
        assert_eq!(Mounted::check(&program.join("none")), Mounted::default());
    }
}
