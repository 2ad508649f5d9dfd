//! Short-lived threads, and the error if the system refuses to start a thread or a process.
//!
//! The system refuses if a limit is reached or memory for a stack is short. The client's request is not the cause, and changing it does not
//! help.

use std::io::{self, Write as _};
use std::panic::{set_hook, take_hook};
use std::sync::Mutex;
use std::thread::{Builder, JoinHandle, scope};

use crate::error_code::{Coded, ErrorCode};

/// The error of a process or thread that the system did not start for lack of resources.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} could not be started: {cause}; {advice}")]
pub struct SystemLimit {
    what: &'static str,
    cause: String,
    advice: &'static str,
}

/// Advice if processes, threads or memory are short.
const MORE_PROCESSES: &str = "the system's limit on processes and threads is reached, or memory is short: raise `--pids-limit` of the container, `TasksMax` of the systemd unit or `ulimit -u`, or free memory";

/// Advice if open files are short.
const MORE_FILES: &str = "the limit on open files is reached: raise `--ulimit nofile` of the container, `LimitNOFILE` of the systemd unit or `ulimit -n`";

impl SystemLimit {
    /// Returns the limit that kept `what` from being started; `None` if `error` has another cause.
    pub fn from_io_error(what: &'static str, error: &io::Error) -> Option<Self> {
        let advice = match error.kind() {
            // EAGAIN and ENOMEM.
            io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => MORE_PROCESSES,
            _ if is_lack_of_files(error) => MORE_FILES,
            _ => return None,
        };
        Some(Self {
            what,
            cause: error.to_string(),
            advice,
        })
    }

    /// Returns the limit that kept a thread from being started. Threads have no other cause of failure.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "`map_err` passes the error by value"
    )]
    pub fn from_thread_error(error: io::Error) -> Self {
        Self {
            what: "a thread",
            cause: error.to_string(),
            advice: MORE_PROCESSES,
        }
    }
}

/// Returns whether this process, or the system, has too many open files.
fn is_lack_of_files(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let number = Errno::from_io_error(error);
        matches!(number, Some(Errno::MFILE | Errno::NFILE))
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
}

impl From<SystemLimit> for Coded {
    fn from(limit: SystemLimit) -> Self {
        ErrorCode::SystemLimit.says(limit.to_string())
    }
}

/// Reason why work on a separate thread has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotDone {
    /// The system refused to start a thread.
    NoThread(SystemLimit),
    /// The work panicked.
    Panicked,
}

/// Does `work` on a separate thread with `bytes` of stack, and waits for it. Call this only from threads that may block, not from async
/// functions.
///
/// # Errors
/// The system refuses to start a thread, or `work` panics.
pub(crate) fn on_stack<T: Send>(
    bytes: usize,
    work: impl FnOnce() -> T + Send,
) -> Result<T, NotDone> {
    scope(|scope| {
        let thread = Builder::new().stack_size(bytes);
        let thread = thread.spawn_scoped(scope, work);
        let thread =
            thread.map_err(|error| NotDone::NoThread(SystemLimit::from_thread_error(error)))?;
        thread.join().or(Err(NotDone::Panicked))
    })
}

/// Starts a thread called `name`.
///
/// # Errors
/// The system refuses to start a thread.
pub(crate) fn start(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, SystemLimit> {
    let started = Builder::new().name(name.into()).spawn(work);
    started.map_err(SystemLimit::from_thread_error)
}

/// Checks that the system allows `count` more threads at once, by starting them and letting them end. Some libraries abort or hang if they
/// cannot start a thread, so this is checked first.
///
/// # Errors
/// The system allows fewer threads.
pub(crate) fn check_room(count: usize) -> Result<(), SystemLimit> {
    let gate = Mutex::new(());
    scope(|scope| {
        // The threads wait for this lock until all are started, or one could not be.
        let _closed = gate.lock();
        for _ in 0..count {
            let thread = Builder::new().spawn_scoped(scope, || drop(gate.lock()));
            thread.map_err(SystemLimit::from_thread_error)?;
        }
        Ok(())
    })
}

/// Does `work` of a library that panics if the system refuses to start a thread. Such a panic ends the process with a message, because tokio
/// would wait forever for its other threads during unwinding.
pub(crate) fn or_exit<T>(work: impl FnOnce() -> T) -> T {
    let former = take_hook();
    #[expect(
        clippy::exit,
        reason = "unwinding could wait forever for tokio's other threads"
    )]
    set_hook(Box::new(|panic| {
        let limit = SystemLimit {
            what: "a thread",
            cause: panic.payload_as_str().unwrap_or("unknown").to_owned(),
            advice: MORE_PROCESSES,
        };
        let mut stderr = io::stderr().lock();
        // If stderr is closed, nobody reads the message.
        drop(writeln!(
            stderr,
            "error[{}]: {limit}",
            ErrorCode::SystemLimit
        ));
        std::process::exit(1);
    }));
    let done = work();
    set_hook(former);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn too_many_open_files_is_an_error_of_a_system_limit() {
        let of = |number| SystemLimit::from_io_error("it", &io::Error::from_raw_os_error(number));
        let text = of(24).unwrap().to_string();
        assert!(text.contains("`ulimit -n`"), "{text}");
        assert!(of(11).unwrap().to_string().contains("`ulimit -u`"));
        assert_eq!(of(2), None);
    }

    #[test]
    fn the_error_names_the_limits_to_raise() {
        let of = |code| SystemLimit::from_io_error("the process", &io::Error::from(code));
        let text = of(io::ErrorKind::WouldBlock).unwrap().to_string();
        for part in [
            "the process could not be started",
            "--pids-limit",
            "TasksMax",
            "ulimit -u",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(of(io::ErrorKind::OutOfMemory).is_some());
        assert_eq!(of(io::ErrorKind::NotFound), None);
    }

    #[test]
    fn an_impossible_stack_size_is_an_error_of_a_system_limit() {
        assert_eq!(on_stack(1 << 20, || 7), Ok(7));
        assert!(matches!(on_stack(1 << 62, || 7), Err(NotDone::NoThread(_))));
        assert_eq!(
            on_stack(1 << 20, || panic!("as a bug would")),
            Err::<(), _>(NotDone::Panicked)
        );
    }

    #[test]
    fn a_few_threads_can_be_started() {
        assert_eq!(check_room(3), Ok(()));
    }
}
