//! The cgroups around this process, versions 1 and 2, as far as a resource controller such as `memory` or `cpu` limits them.
//!
//! `/proc/self/cgroup` has the path of the process's cgroup in each hierarchy. `/proc/self/mountinfo` has the mount points of the
//! hierarchies, and the cgroup at the root of each mount. Together they give the folder of the process's own cgroup. Its parents are
//! the folders above it, up to the mount point, and all their limits apply.
//!
//! Formats: `cgroups(7)`, `proc_pid_mountinfo(5)`, and the kernel's `admin-guide/cgroup-v2.rst`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// Version of a hierarchy, which decides the names of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// A cgroup around this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cgroup {
    /// Version of its hierarchy.
    pub version: Version,
    /// Folder with its files.
    pub folder: PathBuf,
    /// Number of cgroups between it and the process: 0 is the process's own cgroup.
    pub level: usize,
}

/// The cgroups around this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cgroups {
    /// The process's own cgroup and its parents.
    pub found: Vec<Cgroup>,
    /// Whether the files of the process's own cgroup are not mounted. A limit may exist.
    pub is_hidden: bool,
}

/// The mount of a hierarchy with the controller.
#[derive(Debug)]
struct Mount {
    version: Version,
    /// Path of the cgroup that appears at `point`.
    root: PathBuf,
    /// Folder in the file system.
    point: PathBuf,
}

/// Returns the cgroups that `controller` may limit, from the files below `system`, the root of the file system. There are none on a system
/// without cgroups.
pub(crate) fn around_this_process(system: &Path, controller: &str) -> Cgroups {
    let read = |name: &str| fs::read(system.join("proc/self").join(name)).ok();
    let Some(memberships) = read("cgroup").map(|lines| memberships(&lines, controller)) else {
        return Cgroups::default();
    };
    let mounts = read("mountinfo").map_or_else(Vec::new, |lines| mounts(&lines, controller));
    let mut found = Vec::new();
    let mut is_hidden = !memberships.is_empty();
    for (version, path) in memberships {
        let of_version = || mounts.iter().filter(|mount| mount.version == version);
        // A hierarchy may be mounted several times.
        let own: Vec<(usize, PathBuf)> = of_version()
            .flat_map(|mount| mount.folders(&path).into_iter().enumerate())
            .collect();
        // Next to version 1, a unified hierarchy without controllers has no files about resources.
        is_hidden &= own.is_empty();
        let folders = if own.is_empty() {
            // The best guess is the root of the mount: in a container that is the container's own cgroup.
            of_version().map(|mount| (0, mount.point.clone())).collect()
        } else {
            own
        };
        found.extend(folders.into_iter().filter_map(|(level, folder)| {
            let folder = folder.strip_prefix("/").ok()?;
            Some(Cgroup {
                version,
                folder: system.join(folder),
                level,
            })
        }));
    }
    Cgroups { found, is_hidden }
}

/// Returns the cgroups that `controller` may limit, from the lines of `/proc/self/cgroup`: `5:cpu,memory:/path` in version 1, `0::/path`
/// in version 2.
///
/// A system has a controller in one version. If that is version 1, the result omits version 2.
fn memberships(lines: &[u8], controller: &str) -> Vec<(Version, PathBuf)> {
    let mut found = Vec::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let path = PathBuf::from(OsString::from_vec(path.to_vec()));
        if controllers.is_empty() {
            found.push((Version::V2, path));
        } else if contains(controllers, controller) {
            return vec![(Version::V1, path)];
        }
    }
    found
}

/// Returns the mounts of hierarchies from the lines of `/proc/self/mountinfo`:
/// `30 23 0:26 /root /point rw,relatime shared:9 - cgroup source rw,memory`.
fn mounts(lines: &[u8], controller: &str) -> Vec<Mount> {
    let lines = lines.split(|byte| *byte == b'\n');
    lines.filter_map(|line| mount(line, controller)).collect()
}

fn mount(line: &[u8], controller: &str) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let end = fields.iter().position(|field| *field == b"-")?;
    let [kind, _source, options] = fields.get(end + 1..end + 4)? else {
        return None;
    };
    let version = match *kind {
        b"cgroup2" => Version::V2,
        b"cgroup" if contains(options, controller) => Version::V1,
        _ => return None,
    };
    Some(Mount {
        version,
        root: unescaped(fields.get(3)?),
        point: unescaped(fields.get(4)?),
    })
}

/// Returns whether `controller` is in a list such as `rw,cpu,cpuacct`.
fn contains(list: &[u8], controller: &str) -> bool {
    list.split(|byte| *byte == b',')
        .any(|word| word == controller.as_bytes())
}

/// Decodes a path in `mountinfo`, where spaces and the like are written as `\040`.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [byte, behind @ ..] = rest {
        let escaped = behind
            .get(..3)
            .filter(|_| *byte == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() {
            &behind[3..]
        } else {
            behind
        };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

impl Mount {
    /// Returns the folders of the cgroup `path` and of its parents, as far as this mount shows them; its own folder comes first. The
    /// list is empty if `path` is not below the root of the mount.
    fn folders(&self, path: &Path) -> Vec<PathBuf> {
        let Ok(below) = path.strip_prefix(&self.root) else {
            return Vec::new();
        };
        // `/../x` is a cgroup outside of the process's namespace, which no mount of the namespace shows.
        if below
            .components()
            .any(|part| !matches!(part, Component::Normal(_)))
        {
            return Vec::new();
        }
        below
            .ancestors()
            .map(|part| self.point.join(part))
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod example;
