//! Total and free memory of the machine and of the cgroups around this process.
//!
//! The page cache counts as free in both. The kernel reclaims it when a process asks for memory, and models' mapped files fill it in
//! normal operation.

#[cfg(target_os = "linux")]
mod cgroup;

/// Total and free memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// All bytes, or the limit.
    pub total: u64,
    /// Bytes of `total` that can still be allocated.
    pub free: u64,
}

/// Limits of the cgroups around this process: its own and all its parents (a container, a systemd service, a slice).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum CgroupLimit {
    /// No cgroup has a limit, or this system has no cgroups.
    #[default]
    None,
    /// The cgroup of this process is not visible to it: its files are not mounted. A limit may exist.
    Hidden,
    /// The smallest limit, and the smallest free amount.
    #[cfg_attr(
        not(any(target_os = "linux", test)),
        expect(dead_code, reason = "only Linux has cgroups")
    )]
    Bytes(Capacity),
}

/// The memory of the machine and the limit on this process, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The machine's memory; `None` if it is unknown.
    pub machine: Option<Capacity>,
    /// The limit on this process.
    pub cgroup: CgroupLimit,
}

impl Memory {
    /// Reads the current state.
    pub(crate) fn now() -> Self {
        Self {
            machine: machine(),
            cgroup: cgroup_limit(),
        }
        .without_ineffective_limit()
    }

    /// Returns the most bytes that this process and its children may use; `None` if they are unknown.
    pub(crate) fn total(&self) -> Option<u64> {
        self.smallest(|capacity| capacity.total)
    }

    /// Returns the bytes that can still be allocated; `None` if they are unknown.
    pub(crate) fn free(&self) -> Option<u64> {
        self.smallest(|capacity| capacity.free)
    }

    fn smallest(&self, bytes: impl Fn(Capacity) -> u64) -> Option<u64> {
        let cgroup = match self.cgroup {
            CgroupLimit::Bytes(capacity) => Some(capacity),
            CgroupLimit::None | CgroupLimit::Hidden => None,
        };
        let both = [self.machine, cgroup].into_iter().flatten();
        both.map(bytes).min()
    }

    /// Drops a limit that is not below the machine's memory, since cgroup v1 reports "unlimited" as a huge number.
    fn without_ineffective_limit(self) -> Self {
        match (self.machine, self.cgroup) {
            (Some(machine), CgroupLimit::Bytes(limit)) if limit.total >= machine.total => Self {
                cgroup: CgroupLimit::None,
                ..self
            },
            _ => self,
        }
    }
}

/// Returns the most bytes that this process and its children may use; `u64::MAX` if they are unknown.
pub(crate) fn total() -> u64 {
    Memory::now().total().unwrap_or(u64::MAX)
}

/// Returns the bytes that can still be allocated; `None` if they are unknown.
pub(crate) fn free() -> Option<u64> {
    Memory::now().free()
}

/// Returns the bytes that can still be allocated while `mapped` bytes of files stay in the page cache, which counts as free; `None` if they
/// are unknown.
pub(crate) fn free_beside(mapped: u64) -> Option<u64> {
    free().map(|bytes| bytes.saturating_sub(mapped))
}

fn machine() -> Option<Capacity> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    let total = Some(system.total_memory()).filter(|bytes| *bytes > 0)?;
    // Some systems report only the total.
    let free = Some(system.available_memory()).filter(|bytes| *bytes > 0);
    Some(Capacity {
        total,
        free: free.unwrap_or(total),
    })
}

#[cfg(target_os = "linux")]
fn cgroup_limit() -> CgroupLimit {
    cgroup::limit(std::path::Path::new("/"))
}

#[cfg(not(target_os = "linux"))]
fn cgroup_limit() -> CgroupLimit {
    CgroupLimit::None
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn bytes(total: u64, free: u64) -> Capacity {
        Capacity { total, free }
    }

    #[test]
    fn total_and_free_are_each_the_smaller_of_machine_and_cgroup() {
        let memory = Memory {
            machine: Some(bytes(100, 10)),
            cgroup: CgroupLimit::Bytes(bytes(40, 30)),
        };
        assert_eq!((memory.total(), memory.free()), (Some(40), Some(10)));
    }

    #[test]
    fn a_limit_that_is_not_below_the_memory_of_the_machine_is_ignored() {
        let memory = Memory {
            machine: Some(bytes(100, 10)),
            cgroup: CgroupLimit::Bytes(bytes(100, 0)),
        };
        assert_eq!(memory.without_ineffective_limit().free(), Some(10));
    }

    #[test]
    fn this_machine_has_memory() {
        let memory = Memory::now();
        assert!(memory.free().unwrap() <= memory.total().unwrap());
    }
}
