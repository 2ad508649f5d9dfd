//! The CPUs that this process may use: those of its affinity, limited by the CPU quota of the cgroups around it.

#[cfg(target_os = "linux")]
use std::collections::BTreeSet;
use std::fmt;

#[cfg(target_os = "linux")]
mod quota;

/// Numbers of CPUs, at least one each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cpus {
    /// Logical CPUs. A core may have two.
    pub all: usize,
    /// Physical cores.
    pub cores: usize,
}

/// A CPU quota, in thousandths of a CPU: 1,500 allows 1.5 seconds of CPU time per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CpuQuota(pub u64);

/// Limits on the CPUs that this process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CpuLimits {
    /// CPUs on which this process may run.
    pub affinity: Cpus,
    /// Smallest CPU quota of the cgroups around this process; `None` if they have none.
    pub quota: Option<CpuQuota>,
}

impl Cpus {
    /// Returns `cores` with one logical CPU each.
    pub(crate) fn single(cores: usize) -> Self {
        let all = cores;
        Self { all, cores }
    }
}

impl CpuQuota {
    /// Returns the nearest number of whole CPUs, at least 1.
    ///
    /// With a quota of 1.5 CPUs, 2 threads run for three quarters of the time, which is faster than 1 thread all the time. Measured with
    /// `SmolLM2` on 2 cores, in tokens a second:
    ///
    /// | quota 1.5 | 1 thread | 2 threads |
    /// | --- | --- | --- |
    /// | one stream | 53 | 70 |
    /// | eight streams | 28 | 44 |
    fn to_cpus(self) -> usize {
        let cpus = self.0.saturating_add(500) / 1000;
        usize::try_from(cpus).unwrap_or(usize::MAX).max(1)
    }

    /// Returns whether the kernel throttles `n_threads` threads that always compute, because they use up the quota.
    pub(crate) fn throttles(self, n_threads: usize) -> bool {
        self.0 < (n_threads as u64).saturating_mul(1000)
    }
}

impl fmt::Display for CpuQuota {
    /// Writes the number of CPUs, with as many decimals as needed.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thousandths = u32::try_from(self.0).unwrap_or(u32::MAX);
        write!(formatter, "{}", f64::from(thousandths) / 1000.0)
    }
}

impl CpuLimits {
    /// Reads the current limits.
    pub(crate) fn now() -> Self {
        Self {
            affinity: affinity(),
            quota: quota(),
        }
    }

    /// Returns the CPUs that the process may use.
    pub(crate) fn cpus(self) -> Cpus {
        let Cpus { all, cores } = self.affinity;
        let most = self.quota.map_or(usize::MAX, CpuQuota::to_cpus);
        let all = all.min(most);
        Cpus {
            all,
            cores: cores.clamp(1, all),
        }
    }
}

/// Returns the CPUs that this process may use, limited by its affinity and, on Linux, by the quota of its cgroups.
pub(crate) fn available_cpus() -> Cpus {
    CpuLimits::now().cpus()
}

/// Returns the smallest CPU quota of the cgroups around this process; `None` if they have none. Unlike [`CpuLimits::now`], it does not read
/// the topology of every CPU.
pub(crate) fn cpu_quota() -> Option<CpuQuota> {
    quota()
}

fn affinity() -> Cpus {
    let parallelism = || std::thread::available_parallelism().map_or(1, usize::from);
    let all = allowed().map_or_else(parallelism, |cpus| cpus.len().max(1));
    let cores = cores().unwrap_or(all);
    Cpus { all, cores }
}

/// Returns the numbers of the CPUs on which this process may run; `None` if they are unknown. Unlike the standard library's
/// `available_parallelism`, it leaves the quota out, which the library rounds down.
#[cfg(target_os = "linux")]
pub(super) fn allowed() -> Option<Vec<usize>> {
    let allowed = rustix::thread::sched_getaffinity(None).ok()?;
    let cpus = 0..rustix::thread::CpuSet::MAX_CPU;
    Some(cpus.filter(|cpu| allowed.is_set(*cpu)).collect())
}

/// Returns `None`: this system has no affinity, or no safe way to read it.
#[cfg(not(target_os = "linux"))]
pub(super) fn allowed() -> Option<Vec<usize>> {
    None
}

/// Returns the cores on which this process may run; `None` if they are unknown.
#[cfg(target_os = "linux")]
fn cores() -> Option<usize> {
    let threads_of_core = |cpu| {
        let topology = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        std::fs::read_to_string(topology).ok()
    };
    let cores: Option<BTreeSet<String>> = allowed()?.into_iter().map(threads_of_core).collect();
    cores.map(|cores| cores.len()).filter(|cores| *cores > 0)
}

/// Returns the cores of the machine; `None` if they are unknown.
#[cfg(not(target_os = "linux"))]
fn cores() -> Option<usize> {
    sysinfo::System::physical_core_count().ok()
}

/// Returns the smallest CPU quota of the cgroups around this process; `None` if they have none.
#[cfg(target_os = "linux")]
fn quota() -> Option<CpuQuota> {
    quota::smallest(std::path::Path::new("/"))
}

/// Returns `None`: only Linux has cgroups.
#[cfg(not(target_os = "linux"))]
fn quota() -> Option<CpuQuota> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(all: usize, quota: u64) -> usize {
        let limits = CpuLimits {
            affinity: Cpus::single(all),
            quota: Some(CpuQuota(quota)),
        };
        limits.cpus().all
    }

    #[test]
    fn a_quota_is_rounded_to_whole_cpus_and_never_exceeds_the_affinity() {
        let quotas = [100, 500, 1499, 1500, 2400, 64_000];
        assert_eq!(quotas.map(|quota| cpus(8, quota)), [1, 1, 1, 2, 2, 8]);
    }

    #[test]
    fn the_cores_are_capped_by_the_quota_too() {
        let limits = CpuLimits {
            affinity: Cpus { all: 16, cores: 8 },
            quota: Some(CpuQuota(3000)),
        };
        assert_eq!(limits.cpus(), Cpus { all: 3, cores: 3 });
    }

    #[test]
    fn a_quota_throttles_more_threads_than_it_has_cpus() {
        let quota = CpuQuota(1500);
        assert!(quota.throttles(2));
        assert!(!quota.throttles(1));
    }

    #[test]
    fn this_process_may_use_a_cpu() {
        let limits = CpuLimits::now();
        assert!(limits.cpus().cores >= 1 && limits.cpus().all <= limits.affinity.all);
    }
}
