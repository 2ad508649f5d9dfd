//! Systems with cgroups, for tests: each file of `tests/cgroups` holds what `/proc` and `/sys` show on one system.

use std::fs;
use std::path::{Path, PathBuf};

/// A root folder with the files of one system; removed at the end.
pub(crate) struct System(pub PathBuf);

impl System {
    /// Unpacks `tests/cgroups/CONTROLLER/NAME.txt`: a line `== PATH`, then the content of the file.
    pub(crate) fn unpack(controller: &str, name: &str) -> Self {
        let file = folder_of(controller).join(format!("{name}.txt"));
        let text = fs::read_to_string(file).unwrap();
        let own = format!("cgroups-{}-{controller}-{name}", std::process::id());
        let root = std::env::temp_dir().join(own);
        for file in text.split("\n== ").skip(1) {
            let (path, content) = file.split_once('\n').unwrap_or((file, ""));
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{content}\n")).unwrap();
        }
        Self(root)
    }
}

/// Returns the folder with the systems of `controller`.
pub(crate) fn folder_of(controller: &str) -> PathBuf {
    let systems = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cgroups");
    systems.join(controller)
}

impl Drop for System {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
