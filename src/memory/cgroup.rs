//! The memory limits of the cgroups around this process, versions 1 and 2.
//!
//! `/proc/self/cgroup` has the path of the process's cgroup in each hierarchy. `/proc/self/mountinfo` has the mount points of the
//! hierarchies, and the cgroup at the root of each mount. Together they give the folder of the process's own cgroup. Its parents are
//! the folders above it, up to the mount point, and all their limits apply.
//!
//! Formats: `cgroups(7)`, `proc_pid_mountinfo(5)`, the kernel's `admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use super::{Capacity, CgroupLimit};

/// Limits from here on mean "unlimited" in version 1 (`PAGE_COUNTER_MAX`, rounded down to whole pages).
const UNLIMITED: u64 = 1 << 62;

/// Version of a hierarchy, which decides the names of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// The mount of a hierarchy with the memory controller.
#[derive(Debug)]
struct Mount {
    version: Version,
    /// Path of the cgroup that appears at `point`.
    root: PathBuf,
    /// Folder in the file system.
    point: PathBuf,
}

/// Returns the limit on this process, read from the files below `system`, the root of the file system.
pub(super) fn limit(system: &Path) -> CgroupLimit {
    let read = |name: &str| fs::read(system.join("proc/self").join(name)).ok();
    let Some(memberships) = read("cgroup").map(|lines| memberships(&lines)) else {
        return CgroupLimit::None;
    };
    let mounts = read("mountinfo").map_or_else(Vec::new, |lines| mounts(&lines));
    let mut limits = Vec::new();
    let mut is_hidden = !memberships.is_empty();
    for (version, path) in &memberships {
        let of_version = || mounts.iter().filter(|mount| mount.version == *version);
        let own: Vec<PathBuf> = of_version().flat_map(|mount| mount.folders(path)).collect();
        // Next to version 1, a unified hierarchy without controllers has no files about memory.
        is_hidden &= own.is_empty();
        let folders = if own.is_empty() {
            // The best guess is the root of the mount: in a container that is the container's own cgroup.
            of_version().map(|mount| mount.point.clone()).collect()
        } else {
            own
        };
        let folders = folders
            .iter()
            .filter_map(|folder| folder.strip_prefix("/").ok());
        let counted = folders
            .enumerate()
            .map(|(level, folder)| (level, system.join(folder)))
            .filter(|(level, folder)| *level == 0 || version.counts_children(folder));
        limits.extend(counted.filter_map(|(_, folder)| version.capacity(&folder)));
    }
    let limit = limits.into_iter().reduce(|one, other| Capacity {
        total: one.total.min(other.total),
        free: one.free.min(other.free),
    });
    match limit {
        Some(limit) => CgroupLimit::Bytes(limit),
        None if is_hidden => CgroupLimit::Hidden,
        None => CgroupLimit::None,
    }
}

/// Returns the cgroups that may limit the process's memory, from the lines of `/proc/self/cgroup`: `5:cpu,memory:/path` in
/// version 1, `0::/path` in version 2.
///
/// A system has the memory controller in one version. If that is version 1, the result omits version 2.
fn memberships(lines: &[u8]) -> Vec<(Version, PathBuf)> {
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
        } else if has_memory(controllers) {
            return vec![(Version::V1, path)];
        }
    }
    found
}

/// Returns the mounts of hierarchies from the lines of `/proc/self/mountinfo`:
/// `30 23 0:26 /root /point rw,relatime shared:9 - cgroup source rw,memory`.
fn mounts(lines: &[u8]) -> Vec<Mount> {
    let lines = lines.split(|byte| *byte == b'\n');
    lines.filter_map(mount).collect()
}

fn mount(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let end = fields.iter().position(|field| *field == b"-")?;
    let [kind, _source, options] = fields.get(end + 1..end + 4)? else {
        return None;
    };
    let version = match *kind {
        b"cgroup2" => Version::V2,
        b"cgroup" if has_memory(options) => Version::V1,
        _ => return None,
    };
    Some(Mount {
        version,
        root: unescaped(fields.get(3)?),
        point: unescaped(fields.get(4)?),
    })
}

fn has_memory(list: &[u8]) -> bool {
    list.split(|byte| *byte == b',')
        .any(|word| word == b"memory")
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

impl Version {
    /// Returns whether the limit of the cgroup at `folder` applies to its children. In version 1 this is configurable.
    fn counts_children(self, folder: &Path) -> bool {
        let choice = fs::read_to_string(folder.join("memory.use_hierarchy"));
        self == Self::V2 || choice.map_or(true, |choice| choice.trim() != "0")
    }

    /// Returns the limit of the cgroup at `folder` and its free part; `None` if the cgroup has no limit.
    fn capacity(self, folder: &Path) -> Option<Capacity> {
        let number = |name: &str| {
            let text = fs::read_to_string(folder.join(name)).ok()?;
            text.trim().parse::<u64>().ok()
        };
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let (limits, used) = match self {
            Self::V1 => {
                // Includes the limits of parents that the mount does not show.
                let of_all = value(&stat, "hierarchical_memory_limit");
                let limits = [number("memory.limit_in_bytes"), of_all];
                (limits, number("memory.usage_in_bytes"))
            }
            // `max` is not a number. Above `memory.high` the kernel slows the processes down and reclaims their memory.
            Self::V2 => {
                let limits = [number("memory.max"), number("memory.high")];
                (limits, number("memory.current"))
            }
        };
        let limits = limits.into_iter().flatten();
        let total = limits.filter(|limit| *limit < UNLIMITED).min()?;
        let used = used.unwrap_or(0).saturating_sub(self.reclaimable(&stat));
        Some(Capacity {
            total,
            free: total.saturating_sub(used),
        })
    }

    /// Returns the used bytes that the kernel can reclaim: file pages and caches of file names, of the cgroup and its children.
    /// `MemAvailable` counts the same for the machine.
    fn reclaimable(self, stat: &str) -> u64 {
        let keys: &[&str] = match self {
            Self::V1 => &["total_inactive_file", "total_active_file"],
            Self::V2 => &["inactive_file", "active_file", "slab_reclaimable"],
        };
        let values = keys.iter().filter_map(|key| value(stat, key));
        values.fold(0, u64::saturating_add)
    }
}

/// Returns the number after `key` in the lines of a `memory.stat`.
fn value(stat: &str, key: &str) -> Option<u64> {
    let mut lines = stat.lines();
    lines.find_map(|line| {
        line.strip_prefix(key)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests;
