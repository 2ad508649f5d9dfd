//! The sub-commands: each small, over the layers below. They write to standard output, which no protocol uses here.

pub mod config;
pub mod health;

use std::process::ExitCode;

use crate::cli::Command;
use crate::config::Surroundings;

/// Runs `command`.
///
/// # Errors
/// Where standard output cannot be written.
pub fn run(command: Command, around: &Surroundings) -> anyhow::Result<ExitCode> {
    match command {
        Command::Config(command) => config::run(*command, around),
        Command::Health(asked) => health::run(&asked.into_overrides(), around),
    }
}
