//! CPU time of this process, and idle time of the CPUs that it may use.

use std::time::{Duration, Instant};

/// CPU times so far, each summed over the CPUs that this process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CpuTimes {
    /// Time at which the other fields were read.
    at: Instant,
    /// CPU time of this process.
    own: Duration,
    /// Time without work, including waits for I/O.
    idle: Duration,
    /// Time with low-priority work (`nice` above 0) of all processes.
    low_priority: Duration,
    /// Total time that the system has accounted for, idle time included.
    accounted: Duration,
}

/// CPUs that were free for this process in a period: those that it used, and those that were idle. Fractions are shares of the period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FreeCpus {
    /// Length of the period.
    pub elapsed: Duration,
    /// CPUs that other processes did not use.
    pub unused: f64,
    /// CPUs that other processes did not use, or used for low-priority work, which this process preempts.
    pub available: f64,
}

/// Reads [`CpuTimes`].
#[derive(Debug)]
pub(crate) struct CpuClock {
    /// CPUs that this process may use.
    cpus: Vec<usize>,
    /// Whether this process precedes low-priority work: its `nice` value is 0 or less.
    has_priority: bool,
}

impl CpuClock {
    /// Returns a clock for the CPUs that this process may use; `None` if the system does not report its CPUs.
    #[cfg(target_os = "linux")]
    pub(crate) fn new() -> Option<Self> {
        Some(Self {
            cpus: super::cpus::allowed()?,
            has_priority: rustix::process::getpriority_process(None).is_ok_and(|nice| nice <= 0),
        })
    }

    /// Returns `None`: this system has no safe way to read the times.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn new() -> Option<Self> {
        None
    }

    /// Returns the current times; `None` if the system does not report them.
    #[cfg(target_os = "linux")]
    pub(crate) fn now(&self) -> Option<CpuTimes> {
        use rustix::time::{ClockId, clock_gettime};
        let stat = std::fs::read_to_string("/proc/stat").ok()?;
        let [idle, low_priority, accounted] = parse(&stat, &self.cpus)?;
        let ticks = rustix::param::clock_ticks_per_second();
        let time = |count: u64| Duration::from_millis(count.saturating_mul(1000) / ticks);
        Some(CpuTimes {
            at: Instant::now(),
            own: clock_gettime(ClockId::ProcessCPUTime).try_into().ok()?,
            idle: time(idle),
            low_priority: time(low_priority),
            accounted: time(accounted),
        })
    }

    /// Returns `None`: this system has no safe way to read the times.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn now(&self) -> Option<CpuTimes> {
        let _ = &self.cpus;
        None
    }

    /// Returns the free CPUs between two times; `None` if the accounted time differs by more than a quarter from the elapsed time. Some
    /// emulations of Linux do not account for all time.
    pub(crate) fn free(&self, from: CpuTimes, to: CpuTimes) -> Option<FreeCpus> {
        let elapsed = to.at.duration_since(from.at);
        let during = |time: fn(&CpuTimes) -> Duration| {
            let time = time(&to).saturating_sub(time(&from));
            time.div_duration_f64(elapsed)
        };
        let cpus = u32::try_from(self.cpus.len()).unwrap_or(u32::MAX);
        let accounted = during(|times| times.accounted) / f64::from(cpus);
        if elapsed.is_zero() || !(0.75..1.25).contains(&accounted) {
            return None;
        }
        let unused = during(|times| times.idle) + during(|times| times.own);
        let low_priority = if self.has_priority {
            during(|times| times.low_priority)
        } else {
            0.0
        };
        Some(FreeCpus {
            elapsed,
            unused,
            available: unused + low_priority,
        })
    }
}

/// Returns the idle, low-priority and total ticks of `cpus` from `/proc/stat` (`proc_stat(5)`); `None` if a CPU is missing.
#[cfg(any(target_os = "linux", test))]
fn parse(stat: &str, cpus: &[usize]) -> Option<[u64; 3]> {
    let mut sums = [0; 3];
    let mut found = 0;
    for line in stat.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(cpu) = fields.next().and_then(|name| name.strip_prefix("cpu")) else {
            break;
        };
        if !cpu.parse().is_ok_and(|cpu| cpus.contains(&cpu)) {
            continue;
        }
        // user nice system idle iowait irq softirq steal; guests are part of the user time.
        let ticks: Vec<u64> = fields
            .take(8)
            .map_while(|field| field.parse().ok())
            .collect();
        let [_, nice, _, idle, iowait, ..] = ticks[..] else {
            return None;
        };
        found += 1;
        let of_cpu = [idle + iowait, nice, ticks.iter().sum()];
        for (sum, ticks) in sums.iter_mut().zip(of_cpu) {
            *sum += ticks;
        }
    }
    (found == cpus.len()).then_some(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  30 6 9 300 30 0 3 6 0 0\ncpu0 10 2 3 100 10 0 1 2 0 0\ncpu1 10 2 3 100 10 0 1 2 0 0\ncpu10 10 2 3 100 10 0 1 2 0 0\nintr 5 0\n";

    #[test]
    fn the_times_of_the_usable_cpus_are_added() {
        assert_eq!(parse(STAT, &[0]), Some([110, 2, 128]));
        assert_eq!(parse(STAT, &[1, 10]), Some([220, 4, 256]));
    }

    #[test]
    fn a_missing_cpu_or_a_malformed_file_gives_no_times() {
        assert_eq!(parse(STAT, &[0, 2]), None);
        assert_eq!(parse("cpu0 10 2\n", &[0]), None);
        assert_eq!(parse("", &[0]), None);
    }

    fn times(
        milliseconds: u64,
        own: u64,
        idle: u64,
        low_priority: u64,
        accounted: u64,
    ) -> CpuTimes {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        CpuTimes {
            at: *START + Duration::from_millis(milliseconds),
            own: Duration::from_millis(own),
            idle: Duration::from_millis(idle),
            low_priority: Duration::from_millis(low_priority),
            accounted: Duration::from_millis(accounted),
        }
    }

    fn clock(has_priority: bool) -> CpuClock {
        CpuClock {
            cpus: vec![0, 1],
            has_priority,
        }
    }

    #[test]
    fn own_and_idle_time_is_unused_by_others() {
        let (from, to) = (times(0, 0, 0, 0, 0), times(1000, 900, 600, 250, 2000));
        let free = clock(true).free(from, to).unwrap();
        assert_eq!((free.unused, free.available), (1.5, 1.75));
        let free = clock(false).free(from, to).unwrap();
        assert_eq!((free.unused, free.available), (1.5, 1.5));
    }

    #[test]
    fn without_an_account_of_all_time_nothing_is_known() {
        let (from, to) = (times(0, 0, 0, 0, 0), times(1000, 900, 0, 0, 900));
        assert_eq!(clock(true).free(from, to), None);
        assert_eq!(clock(true).free(from, from), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_reports_its_times() {
        let clock = CpuClock::new().unwrap();
        let times = clock.now().unwrap();
        assert!(times.own > Duration::ZERO && times.accounted > times.idle);
    }
}
