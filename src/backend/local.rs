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

use super::{Life, Need, Offer, Runner, SharedPrefixes};
use crate::config::GgufSource;
use crate::engine::shared_prefix::longest;
use crate::worker::{Grant, Launch};
pub(super) use process::Launcher;
use task::Task;

/// Starts a process for the model `name` of `source`, and returns at once. If the process cannot start or load the model, every call gets an
/// error. `life` is called with each event. The process keeps the shared prefixes in `prefixes` cached, and follows their changes.
pub(super) fn start(
    launcher: &Launcher,
    name: &str,
    source: &GgufSource,
    offer: Offer,
    prefixes: watch::Receiver<SharedPrefixes>,
    life: impl Fn(Life) + Send + 'static,
) -> Runner {
    let need = offer.need.as_ref();
    if let Some(need) = need {
        memory::log_offload(name, source, need);
    }
    let is_on_cpus = memory::cpu_threads(source, need).is_some();
    let mut launch = Launch {
        settings: source.settings.clone(),
        grant: Grant {
            plan: need.map(Need::context_plan),
            memory_limit: Some(offer.memory_limit),
            shared_prefix_bytes: longest(&prefixes.borrow()),
            ..Grant::default()
        },
    };
    let (runner, inbox) = Runner::new(name);
    let (launcher, name) = (launcher.clone(), name.to_owned());
    tokio::spawn(async move {
        if is_on_cpus {
            launch.grant.cpu_locks = launcher.cpu_locks().await;
        }
        launch.grant.driver_cache = launcher.driver_cache(launch.planned_settings()).await;
        Task::run(launcher, name, launch, prefixes, inbox, Box::new(life)).await;
    });
    runner
}
