//! A worker's process: how it is started, its pipes, and how it ended.

use std::io;
#[cfg(unix)]
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::lines::Lines;
use super::model_log::{self, LastWords, ModelLog};
use crate::process::activity::{Activity, activity_of};
use crate::process::usage::{Usage, usage_of};
use crate::telemetry;
use crate::threads::{self, SystemLimit};
use crate::worker;
use crate::worker::driver_cache::{self, DriverCaches};
use crate::worker::environment::passed_on;
use crate::worker::{HELPER_THREADS, Launch};

/// How long a worker may take to end in order before it is killed: it only has to free its memory.
const END_LIMIT: Duration = Duration::from_secs(2);

/// How long a killed worker may take to end: the system frees its memory, which may be hundreds of gigabytes or a GPU's.
const KILL_LIMIT: Duration = Duration::from_secs(20);

/// Most bytes of commands that a worker may leave unread: those of calls that were cancelled stay there.
const MAX_UNREAD: usize = 256 * 1024 * 1024;

/// Starts workers, all from one thread that lives as long as the server: the kernel's parent-death signal follows the
/// parent *thread*.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    program: PathBuf,
    settings: Arc<Mutex<Settings>>,
    driver_caches: Arc<DriverCaches>,
    /// Cancelled when the server is about to end.
    drain: CancellationToken,
    spawner: mpsc::Sender<Job>,
}

/// Settings that edits of the configuration change.
#[derive(Debug, Default)]
struct Settings {
    /// Log level of workers, or levels by module.
    log_level: String,
    /// Longest time without a finished step, see [`Launcher::set_stall_timeout`].
    stall_timeout: Option<Duration>,
}

type Job = (Command, oneshot::Sender<io::Result<Child>>);

impl Launcher {
    /// Workers are `program worker`. To be called inside the runtime that will serve them.
    ///
    /// # Errors
    /// The system starts no thread.
    pub(crate) fn new(program: PathBuf) -> Result<Self, SystemLimit> {
        let (spawner, jobs) = mpsc::channel::<Job>();
        let runtime = tokio::runtime::Handle::current();
        threads::start("spawner", move || {
            let _runtime = runtime.enter();
            for (mut command, reply) in jobs {
                // A worker that nobody waits for is killed on drop.
                drop(reply.send(command.spawn()));
            }
        })?;
        Ok(Self {
            program,
            settings: Arc::default(),
            driver_caches: Arc::default(),
            drain: CancellationToken::new(),
            spawner,
        })
    }

    /// Sets the token that is cancelled when the server is about to end. From then on workers ignore SIGTERM, so that calls can finish.
    #[must_use]
    pub(crate) fn with_drain(self, drain: CancellationToken) -> Self {
        Self { drain, ..self }
    }

    /// Returns whether the server is about to end.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Sets what the workers log that are started from now on: a level, or levels by module.
    pub(crate) fn set_log_level(&self, level: String) {
        self.settings().log_level = level;
    }

    /// Sets how long a worker that has work may go without finishing a step before it is killed. `None`, the initial value, means no limit.
    /// Running workers are included.
    pub(crate) fn set_stall_timeout(&self, limit: Option<Duration>) {
        self.settings().stall_timeout = limit;
    }

