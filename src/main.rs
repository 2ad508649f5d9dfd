//! Process entry: parse, run, print one error, choose the exit code. `cpu.c` has checked the CPU before.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use llama_mcp_server::cli::{Cli, Command, Transport};
use llama_mcp_server::config::{Config, ConfigError};
use llama_mcp_server::{app, process, telemetry, worker};

/// How the program ends when it does not end in order.
enum Failure {
    /// 1: it failed while it ran.
    Run(anyhow::Error),
    /// 2: usage or configuration.
    Config(ConfigError),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let output = process::take_stdout()
        .context("could not take standard output")
        .map_err(Failure::Run)?;
    if let Some(Command::Worker { parent }) = cli.command {
        telemetry::init_worker();
        let served = worker::serve::run(parent, output);
        return Ok(if served {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let _log = telemetry::init_server();
    if cli.serve.transport == Some(Transport::Http) {
        return Err(Failure::Config(ConfigError::HttpNotBuilt));
    }
    let config = Config::resolve(&cli.serve.into_overrides(), process::available_cpus())
        .map_err(Failure::Config)?;
    for note in &config.notes {
        tracing::info!("{note}");
    }
    app::run(&config, output).map_err(Failure::Run)?;
    Ok(ExitCode::SUCCESS)
}

impl Failure {
    /// Tells it on stderr, with its causes and the way out.
    fn report(&self) -> ExitCode {
        let (error, hint, code): (&dyn Error, _, _) = match self {
            Self::Run(error) => (error.as_ref(), None, 1),
            Self::Config(error) => (error, error.hint(), 2),
        };
        // Nobody is left to tell if stderr is closed.
        drop(print(error, hint));
        ExitCode::from(code)
    }
}

fn print(error: &dyn Error, hint: Option<String>) -> io::Result<()> {
    let mut stderr = io::stderr().lock();
    writeln!(stderr, "error: {error}")?;
    let mut cause = error.source();
    while let Some(error) = cause {
        writeln!(stderr, "  caused by: {error}")?;
        cause = error.source();
    }
    hint.map_or(Ok(()), |hint| writeln!(stderr, "\nhint: {hint}"))
}
