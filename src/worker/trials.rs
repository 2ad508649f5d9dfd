//! Trials of chat templates in a sandboxed process: a template is untrusted code, which must not harm the server.
//!
//! One process runs the trials of all templates, one after the other, with limits on time, memory and depth. [`Trials`] writes each trial
//! as a line of JSON, reads each result as a line, and starts a new process after a template has ended one.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::environment::passed_on;
use super::{Launch, TRY_TEMPLATES, WORKER, cleaned, sandbox};
use crate::config::LoadSettings;
use crate::config::file::SandboxMode;
use crate::config::units::human;
use crate::engine::template::{self, SystemPrompt, Variables};
use crate::engine::{EngineError, EngineErrorKind, Message};
use crate::threads;

/// Maximum CPU time of a trial, in seconds. The largest real templates take milliseconds.
const CPU_LIMIT: u64 = 2;

/// Longest time of a trial, even on a busy machine.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Longest wait for the exit status of a process that has closed its output.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Maximum address space in bytes, in addition to the program's own: 30 times the need of the largest template.
#[cfg(target_os = "linux")]
const MEMORY_LIMIT: u64 = 1 << 30;

/// Maximum size of a result, in bytes.
const MAX_RESULT: u64 = 1 << 20;

/// A trial of a chat template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trial {
    /// Tests whether the template compiles, and calls only known functions, filters and methods.
    Validity,
    /// Tests whether the template prints these messages, with these variables.
    Messages(Vec<Message>, Variables),
}

/// A trial and its template, as written to the process.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    source: String,
    sandbox: SandboxMode,
    trial: Trial,
}

type TrialResult = Result<SystemPrompt, EngineError>;

/// Reads trials from `input` and runs them, until `input` ends. Enters the sandbox before the first one.
///
/// # Errors
/// `output` is closed.
pub(crate) fn serve(input: impl BufRead, output: &mut dyn Write) -> io::Result<()> {
    limit_memory();
    let mut entered = None;
    for line in input.lines() {
        let result = match serde_json::from_str::<Job>(&line?) {
            Ok(job) => {
                limit_cpu();
                let entered: &Result<(), EngineError> =
                    entered.get_or_insert_with(|| sandbox::enter(&job.launch()));
                entered.clone().and_then(|()| job.run())
            }
            Err(error) => Err(failure(format!("invalid trial: {error}"))),
        };
        serde_json::to_writer(&mut *output, &result)?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(())
}

impl Job {
    /// Returns a launch without files, for the sandbox.
    fn launch(&self) -> Launch {
        Launch::from(LoadSettings {
            sandbox: self.sandbox,
            ..LoadSettings::default()
        })
    }

    fn run(&self) -> TrialResult {
        match &self.trial {
            Trial::Validity => template::check(&self.source).map(|()| SystemPrompt::Printed),
            Trial::Messages(messages, variables) => {
                template::check_messages(&self.source, messages, variables)
            }
        }
    }
}

/// Makes the system end this process after [`CPU_LIMIT`] more seconds of CPU time.
#[cfg(unix)]
fn limit_cpu() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use rustix::time::{ClockId, clock_gettime};
    let used = u64::try_from(clock_gettime(ClockId::ProcessCPUTime).tv_sec).unwrap_or(0);
    let limit = Rlimit {
        // The current second is not used up.
        current: Some(used + 1 + CPU_LIMIT),
        maximum: getrlimit(Resource::Cpu).maximum,
    };
    if let Err(error) = setrlimit(Resource::Cpu, limit) {
        tracing::debug!(%error, "could not limit the CPU time of trials of chat templates");
    }
}

#[cfg(not(unix))]
fn limit_cpu() {}

#[cfg(target_os = "linux")]
fn limit_memory() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let Some(own) = crate::process::address_space() else {
        return;
    };
    let limit = Rlimit {
        current: Some(own + MEMORY_LIMIT),
        maximum: Some(own + MEMORY_LIMIT),
    };
    if let Err(error) = setrlimit(Resource::As, limit) {
        tracing::debug!(%error, "could not limit the memory of trials of chat templates");
    }
}

#[cfg(not(target_os = "linux"))]
fn limit_memory() {}

/// Runs trials of chat templates in one process, which is replaced if a template ends it. Dropping this value ends the process.
#[derive(Debug)]
pub(crate) struct Trials {
    program: PathBuf,
    process: Option<Process>,
}

impl Trials {
    /// Creates trials in a process of `program`, which is this program. The first trial starts the process.
    pub(crate) fn new(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            process: None,
        }
    }

    /// Creates trials like [`Self::new`], and starts the process in the background. If that fails, [`Self::for_template`] returns the error.
    pub(crate) fn start(program: &Path) -> Self {
        Self {
            process: Process::start(program).ok(),
            ..Self::new(program)
        }
    }

    /// Returns the trials of the chat template `source`. The `sandbox` mode of a process is that of its first trial.
    ///
    /// # Errors
    /// The system cannot start the process.
    pub(crate) fn for_template<'trials>(
        &'trials mut self,
        source: &'trials str,
        sandbox: SandboxMode,
    ) -> io::Result<TemplateTrials<'trials>> {
        if self.process.is_none() {
            self.process = Some(Process::start(&self.program)?);
        }
        Ok(TemplateTrials {
            process: &mut self.process,
            source,
            sandbox,
            ended: None,
        })
    }
}

