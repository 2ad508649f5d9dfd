//! Signals and processes on Linux.

use std::process::Command;

use super::LIMIT;

/// Sends a signal such as `TERM`. Does nothing if the process has already ended.
pub(crate) fn signal_process(pid: u32, signal: &str) {
    signal_processes(&[pid], signal);
}

/// Sends a signal to all of `pids` at once, as terminals and service managers do.
pub(crate) fn signal_processes(pids: &[u32], signal: &str) {
    let sent = Command::new("kill")
        .env("LC_ALL", "C")
        .arg(format!("-{signal}"))
        .args(pids.iter().map(u32::to_string))
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&sent.stderr);
    assert!(
        sent.status.success() || message.contains("No such process"),
        "{message}"
    );
}

/// Handles signals that this process inherited as ignored, for example from a background shell: its child processes would ignore them, too.
pub(crate) fn stop_ignoring_signals() {
    use signal_hook::consts::{SIGHUP, SIGINT};
    static DONE: std::sync::Once = std::sync::Once::new();
    DONE.call_once(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        for signal in [SIGHUP, SIGINT] {
            if ignored.is_some_and(|ignored| ignored & (1 << (signal - 1)) != 0) {
                signal_hook::flag::register(signal, std::sync::Arc::default()).unwrap();
            }
        }
    });
}

/// Waits until process `pid` has ended.
pub(crate) fn wait_for_end_of(pid: u32) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // A process that has already been reaped cannot be opened.
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(rustix::io::Errno::SRCH) => return,
        Err(error) => panic!("{pid:?} cannot be watched: {error}"),
    };
    let limit = Timespec::try_from(LIMIT).unwrap();
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)).unwrap();
    assert_eq!(ended, 1, "{pid:?} does not end");
}

/// Returns a memory field of a process, such as `VmHWM`, in bytes.
pub(crate) fn memory_of(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes * 1024
}
