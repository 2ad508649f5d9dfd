//! Activity of another process, from the system's counters.

/// Work that a process has done so far. The value stays the same while the process is inactive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Activity {
    /// CPU time, in a unit of the system.
    cpu_time: u64,
    /// Bytes read from a disk plus page faults that read from one. The number grows whenever the process reads. The process of a model that
    /// does not fit in memory reads much and computes little.
    reads: u64,
}

impl Activity {
    /// Returns whether the process has read from a disk since `former`.
    pub(crate) fn has_read_since(&self, former: &Self) -> bool {
        self.reads > former.reads
    }

    #[cfg(test)]
    pub(crate) fn new(cpu_time: u64, reads: u64) -> Self {
        Self { cpu_time, reads }
    }
}

/// Returns the work that process `id` has done so far; `None` if it is unknown. On Linux, threads with a name in `excluded` are ignored.
#[cfg(target_os = "linux")]
pub(crate) fn activity_of(id: u32, excluded: &[&str]) -> Option<Activity> {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).ok()?;
    // A thread that has just ended has no line.
    let lines = threads.filter_map(|thread| {
        let file = thread.ok()?.path().join("stat");
        std::fs::read_to_string(file).ok()
    });
    let all = lines
        .filter_map(|line| parse(&line, excluded))
        .reduce(|all, one| Activity {
            cpu_time: all.cpu_time + one.cpu_time,
            reads: all.reads + one.reads,
        })?;
    Some(Activity {
        reads: all.reads + bytes_read(id).unwrap_or_default(),
        ..all
    })
}

/// Returns the bytes that process `id` has read from a disk (`proc_pid_io(5)`); `None` if they are unknown. Reading ahead causes no page
/// faults, but counts here.
#[cfg(target_os = "linux")]
fn bytes_read(id: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/io")).ok()?;
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix("read_bytes: ")?.parse().ok())
}

/// Returns the work that process `id` has done so far; `None` if it is unknown. On Linux, threads with a name in `excluded` are ignored.
#[cfg(not(target_os = "linux"))]
pub(crate) fn activity_of(id: u32, _excluded: &[&str]) -> Option<Activity> {
    let id = sysinfo::Pid::from_u32(id);
    let mut system = sysinfo::System::new().ok()?;
    let only_it = sysinfo::ProcessesToUpdate::Some(&[id]);
    let what = sysinfo::ProcessRefreshKind::nothing()
        .with_cpu()
        .with_disk_usage();
    system.refresh_processes_specifics(only_it, false, what);
    let process = system.process(id)?;
    Some(Activity {
        cpu_time: process.accumulated_cpu_time(),
        reads: process.disk_usage().total_read_bytes,
    })
}

/// Reads a line of `/proc/PID/task/TID/stat` (`proc_pid_stat(5)`); `None` for a thread whose name is in `excluded`.
#[cfg(target_os = "linux")]
fn parse(stat: &str, excluded: &[&str]) -> Option<Activity> {
    // The name is in parentheses and may contain anything.
    let (head, fields) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once(" (")?;
    // `fields[0]` is the third field of the line.
    let fields: Vec<&str> = fields.split(' ').collect();
    let number = |at: usize| fields.get(at - 3)?.parse::<u64>().ok();
    if excluded.contains(&name) {
        return None;
    }
    Some(Activity {
        cpu_time: number(14)? + number(15)?,
        reads: number(12)?,
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_work_of_a_thread_is_parsed_after_any_name_and_ignored_for_an_excluded_one() {
        let line = "7 (a) b (c) R 1 7 7 0 -1 4194304 100 0 12 0 30 4 0 0 20 0 1 0 5 6 7";
        let expected = Activity {
            cpu_time: 34,
            reads: 12,
        };
        assert_eq!(parse(line, &["a"]), Some(expected));
        assert_eq!(parse(line, &["a) b (c"]), None);
        assert_eq!(parse("7 (a) R 1", &[]), None);
    }

    #[test]
    fn this_process_has_activity_and_a_missing_process_has_none() {
        assert!(activity_of(std::process::id(), &[]).is_some());
        assert_eq!(activity_of(u32::MAX, &[]), None);
    }
}
