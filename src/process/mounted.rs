//! Files that are mounted one by one, as by `docker run -v ./x.toml:/config/x.toml`, Compose's secrets or `subPath` of Kubernetes.
//!
//! Such a mount shows one file for as long as it lasts. A program that saves by renaming a new file into its place does so outside of the
//! mount, which goes on showing the old one.

use std::path::Path;

/// How a file is mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mounted {
    /// Whether it is mounted by itself. `false` also on Linux before 5.8, which does not tell.
    pub is_single: bool,
    /// Whether it was replaced or removed outside of its mount: the file that the mount shows no longer has a name.
    pub is_stale: bool,
}

impl Mounted {
    /// Looks at `file`, or at what it links to.
    #[cfg(target_os = "linux")]
    pub fn of(file: &Path) -> Self {
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
            // Some file systems in user space count no links.
            is_stale: is_unlinked && (is_single || !is_root(found.stx_attributes_mask)),
        }
    }

    /// Returns that `file` is not mounted by itself: this system mounts no single files.
    #[cfg(not(target_os = "linux"))]
    pub fn of(_: &Path) -> Self {
        Self::default()
    }
}

/// The way out if a file [is stale](Mounted::is_stale).
pub const WAY_OUT: &str = "mount its folder instead of the file, or restart the container";

/// Returns what is wrong with `file` if it [is stale](Mounted::is_stale).
pub fn stale(file: &Path) -> String {
    let file = file.display();
    format!("`{file}`: the file was replaced outside of this mount")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_a_folder_and_a_missing_file_are_not_mounted_by_themselves() {
        let program = std::env::current_exe().unwrap();
        assert_eq!(Mounted::of(&program), Mounted::default());
        assert_eq!(Mounted::of(&program.join("none")), Mounted::default());
    }
}
