//! Trials of chat templates in a sandboxed process. A template is untrusted code, and must not harm the server.
//!
//! One process tries all templates, one trial after the other, with limits on time, memory and depth. [`Trials`] writes each trial as
//! a line of JSON, reads each result as a line, and starts another process after a template has ended one.

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
use crate::engine::template::{self, SystemPrompt, Variables};
use crate::engine::{EngineError, EngineErrorKind, Message};
use crate::threads;

/// Seconds of CPU time that a trial may take. The largest real templates take milliseconds.
const CPU_LIMIT: u64 = 2;

/// How long one trial may take, however busy the machine is.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// How long a process that closes its output may take to end: its status tells why.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Bytes of address space beside what the program itself has: 30 times what the largest template needs.
#[cfg(target_os = "linux")]
const MEMORY_LIMIT: u64 = 1 << 30;

/// The longest result that is read, in bytes.
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

/// A trial and its template, as sent to the process.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    source: String,
    sandbox: SandboxMode,
    trial: Trial,
}

type TrialResult = Result<SystemPrompt, EngineError>;

/// Runs the trials that it reads from `input`, until `input` ends. Restricts this process before it looks at a template.
///
/// # Errors
/// If `output` is closed.
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
            Err(error) => Err(failure(format!("a trial could not be read: {error}"))),
        };
        serde_json::to_writer(&mut *output, &result)?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(())
}

impl Job {
    /// Returns a launch without files.
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

/// Lets the system end this process after two more seconds of CPU time.
#[cfg(unix)]
fn limit_cpu() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use rustix::time::{ClockId, clock_gettime};
    let used = u64::try_from(clock_gettime(ClockId::ProcessCPUTime).tv_sec).unwrap_or(0);
    let limit = Rlimit {
        // The second that has begun is not used up.
        current: Some(used + 1 + CPU_LIMIT),
        maximum: getrlimit(Resource::Cpu).maximum,
    };
    if let Err(error) = setrlimit(Resource::Cpu, limit) {
        tracing::debug!(%error, "trials of chat templates have no limit of CPU time");
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
        tracing::debug!(%error, "trials of chat templates have no limit of memory");
    }
}

#[cfg(not(target_os = "linux"))]
fn limit_memory() {}

/// Trials of chat templates. They share one process until a template ends it. Dropping this ends the process.
#[derive(Debug)]
pub(crate) struct Trials {
    program: PathBuf,
    process: Option<Process>,
}

impl Trials {
    /// Makes trials in a process of `program`, which is this program. The first trial starts the process.
    pub(crate) fn new(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            process: None,
        }
    }

    /// Starts the process at once, in the background. If the system starts none, [`Self::of`] returns the error.
    pub(crate) fn start(program: &Path) -> Self {
        Self {
            process: Process::start(program).ok(),
            ..Self::new(program)
        }
    }

    /// Returns the trials of the chat template `source`. The first trial of a process restricts the process as its `sandbox` says; later
    /// ones are restricted in the same way.
    ///
    /// # Errors
    /// The system starts no process.
    pub(crate) fn of<'trials>(
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
    /// Tries the template. Blocks for at most two seconds of CPU time, or thirty seconds on a busy machine.
    ///
    /// # Errors
    /// The template is faulty, or ended its process.
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
            None => Err("the process that rendered the model's chat template has ended"),
        };
        let result = exchanged.unwrap_or_else(|cause| {
            *self.process = None;
            let ended = failure(cause.to_owned());
            self.ended = Some(ended.clone());
            Err(ended)
        });
        result.map_err(cleaned)
    }
}

/// A process that tries chat templates. Dropping it ends it.
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
            // An overflow of the stack or of memory writes there.
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

    /// Returns the result of `job`.
    ///
    /// # Errors
    /// The template ended this process or exceeded a limit. The process cannot be used again.
    fn exchange(&mut self, job: &Job) -> Result<TrialResult, &'static str> {
        let mut line = serde_json::to_vec(job).expect("a trial has only string keys");
        line.push(b'\n');
        // If the process has ended, there is no result either.
        drop(self.jobs.write_all(&line));
        match self.results.recv_timeout(TIME_LIMIT) {
            Ok(result) => serde_json::from_str(&result).or(Err(
                "the error message of the model's chat template is longer than 1 MiB",
            )),
            Err(RecvTimeoutError::Timeout) => {
                Err("the model's chat template did not render a short message within 30 s")
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.cause_of_death()),
        }
    }

    /// Returns what ended the process, which has closed its output.
    fn cause_of_death(&mut self) -> &'static str {
        let until = Instant::now() + END_LIMIT;
        let status = loop {
            // Taken first, so that the last look comes after the limit.
            let is_over = Instant::now() >= until;
            match self.child.try_wait() {
                Ok(None) if !is_over => thread::sleep(Duration::from_millis(1)),
                status => break status.ok().flatten(),
            }
        };
        if status.is_some_and(took_too_long) {
            "the model's chat template takes more than 2 s to render a short message"
        } else {
            "the model's chat template crashed the process that rendered it: it uses too much memory or nests values too deeply"
        }
    }
}

/// Returns whether a process ended by its limit of CPU time.
#[cfg(unix)]
fn took_too_long(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(signal_hook::consts::SIGXCPU)
}

/// Does nothing: this system has no such limit.
#[cfg(not(unix))]
fn took_too_long(_: ExitStatus) -> bool {
    false
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended by itself.
        drop(self.child.kill());
        if let Err(error) = self.child.wait() {
            tracing::debug!(%error, "could not wait for the process that tries chat templates");
        }
    }
}

/// Reads lines on a thread of its own, which ends with the process, or once nobody receives them.
///
/// # Errors
/// The system starts no thread.
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
