//! The subcommands. They print to standard output, which only the server reserves for the protocol.

pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod health;
pub(crate) mod install;
mod server;
pub(crate) mod status;
pub(crate) mod unload;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::{Command, ConfigArgs, manual};
use crate::config::interpolate::read_pipe;
use crate::config::{ConfigError, Overrides, Rejected, Surroundings};
use crate::status::Action;

/// Exit code for an invalid command line or configuration.
const INVALID: u8 = 2;

/// Runs `command`.
///
/// # Errors
/// The command fails, or standard output cannot be written.
pub(crate) fn run(command: Command, around: &Surroundings) -> anyhow::Result<ExitCode> {
    match command {
        Command::Config(command) => config::run(*command, around),
        Command::Doctor(args) => doctor::run(*args, around),
        Command::Health(server) => health::run(&server.into_overrides(), around),
        Command::Install(args) => install::run(&args, around),
        Command::Completions { shell } => print(&manual::completions(shell)),
        Command::Man => print(&manual::manual().context("could not write the manual")?),
        Command::Status(args) => status::run(args, around),
        Command::Unload(args) => unload::run(args, Action::Unload, around),
        Command::Restart(args) => unload::run(args, Action::Restart, around),
    }
}

/// Returns the flags as overrides of the configuration. Reads a configuration that can be read only once: standard input (`-`), or a pipe
/// such as `<(…)` of a shell.
fn overrides(source: ConfigArgs) -> anyhow::Result<Overrides> {
    let mut typed = source.into_overrides();
    let Some(path) = typed.config.clone() else {
        return Ok(typed);
    };
    let is_pipe = fs::metadata(&path).is_ok_and(|found| !found.is_file() && !found.is_dir());
    let text = if path == Path::new("-") {
        typed.config = Some("<stdin>".into());
        Some(read_pipe(io::stdin().lock()))
    } else {
        is_pipe.then(|| read_pipe(File::open(&path)?))
    };
    typed.config_text = text
        .transpose()
        .with_context(|| format!("could not read the configuration `{}`", path.display()))?;
    Ok(typed)
}

/// Prints `text` to standard output.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.context("could not write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the errors of the configuration, and returns the exit code.
fn report_error(error: &ConfigError) -> anyhow::Result<ExitCode> {
    error
        .report(&mut io::stderr().lock())
        .context("could not write to standard error")?;
    Ok(ExitCode::from(INVALID))
}

/// Prints the errors of the configuration and the warnings that may explain them, and returns the exit code.
fn report_rejected(rejected: &Rejected) -> anyhow::Result<ExitCode> {
    rejected
        .report(&mut io::stderr().lock())
        .context("could not write to standard error")?;
    Ok(ExitCode::from(INVALID))
}
