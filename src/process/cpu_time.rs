//! CPU time of this process, and the use of its CPUs by others.

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
    /// Times of the threads that compute; `None` if the system does not report them.
    threads: Option<RunTimes>,
}

/// Times of threads, summed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct RunTimes {
    /// Time on a CPU.
    ran: Duration,
    /// Time in which a thread could run, but had no CPU.
    waited: Duration,
}

impl CpuTimes {
    /// Returns whether the system reports how long threads wait for a CPU.
    pub(crate) fn has_waits(&self) -> bool {
        self.threads.is_some()
    }
}

/// CPUs that seem to be idle although there is work for all: the system counts idle time in hundredths of a second.
const IDLE_IF_FULL: f64 = 0.03;

/// Use of the CPUs in a period, in CPUs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CpuUse {
    /// Length of the period.
    pub elapsed: Duration,
    /// CPUs that this process may use.
    pub all: f64,
    /// CPUs that this process used.
    pub own: f64,
    /// CPUs that other processes used, without their low-priority work, which this process preempts.
    pub others: f64,
    /// Share of the time in which the own threads could run that they ran.
    pub share: f64,
}

impl CpuUse {
    /// Returns the CPUs that other processes did not use.
    pub(crate) fn free(self) -> f64 {
        self.all - self.others
    }

    /// Returns the CPUs that other processes would leave if this process made way. The result is 0 or less if the others alone could fill
    /// the CPUs.
    ///
    /// While a CPU is idle now and then, the others have what they need. Otherwise they may need more than they get: if the kernel lets a
    /// thread run for half of the time in which it could run, the others get about half of what they could use, too. `slack` is added to
    /// that share, since short work of others reduces it.
    ///
    /// ```text
    /// measured on 2 cores:
    /// 2 own threads, 1 busy process: others use 0.95, 0.05 idle   → they need no more and leave 1.05 CPUs
    /// 2 own threads, 2             : others use 1.20, share 0.58  → they could use 2.1 and leave none
    /// 2 own threads, 3             : others use 1.37, share 0.46  → they could use 3.0 and leave none
    /// 1 own thread,  2             : others use 1.39, share 0.62  → they could use 2.2 and leave none
    /// ```
    pub(crate) fn left(self, slack: f64) -> f64 {
        let idle = self.all - self.own - self.others;
        let share = self.share + slack;
        let demand = if idle > IDLE_IF_FULL || share >= 1.0 {
            self.others
        } else {
            self.others / share.max(f64::MIN_POSITIVE)
        };
        self.all - demand
    }
}

/// Reads [`CpuTimes`].
#[derive(Debug)]
pub(crate) struct CpuClock {
    /// CPUs that this process may use.
    cpus: Vec<usize>,
    /// Names of threads that do not compute.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "only Linux reports the times")
    )]
    helpers: &'static [&'static str],
    /// Whether this process precedes low-priority work: its `nice` value is 0 or less.
    has_priority: bool,
}

impl CpuClock {
    /// Returns a clock for the CPUs that this process may use; `None` if the system does not report its CPUs. Threads with a name in
    /// `helpers` do not compute.
    #[cfg(target_os = "linux")]
    pub(crate) fn new(helpers: &'static [&'static str]) -> Option<Self> {
        Some(Self {
            helpers,
            cpus: super::cpus::allowed()?,
            has_priority: rustix::process::getpriority_process(None).is_ok_and(|nice| nice <= 0),
        })
    }

    /// Returns `None`: this system has no safe way to read the times.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn new(_helpers: &'static [&'static str]) -> Option<Self> {
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
            threads: run_times(self.helpers),
        })
    }

    /// Returns `None`: this system has no safe way to read the times.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn now(&self) -> Option<CpuTimes> {
        let _ = &self.cpus;
        None
    }

    /// Returns the use of the CPUs between two times; `None` if the system has not accounted for about all time of the CPUs, as some
    /// emulations of Linux do not.
    pub(crate) fn usage(&self, from: CpuTimes, to: CpuTimes) -> Option<CpuUse> {
        let elapsed = to.at.duration_since(from.at);
        let during = |time: fn(&CpuTimes) -> Duration| {
            let time = time(&to).saturating_sub(time(&from));
            time.div_duration_f64(elapsed)
        };
        let all = f64::from(u32::try_from(self.cpus.len()).unwrap_or(u32::MAX));
        let accounted = during(|times| times.accounted) / all;
        if elapsed.is_zero() || !(0.75..1.25).contains(&accounted) {
            return None;
        }
        let own = during(|times| times.own);
        let low_priority = if self.has_priority {
            during(|times| times.low_priority)
        } else {
            0.0
        };
        // The helper thread for long prompts has a low priority, too, so its time is in both numbers. The error is at most what that
        // thread gets next to other work, a tenth of a CPU: without other work the result is 0 in any case.
        let others = all - during(|times| times.idle) - own - low_priority;
        Some(CpuUse {
            elapsed,
            all,
            own,
            others: others.max(0.0),
            share: share(from.threads, to.threads),
        })
    }
}

