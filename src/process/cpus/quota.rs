//! The CPU quotas of the cgroups around this process, versions 1 and 2.
//!
//! Formats: the kernel's `admin-guide/cgroup-v2.rst` and `scheduler/sched-bwc.rst`.

use std::fs;
use std::path::Path;

use super::CpuQuota;
use crate::cgroup::{self, Cgroup, Version};

/// Returns the smallest quota, read from the files below `system`, the root of the file system; `None` if no cgroup has one.
pub(super) fn smallest(system: &Path) -> Option<CpuQuota> {
    let around = cgroup::around_this_process(system, "cpu");
    around.found.iter().filter_map(quota).min()
}

/// Returns the quota of `cgroup`; `None` if it has none.
fn quota(cgroup: &Cgroup) -> Option<CpuQuota> {
    let read = |name: &str| fs::read_to_string(cgroup.folder.join(name)).ok();
    match cgroup.version {
        // `-1` means unlimited.
        Version::V1 => parse(
            &read("cpu.cfs_quota_us")?,
            read("cpu.cfs_period_us")?.as_str(),
        ),
        // `150000 100000`, or `max 100000`.
        Version::V2 => {
            let text = read("cpu.max")?;
            let (quota, period) = text.trim().split_once(' ')?;
            parse(quota, period)
        }
    }
}

/// Returns a quota of `quota` microseconds every `period` microseconds; `None` if they are not two positive numbers.
fn parse(quota: &str, period: &str) -> Option<CpuQuota> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let thousandths = number(quota)?.checked_mul(1000)?;
    Some(CpuQuota(thousandths.checked_div(number(period)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::example::System;

    /// Returns the quota of the system `name` in thousandths of a CPU.
    fn quota_of(name: &str) -> Option<u64> {
        let system = System::unpack("cpu", name);
        smallest(&system.0).map(|CpuQuota(thousandths)| thousandths)
    }

    #[test]
    fn a_container_sees_its_quota() {
        assert_eq!(quota_of("docker-v1"), Some(1500));
        assert_eq!(quota_of("docker-v2"), Some(500));
    }

    #[test]
    fn the_quota_of_a_parent_applies() {
        assert_eq!(quota_of("systemd-v2-slice"), Some(2000));
        assert_eq!(quota_of("kubernetes-v1"), Some(250));
    }

    #[test]
    fn without_a_quota_or_with_malformed_files_there_is_none() {
        for name in ["unlimited-v1", "unlimited-v2", "broken"] {
            assert_eq!(quota_of(name), None, "{name}");
        }
    }
}
