//! No sockets, by a seccomp filter: calls of the kernel that would make or join one are refused, not deadly.

use std::env::consts::ARCH;

use libc::{SYS_connect, SYS_io_uring_setup, SYS_socket, SYS_socketpair};
use seccompiler::{BpfProgram, Error, SeccompAction, SeccompFilter, apply_filter};

/// What makes a socket, or joins one that was handed down: a pair of datagrams can be turned to any other, and by `io_uring`
/// the kernel makes sockets without a call that a filter sees.
const REFUSED: [i64; 4] = [SYS_socket, SYS_socketpair, SYS_connect, SYS_io_uring_setup];

/// On `x86_64` a kernel may know each call a second time, with this bit: the ABI called x32.
const SECOND_ABI: Option<i64> = if cfg!(target_arch = "x86_64") {
    Some(0x4000_0000)
} else {
    None
};

/// Refuses sockets to this thread and those that it starts from now on; calls of another ABI end the process.
pub(super) fn forbid() {
    match program().and_then(|program| apply_filter(&program)) {
        Ok(()) => tracing::debug!("the model's process makes no sockets"),
        Err(error) => tracing::warn!(%error, "the model's process may still connect to sockets"),
    }
}

fn program() -> Result<BpfProgram, Error> {
    let second = SECOND_ABI
        .into_iter()
        .flat_map(|bit| REFUSED.map(|call| call | bit));
    let rules = REFUSED
        .into_iter()
        .chain(second)
        .map(|call| (call, Vec::new()));
    let refusal = SeccompAction::Errno(libc::EACCES.unsigned_abs());
    let filter = SeccompFilter::new(
        rules.collect(),
        SeccompAction::Allow,
        refusal,
        ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}
