//! Resource usage of processes: CPU time, memory, files, threads.

use std::time::Duration;

use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessesToUpdate, System};

/// Resource usage of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// CPU time since its start, in user and kernel mode.
    pub cpu_time: Duration,
    /// Resident memory, in bytes.
    pub resident: u64,
}

/// Returns the resource usage of process `id`; `None` if it has ended.
pub(crate) fn usage_of(id: u32) -> Option<Usage> {
    look(id, ProcessRefreshKind::nothing(), Usage::from_process).filter(|usage| usage.resident > 0)
}

/// Resource usage of this process. A field is `None` if the system does not report the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnUsage {
    /// CPU time and memory.
    pub usage: Usage,
    /// Start time, in seconds since 1970.
    pub start_time: u64,
    /// Size of the address space, in bytes.
    pub virtual_memory: u64,
    /// Number of open files.
    pub open_files: Option<u64>,
    /// Most files that may be open.
    pub max_open_files: Option<u64>,
    /// Number of threads.
    pub threads: Option<u64>,
}

impl OwnUsage {
    /// Returns the current values; `None` if the system reports none.
    pub(crate) fn now() -> Option<Self> {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        look(
            std::process::id(),
            ProcessRefreshKind::nothing().with_tasks(),
            |process| Self {
                usage: Usage::from_process(process),
                start_time: process.start_time(),
                virtual_memory: process.virtual_memory(),
                open_files: process.open_files().map(number),
                max_open_files: process.open_files_limit().map(number),
                threads: process.tasks().map(|tasks| number(tasks.len())),
            },
        )
    }
}

impl Usage {
    /// Returns the part that remains after the end of the process: the CPU time.
    #[must_use]
    pub(crate) fn without_memory(self) -> Self {
        Self {
            resident: 0,
            ..self
        }
    }

    fn from_process(process: &Process) -> Self {
        Self {
            cpu_time: Duration::from_millis(process.accumulated_cpu_time()),
            resident: process.memory(),
        }
    }
}

/// Refreshes CPU time, memory and `more` of process `id`, and returns the result of `read` on it; `None` if there is no such process.
fn look<T>(id: u32, more: ProcessRefreshKind, read: impl FnOnce(&Process) -> T) -> Option<T> {
    let id = Pid::from_u32(id);
    let mut system = System::new().ok()?;
    let kind = more.with_cpu().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[id]), false, kind);
    system.process(id).map(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_usage_and_a_missing_process_has_none() {
        let now = OwnUsage::now().unwrap();
        assert!(now.usage.resident > 0 && now.start_time > 0, "{now:?}");
        assert!(now.usage.resident < crate::memory::total());
        assert_eq!(usage_of(u32::MAX), None);
        if cfg!(target_os = "linux") {
            assert!(now.threads.unwrap() > 0, "{now:?}");
            assert!(now.open_files.unwrap() > 0, "{now:?}");
            assert!(now.open_files <= now.max_open_files, "{now:?}");
        }
    }
}
