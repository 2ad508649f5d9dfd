//! Events in the life of a runner.

use std::time::Duration;

/// Process id, and time since the last step, of the process behind a runner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProcessStatus {
    /// Process id; `None` until the process is started.
    pub pid: Option<u32>,
    /// Time since the last finished step; `None` if the process has no work.
    pub silence: Option<Duration>,
}

/// An event in the life of a runner. Events come in this order, but `Measured` may come at any time before `Ending`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Life {
    /// The model is loaded, and calls are served.
    Loaded,
    /// The process takes this many bytes of memory, more than before.
    Measured(u64),
    /// The runner accepts no more calls.
    Ending(Ended),
    /// The process has exited, and its memory is free.
    Gone,
}

/// Reason why a runner accepts no more calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The model is no longer needed.
    Done,
    /// The process received SIGTERM. This does not count as a failure of the model.
    Terminated,
    /// The model could not be loaded, for this cause.
    LoadFailed(String),
    /// The process died of this cause while loading.
    DiedLoading(String),
    /// The process died of this cause after loading.
    Died(String),
}