/// Trials of one chat template.
#[derive(Debug)]
pub(crate) struct TemplateTrials<'trials> {
    /// Process of the trials; `None` once the template has ended it.
    process: &'trials mut Option<Process>,
    source: &'trials str,
    sandbox: SandboxMode,
    /// Error of the trial that ended the process. Every further trial returns it.
    ended: Option<EngineError>,
}

impl TemplateTrials<'_> {
    /// Runs a trial. Blocks for at most [`CPU_LIMIT`] seconds of CPU time, or [`TIME_LIMIT`] on a busy machine.
    ///
    /// # Errors
    /// `Template` if the template is faulty, exceeded a limit or ended its process.
    pub(crate) fn run(&mut self, trial: Trial) -> Result<SystemPrompt, EngineError> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        let job = Job {
            source: self.source.to_owned(),
            sandbox: self.sandbox,
            trial,
        };
        let exchanged = match self.process {
            Some(process) => process.exchange(&job),
            None => Err(TrialEnd::Ended),
        };
        let result = exchanged.unwrap_or_else(|end| {
            *self.process = None;
            let ended = failure(end.to_string());
            self.ended = Some(ended.clone());
            Err(ended)
        });
        result.map_err(cleaned)
    }
}

/// Reason why a trial ended its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum TrialEnd {
    /// An earlier trial has ended the process.
    #[error("the process that rendered the model's chat template has ended")]
    Ended,
    /// The result is longer than [`MAX_RESULT`].
    #[error(
        "the error message of the model's chat template is longer than {}",
        human(MAX_RESULT)
    )]
    LongResult,
    /// There was no result within [`TIME_LIMIT`].
    #[error("the model's chat template did not render a short message within {} s", TIME_LIMIT.as_secs())]
    NoResult,
    /// The trial took more CPU time than [`CPU_LIMIT`].
    #[error("the model's chat template takes more than {CPU_LIMIT} s to render a short message")]
    TooSlow,
    /// The process crashed.
    #[error(
        "the model's chat template crashed the process that rendered it: it uses too much memory or nests values too deeply"
    )]
    Crashed,
}

/// A process that runs trials. Dropping this value ends it.
#[derive(Debug)]
struct Process {
    child: Child,
    jobs: ChildStdin,
    results: Receiver<String>,
}

impl Process {
    fn start(program: &Path) -> io::Result<Self> {
        let mut command = Command::new(program);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::arg0(&mut command, "llama-mcp-server");
        let mut child = command
            .args([WORKER, TRY_TEMPLATES])
            .env_clear()
            .envs(passed_on())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Stack overflows and failed allocations write to it.
            .stderr(Stdio::null())
            .spawn()?;
        let missing = || io::Error::other("a pipe of the process is missing");
        let jobs = child.stdin.take().ok_or_else(missing)?;
        let results = child.stdout.take().ok_or_else(missing)?;
        let results = read_results(results).inspect_err(|_| {
            drop(child.kill());
            drop(child.wait());
        })?;
        Ok(Self {
            child,
            jobs,
            results,
        })
    }

    /// Runs `job` and returns its result.
    ///
    /// # Errors
    /// Returns the reason if the template ended this process or exceeded a limit. The process cannot be used again.
    fn exchange(&mut self, job: &Job) -> Result<TrialResult, TrialEnd> {
        let mut line = serde_json::to_vec(job).expect("a trial has only string keys");
        line.push(b'\n');
        // If the process has ended, there is no result either.
        drop(self.jobs.write_all(&line));
        match self.results.recv_timeout(TIME_LIMIT) {
            Ok(result) => serde_json::from_str(&result).or(Err(TrialEnd::LongResult)),
            Err(RecvTimeoutError::Timeout) => Err(TrialEnd::NoResult),
            Err(RecvTimeoutError::Disconnected) => Err(self.cause_of_death()),
        }
    }

    /// Returns why the process, which has closed its output, has ended.
    fn cause_of_death(&mut self) -> TrialEnd {
        let until = Instant::now() + END_LIMIT;
        let status = loop {
            // Read before `try_wait`, so that the last check comes after the limit.
            let is_over = Instant::now() >= until;
            match self.child.try_wait() {
                Ok(None) if !is_over => thread::sleep(Duration::from_millis(1)),
                status => break status.ok().flatten(),
            }
        };
        if status.is_some_and(took_too_long) {
            TrialEnd::TooSlow
        } else {
            TrialEnd::Crashed
        }
    }
}

/// Returns whether a process exceeded its limit of CPU time.
#[cfg(unix)]
fn took_too_long(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(signal_hook::consts::SIGXCPU)
}

/// Returns `false`: this system has no limit of CPU time.
#[cfg(not(unix))]
fn took_too_long(_: ExitStatus) -> bool {
    false
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if the process has already ended.
        drop(self.child.kill());
        if let Err(error) = self.child.wait() {
            tracing::debug!(%error, "could not wait for the process that tries chat templates");
        }
    }
}

/// Reads lines of `results` on a thread of its own, which ends with the process or the receiver.
///
/// # Errors
/// The system cannot start the thread.
fn read_results(results: ChildStdout) -> io::Result<Receiver<String>> {
    let (sender, receiver) = sync_channel(1);
    let started = threads::start("results", move || {
        let mut results = BufReader::new(results);
        loop {
            let mut line = String::new();
            let read = results.by_ref().take(MAX_RESULT).read_line(&mut line);
            if !matches!(read, Ok(1..)) || sender.send(line).is_err() {
                return;
            }
        }
    });
    started.map(|_thread| receiver).map_err(io::Error::other)
}

fn failure(text: String) -> EngineError {
    EngineError::new(EngineErrorKind::Template, text)
}
