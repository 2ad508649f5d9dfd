//! Child processes.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use sysinfo::{
    Pid, Process, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind,
};

use super::LIMIT;

/// Starts a program with stdin, stdout and stderr piped.
pub(crate) fn spawn_piped(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Returns the workers of server `pid`, in ascending order.
pub(crate) fn workers_of(pid: u32) -> Vec<u32> {
    // Processes that try templates have no name.
    children(pid, |process| {
        let mut arguments = process.cmd().iter();
        arguments.any(|argument| argument.to_string_lossy().starts_with("--name="))
    })
}

/// Returns the child processes of `pid`.
fn children_of(pid: u32) -> Vec<u32> {
    children(pid, |_| true)
}

fn children(pid: u32, is_wanted: impl Fn(&Process) -> bool) -> Vec<u32> {
    let arguments = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always);
    let mut system = System::new().unwrap();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, arguments);
    let children = system.processes().values().filter(|process| {
        process.parent() == Some(Pid::from_u32(pid))
            && process.status() != ProcessStatus::Zombie
            && is_wanted(process)
    });
    // The processes are in no order.
    let children: BTreeSet<u32> = children.map(|process| process.pid().as_u32()).collect();
    children.into_iter().collect()
}

/// Waits until server `pid` has a worker and returns its process id.
pub(crate) fn wait_for_worker_of(pid: u32) -> u32 {
    wait_for_first_of(workers_of, pid)
}

/// Waits until process `pid` has a child and returns its process id.
pub(crate) fn wait_for_child_of(pid: u32) -> u32 {
    wait_for_first_of(children_of, pid)
}

fn wait_for_first_of(processes_of: fn(u32) -> Vec<u32>, pid: u32) -> u32 {
    // The kernel does not report children of another process, so this polls.
    let started = Instant::now();
    loop {
        if let Some(process) = processes_of(pid).first() {
            return *process;
        }
        assert!(started.elapsed() < LIMIT, "{pid} starts no process");
        thread::yield_now();
    }
}
