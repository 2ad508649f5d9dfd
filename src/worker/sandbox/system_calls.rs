//! Denies system calls to a model's process with seccomp filters: those that Landlock does not restrict.
//!
//! A denied call fails and does not end the process, since libraries try some calls and work without them. Other calls are allowed: a list
//! of allowed calls would have to cover every C library, allocator and driver.

mod lists;

use std::env::consts::ARCH;
use std::{env, process};

use libc::c_int;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter, sock_filter,
};

use crate::gpu;
use lists::{CREATION, DENIED, FCNTLS, IOCTLS, NAMESPACES};
pub(super) use seccompiler::Error;

/// Variables with which users bind OpenMP's threads to CPUs. OpenMP passes the ids of threads, which a filter cannot distinguish from those
/// of other processes.
const BINDING_VARIABLES: [&str; 4] = [
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
];

/// Denies the calls to this thread, and to those that it starts from now on. If `may_create`, calls that create, rename and remove files
/// stay allowed. Calls of the 32-bit ABI end the process.
///
/// # Errors
/// The kernel does not support seccomp filters.
pub(super) fn deny(may_create: bool) -> Result<(), Error> {
    for program in [second_abi(), clone3()?, listed(may_create)?] {
        if !program.is_empty() {
            apply_filter(&program)?;
        }
    }
    Ok(())
}

/// Returns the filter that denies the calls of [`lists`].
fn listed(may_create: bool) -> Result<BpfProgram, Error> {
    let whole = DENIED.iter().copied().flatten();
    let whole = whole.filter(|call| !may_create || !CREATION.contains(call));
    let whole = whole.map(|call| (*call, Vec::new()));
    let rules = whole.chain(conditional()?).collect();
    compile(rules, libc::EPERM)
}

/// Makes one call fail with `error`, as on an older kernel.
#[cfg(test)]
pub(super) fn deny_one(call: i64, error: c_int) -> Result<(), Error> {
    apply_filter(&compile([(call, Vec::new())].into(), error)?)
}

/// Returns the filter that denies `clone3`, whose flags are in memory where no filter can read them. C libraries fall back to `clone`.
fn clone3() -> Result<BpfProgram, Error> {
    compile([(libc::SYS_clone3, Vec::new())].into(), libc::ENOSYS)
}

type Rules = std::collections::BTreeMap<i64, Vec<SeccompRule>>;

fn compile(rules: Rules, error: c_int) -> Result<BpfProgram, Error> {
    let denial = SeccompAction::Errno(error.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denial, ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

/// Returns the filter that denies x32, a second ABI in which a kernel may offer every call of `x86_64` under another number.
fn second_abi() -> BpfProgram {
    const BIT: u32 = 0x4000_0000;
    let step = |code: u32, jf: u8, k: u32| sock_filter {
        code: u16::try_from(code).expect("codes have 16 bits"),
        jt: 0,
        jf,
        k,
    };
    if ARCH != "x86_64" {
        return Vec::new();
    }
    vec![
        // The first word of a filter's input is the number of the call.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, BIT),
        step(
            libc::BPF_RET | libc::BPF_K,
            0,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs(),
        ),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Returns the calls that are denied only with certain arguments, with their rules.
fn conditional() -> Result<Vec<(i64, Vec<SeccompRule>)>, Error> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let own_process = u64::from(process::id());
    let thread = flag(libc::CLONE_THREAD);
    let mut clones = vec![when(0, MaskedEq(thread), 0)?];
    for namespace in NAMESPACES {
        let namespace = flag(*namespace);
        clones.push(when(0, MaskedEq(namespace), namespace)?);
    }
    let mut rules = vec![
        // A child process would outlive this one, outside every limit. Threads are allowed.
        (libc::SYS_clone, clones),
        // `abort` sends a signal to its own process.
        (libc::SYS_tgkill, vec![when(0, Ne, own_process)?]),
        (libc::SYS_prlimit64, vec![when(0, Ne, 0)?]),
        // Keeps the parent-death signal, with which the kernel ends this process with the server.
        (
            libc::SYS_prctl,
            vec![when(0, Eq, flag(libc::PR_SET_PDEATHSIG))?],
        ),
        (libc::SYS_ioctl, any_of(IOCTLS)?),
        (libc::SYS_fcntl, any_of(FCNTLS)?),
    ];
    if !gpu::IN_BUILD {
        let write_and_run = flag(libc::PROT_WRITE | libc::PROT_EXEC);
        let run = flag(libc::PROT_EXEC);
        // All code comes from files, except in GPU drivers, which generate some.
        rules.extend([
            (
                libc::SYS_mmap,
                vec![when(2, MaskedEq(write_and_run), write_and_run)?],
            ),
            (libc::SYS_mprotect, vec![when(2, MaskedEq(run), run)?]),
            (libc::SYS_pkey_mprotect, vec![when(2, MaskedEq(run), run)?]),
            // A thread may lower its own priority: kind 0 (`PRIO_PROCESS`), id 0.
            (
                libc::SYS_setpriority,
                vec![when(0, Ne, 0)?, when(1, Ne, 0)?],
            ),
        ]);
    }
    let binds = |name: &&str| env::var_os(name).is_some();
    if !gpu::IN_BUILD && !BINDING_VARIABLES.iter().any(binds) {
        rules.push((libc::SYS_sched_setaffinity, vec![when(0, Ne, 0)?]));
    }
    Ok(rules)
}

/// Returns rules that match a call whose second argument is one of `commands`.
fn any_of(commands: &[u32]) -> Result<Vec<SeccompRule>, Error> {
    let commands = commands.iter();
    commands
        .map(|command| when(1, SeccompCmpOp::Eq, u64::from(*command)))
        .collect()
}

/// Returns a rule that matches a call by its `argument`, counted from 0. The kernel reads 32 bits of all arguments used here.
fn when(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, Error> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

fn flag(bits: c_int) -> u64 {
    u64::from(bits.cast_unsigned())
}
