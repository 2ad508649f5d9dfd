//! Short-lived threads, and what it means if the system starts none: its limit on processes and threads is reached, or it lacks memory
//! for a stack. No request is to blame for that, and no change of it helps.

use std::io::{self, Write as _};
use std::panic::{set_hook, take_hook};
use std::sync::Mutex;
use std::thread::{Builder, scope};

use crate::error_code::ErrorCode;

/// A process or a thread that the system did not start for lack of resources: what was to be started, what the system said, and the way
/// out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} could not be started: {cause}; the system's limit on processes and threads is reached, or memory is short: raise `--pids-limit` of the container, `TasksMax` of the systemd unit or `ulimit -u`, or free memory"
)]
pub struct SystemLimit {
    what: &'static str,
    cause: String,
}

impl SystemLimit {
    /// Returns the limit that kept `what` from being started, if `error` is of one; `None` for other errors.
    pub fn of(what: &'static str, error: &io::Error) -> Option<Self> {
        let is_limit = matches!(
            error.kind(),
            // EAGAIN and ENOMEM.
            io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory
        );
        is_limit.then(|| Self::of_thread(what, error))
    }

    /// Returns the limit that kept the thread `what` from being started: there is no other reason.
    pub fn of_thread(what: &'static str, error: &io::Error) -> Self {
        Self {
            what,
            cause: error.to_string(),
        }
    }
}

/// The reason why work on a thread of its own has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotDone {
    /// The system started no thread.
    NoThread(SystemLimit),
    /// The work panicked.
    Panicked,
}

/// Does `work` on a thread of its own with `bytes` of stack, and waits for it.
///
/// # Errors
/// The reason why `work` has no result.
pub fn on_stack<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> Result<T, NotDone> {
    scope(|scope| {
        let thread = Builder::new().stack_size(bytes);
        let thread = thread.spawn_scoped(scope, work);
        let thread = thread
            .map_err(|error| NotDone::NoThread(SystemLimit::of_thread("a thread", &error)))?;
        thread.join().or(Err(NotDone::Panicked))
    })
}

/// Starts a thread called `name` that runs on by itself.
///
/// # Errors
/// The system starts none.
pub fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), SystemLimit> {
    let started = Builder::new().name(name.into()).spawn(work);
    started
        .map(drop)
        .map_err(|error| SystemLimit::of_thread("a thread", &error))
}

/// Checks that the system allows `count` more threads at once, by starting so many that end again. Libraries end the process, or hang,
/// if they lack one, so a start asks beforehand.
///
/// # Errors
/// The system allows fewer.
pub fn check_room(count: usize) -> Result<(), SystemLimit> {
    let gate = Mutex::new(());
    scope(|scope| {
        // They wait here until all are there, or one could not be started.
        let _closed = gate.lock();
        for _ in 0..count {
            let thread = Builder::new().spawn_scoped(scope, || drop(gate.lock()));
            thread.map_err(|error| SystemLimit::of_thread("a thread", &error))?;
        }
        Ok(())
    })
}

/// Does `work` of a library that panics if the system starts no thread for it: such a panic ends the process with a message. To unwind
/// would be no help, since tokio then waits for ever for the threads that it has.
pub fn or_exit<T>(work: impl FnOnce() -> T) -> T {
    let former = take_hook();
    #[expect(clippy::exit, reason = "the unwinding may never end")]
    set_hook(Box::new(|panic| {
        let limit = SystemLimit {
            what: "a thread",
            cause: panic.payload_as_str().unwrap_or("unknown").to_owned(),
        };
        let mut stderr = io::stderr().lock();
        // Nobody is left to tell if stderr is closed.
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

    #[test]
    fn what_the_system_refuses_is_told_with_the_limits_to_raise() {
        let of = |code| SystemLimit::of("the process", &io::Error::from(code));
        let told = of(io::ErrorKind::WouldBlock).unwrap().to_string();
        for part in [
            "the process could not be started",
            "--pids-limit",
            "TasksMax",
            "ulimit -u",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert!(of(io::ErrorKind::OutOfMemory).is_some());
        assert_eq!(of(io::ErrorKind::NotFound), None);
    }

    #[test]
    fn a_stack_that_no_system_has_is_a_limit_of_the_system() {
        assert_eq!(on_stack(1 << 20, || 7), Ok(7));
        assert!(matches!(on_stack(1 << 62, || 7), Err(NotDone::NoThread(_))));
        assert_eq!(
            on_stack(1 << 20, || panic!("as a bug would")),
            Err::<(), _>(NotDone::Panicked)
        );
    }

    #[test]
    fn there_is_room_for_a_few_threads() {
        assert_eq!(check_room(3), Ok(()));
    }
}
