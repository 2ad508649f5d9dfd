//! Process entry: parse, run, print one error, choose the exit code. `cpu.c` has checked the CPU before.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use llama_mcp_server::cli::{Cli, WORKER, WorkerCli};
use llama_mcp_server::config::http::AUTH_VARIABLE;
use llama_mcp_server::config::{Config, ConfigError, Surroundings};
use llama_mcp_server::process::ProtocolOutput;
use llama_mcp_server::{app, process, telemetry, worker};

/// How the program ends when it does not end in order.
enum Failure {
    /// 1: it failed while it ran.
    Run(anyhow::Error),
    /// 2: usage or configuration.
    Config(ConfigError),
}

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = env::args_os().collect();
    let result = if arguments.get(1).is_some_and(|argument| argument == WORKER) {
        arguments.remove(1);
        work(&WorkerCli::parse_from(arguments))
    } else {
        serve(Cli::parse_from(arguments))
    };
    result.unwrap_or_else(|failure| failure.report())
}

fn work(cli: &WorkerCli) -> Result<ExitCode, Failure> {
    let output = take_stdout()?;
    telemetry::init_worker();
    let served = worker::serve::run(cli.parent, output);
    Ok(if served {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn serve(cli: Cli) -> Result<ExitCode, Failure> {
    let output = take_stdout()?;
    let _log = telemetry::init_server();
    let around = Surroundings {
        cpus: process::available_cpus(),
        // What is no text is no token either, which is told with its name.
        auth: env::var_os(AUTH_VARIABLE).map(|token| token.to_string_lossy().into_owned()),
    };
    let config = Config::resolve(&cli.serve.into_overrides(), &around).map_err(Failure::Config)?;
    for note in &config.notes {
        tracing::info!("{note}");
    }
    app::run(&config, output).map_err(Failure::Run)?;
    Ok(ExitCode::SUCCESS)
}

fn take_stdout() -> Result<Box<dyn ProtocolOutput>, Failure> {
    process::take_stdout()
        .context("could not take standard output")
        .map_err(Failure::Run)
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
