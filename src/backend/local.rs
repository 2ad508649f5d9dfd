//! The backend for models that llama.cpp runs on this machine, each in a process of its own.
//!
//! One task per model owns the process and the table of its calls. The task never waits for a client: progress is sent through a `watch`
//! channel, in which a new state replaces the former one.

pub(crate) mod calls;
mod command_pipe;
mod cpu_turns;
mod lines;
mod liveness;
pub(crate) mod memory;
mod model_log;
pub(crate) mod planner;
mod process;
mod task;
#[cfg(all(test, target_os = "linux"))]
mod tests;
mod watchdog;

use tokio::sync::watch;

use super::{FixedPrompts, Life, Runner};
use crate::worker::Launch;
pub(crate) use process::Launcher;
use task::Task;

/// Starts a process for the model `name`, and returns at once. If the process cannot start or load the model, every call gets an error. `life`
/// is called with each event. The process keeps the shared prefixes in `fixed` cached, and follows their changes.
pub(super) fn start(
    launcher: &Launcher,
    name: &str,
    launch: Launch,
    fixed: watch::Receiver<FixedPrompts>,
    life: impl Fn(Life) + Send + 'static,
) -> Runner {
    let (runner, inbox) = Runner::new(name);
    let (launcher, name) = (launcher.clone(), name.to_owned());
    tokio::spawn(async move {
        Task::run(launcher, name, launch, fixed, inbox, Box::new(life)).await;
    });
    runner
}
