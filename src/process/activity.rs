//! Whether another process does anything: what the system counts of its work.

/// What a process, or its main thread, has done so far. A process that stands still keeps its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// CPU time, in a unit of the system.
    cpu_time: u64,
    /// Pages that were read from a disk: a model that does not fit in memory computes little beside that.
    major_faults: u64,
}

#[cfg(test)]
impl Activity {
    /// Makes a value by hand.
    pub(crate) fn new(cpu_time: u64, major_faults: u64) -> Self {
        Self {
            cpu_time,
            major_faults,
        }
    }
}

/// Whose work counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The main thread alone.
    MainThread,
    /// All threads.
    Process,
}

/// Returns what process `id` has done so far; `None` if the system does not tell.
#[cfg(target_os = "linux")]
pub fn activity_of(id: u32, part: Part) -> Option<Activity> {
    let file = match part {
        Part::MainThread => format!("/proc/{id}/task/{id}/stat"),
        Part::Process => format!("/proc/{id}/stat"),
    };
    parse(&std::fs::read_to_string(file).ok()?)
}

/// Returns what process `id` has done so far; `None` if the system does not tell. Counts all threads on this system.
#[cfg(not(target_os = "linux"))]
pub fn activity_of(id: u32, _part: Part) -> Option<Activity> {
    let id = sysinfo::Pid::from_u32(id);
    let mut system = sysinfo::System::new().ok()?;
    let only_it = sysinfo::ProcessesToUpdate::Some(&[id]);
    let cpu = sysinfo::ProcessRefreshKind::nothing().with_cpu();
    system.refresh_processes_specifics(only_it, false, cpu);
    Some(Activity {
        cpu_time: system.process(id)?.accumulated_cpu_time(),
        major_faults: 0,
    })
}

/// Reads a line of `/proc/PID/stat` (proc_pid_stat(5)).
#[cfg(target_os = "linux")]
fn parse(stat: &str) -> Option<Activity> {
    // The name of the program is in parentheses and may contain anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    // The first of these is the third of the line.
    let fields: Vec<&str> = fields.split(' ').collect();
    let number = |at: usize| fields.get(at - 3)?.parse::<u64>().ok();
    Some(Activity {
        cpu_time: number(14)? + number(15)?,
        major_faults: number(12)?,
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_work_of_a_process_is_read_behind_any_name() {
        let line = "7 (a) b (c) R 1 7 7 0 -1 4194304 100 0 12 0 30 4 0 0 20 0 1 0 5 6 7";
        let expected = Activity {
            cpu_time: 34,
            major_faults: 12,
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse("7 (a) R 1"), None);
    }

    #[test]
    fn this_process_and_its_main_thread_are_seen_and_no_process_is_not() {
        let own = std::process::id();
        assert!(activity_of(own, Part::Process).is_some());
        assert!(activity_of(own, Part::MainThread).is_some());
        assert_eq!(activity_of(u32::MAX, Part::Process), None);
    }
}
