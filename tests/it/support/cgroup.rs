//! Cgroups for individual tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// A cgroup with a memory limit, removed when dropped.
pub(crate) struct Cgroup {
    folder: PathBuf,
    is_v1: bool,
}

impl Cgroup {
    /// Creates a cgroup with a limit of `mebibytes`. Returns `None` if the test lacks the permission.
    pub(crate) fn limited(name: &str, mebibytes: u64) -> Option<Self> {
        let name = format!("llama-mcp-{}-{name}", std::process::id());
        let roots = [("/sys/fs/cgroup/memory", true), ("/sys/fs/cgroup", false)];
        let mut made = roots
            .iter()
            .map(|(root, is_v1)| Self::make(&Path::new(root).join(&name), *is_v1, mebibytes));
        made.find_map(Result::ok)
    }

    /// Creates a child cgroup without a limit of its own.
    pub(crate) fn child(&self) -> Self {
        let folder = self.folder.join("child");
        fs::create_dir(&folder).unwrap();
        Self { folder, ..*self }
    }

    fn make(folder: &Path, is_v1: bool, mebibytes: u64) -> io::Result<Self> {
        // Where cgroups are not mounted this is an ordinary folder; where they are, it may belong to another user.
        fs::metadata(folder.with_file_name("cgroup.procs"))?;
        fs::create_dir(folder)?;
        let made = Self {
            folder: folder.to_owned(),
            is_v1,
        };
        let limit = if is_v1 {
            "memory.limit_in_bytes"
        } else {
            "memory.max"
        };
        fs::write(made.folder.join(limit), (mebibytes << 20).to_string())?;
        Ok(made)
    }

    /// Returns the command that runs `program` in this cgroup.
    pub(crate) fn run(&self, program: &Command) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(self.folder.join("cgroup.procs"))
            .arg(program.get_program())
            .args(program.get_args());
        command
    }

    /// Returns the size of the page cache that is charged to this cgroup, in bytes.
    pub(crate) fn page_cache(&self) -> u64 {
        let key = if self.is_v1 { "total_cache " } else { "file " };
        let stat = fs::read_to_string(self.folder.join("memory.stat")).unwrap();
        let mut lines = stat.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)).unwrap();
        value.parse().unwrap()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Killed processes leave the cgroup with a short delay.
        let started = std::time::Instant::now();
        while fs::remove_dir(&self.folder).is_err() && started.elapsed() < super::LIMIT {
            std::thread::yield_now();
        }
    }
}
