//! The memory limits of the cgroups around this process, versions 1 and 2.
//!
//! Formats: the kernel's `admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst`.

use std::fs;
use std::path::Path;

use super::{Capacity, CgroupLimit};
use crate::cgroup::{self, Version};

/// Limits from here on mean "unlimited" in version 1 (`PAGE_COUNTER_MAX`, rounded down to whole pages).
const UNLIMITED: u64 = 1 << 62;

/// Returns the limit on this process, read from the files below `system`, the root of the file system.
pub(super) fn limit(system: &Path) -> CgroupLimit {
    let around = cgroup::around_this_process(system, "memory");
    let counted = around
        .found
        .iter()
        .filter(|cgroup| cgroup.level == 0 || counts_children(cgroup.version, &cgroup.folder));
    let limits = counted.filter_map(|cgroup| capacity(cgroup.version, &cgroup.folder));
    let limit = limits.reduce(|one, other| Capacity {
        total: one.total.min(other.total),
        free: one.free.min(other.free),
    });
    match limit {
        Some(limit) => CgroupLimit::Bytes(limit),
        None if around.is_hidden => CgroupLimit::Hidden,
        None => CgroupLimit::None,
    }
}

/// Returns whether the limit of the cgroup at `folder` applies to its children. In version 1 this is configurable.
fn counts_children(version: Version, folder: &Path) -> bool {
    let choice = fs::read_to_string(folder.join("memory.use_hierarchy"));
    version == Version::V2 || choice.map_or(true, |choice| choice.trim() != "0")
}

/// Returns the limit of the cgroup at `folder` and its free part; `None` if the cgroup has no limit.
fn capacity(version: Version, folder: &Path) -> Option<Capacity> {
    let number = |name: &str| {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let (limits, used) = match version {
        Version::V1 => {
            // Includes the limits of parents that the mount does not show.
            let of_all = value(&stat, "hierarchical_memory_limit");
            let limits = [number("memory.limit_in_bytes"), of_all];
            (limits, number("memory.usage_in_bytes"))
        }
        // `max` is not a number. Above `memory.high` the kernel slows the processes down and reclaims their memory.
        Version::V2 => {
            let limits = [number("memory.max"), number("memory.high")];
            (limits, number("memory.current"))
        }
    };
    let limits = limits.into_iter().flatten();
    let total = limits.filter(|limit| *limit < UNLIMITED).min()?;
    let used = used
        .unwrap_or(0)
        .saturating_sub(reclaimable(version, &stat));
    Some(Capacity {
        total,
        free: total.saturating_sub(used),
    })
}

/// Returns the used bytes that the kernel can reclaim: file pages and caches of file names, of the cgroup and its children.
/// `MemAvailable` counts the same for the machine.
fn reclaimable(version: Version, stat: &str) -> u64 {
    let keys: &[&str] = match version {
        Version::V1 => &["total_inactive_file", "total_active_file"],
        Version::V2 => &["inactive_file", "active_file", "slab_reclaimable"],
    };
    let values = keys.iter().filter_map(|key| value(stat, key));
    values.fold(0, u64::saturating_add)
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
