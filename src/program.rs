//! Entry point of the process: parses the command line, runs it, prints the error and chooses the exit code.
//!
//! `cpu.c` has already checked the CPU.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use crate::check::{self, Checked};
use crate::cli::{Cli, WorkerCli, foreign};
use crate::config::{Rejected, Surroundings};
use crate::error_code::Coded;
use crate::process::ProtocolOutput;
use crate::reload::Sources;
use crate::signals::Signals;
use crate::worker::WORKER;
use crate::{app, commands, heap, process, telemetry, threads, worker};
use anyhow::Context;
use clap::Parser;

/// The error with which the program ends.
enum Failure {
    /// Failure at run time; exit code 1.
    Run(anyhow::Error),
    /// Invalid command line or configuration; exit code 2.
    Config(Rejected),
}

/// Runs the program with the arguments of this process, and returns its exit code.
pub fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = env::args_os().collect();
    let result = if arguments.get(1).is_some_and(|argument| argument == WORKER) {
        arguments.remove(1);
        work(&WorkerCli::parse_from(arguments))
    } else {
        serve(parse(&arguments))
    };
    result.unwrap_or_else(|failure| failure.report())
}

/// Parses the command line. Exits with the help, or with an error if the command line is wrong.
fn parse(arguments: &[OsString]) -> Cli {
    if let Some(error) = foreign::unknown_command(arguments) {
        error.exit();
    }
    Cli::try_parse_from(arguments)
        .unwrap_or_else(|error| foreign::unknown_flag(arguments).unwrap_or(error).exit())
}

fn work(cli: &WorkerCli) -> Result<ExitCode, Failure> {
    let mut output = take_stdout()?;
    telemetry::init_worker();
    if cli.describe {
        worker::machine::describe(&mut output)
            .context("could not write to standard output")
            .map_err(Failure::Run)?;
        return Ok(ExitCode::SUCCESS);
    }
    if cli.try_templates {
        worker::trials::serve(io::stdin().lock(), &mut output)
            .context("could not write to standard output")
            .map_err(Failure::Run)?;
        return Ok(ExitCode::SUCCESS);
    }
    let served = worker::serve::run(cli.parent, output);
    Ok(if served {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn serve(cli: Cli) -> Result<ExitCode, Failure> {
    let around = surroundings();
    if let Some(command) = cli.command {
        return commands::run(command, &around).map_err(Failure::Run);
    }
    let signals = Signals::prepare().map_err(|error| Failure::Run(error.into()))?;
    let room = threads::check_room(app::THREADS);
    room.map_err(|limit| Failure::Run(Coded::from(limit).into()))?;
    let output = take_stdout()?;
    let read_at = SystemTime::now();
    let typed = cli.serve.into_overrides(cli.models);
    let checked = check::examine(&typed, &around).and_then(Checked::startable);
    let checked = checked.map_err(Failure::Config)?;
    let log = app::log_output(&checked.config.log);
    let _log = threads::or_exit(|| telemetry::init_server(&log)).map_err(Failure::Run)?;
    let sources = Sources {
        typed,
        around,
        read_at,
    };
    heap::start_purging();
    app::run(checked, sources, signals, output).map_err(Failure::Run)?;
    Ok(ExitCode::SUCCESS)
}

fn surroundings() -> Surroundings {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    Surroundings {
        program: process::this_program().ok(),
        cpus: process::available_cpus(),
        // A token that is not UTF-8 is read with replacement characters, and its check then rejects it by name.
        variables: env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .collect(),
        folders: [
            Some(".".into()),
            dirs::config_dir().map(|folder| folder.join("llama-mcp-server")),
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

fn take_stdout() -> Result<Box<dyn ProtocolOutput>, Failure> {
    process::reserve_stdout()
        .context("could not take standard output")
        .map_err(Failure::Run)
}

impl Failure {
    /// Prints the error to stderr, with its causes and hints, and returns the exit code.
    fn report(&self) -> ExitCode {
        let mut stderr = io::stderr().lock();
        let (printed, code) = match self {
            Self::Run(error) => (print(error, &mut stderr), 1),
            Self::Config(rejected) => (rejected.report(&mut stderr), 2),
        };
        // If stderr is closed, there is no place left to report to.
        drop(printed);
        ExitCode::from(code)
    }
}

fn print(error: &anyhow::Error, stderr: &mut dyn Write) -> io::Result<()> {
    let code = error.downcast_ref::<Coded>().map(|coded| coded.code);
    let code = code.map_or(String::new(), |code| format!("[{code}]"));
    writeln!(stderr, "error{code}: {error}")?;
    for cause in error.chain().skip(1) {
        writeln!(stderr, "  caused by: {cause}")?;
    }
    Ok(())
}
