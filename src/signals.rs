//! Signals that end the server.
//!
//! A signal that was ignored when the program started stays ignored: `nohup` ignores SIGHUP, and a shell without job control ignores SIGINT
//! for background programs.

pub(crate) mod worker;

#[cfg(not(unix))]
pub(crate) use other::{EndSignals, Signals};
#[cfg(unix)]
pub(crate) use unix::{EndSignals, Signals};

#[cfg(unix)]
mod unix {
    use std::fs::{self, File};
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::flag;
    use tokio::signal::unix::{Signal, SignalKind, signal};

    /// The signal settings with which this process started.
    #[derive(Debug)]
    pub(crate) struct Signals {
        /// The ignored signals as a bit mask. Bit 0 is signal 1.
        ignored: u64,
        /// Whether the process had a controlling terminal.
        has_terminal: bool,
        /// Whether a signal ends this process immediately. Used for PID 1 only, for which the kernel has no default action.
        ends_at_once: Arc<AtomicBool>,
    }

    impl Signals {
        /// Prepares for signals during startup: SIGTERM and SIGINT end the process, SIGHUP does not.
        ///
        /// # Errors
        /// The system refuses to register a handler.
        pub(crate) fn prepare() -> io::Result<Self> {
            let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
            let signals = Self {
                ignored: ignored_in(&status),
                has_terminal: has_terminal(),
                ends_at_once: Arc::new(AtomicBool::new(true)),
            };
            // SIGHUP requests a reload, but startup reads the configuration anyway.
            flag::register(SIGHUP, Arc::default())?;
            if std::process::id() == 1 {
                for signal in [SIGTERM, SIGINT] {
                    let status = 128 + signal;
                    let condition = Arc::clone(&signals.ends_at_once);
                    flag::register_conditional_shutdown(signal, status, condition)?;
                }
            }
            Ok(signals)
        }

        /// Listens for the signals that end the server. With `has_file`, SIGHUP requests a reload of the configuration instead.
        ///
        /// # Errors
        /// The system refuses to register a handler.
        pub(crate) fn listen(self, has_file: bool) -> io::Result<EndSignals> {
            let listen = |number: i32| {
                let is_ignored = self.ignored & (1 << (number - 1)) != 0;
                let listen = || signal(SignalKind::from_raw(number));
                (!is_ignored).then(listen).transpose()
            };
            let signals = EndSignals {
                terminate: listen(SIGTERM)?,
                interrupt: listen(SIGINT)?,
                hangup: listen(SIGHUP)?,
                has_file,
                has_terminal: self.has_terminal,
            };
            self.ends_at_once.store(false, Ordering::Relaxed);
            Ok(signals)
        }
    }

    /// Listener for the signals that end the server.
    #[derive(Debug)]
    pub(crate) struct EndSignals {
        terminate: Option<Signal>,
        interrupt: Option<Signal>,
        hangup: Option<Signal>,
        has_file: bool,
        has_terminal: bool,
    }

    impl EndSignals {
        /// Waits for the next signal that ends the server. Cancel safe.
        pub(crate) async fn next(&mut self) {
            loop {
                tokio::select! {
                    () = received(&mut self.terminate) => return,
                    () = received(&mut self.interrupt) => return,
                    () = received(&mut self.hangup) => {
                        let is_closed = self.has_terminal && !has_terminal();
                        if is_closed || !self.has_file {
                            return;
                        }
                    }
                }
            }
        }
    }

    async fn received(signal: &mut Option<Signal>) {
        let received = match signal {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if received.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns whether this process has a controlling terminal that is not closed.
    fn has_terminal() -> bool {
        File::open("/dev/tty").is_ok()
    }

    /// Returns the mask of ignored signals in `status`, the text of `/proc/PID/status`; 0 for the empty text of other systems.
    fn ignored_in(status: &str) -> u64 {
        let mut lines = status.lines();
        let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or(0)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn ignored_signals_are_read_from_a_bit_mask() {
            let status = "Name:\tsh\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001003\n";
            let bits = [SIGHUP, SIGINT, 13].map(|signal| 1_u64 << (signal - 1));
            assert_eq!(ignored_in(status), bits.iter().sum::<u64>());
            assert_eq!(ignored_in(""), 0);
        }
    }
}

#[cfg(not(unix))]
#[expect(
    clippy::unnecessary_wraps,
    clippy::unused_self,
    reason = "the interface is that of Unix, where signals can fail"
)]
mod other {
    use std::io;

    /// The signal settings with which this process started. This system has none.
    #[derive(Debug)]
    pub(crate) struct Signals;

    impl Signals {
        /// Does nothing.
        ///
        /// # Errors
        /// Never fails on this system.
        pub(crate) fn prepare() -> io::Result<Self> {
            Ok(Self)
        }

        /// Listens for Ctrl-C.
        ///
        /// # Errors
        /// Never fails on this system.
        pub(crate) fn listen(self, _: bool) -> io::Result<EndSignals> {
            Ok(EndSignals)
        }
    }

    /// Listener for Ctrl-C.
    #[derive(Debug)]
    pub(crate) struct EndSignals;

    impl EndSignals {
        /// Waits for the next Ctrl-C. Cancel safe.
        pub(crate) async fn next(&mut self) {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
