//! A client's file is replaced at once, or not at all; what it was is kept beside it.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A file as it was read.
#[derive(Debug)]
pub(crate) struct Found {
    /// The file itself, where its name is a link.
    path: PathBuf,
    /// What it holds; nothing where it does not exist.
    text: Option<String>,
}

impl Found {
    /// Reads it; one that does not exist holds nothing.
    ///
    /// # Errors
    /// Where it cannot be read, or is no text.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let path = match fs::canonicalize(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => {
                let path = path.to_owned();
                return Ok(Self { path, text: None });
            }
            path => path?,
        };
        if !fs::metadata(&path)?.is_file() {
            // A pipe would be waited for.
            return Err(io::Error::other("it is no file"));
        }
        let text = Some(fs::read_to_string(&path)?);
        Ok(Self { path, text })
    }

    /// What it holds.
    pub(crate) fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    /// Writes `text` in its place, and gives where the former text is kept.
    ///
    /// # Errors
    /// Where it cannot be written, or was changed meanwhile.
    pub(crate) fn replace(&self, text: &str) -> io::Result<Option<PathBuf>> {
        let permissions = match &self.text {
            Some(_) => Some(fs::metadata(&self.path)?.permissions()),
            None => None,
        };
        let backup = match &self.text {
            Some(former) => Some(self.keep(former, permissions.as_ref())?),
            None => None,
        };
        let new = self.beside(&format!("{}.tmp", std::process::id()));
        let replaced = create(&new, text, permissions.as_ref())
            .and_then(|()| self.check_unchanged())
            .and_then(|()| fs::rename(&new, &self.path));
        if replaced.is_err() {
            // The first error is the one to tell.
            drop(fs::remove_file(&new));
        }
        replaced.map(|()| backup)
    }

    /// Keeps `former` in a file of its own; an earlier one is never overwritten.
    fn keep(&self, former: &str, permissions: Option<&Permissions>) -> io::Result<PathBuf> {
        let numbers = (2..).map(|number| format!("before-install-{number}"));
        let names = ["before-install".to_owned()].into_iter().chain(numbers);
        for backup in names.map(|name| self.beside(&name)) {
            match create(&backup, former, permissions) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if fs::read_to_string(&backup).is_ok_and(|kept| kept == former) {
                        return Ok(backup);
                    }
                }
                created => return created.map(|()| backup),
            }
        }
        unreachable!("numbers do not end")
    }

    /// Clients write their files, too.
    fn check_unchanged(&self) -> io::Result<()> {
        if Self::read(&self.path)?.text == self.text {
            return Ok(());
        }
        Err(io::Error::other(
            "the client has just changed it; run this again",
        ))
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".");
        name.push(ending);
        name.into()
    }
}

/// A new file that is on the disk when this returns.
fn create(path: &Path, text: &str, permissions: Option<&Permissions>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    if let Some(permissions) = permissions {
        file.set_permissions(permissions.clone())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