    /// Returns the limit of [`Self::set_stall_timeout`].
    pub(super) fn stall_timeout(&self) -> Option<Duration> {
        self.settings().stall_timeout
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `launch` with the directory in which GPU drivers may cache.
    pub(super) async fn with_driver_cache(&self, mut launch: Launch) -> Launch {
        let caches = Arc::clone(&self.driver_caches);
        let settings = launch.planned_settings();
        let found = tokio::task::spawn_blocking(move || caches.directory_for(&settings)).await;
        launch.grant.driver_cache = found.ok().flatten();
        launch
    }

    /// Starts a worker for `launch`; its stderr is logged under `name`.
    pub(super) async fn spawn(
        &self,
        name: &str,
        launch: &Launch,
    ) -> io::Result<(Process, ChildStdout)> {
        let log_level = self.settings().log_level.clone();
        let mut command = Command::new(&self.program);
        #[cfg(unix)]
        // A group of its own: Ctrl-C in a terminal is the server's, which lets calls end.
        command.arg0("llama-mcp-server").process_group(0);
        command
            .args([worker::WORKER, "--parent", &std::process::id().to_string()])
            // One argument: a name may begin with `-`.
            .arg(format!("--name={name}"))
            .env_clear()
            .envs(passed_on())
            .envs(
                launch
                    .grant
                    .driver_cache
                    .iter()
                    .flat_map(|path| driver_cache::variables(path)),
            )
            // Else an abort of llama.cpp starts a debugger, which writes into the pipe of the events.
            .env("GGML_NO_BACKTRACE", "1")
            .envs(telemetry::worker_level(&log_level))
            .envs(spin_count())
            .envs(trim_threshold())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
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
        let unread = Arc::new(AtomicUsize::new(0));
        tokio::spawn(feed(stdin, lines, Arc::clone(&unread)));
        let process = Process {
            id: child.id().unwrap_or_default(),
            child,
            commands,
            unread,
            stderr: tokio::spawn(drain(name.to_owned(), stderr)),
            #[cfg(unix)]
            children_end: signal(SignalKind::child())?,
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

/// A started worker. Dropping it kills it, and with it every process of its group.
#[derive(Debug)]
pub(super) struct Process {
    id: u32,
    child: Child,
    commands: tokio::sync::mpsc::UnboundedSender<Vec<u8>>,
    /// Bytes of commands that the worker has not read.
    unread: Arc<AtomicUsize>,
    stderr: JoinHandle<LastWords>,
    #[cfg(unix)]
    children_end: Signal,
}

impl Process {
    /// Returns the process id, even after the process has ended.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Returns the work of the threads that load the model and decode; `None` if it is unknown.
    pub(super) fn activity(&self) -> Option<Activity> {
        activity_of(self.child.id()?, &HELPER_THREADS)
    }

    /// Returns the CPU time and the memory that it takes.
    pub(super) fn usage(&self) -> Option<Usage> {
        usage_of(self.child.id()?)
    }

    /// Sends a command. Never waits; what is sent after the worker's end is lost.
    pub(super) fn send(&self, command: &worker::Command) {
        let mut line = serde_json::to_vec(command).expect("a command has only string keys");
        line.push(b'\n');
        self.unread.fetch_add(line.len(), Ordering::Relaxed);
        drop(self.commands.send(line));
    }

    /// Returns whether the worker leaves more commands unread than [`MAX_UNREAD`]. A thread of it does nothing but read them.
    pub(super) fn is_deaf(&self) -> bool {
        self.unread.load(Ordering::Relaxed) > MAX_UNREAD
    }

    /// Waits until the process has ended, whoever else holds its pipes. Cancel safe.
    #[cfg(unix)]
    pub(super) async fn ended(&mut self) {
        // It is not reaped here: until then nobody else gets its number, which is its group's, too.
        while self.child.id().is_some_and(crate::process::is_running) {
            self.children_end.recv().await;
        }
    }

    /// Waits until the process has ended. Cancel safe.
    #[cfg(not(unix))]
    pub(super) async fn ended(&mut self) {
        self.child.wait().await.ok();
    }

    /// Kills the process and every process of its group. Does nothing once the process is reaped.
    pub(super) fn kill(&mut self) {
        if let Some(id) = self.child.id() {
            crate::process::kill_group(id);
            // A process can leave its group.
            self.child.start_kill().ok();
        }
    }

    /// Ends the worker, gracefully if it can. Returns after [`END_LIMIT`] and [`KILL_LIMIT`] at the latest.
    pub(super) async fn end(&mut self) {
        self.send(&worker::Command::Shutdown);
        // After that it is killed.
        tokio::time::timeout(END_LIMIT, self.ended()).await.ok();
        if let Err(error) = self.reap().await {
            tracing::error!(%error, "a model's process cannot be ended");
        }
    }

    /// Returns how a worker that ended by itself did: its status, and what it said last. One that has only closed its output is
    /// killed.
    pub(super) async fn reason(&mut self) -> String {
        let has_ended = tokio::time::timeout(END_LIMIT, self.ended()).await.is_ok();
        let status = match self.reap().await {
            Ok(status) if has_ended => in_words(status),
            Ok(_) => "it closed its output".to_owned(),
            Err(error) => error.to_string(),
        };
        let said = tokio::time::timeout(END_LIMIT, &mut self.stderr).await;
        match said {
            Ok(Ok(last_words)) => match last_words.text() {
                Some(text) => format!("{status}; its last words: {text}"),
                None => status,
            },
            _ => status,
        }
    }

    /// Kills what is left of the group, and takes the process's status.
    ///
    /// # Errors
    /// The process does not end within [`KILL_LIMIT`]: a signal cannot end a process that the kernel blocks, as on a dead drive.
    async fn reap(&mut self) -> io::Result<ExitStatus> {
        self.kill();
        let status = tokio::time::timeout(KILL_LIMIT, self.child.wait()).await;
        status.unwrap_or_else(|_elapsed| {
            Err(io::Error::other(format!(
                "process {} was killed but does not end; a drive or a GPU driver may hang; its memory stays taken",
                self.id
            )))
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
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
    #[cfg(unix)]
    if status.signal() == Some(signal_hook::consts::SIGKILL) {
        return format!("{status}: the system probably had no memory left");
    }
    status.to_string()
}

/// Writes commands in order, however slowly the worker reads.
async fn feed(
    mut stdin: ChildStdin,
    mut lines: tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>,
    unread: Arc<AtomicUsize>,
) {
    while let Some(line) = lines.recv().await {
        if stdin.write_all(&line).await.is_err() {
            // The worker has ended; its events tell.
            return;
        }
        unread.fetch_sub(line.len(), Ordering::Relaxed);
    }
}

/// Logs what a worker writes to its stderr, always, so that it never blocks. Returns the last lines that are no log.
async fn drain(name: String, stderr: ChildStderr) -> LastWords {
    let mut last_words = LastWords::default();
    let mut log = ModelLog::new(name);
    let mut lines = Lines::new(BufReader::new(stderr), model_log::MAX_LINE);
    while let Some(line) = lines.next().await {
        log.relay(&line);
        last_words.push(&line.text);
    }
    last_words
}
