//! Signal handling in a model's process.

use std::io;

/// Leaves SIGINT and SIGTERM to the server. Returns a [`Termination`] to wait for SIGTERM.
///
/// A service manager signals the server and all its workers at once. Running calls must finish then, so a worker must not end by
/// itself. It reports the signal to the server, which knows whether it is ending, too.
///
/// # Errors
/// The system refuses the signal handler.
#[cfg(unix)]
pub(crate) fn leave_to_server() -> io::Result<Termination> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    signal_hook::flag::register(SIGINT, std::sync::Arc::default())?;
    let (received, signal) = io::pipe()?;
    signal_hook::low_level::pipe::register(SIGTERM, signal)?;
    Ok(Termination(received))
}

/// Does nothing: this system has no signals.
///
/// # Errors
/// Never.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "on Unix it can fail")]
pub(crate) fn leave_to_server() -> io::Result<Termination> {
    Ok(Termination)
}

/// Waits for SIGTERM.
#[cfg(unix)]
#[derive(Debug)]
pub(crate) struct Termination(io::PipeReader);

/// Waits for nothing: this system has no signals.
#[cfg(not(unix))]
#[derive(Debug)]
pub(crate) struct Termination;

impl Termination {
    /// Blocks until this process receives SIGTERM. Returns `false` if that can no longer happen.
    #[cfg(unix)]
    pub(crate) fn wait(&mut self) -> bool {
        use std::io::Read;
        self.0.read_exact(&mut [0]).is_ok()
    }

    /// Returns `false`: this system has no signals.
    #[cfg(not(unix))]
    #[expect(clippy::unused_self, reason = "on Unix it reads from a pipe")]
    pub(crate) fn wait(&mut self) -> bool {
        false
    }
}
