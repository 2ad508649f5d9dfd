//! A worker's process: how it is started, its pipes, and how it ended.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
#[cfg(unix)]
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::config::VARIABLE_PREFIX;
use crate::telemetry;
use crate::worker;

/// How long a worker may take to end in order before it is killed: it only has to free its memory.
const END_LIMIT: Duration = Duration::from_secs(2);

/// Lines of stderr that are kept as the reason of a crash; llama.cpp's abort message is one.
const KEPT_LINES: usize = 8;

/// Starts workers, all from one thread that lives as long as the server: the kernel's parent-death signal follows the
/// parent *thread*.
#[derive(Debug, Clone)]
pub struct Launcher {
    program: PathBuf,
    environment: Arc<Mutex<WorkerEnvironment>>,
    spawner: mpsc::Sender<Job>,
}

/// What of the server's environment a worker gets.
#[derive(Debug, Clone, Default)]
pub struct WorkerEnvironment {
    /// Variables that it must not see, beside those of this program: a model's file is untrusted input, and its process needs
    /// no secret.
    pub hidden: Vec<String>,
    /// What is logged: a level, or levels by module.
    pub log_level: String,
}

type Job = (Command, oneshot::Sender<io::Result<Child>>);

impl Launcher {
    /// Workers are `program worker`. To be called inside the runtime that will serve them.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn new(program: PathBuf) -> io::Result<Self> {
        let (spawner, jobs) = mpsc::channel::<Job>();
        let runtime = tokio::runtime::Handle::current();
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                let _runtime = runtime.enter();
                for (mut command, reply) in jobs {
                    // A worker that nobody waits for is killed on drop.
                    drop(reply.send(command.spawn()));
                }
            })?;
        Ok(Self {
            program,
            environment: Arc::default(),
            spawner,
        })
    }

    /// What the workers get that are started from now on.
    pub fn set_environment(&self, environment: WorkerEnvironment) {
        *self
            .environment
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = environment;
    }

    /// Starts a worker; its stderr is logged under `name`.
    pub(super) async fn spawn(&self, name: &str) -> io::Result<(Process, ChildStdout)> {
        let environment = {
            let environment = self.environment.lock();
            environment.unwrap_or_else(PoisonError::into_inner).clone()
        };
        let mut command = Command::new(&self.program);
        #[cfg(unix)]
        // A group of its own: Ctrl-C in a terminal is the server's, which lets calls end.
        command.arg0("llama-mcp-server").process_group(0);
        command
            .args([worker::WORKER, "--parent", &std::process::id().to_string()])
            // Else an abort of llama.cpp starts a debugger, which writes into the pipe of the events.
            .env("GGML_NO_BACKTRACE", "1")
            .envs(telemetry::worker_level(&environment.log_level))
            .envs(spin_count())
            .envs(trim_threshold())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let own = std::env::vars_os()
            .map(|(name, _)| name)
            .filter(|name| name.to_string_lossy().starts_with(VARIABLE_PREFIX));
        let hidden = environment.hidden.iter().map(OsString::from);
        for name in own.chain(hidden) {
            command.env_remove(name);
        }
        let (reply, child) = oneshot::channel();
        self.spawner
            .send((command, reply))
            .map_err(io::Error::other)?;
        let mut child = child.await.map_err(io::Error::other)??;
        let piped = || io::Error::other("a pipe of the worker is missing");
        let stdin = child.stdin.take().ok_or_else(piped)?;
        let stdout = child.stdout.take().ok_or_else(piped)?;
        let stderr = child.stderr.take().ok_or_else(piped)?;
        let (commands, lines) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(feed(stdin, lines));
        let process = Process {
            child,
            commands,
            stderr: tokio::spawn(drain(name.to_owned(), stderr)),
        };
        Ok((process, stdout))
    }
}

/// How long GNU OpenMP's threads spin at a barrier before they sleep, unless the user has chosen: the default spins for
/// milliseconds, and where another process wants the cores each barrier then costs that.
///
/// Measured on 2 cores, `SmolLM2` 135M, 100 tokens, 2 threads (medians; alone, and two processes at once): default 1.2 s and
/// 7.0 to 8.5 s, 10000 1.1 s and 25.8 s, 1000 1.1 s and 4.5 s, 300 1.0 s and 2.7 s, 1 1.5 s and 2.2 s.
fn spin_count() -> Option<(&'static str, &'static str)> {
    let chosen = ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    (!chosen).then_some(("GOMP_SPINCOUNT", "300"))
}

