//! The sub-commands: each small, over the layers below. They write to standard output, which no protocol uses here.

pub mod config;
pub mod doctor;
pub mod health;
pub mod install;
mod server;
pub mod status;
pub mod unload;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::{Command, manual};
use crate::config::{ConfigError, Surroundings};
use crate::status::Action;

/// What is wrong is the usage or the configuration.
const WRONG: u8 = 2;

/// Runs `command`.
///
/// # Errors
/// Where standard output cannot be written, or the command fails.
pub fn run(command: Command, around: &Surroundings) -> anyhow::Result<ExitCode> {
    match command {
        Command::Config(command) => config::run(*command, around),
        Command::Doctor(asked) => doctor::run(*asked, around),
        Command::Health(server) => health::run(&server.into_overrides(), around),
        Command::Install(asked) => install::run(&asked, around),
        Command::Completions { shell } => print(&manual::completions(shell)),
        Command::Man => print(&manual::manual().context("could not write the manual")?),
        Command::Status(asked) => status::run(asked, around),
        Command::Unload(asked) => unload::run(asked, Action::Unload, around),
        Command::Restart(asked) => unload::run(asked, Action::Restart, around),
    }
}

/// Prints a result.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.context("could not write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// Tells what is wrong with the configuration.
fn refused(error: &ConfigError) -> anyhow::Result<ExitCode> {
    refused_with(error, &[])
}

/// Tells what is wrong with the configuration, and `notes` on it.
fn refused_with(error: &ConfigError, notes: &[String]) -> anyhow::Result<ExitCode> {
    error
        .report_with(notes, &mut io::stderr().lock())
        .context("could not write to standard error")?;
    Ok(ExitCode::from(WRONG))
}
