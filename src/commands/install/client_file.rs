//! Replaces the file of a client atomically, and keeps a backup next to it.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The configuration file of a client, as it was read.
#[derive(Debug)]
pub(crate) struct ClientFile {
    /// Path of the file, with links resolved.
    path: PathBuf,
    /// Content; `None` if the file does not exist.
    text: Option<String>,
}

impl ClientFile {
    /// Reads the file at `path`. A file that does not exist is empty.
    ///
    /// # Errors
    /// The file cannot be read, or is not UTF-8.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let path = match fs::canonicalize(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => {
                let path = path.to_owned();
                return Ok(Self { path, text: None });
            }
            path => path?,
        };
        if !fs::metadata(&path)?.is_file() {
            // Reading a pipe could block.
            return Err(io::Error::other("not a regular file"));
        }
        let text = Some(fs::read_to_string(&path)?);
        Ok(Self { path, text })
    }

    /// Returns the content.
    pub(crate) fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    /// Replaces the content with `text`. Returns the path of the backup, if the file existed.
    ///
    /// # Errors
    /// The file cannot be written, or has changed since it was read.
    pub(crate) fn replace(&self, text: &str) -> io::Result<Option<PathBuf>> {
        let permissions = match &self.text {
            Some(_) => Some(fs::metadata(&self.path)?.permissions()),
            None => None,
        };
        let backup = match &self.text {
            Some(previous) => Some(self.back_up(previous, permissions.as_ref())?),
            None => None,
        };
        let new = self.sibling(&format!("{}.tmp", std::process::id()));
        let replaced = create(&new, text, permissions.as_ref())
            .and_then(|()| self.check_unchanged())
            .and_then(|()| fs::rename(&new, &self.path));
        if replaced.is_err() {
            // The first error is the one to report.
            drop(fs::remove_file(&new));
        }
        replaced.map(|()| backup)
    }

    /// Writes `previous` to a backup file, and returns its path. Never overwrites an earlier backup.
    fn back_up(&self, previous: &str, permissions: Option<&Permissions>) -> io::Result<PathBuf> {
        let numbers = (2..).map(|number| format!("before-install-{number}"));
        let names = ["before-install".to_owned()].into_iter().chain(numbers);
        for backup in names.map(|name| self.sibling(&name)) {
            match create(&backup, previous, permissions) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if fs::read_to_string(&backup).is_ok_and(|kept| kept == previous) {
                        return Ok(backup);
                    }
                }
                created => return created.map(|()| backup),
            }
        }
        unreachable!("there is always a next number")
    }

    /// Checks that the client has not written the file since it was read.
    fn check_unchanged(&self) -> io::Result<()> {
        if Self::read(&self.path)?.text == self.text {
            return Ok(());
        }
        Err(io::Error::other(
            "the client has just changed the file; run this again",
        ))
    }

    /// Returns the path of this file with `.` and `ending` appended.
    fn sibling(&self, ending: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".");
        name.push(ending);
        name.into()
    }
}

/// Creates a file with `text`, and syncs it to the disk.
fn create(path: &Path, text: &str, permissions: Option<&Permissions>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    if let Some(permissions) = permissions {
        file.set_permissions(permissions.clone())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