/// Returns the share of the time in which threads could run that they ran between two times; 1 if it is unknown.
fn share(from: Option<RunTimes>, to: Option<RunTimes>) -> f64 {
    let (Some(from), Some(to)) = (from, to) else {
        return 1.0;
    };
    // A thread that has ended is missing in the later times.
    let ran = to.ran.saturating_sub(from.ran);
    let runnable = ran + to.waited.saturating_sub(from.waited);
    if runnable.is_zero() {
        return 1.0;
    }
    ran.div_duration_f64(runnable)
}

/// Returns the times of this process's threads without the `helpers`, whose times say nothing about the others: one has a low priority.
/// Returns `None` if the system does not report them.
#[cfg(target_os = "linux")]
fn run_times(helpers: &[&str]) -> Option<RunTimes> {
    let read =
        |thread: &std::path::Path, name: &str| std::fs::read_to_string(thread.join(name)).ok();
    let mut all = None;
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        let thread = thread.ok()?.path();
        // A thread that has just ended has no files.
        let (Some(name), Some(times)) = (read(&thread, "comm"), read(&thread, "schedstat")) else {
            continue;
        };
        if helpers.contains(&name.trim_end()) {
            continue;
        }
        let times = parse_schedstat(&times)?;
        let sum: &mut RunTimes = all.get_or_insert_default();
        sum.ran += times.ran;
        sum.waited += times.waited;
    }
    all
}

/// Parses `/proc/PID/task/TID/schedstat` (the kernel's `scheduler/sched-stats.rst`): nanoseconds on a CPU, nanoseconds of waiting for one,
/// and a number of time slices.
#[cfg(any(target_os = "linux", test))]
fn parse_schedstat(text: &str) -> Option<RunTimes> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    Some(RunTimes {
        ran: Duration::from_nanos(numbers.next()?.ok()?),
        waited: Duration::from_nanos(numbers.next()?.ok()?),
    })
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
#[expect(clippy::float_cmp, reason = "the numbers are exact")]
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
            threads: None,
        }
    }

    fn clock(has_priority: bool) -> CpuClock {
        CpuClock {
            cpus: vec![0, 1],
            helpers: &[],
            has_priority,
        }
    }

    #[test]
    fn others_use_what_is_neither_own_nor_idle_nor_of_low_priority() {
        let (from, to) = (times(0, 0, 0, 0, 0), times(1000, 875, 625, 250, 2000));
        let usage = clock(true).usage(from, to).unwrap();
        assert_eq!((usage.own, usage.others, usage.free()), (0.875, 0.25, 1.75));
        let usage = clock(false).usage(from, to).unwrap();
        assert_eq!((usage.own, usage.others, usage.free()), (0.875, 0.5, 1.5));
    }

    #[test]
    fn own_work_of_low_priority_is_not_taken_for_free_cpus_twice() {
        let (from, to) = (times(0, 0, 0, 0, 0), times(1000, 1500, 500, 500, 2000));
        let usage = clock(true).usage(from, to).unwrap();
        assert_eq!((usage.others, usage.free()), (0.0, 2.0));
    }

    #[test]
    fn others_that_alone_fill_the_cpus_leave_none() {
        let usage = |own, others, share| CpuUse {
            elapsed: Duration::from_secs(1),
            all: 2.0,
            own,
            others,
            share,
        };
        let left = |own, others, share| usage(own, others, share).left(0.0);
        // Measured next to one, two and three busy processes.
        assert!((0.9..1.1).contains(&left(1.0, 0.95, 0.56)));
        assert!((-0.3..0.3).contains(&left(0.8, 1.2, 0.58)));
        assert!((-1.3..-0.7).contains(&left(0.63, 1.37, 0.457)));
        // A CPU is idle, so the others have what they need.
        assert_eq!(left(0.5, 1.0, 0.5), 1.0);
        // Short work of others.
        assert_eq!(usage(0.9, 1.1, 0.9).left(0.1), 2.0 - 1.1);
    }

    #[test]
    fn the_share_of_threads_is_that_of_the_time_in_which_they_could_run() {
        let from = parse_schedstat("1000 500 3\n");
        let to = parse_schedstat("4000 1500 9\n");
        assert_eq!(share(from, to), 0.75);
        assert_eq!((share(from, from), share(None, to)), (1.0, 1.0));
        // A thread has ended.
        assert_eq!(share(to, from), 1.0);
        assert_eq!(parse_schedstat("1000"), None);
    }

    #[test]
    fn without_an_account_of_all_time_nothing_is_known() {
        let (from, to) = (times(0, 0, 0, 0, 0), times(1000, 900, 0, 0, 900));
        assert_eq!(clock(true).usage(from, to), None);
        assert_eq!(clock(true).usage(from, from), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_reports_its_times() {
        let clock = CpuClock::new(&["no such thread"]).unwrap();
        let times = clock.now().unwrap();
        assert!(times.own > Duration::ZERO && times.accounted > times.idle);
        assert!(
            times
                .threads
                .is_none_or(|threads| threads.ran > Duration::ZERO)
        );
    }
}