/// From how many free bytes on glibc gives memory back, unless the user has chosen. Left alone it learns from the largest block
/// that was freed, and keeps as much: after the load of `SmolLM2` 135M that was 13 MiB, with no difference in speed.
///
/// Its huge pages are not asked for: they make a load of 720 MiB of cache either 0.2 s faster or, where the kernel has to
/// look for them, 1 s slower, and what is decoded no faster.
fn trim_threshold() -> Option<(&'static str, &'static str)> {
    let chosen = ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    (!chosen).then_some(("MALLOC_TRIM_THRESHOLD_", "1048576"))
}

/// A started worker. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    commands: tokio::sync::mpsc::UnboundedSender<Vec<u8>>,
    stderr: JoinHandle<VecDeque<String>>,
}

impl Process {
    /// Bytes of memory that it takes.
    pub(super) fn memory(&self) -> Option<u64> {
        crate::process::memory_of(self.child.id()?)
    }

    /// Sends a command; never waits, and is lost when the worker has ended, which its events tell.
    pub(super) fn send(&self, command: &worker::Command) {
        let mut line = serde_json::to_vec(command).expect("a command has only string keys");
        line.push(b'\n');
        drop(self.commands.send(line));
    }

    /// Ends the worker, in order if it can.
    pub(super) async fn end(&mut self) {
        self.send(&worker::Command::Shutdown);
        if tokio::time::timeout(END_LIMIT, self.child.wait())
            .await
            .is_err()
            && let Err(error) = self.child.kill().await
        {
            tracing::warn!(%error, "a worker could not be killed");
        }
    }

    /// How a worker that ended by itself did: its status and what it said last. One that has only closed its output is
    /// killed.
    pub(super) async fn reason(&mut self) -> String {
        let status = match tokio::time::timeout(END_LIMIT, self.child.wait()).await {
            Ok(Ok(status)) => in_words(status),
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                drop(self.child.start_kill());
                "it closed its output".to_owned()
            }
        };
        let said = tokio::time::timeout(END_LIMIT, &mut self.stderr).await;
        match said {
            Ok(Ok(lines)) if !lines.is_empty() => {
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                format!("{status}; its last words: {}", lines.join(" | "))
            }
            _ => status,
        }
    }
}

/// How a process ended.
fn in_words(status: ExitStatus) -> String {
    // A mapped file is read while it is computed with.
    #[cfg(unix)]
    if status.signal() == Some(signal_hook::consts::SIGBUS) {
        return format!(
            "{status}: a part of its file could not be read, since it was cut while it was loaded or its disk fails"
        );
    }
    status.to_string()
}

/// Writes commands in order, however slowly the worker reads.
async fn feed(mut stdin: ChildStdin, mut lines: tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(line) = lines.recv().await {
        if stdin.write_all(&line).await.is_err() {
            // The worker has ended; its events tell.
            return;
        }
    }
}

/// Logs what a worker writes to its stderr, always, so that it never blocks; gives the last lines that are no log.
async fn drain(name: String, stderr: ChildStderr) -> VecDeque<String> {
    let mut kept = VecDeque::new();
    let mut lines = Lines::new(BufReader::new(stderr));
    while let Some(line) = lines.next().await {
        if telemetry::relay(&name, &line) {
            if kept.len() == KEPT_LINES {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    }
    kept
}

/// Lines of a pipe, whatever their bytes are: what llama.cpp or a driver prints need not be UTF-8.
#[derive(Debug)]
pub(super) struct Lines<R> {
    inner: R,
    line: Vec<u8>,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            line: Vec::new(),
        }
    }

    /// The next line; none at the end. Cancel safe: what was read of a line is kept.
    pub(super) async fn next(&mut self) -> Option<String> {
        let read = self.inner.read_until(b'\n', &mut self.line).await;
        if self.line.is_empty() || read.is_err() {
            return None;
        }
        let text = String::from_utf8_lossy(self.line.trim_ascii_end()).into_owned();
        self.line.clear();
        Some(text)
    }
}
