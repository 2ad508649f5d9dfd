//! The limit of memory that this process may lock, so that it is never swapped out.

/// Returns how many bytes this process may lock; `None` if there is no limit, or if the limit is unknown.
#[cfg(target_os = "linux")]
pub(crate) fn limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Memlock)
        .current
        .filter(|_| !is_privileged())
}

/// Returns `None`: the limit of this system is unknown.
#[cfg(not(target_os = "linux"))]
pub(crate) fn limit() -> Option<u64> {
    None
}

/// Returns whether the limit does not apply, because the process has `CAP_IPC_LOCK` outside of user namespaces.
#[cfg(target_os = "linux")]
fn is_privileged() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    let can_lock =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    let users = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    // Outside of user namespaces, the mapping is the identity of all users.
    can_lock && users.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Returns what to do if `limit`, in bytes, is too low.
pub(crate) fn advice(limit: u64) -> String {
    format!(
        "the system lets a process lock {} KiB (RLIMIT_MEMLOCK); raise this limit with `docker run --ulimit memlock=-1`, `LimitMEMLOCK=infinity` in the systemd unit or `ulimit -l unlimited`, or remove `mlock`",
        limit / 1024
    )
}
